//! The kinds of connection errors.

use rustls::{CertificateError, InvalidMessage};

use super::error::root_cause;

/// The reason why no connection to a registry could be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectErrorKind {
    /// The network failed, or nothing listens at the address.
    Network,
    /// The host name has no address.
    UnknownHost,
    /// The server does not speak TLS, but most likely plain HTTP.
    PlainHttp,
    /// The certificate is signed by a CA that this machine does not trust.
    UnknownAuthority,
    /// The certificate is for another host, has expired or is not valid yet.
    Certificate,
    /// The certificate cannot be used for a server, whatever its host and its CA.
    UnusableCertificate,
    /// The server requires a client certificate, or rejects the one that was sent.
    ClientCertificate,
    /// The TLS handshake failed for another reason.
    Handshake,
}

impl ConnectErrorKind {
    /// Returns the kind of a connection error, and its text.
    pub(super) fn classify(error: &reqwest::Error) -> (Self, String) {
        let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
        let mut dns = false;
        while let Some(cause) = next {
            if let Some(tls) = tls_error(cause) {
                return Self::of_tls(tls);
            }
            // The error of the resolver has no public type, so its text is compared.
            dns |= cause.to_string() == "dns error";
            next = cause.source();
        }
        let text = specific_causes(error);
        // "Temporary failure" is the text of glibc if no name server answers: the host may exist.
        if dns && !text.contains("Temporary failure") {
            let text = format!("no such host: {}", root_cause(error));
            return (Self::UnknownHost, text);
        }
        (Self::Network, text)
    }

    pub(super) fn of_tls(error: &rustls::Error) -> (Self, String) {
        let text = error.to_string();
        match error {
            rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
                (Self::PlainHttp, "it does not speak TLS".to_owned())
            }
            rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => (
                Self::UnknownAuthority,
                "its certificate is signed by a CA that this machine does not know".to_owned(),
            ),
            rustls::Error::InvalidCertificate(CertificateError::BadSignature) => (
                Self::UnknownAuthority,
                "its certificate is signed by another CA than the one of that name that this \
                 machine knows"
                    .to_owned(),
            ),
            rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            ) => (
                Self::Certificate,
                "its certificate is for another host".to_owned(),
            ),
            rustls::Error::InvalidCertificate(
                CertificateError::Expired | CertificateError::ExpiredContext { .. },
            ) => (Self::Certificate, "its certificate has expired".to_owned()),
            rustls::Error::InvalidCertificate(
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
            ) => (
                Self::Certificate,
                "its certificate is not valid yet; is this machine's clock right?".to_owned(),
            ),
            rustls::Error::InvalidCertificate(CertificateError::Other(other)) => {
                let reason = match &*other.0.to_string() {
                    "UnsupportedCertVersion" => {
                        "its certificate is of X.509 version 1 and has no subjectAltName".to_owned()
                    }
                    "CaUsedAsEndEntity" => {
                        "its certificate is marked as that of a CA (CA:TRUE)".to_owned()
                    }
                    "EkuError" | "certificate had invalid extensions" => {
                        "its certificate is not for servers: its extended key usage lacks serverAuth"
                            .to_owned()
                    }
                    reason => format!("its certificate is not valid: {reason}"),
                };
                (Self::UnusableCertificate, reason)
            }
            rustls::Error::InvalidCertificate(
                CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. },
            ) => (
                Self::UnusableCertificate,
                "its certificate is not for servers: its extended key usage lacks serverAuth"
                    .to_owned(),
            ),
            rustls::Error::InvalidCertificate(_) => (Self::Certificate, text),
            rustls::Error::AlertReceived(
                rustls::AlertDescription::CertificateRequired
                | rustls::AlertDescription::BadCertificate
                | rustls::AlertDescription::UnknownCA
                | rustls::AlertDescription::CertificateUnknown,
            ) => (Self::ClientCertificate, text),
            _ => (Self::Handshake, text),
        }
    }
}

/// Returns the TLS error that an error is or contains. I/O errors do not show theirs in `source`.
fn tls_error<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a rustls::Error> {
    if let Some(error) = error.downcast_ref::<rustls::Error>() {
        return Some(error);
    }
    let io = error.downcast_ref::<std::io::Error>()?;
    let inner = io.get_ref()?;
    let inner: &(dyn std::error::Error + 'static) = inner;
    tls_error(inner)
}

/// Formats the chain of causes without the first two, which only state that something failed.
fn specific_causes(error: &dyn std::error::Error) -> String {
    let second = error.source().and_then(std::error::Error::source);
    second.map_or_else(|| super::error::chain(error), super::error::chain)
}
