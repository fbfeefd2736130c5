//! Why a connection did not come about.

use rustls::{CertificateError, InvalidMessage};

use super::error::root_cause;

/// What stood between here and a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectErrorKind {
    /// The line, or nobody listening.
    Network,
    /// No address belongs to the host's name.
    UnknownHost,
    /// The other end does not speak TLS, most likely plain HTTP.
    PlainHttp,
    /// Nobody that this machine trusts vouches for the certificate.
    UnknownAuthority,
    /// The certificate is another host's, or its time is not now.
    Certificate,
    /// The other end wants a client certificate, or refuses the one it got.
    ClientCertificate,
    /// Anything else in TLS's handshake.
    Handshake,
}

impl ConnectErrorKind {
    /// The trouble behind an error of connecting, and what it comes to in words.
    pub(super) fn classify(error: &reqwest::Error) -> (Self, String) {
        let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
        let mut dns = false;
        while let Some(cause) = next {
            if let Some(tls) = tls_error(cause) {
                return Self::of_tls(tls);
            }
            // The resolver's error has no type of its own to look for.
            dns |= cause.to_string() == "dns error";
            next = cause.source();
        }
        let said = specific_causes(error);
        match dns {
            // What glibc says where the name servers do not answer: that may pass.
            true if !said.contains("Temporary failure") => (
                Self::UnknownHost,
                format!("no such host: {}", root_cause(error)),
            ),
            true | false => (Self::Network, said),
        }
    }

    fn of_tls(error: &rustls::Error) -> (Self, String) {
        let said = error.to_string();
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
            rustls::Error::InvalidCertificate(_) => (Self::Certificate, said),
            rustls::Error::AlertReceived(
                rustls::AlertDescription::CertificateRequired
                | rustls::AlertDescription::BadCertificate
                | rustls::AlertDescription::UnknownCA
                | rustls::AlertDescription::CertificateUnknown,
            ) => (Self::ClientCertificate, said),
            _ => (Self::Handshake, said),
        }
    }
}

/// The TLS error that an error is, or carries inside: one of I/O hides it from `source`.
fn tls_error<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a rustls::Error> {
    if let Some(error) = error.downcast_ref::<rustls::Error>() {
        return Some(error);
    }
    let io = error.downcast_ref::<std::io::Error>()?;
    let inner = io.get_ref()?;
    let inner: &(dyn std::error::Error + 'static) = inner;
    tls_error(inner)
}

/// The chain of causes, without the first two, which only say that something failed.
fn specific_causes(error: &dyn std::error::Error) -> String {
    let second = error.source().and_then(std::error::Error::source);
    second.map_or_else(|| super::error::chain(error), super::error::chain)
}
