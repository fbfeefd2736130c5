//! The verification of server certificates.

use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};
use rustls_platform_verifier::Verifier;

use super::ca_leaf::is_signed_by;
use super::chain_recorder::ChainRecorder;

/// The error for a CA certificate that a server uses as its own. It is reported after the dates are
/// checked, and before the signature is checked.
const CA_AS_SERVER_ERROR: &str = "CaUsedAsEndEntity";

/// Accepts certificates that a trusted CA has signed, and CA certificates of the user that a server
/// uses as its own: Docker's manual recommends `openssl req -x509`, which creates a CA certificate.
/// A certificate that is marked as that of a CA is also accepted if a CA of the user has signed it.
///
/// The system's roots are read at the first handshake: a client that speaks plain HTTP needs none of
/// their files, which are more than a hundred on some systems.
#[derive(Debug)]
pub(super) struct CertificateVerifier {
    platform: OnceLock<Result<Verifier, Error>>,
    provider: Arc<CryptoProvider>,
    user_certificates: Vec<CertificateDer<'static>>,
    recorder: Option<ChainRecorder>,
}

impl CertificateVerifier {
    /// Returns a verifier that trusts the system's roots, the bundled ones, and those that the user
    /// `named`.
    ///
    /// # Errors
    /// Fails on a certificate that cannot be parsed.
    pub(super) fn new(
        named: Vec<CertificateDer<'static>>,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, Error> {
        let verifier = Self {
            platform: OnceLock::new(),
            provider,
            user_certificates: named,
            recorder: None,
        };
        if !verifier.user_certificates.is_empty() {
            verifier.platform()?;
        }
        Ok(verifier)
    }

    /// Sets the recorder that gets each chain that a server presents.
    pub(super) fn with_recorder(self, recorder: Option<ChainRecorder>) -> Self {
        Self { recorder, ..self }
    }

    /// Returns the verifier of the platform, with the bundled roots and those of the user.
    fn platform(&self) -> Result<&Verifier, Error> {
        let platform = self.platform.get_or_init(|| {
            let bundled = webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter();
            let roots = bundled.chain(&self.user_certificates).cloned();
            Verifier::new_with_extra_roots(roots, Arc::clone(&self.provider))
        });
        platform.as_ref().map_err(Clone::clone)
    }
}

impl ServerCertVerifier for CertificateVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(recorder) = &self.recorder {
            recorder.record(end_entity, intermediates);
        }
        let error = match self.platform()?.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        ) {
            Ok(verified) => return Ok(verified),
            Err(error) => error,
        };
        let named = &self.user_certificates;
        let algorithms = &self.provider.signature_verification_algorithms;
        let is_trusted = || {
            named.iter().any(|named| named == end_entity)
                || is_signed_by(end_entity, named, algorithms)
        };
        if !is_ca_as_server(&error) || !is_trusted() {
            return Err(error);
        }
        verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

