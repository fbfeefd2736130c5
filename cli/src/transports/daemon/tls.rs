//! TLS for connections to a daemon, with the certificate files that Docker's client uses.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_platform_verifier::BuilderVerifierExt;

/// The folder with the certificates of a daemon: `ca.pem`, `cert.pem` and `key.pem`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFolder {
    /// The folder. A file that is missing in it is not used.
    pub path: PathBuf,
    /// Whether the certificate of the daemon is verified.
    pub is_verified: bool,
    /// Whether only the CA in the folder is trusted. Otherwise the system's are, if there is none in
    /// the folder.
    pub requires_ca: bool,
}

impl TlsFolder {
    /// Reads the certificates.
    ///
    /// # Errors
    /// Returns the reason why they cannot be used.
    pub(super) fn client_config(&self) -> Result<ClientConfig, String> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| error.to_string())?;
        let authority = self.existing("ca.pem");
        let builder = match authority {
            _ if !self.is_verified => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider))),
            Some(path) => builder.with_root_certificates(read_roots(&path)?),
            None if self.requires_ca => {
                let path = self.path.join("ca.pem");
                return Err(format!("there is no {}", path.display()));
            }
            None => builder
                .with_platform_verifier()
                .map_err(|error| error.to_string())?,
        };
        let mut config = match (self.existing("cert.pem"), self.existing("key.pem")) {
            (Some(certificate), Some(key)) => {
                let chain = read_certificates(&certificate)?;
                let secret = PrivateKeyDer::from_pem_file(&key);
                let secret = secret.map_err(|error| format!("{}: {error}", key.display()))?;
                let config = builder.with_client_auth_cert(chain, secret);
                config.map_err(|error| format!("{}: {error}", certificate.display()))?
            }
            _ => builder.with_no_client_auth(),
        };
        // Docker does not serve HTTP/2 over TLS.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }

    fn existing(&self, name: &str) -> Option<PathBuf> {
        let path = self.path.join(name);
        path.exists().then_some(path)
    }
}

fn read_roots(path: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in read_certificates(path)? {
        let added = roots.add(certificate);
        added.map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(roots)
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(certificates) if certificates.is_empty() => {
            Err(format!("{} has no certificate", path.display()))
        }
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}

/// Returns the name that the certificate of `host:port` must have.
pub(super) fn server_name(authority: &str) -> io::Result<ServerName<'static>> {
    let host = authority
        .rsplit_once(':')
        .map_or(authority, |(host, _)| host);
    let host = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .to_owned();
    ServerName::try_from(host).map_err(io::Error::other)
}

/// Accepts every certificate, as Docker's client does without `DOCKER_TLS_VERIFY`.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_the_host_without_port_and_brackets() {
        for (authority, name) in [
            ("docker:2376", "docker"),
            ("10.0.0.1:2376", "10.0.0.1"),
            ("[::1]:2376", "::1"),
        ] {
            let expected = ServerName::try_from(name.to_owned()).unwrap();
            assert_eq!(server_name(authority).unwrap(), expected);
        }
    }

    #[test]
    fn unusable_certificates_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let mut files = TlsFolder {
            path: folder.path().to_owned(),
            is_verified: true,
            requires_ca: true,
        };
        assert!(files.client_config().unwrap_err().contains("there is no"));
        std::fs::write(folder.path().join("ca.pem"), "no certificate").unwrap();
        assert!(files.client_config().unwrap_err().contains("ca.pem"));
        files.is_verified = false;
        files.client_config().unwrap();
        std::fs::write(folder.path().join("cert.pem"), "").unwrap();
        files.client_config().unwrap();
        std::fs::write(folder.path().join("key.pem"), "").unwrap();
        assert!(files.client_config().unwrap_err().contains("cert.pem"));
    }
}
