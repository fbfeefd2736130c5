//! TLS options, and the two HTTP clients that are built from them.

use std::sync::Arc;
use std::time::Duration;

use reqwest::redirect::Policy;

use rustls::ClientConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::certificate_verifier::CertificateVerifier;
use super::chain_recorder::ChainRecorder;
use super::{CONNECT_TIMEOUT, environment_proxies, error};

/// The `User-Agent` of the tool.
const DEFAULT_USER_AGENT: &str = concat!("imgsync/", env!("CARGO_PKG_VERSION"));

/// A client certificate with its key.
#[derive(Clone)]
pub(super) struct ClientCertificate {
    parsed: reqwest::Identity,
    pem: Vec<u8>,
}

/// The TLS options of a client. The system's roots and the bundled ones are always trusted; the
/// bundled ones are for container images without CA files.
#[derive(Clone, Default)]
pub struct TlsOptions {
    extra_roots: Vec<CertificateDer<'static>>,
    identity: Option<ClientCertificate>,
    is_unverified: bool,
    user_agent: Option<&'static str>,
    recorder: Option<ChainRecorder>,
}

impl TlsOptions {
    /// Trusts further CA certificates, in PEM. A server may also use one of them as its own.
    ///
    /// # Errors
    /// Fails on text without a certificate.
    pub fn add_ca_certificates(&mut self, pem: &[u8]) -> Result<(), String> {
        let certificates = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
        let certificates = certificates.map_err(|error| error::root_cause(&error))?;
        if certificates.is_empty() {
            return Err("no certificate found".to_owned());
        }
        self.extra_roots.extend(certificates);
        Ok(())
    }

    /// Sets the client certificate, in PEM: the certificate, its chain and its key, one after the
    /// other. It is sent to the registry and to no other host.
    ///
    /// # Errors
    /// Fails on text without a certificate or without a key.
    pub fn set_client_certificate(&mut self, pem: &[u8]) -> Result<(), String> {
        let parsed = reqwest::Identity::from_pem(pem);
        self.identity = Some(ClientCertificate {
            parsed: parsed.map_err(|error| error::root_cause(&error))?,
            pem: pem.to_vec(),
        });
        Ok(())
    }

    /// Skips the verification of certificates. The connection can then be read and modified by
    /// others.
    pub fn without_verification(mut self) -> Self {
        self.is_unverified = true;
        self
    }

    /// Sets the recorder that gets the certificates of each server whose certificate is verified.
    pub fn with_recorder(mut self, recorder: &ChainRecorder) -> Self {
        self.recorder = Some(recorder.clone());
        self
    }

    /// Sets the `User-Agent` (NAME/VERSION). The default is that of the tool; the server sets its own
    /// for requests to upstreams.
    pub fn with_user_agent(mut self, agent: &'static str) -> Self {
        self.user_agent = Some(agent);
        self
    }

    /// Returns a client for requests to other servers than registries, such as receivers of events.
    /// It follows no redirects. `uses_proxies` says whether the proxies of the environment are used.
    ///
    /// # Errors
    /// Fails if the system does not provide what TLS needs.
    pub fn plain_client(&self, uses_proxies: bool) -> Result<reqwest::Client, String> {
        self.client(uses_proxies, None)
    }

    /// Returns whether certificates are verified.
    pub(super) fn verifies(&self) -> bool {
        !self.is_unverified
    }

    /// Returns the builder of the client for the registry.
    pub(super) fn registry_builder(&self, proxies: bool) -> Result<reqwest::ClientBuilder, String> {
        self.builder(proxies, self.identity.as_ref())
    }

    /// Builds the client for the registry, and the one for hosts that it redirects to.
    pub(super) fn clients(&self, proxies: bool) -> Result<HttpClients, String> {
        let registry = self.client(proxies, self.identity.as_ref())?;
        let elsewhere = match self.identity {
            Some(_) => self.client(proxies, None)?,
            None => registry.clone(),
        };
        Ok(HttpClients {
            registry,
            other_hosts: elsewhere,
        })
    }

    fn client(
        &self,
        proxies: bool,
        identity: Option<&ClientCertificate>,
    ) -> Result<reqwest::Client, String> {
        let builder = self.builder(proxies, identity)?;
        builder.build().map_err(|error| error::chain(&error))
    }

    /// Returns the builder of an HTTP client with these options.
    pub(super) fn builder(
        &self,
        proxies: bool,
        identity: Option<&ClientCertificate>,
    ) -> Result<reqwest::ClientBuilder, String> {
        let mut builder = reqwest::Client::builder()
            .user_agent(self.user_agent.unwrap_or(DEFAULT_USER_AGENT))
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(Duration::from_secs(30))
            .referer(false)
            // This crate follows redirects itself, and decides which headers are sent along.
            .redirect(Policy::none());
        if self.is_unverified {
            builder = builder.tls_danger_accept_invalid_certs(true);
            if let Some(identity) = identity {
                builder = builder.identity(identity.parsed.clone());
            }
        } else {
            let config = self.config(identity).map_err(|error| error.to_string())?;
            builder = builder.tls_backend_preconfigured(config);
        }
        if !proxies {
            builder = builder.no_proxy();
        } else if let Some(proxies) = environment_proxies::with_remote_names() {
            builder = proxies
                .into_iter()
                .fold(builder.no_proxy(), reqwest::ClientBuilder::proxy);
        }
        Ok(builder)
    }

    /// Builds the TLS configuration of the HTTP library with our own certificate verifier.
    fn config(&self, identity: Option<&ClientCertificate>) -> Result<ClientConfig, rustls::Error> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = CertificateVerifier::new(self.extra_roots.clone(), Arc::clone(&provider))?;
        let verifier = verifier.with_recorder(self.recorder.clone());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match identity {
            None => config.with_no_client_auth(),
            Some(ClientCertificate { pem, .. }) => {
                let bad = |error: rustls::pki_types::pem::Error| {
                    rustls::Error::General(error.to_string())
                };
                let chain = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>();
                let key = PrivateKeyDer::from_pem_slice(pem).map_err(bad)?;
                config.with_client_auth_cert(chain.map_err(bad)?, key)?
            }
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

impl std::fmt::Debug for TlsOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsOptions")
            .field("roots", &self.extra_roots.len())
            .field("identity", &self.identity.is_some())
            .field("unchecked", &self.is_unverified)
            .finish()
    }
}

/// Two clients, so that the client certificate is sent to the registry alone.
#[derive(Debug, Clone)]
pub(super) struct HttpClients {
    pub(super) registry: reqwest::Client,
    pub(super) other_hosts: reqwest::Client,
}
