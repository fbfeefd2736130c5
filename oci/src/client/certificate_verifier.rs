//! The verification of server certificates.

use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};
use rustls_platform_verifier::Verifier;

/// The error for a CA certificate that a server uses as its own. It is reported after the dates are
/// checked, and before the signature is checked.
const CA_AS_SERVER_ERROR: &str = "CaUsedAsEndEntity";

/// Accepts certificates that a trusted CA has signed, and CA certificates of the user that a server
/// uses as its own: Docker's manual recommends `openssl req -x509`, which creates a CA certificate.
///
/// The system's roots are read at the first handshake: a client that speaks plain HTTP needs none of
/// their files, which are more than a hundred on some systems.
#[derive(Debug)]
pub(super) struct CertificateVerifier {
    platform: OnceLock<Result<Verifier, Error>>,
    provider: Arc<CryptoProvider>,
    user_certificates: Vec<CertificateDer<'static>>,
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
        };
        if !verifier.user_certificates.is_empty() {
            verifier.platform()?;
        }
        Ok(verifier)
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
        if !is_ca_as_server(&error)
            || !self
                .user_certificates
                .iter()
                .any(|named| named == end_entity)
        {
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