fn is_ca_as_server(error: &Error) -> bool {
    match error {
        Error::InvalidCertificate(CertificateError::Other(other)) => {
            other.0.to_string() == CA_AS_SERVER_ERROR
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::pem::PemObject;
    use std::time::Duration;

    /// Created by `openssl req -newkey ec -nodes -x509 -days 10 -addext
    /// subjectAltName=DNS:registry.example.com`.
    const SELF_SIGNED: &str = "-----BEGIN CERTIFICATE-----\n\
        MIIBmzCCAUKgAwIBAgIUaNpkgDwfPUKxg5UlljLFoiY07a4wCgYIKoZIzj0EAwIw\n\
        EzERMA8GA1UEAwwIcmVnaXN0cnkwHhcNMjYxMTIyMDIzNDQxWhcNMjYxMjAyMDIz\n\
        NDQxWjATMREwDwYDVQQDDAhyZWdpc3RyeTBZMBMGByqGSM49AgEGCCqGSM49AwEH\n\
        A0IABKs29PyS5i6AycboE5z8cQJojyS3sG4inJO6ol92u2V1rc+kyCantQ1znL3c\n\
        Y/oiXcHix0I6iv0NA3k7sN+NGrqjdDByMB0GA1UdDgQWBBRznGtyX9iDOd8zBt1N\n\
        QBV6wq+d+jAfBgNVHSMEGDAWgBRznGtyX9iDOd8zBt1NQBV6wq+d+jAPBgNVHRMB\n\
        Af8EBTADAQH/MB8GA1UdEQQYMBaCFHJlZ2lzdHJ5LmV4YW1wbGUuY29tMAoGCCqG\n\
        SM49BAMCA0cAMEQCIA6GKxQLqnvkJtZnp08PLC5tAZ3/fqTFlprcASOhJ9G/AiB8\n\
        36lqUoghUpNqSa8tIP9hXOKeHO4O/tTNFn1gU4iXrw==\n\
        -----END CERTIFICATE-----";
    /// The start of the validity of [`SELF_SIGNED`], in seconds since 1970.
    const VALID_FROM: u64 = 1_795_314_881;
    const DAY: u64 = 86_400;

    // Created by `openssl ecparam`, `req -x509` and `x509 -req -extfile`, for ten years from
    // [`SIGNED_AT`], in seconds since 1970.
    const SIGNED_AT: u64 = 1_796_050_929;
    /// A CA.
    const AUTHORITY: &str = "-----BEGIN CERTIFICATE-----\n\
        MIIBczCCARmgAwIBAgIUDV2dbdk4RHvhyAOr+vD4dBPJ/uUwCgYIKoZIzj0EAwIw\n\
        DzENMAsGA1UEAwwEUm9vdDAeFw0yNjExMzAxNTAyMDlaFw0zNjExMjcxNTAyMDla\n\
        MA8xDTALBgNVBAMMBFJvb3QwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAROIvur\n\
        kuZl0RjJdokriX8Za5cVUsdGH5NwYvJOQdxmFt8QussG170rt1+z9KbxBSeiNuJt\n\
        hmfB4pDFpNLlByaoo1MwUTAdBgNVHQ4EFgQU1zOI5sAhuLLpRUqWMOds1hQvOG4w\n\
        HwYDVR0jBBgwFoAU1zOI5sAhuLLpRUqWMOds1hQvOG4wDwYDVR0TAQH/BAUwAwEB\n\
        /zAKBggqhkjOPQQDAgNIADBFAiAvbklA7N+g77JNkU9i/tEnpcS7F3qcaaQOlZm3\n\
        +dIZOQIhAOkzdMQYVjjAbDZgxNoONQkZjkbZrqU23sddTva11qAa\n\
        -----END CERTIFICATE-----";
    /// Another CA of the same name.
    const OTHER_AUTHORITY: &str = "-----BEGIN CERTIFICATE-----\n\
        MIIBczCCARmgAwIBAgIUS+mHVfxQtPbigxdCq+1t/L0kPOwwCgYIKoZIzj0EAwIw\n\
        DzENMAsGA1UEAwwEUm9vdDAeFw0yNjExMzAxNTAyMDlaFw0zNjExMjcxNTAyMDla\n\
        MA8xDTALBgNVBAMMBFJvb3QwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAScyY43\n\
        SAJxhNPIhmH/59ot/yO97QGsnRR9gwAAVLBZCeJnrkXAEVhlKm+hOgG/aKDXw74P\n\
        ntJy/1exrCUFKlHHo1MwUTAdBgNVHQ4EFgQUML753PR3gNxQBnVnoMKmhBEBfLcw\n\
        HwYDVR0jBBgwFoAUML753PR3gNxQBnVnoMKmhBEBfLcwDwYDVR0TAQH/BAUwAwEB\n\
        /zAKBggqhkjOPQQDAgNIADBFAiAZF0EX2rno2tKRqgGkCPX1tOKYVfU1ZAbLIrYF\n\
        0s+AlwIhAMGvj3VwNP/0pxZr20wF6PzwQGIdjNxWPHRHkUu6Oi27\n\
        -----END CERTIFICATE-----";
    /// Signed by [`AUTHORITY`], for `registry.example.com`, with `CA:TRUE`.
    const CA_LEAF: &str = "-----BEGIN CERTIFICATE-----\n\
        MIIBlTCCATugAwIBAgIUJyZOcOJB1zb313g+pYL8UV8XTiAwCgYIKoZIzj0EAwIw\n\
        DzENMAsGA1UEAwwEUm9vdDAeFw0yNjExMzAxNTAyMDlaFw0zNjExMjcxNTAyMDla\n\
        MBMxETAPBgNVBAMMCHJlZ2lzdHJ5MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE\n\
        TLh4mxcGgseEh+0hBxyXtrPXNv/swiDQ290hpxdacaHvX1TQOPvOx0CaS3VB5ENQ\n\
        W8QaSoJikhwq+2T+Dj3YoqNxMG8wHwYDVR0RBBgwFoIUcmVnaXN0cnkuZXhhbXBs\n\
        ZS5jb20wDAYDVR0TBAUwAwEB/zAdBgNVHQ4EFgQUjUqZnO7AA+3c9nhzeB+aV0kX\n\
        7zcwHwYDVR0jBBgwFoAU1zOI5sAhuLLpRUqWMOds1hQvOG4wCgYIKoZIzj0EAwID\n\
        SAAwRQIgUFr4g0ZPZBqMFaVOwtcUhZehdqRm24Lnd89qF8NJFp8CIQDTn+6eOtFw\n\
        f33em0ewAE9CHpsNZhe9TAkGfJbd+qN29g==\n\
        -----END CERTIFICATE-----";
    /// Signed by [`AUTHORITY`], of X.509 version 1.
    const VERSION_1: &str = "-----BEGIN CERTIFICATE-----\n\
        MIIBHDCBwwIUJyZOcOJB1zb313g+pYL8UV8XTiIwCgYIKoZIzj0EAwIwDzENMAsG\n\
        A1UEAwwEUm9vdDAeFw0yNjExMzAxNTAyMDlaFw0zNjExMjcxNTAyMDlaMBMxETAP\n\
        BgNVBAMMCHJlZ2lzdHJ5MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEJzJ05AMi\n\
        eiSLY7gG1RJU7bv8/jsIYo8En2Nqa6vfnvtt0ExfUp0o0qBfv39672k2ePxzt1cb\n\
        kniq7Bu7ihHHUjAKBggqhkjOPQQDAgNIADBFAiA56b1aee8zsrZxC1eLIaPO+4Jn\n\
        /p1yB2YXK5B4g/gv5wIhAJS9gXNUaCw+8HL82RNlJZZFCyopLokUS2yFPh/x0+y0\n\
        -----END CERTIFICATE-----";
    /// Signed by [`AUTHORITY`], for `registry.example.com`, with `clientAuth` only.
    const FOR_CLIENTS: &str = "-----BEGIN CERTIFICATE-----\n\
        MIIBnDCCAUKgAwIBAgIUJyZOcOJB1zb313g+pYL8UV8XTiEwCgYIKoZIzj0EAwIw\n\
        DzENMAsGA1UEAwwEUm9vdDAeFw0yNjExMzAxNTAyMDlaFw0zNjExMjcxNTAyMDla\n\
        MBMxETAPBgNVBAMMCHJlZ2lzdHJ5MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE\n\
        h77MTu4+3ITO2K9y1ZbuPQWruzqpkFd1PoyuS35aOeGpHbIcWU6sxJiZtVPjT8X/\n\
        lyefWT+YkrJ53cFO5NHKqKN4MHYwHwYDVR0RBBgwFoIUcmVnaXN0cnkuZXhhbXBs\n\
        ZS5jb20wEwYDVR0lBAwwCgYIKwYBBQUHAwIwHQYDVR0OBBYEFL441bFjkZN6InZc\n\
        uJs9lvh+WPliMB8GA1UdIwQYMBaAFNcziObAIbiy6UVKljDnbNYULzhuMAoGCCqG\n\
        SM49BAMCA0gAMEUCICcyI6YYorN6HZrYmpEvxjCGAbCRkkCRQJeAYsGiAkjfAiEA\n\
        yIoNLE8BreqtBM/jd27b16Szz38OyEHh4SWzu96i9P4=\n\
        -----END CERTIFICATE-----";

    fn certificate(pem: &str) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
    }

    /// Verifies a certificate for `registry.example.com`, one day after it was signed.
    fn verify_signed(authority: &str, pem: &str, host: &str) -> Result<(), Error> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = CertificateVerifier::new(vec![certificate(authority)], provider).unwrap();
        let name = ServerName::try_from(host.to_owned()).unwrap();
        let now = UnixTime::since_unix_epoch(Duration::from_secs(SIGNED_AT + DAY));
        let verified = verifier.verify_server_cert(&certificate(pem), &[], &name, &[], now);
        verified.map(drop)
    }

    #[test]
    fn a_certificate_that_is_marked_as_a_ca_is_valid_if_a_named_ca_signed_it() {
        let host = "registry.example.com";
        verify_signed(AUTHORITY, CA_LEAF, host).unwrap();
        verify_signed(OTHER_AUTHORITY, CA_LEAF, host).unwrap_err();
        verify_signed(AUTHORITY, CA_LEAF, "other.example.com").unwrap_err();
    }

    #[test]
    fn unusable_certificates_are_described_in_words() {
        use crate::client::ConnectErrorKind;
        for (pem, reason) in [
            (
                VERSION_1,
                "its certificate is of X.509 version 1 and has no subjectAltName",
            ),
            (
                FOR_CLIENTS,
                "its certificate is not for servers: its extended key usage lacks serverAuth",
            ),
        ] {
            let error = verify_signed(AUTHORITY, pem, "registry.example.com").unwrap_err();
            let (kind, text) = ConnectErrorKind::of_tls(&error);
            assert_eq!(kind, ConnectErrorKind::UnusableCertificate, "{error}");
            assert_eq!(text, reason);
        }
        let error = verify_signed(OTHER_AUTHORITY, CA_LEAF, "registry.example.com").unwrap_err();
        let (_, text) = ConnectErrorKind::of_tls(&error);
        assert_eq!(text, "its certificate is marked as that of a CA (CA:TRUE)");
    }

    fn verify(named: bool, name: &str, at: u64) -> Result<(), String> {
        let certificate = CertificateDer::from_pem_slice(SELF_SIGNED.as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let all = named.then(|| certificate.clone()).into_iter().collect();
        let verifier = CertificateVerifier::new(all, provider).unwrap();
        let name = ServerName::try_from(name).unwrap();
        let now = UnixTime::since_unix_epoch(Duration::from_secs(at));
        let verified = verifier.verify_server_cert(&certificate, &[], &name, &[], now);
        verified.map(drop).map_err(|error| error.to_string())
    }

    #[test]
    fn a_named_certificate_is_valid_for_its_names_and_within_its_dates() {
        let host = "registry.example.com";
        assert_eq!(verify(true, host, VALID_FROM + DAY), Ok(()));
        verify(false, host, VALID_FROM + DAY).unwrap_err();
        for (name, at, message) in [
            ("example.com", VALID_FROM + DAY, "not valid for name"),
            (host, VALID_FROM - DAY, "not valid yet"),
            (host, VALID_FROM + 11 * DAY, "expired"),
        ] {
            let error = verify(true, name, at).unwrap_err();
            assert!(error.contains(message), "{error}");
        }
    }
}
