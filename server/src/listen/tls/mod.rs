//! TLS from files. Everything is exchanged as a whole when a file or the configuration changes:
//! connections that are open stay as they are, new ones get the new certificate.

mod cipher_suites;
mod error;
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

use crate::config::{TlsConfig as Settings, TlsVersion};

/// How long a client may take until both ends agree on keys.
const TLS_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// What connections are encrypted with.
pub(super) struct ReloadableTls {
    config: ArcSwap<ServerConfig>,
}

impl ReloadableTls {
    /// Reads certificate and key. HTTP/2 is offered to clients where `http2` says so.
    ///
    /// # Errors
    /// A file cannot be read or holds something else, key and certificate do not belong together,
    /// or no cipher suite is left.
    pub(super) fn open(settings: &Settings, http2: bool) -> Result<Self, TlsError> {
        let config = ArcSwap::from_pointee(config(settings, http2)?);
        Ok(Self { config })
    }

    /// Reads it all again, for connections that come from now on.
    ///
    /// # Errors
    /// As [`Tls::open`]; everything stays as it was then.
    pub(super) fn reload(&self, settings: &Settings, http2: bool) -> Result<(), TlsError> {
        self.config.store(Arc::new(config(settings, http2)?));
        Ok(())
    }

    /// Agrees on keys with a client; `None` where that fails, which is the client's business.
    pub(super) async fn accept<S>(&self, stream: S) -> Option<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let acceptor = TlsAcceptor::from(self.config.load_full());
        match timeout(TLS_HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => Some(stream),
            Ok(Err(error)) => {
                tracing::debug!(%error, "a TLS handshake failed");
                None
            }
            Err(_) => {
                tracing::debug!("a TLS handshake took too long");
                None
            }
        }
    }
}

fn config(settings: &Settings, http2: bool) -> Result<ServerConfig, TlsError> {
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites =
        cipher_suites::select_suites(&settings.cipher_suites, provider.cipher_suites)?;
    let provider = Arc::new(provider);
    let certificate: Arc<dyn ResolvesServerCert> = certificate(settings, &provider)?;
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
    if http2 {
        config.alpn_protocols.insert(0, b"h2".to_vec());
    }
    Ok(config)
}

fn certificate(
    settings: &Settings,
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
        // One of X.509 version 1, as openssl makes without extensions. Clients that check nothing
        // take it, and the stock registry serves it.
        Err(rustls::Error::InvalidCertificate(rustls::CertificateError::Other(reason))) => {
            let path = settings.certificate.display();
            tracing::warn!("clients that check the certificate in {path} will refuse it: {reason}");
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
