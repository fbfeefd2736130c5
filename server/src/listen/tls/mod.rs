//! TLS with a certificate and a key from files.
//!
//! A reload replaces the whole TLS configuration: open connections keep the old certificate, new
//! ones get the new certificate. Start reading at [`ReloadableTls`].

mod cipher_suites;
mod error;
mod expiry;
mod pem;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::{NoClientAuth, ResolvesServerCert};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

pub use self::error::TlsError;
pub(crate) use self::expiry::certificate_expiries;

use crate::config::{TlsConfig, TlsVersion};

const TLS_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// The TLS configuration for new connections, which a reload replaces.
pub(crate) struct ReloadableTls {
    config: ArcSwap<ServerConfig>,
}

impl ReloadableTls {
    /// Reads the certificate and the key. `is_http2_enabled` offers HTTP/2 to clients (ALPN).
    ///
    /// # Errors
    /// When a file cannot be read or is not PEM, when the key does not match the certificate, or
    /// when no configured cipher suite is supported.
    pub(crate) fn open(settings: &TlsConfig, is_http2_enabled: bool) -> Result<Self, TlsError> {
        let config = ArcSwap::from_pointee(build_server_config(settings, is_http2_enabled)?);
        Ok(Self { config })
    }

    /// Reads the certificate and the key again, for new connections.
    ///
    /// # Errors
    /// As [`ReloadableTls::open`]; the old TLS configuration stays then.
    pub(crate) fn reload(
        &self,
        settings: &TlsConfig,
        is_http2_enabled: bool,
    ) -> Result<(), TlsError> {
        let config = build_server_config(settings, is_http2_enabled)?;
        self.config.store(Arc::new(config));
        Ok(())
    }

    /// Performs the TLS handshake with a client. Returns `None` when it fails or takes too long;
    /// that is logged at debug level only, because port scanners cause it all the time.
    pub(super) async fn accept<S>(&self, stream: S) -> Option<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let acceptor = TlsAcceptor::from(self.config.load_full());
        match timeout(TLS_HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => Some(stream),
            Ok(Err(error)) => {
                tracing::debug!(%error, "TLS handshake failed");
                None
            }
            Err(_) => {
                tracing::debug!("TLS handshake timed out");
                None
            }
        }
    }
}

fn build_server_config(
    settings: &TlsConfig,
    is_http2_enabled: bool,
) -> Result<ServerConfig, TlsError> {
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites =
        cipher_suites::select_suites(&settings.cipher_suites, provider.cipher_suites)?;
    let provider = Arc::new(provider);
    let certificate: Arc<dyn ResolvesServerCert> = load_certificate(settings, &provider)?;
    let versions: &[_] = match settings.min_version {
        TlsVersion::V1_2 => &[&TLS13, &TLS12],
        TlsVersion::V1_3 => &[&TLS13],
    };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .map_err(|_| TlsError::NoSuite)?
        .with_client_cert_verifier(Arc::new(NoClientAuth))
        .with_cert_resolver(certificate);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    if is_http2_enabled {
        config.alpn_protocols.insert(0, b"h2".to_vec());
    }
    Ok(config)
}

fn load_certificate(
    settings: &TlsConfig,
    provider: &CryptoProvider,
) -> Result<Arc<SingleCertAndKey>, TlsError> {
    let chain = pem::read_chain(&settings.certificate)?;
    let key = pem::read_key(&settings.key)?;
    let key = provider.key_provider.load_private_key(key);
    let key = key.map_err(|_| TlsError::KeyKind(settings.key.clone()))?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {}
        Err(rustls::Error::InconsistentKeys(_)) => {
            return Err(TlsError::Mismatch {
                certificate: settings.certificate.clone(),
                key: settings.key.clone(),
            });
        }
        // An X.509 version 1 certificate, which openssl creates when no extension is given. Clients
        // that skip verification accept it, and the stock registry serves it.
        Err(rustls::Error::InvalidCertificate(rustls::CertificateError::Other(reason))) => {
            let path = settings.certificate.display();
            tracing::warn!(
                "clients that verify the certificate in {path} will reject it: {reason}"
            );
        }
        Err(error) => {
            return Err(TlsError::Certificate {
                path: settings.certificate.clone(),
                reason: error.to_string(),
            });
        }
    }
    Ok(Arc::new(SingleCertAndKey::from(certified)))
}

#[cfg(test)]
mod tests;
