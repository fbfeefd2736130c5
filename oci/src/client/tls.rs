//! What a registry's certificate is checked against, and the two HTTP clients that follow from it.

use std::sync::Arc;
use std::time::Duration;

use reqwest::redirect::Policy;

use rustls::ClientConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::certificate_verifier::CertificateVerifier;
use super::{CONNECT_TIMEOUT, error};

/// What the tool is called.
const DEFAULT_USER_AGENT: &str = concat!("imgsync/", env!("CARGO_PKG_VERSION"));

/// A client certificate with its key.
#[derive(Clone)]
struct ClientCertificate {
    parsed: reqwest::Identity,
    pem: Vec<u8>,
}

/// How TLS is spoken. The roots of the system and the bundled ones always count; without the
/// latter an image without CA files could reach no registry.
#[derive(Clone, Default)]
pub struct TlsOptions {
    extra_roots: Vec<CertificateDer<'static>>,
    identity: Option<ClientCertificate>,
    is_unverified: bool,
    user_agent: Option<&'static str>,
}

impl TlsOptions {
    /// Takes more CA certificates, from PEM. A server may also show one of them as its own.
    ///
    /// # Errors
    /// Text without a certificate in it.
    pub fn add_ca_certificates(&mut self, pem: &[u8]) -> Result<(), String> {
        let found = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
        let found = found.map_err(|error| error::root_cause(&error))?;
        if found.is_empty() {
            return Err("there is no certificate in it".to_owned());
        }
        self.extra_roots.extend(found);
        Ok(())
    }

    /// Shows this client certificate to the registry, and to no other host: PEM of the
    /// certificate, its chain and its key, one after the other.
    ///
    /// # Errors
    /// Text without both.
    pub fn set_client_certificate(&mut self, pem: &[u8]) -> Result<(), String> {
        let parsed = reqwest::Identity::from_pem(pem);
        self.identity = Some(ClientCertificate {
            parsed: parsed.map_err(|error| error::root_cause(&error))?,
            pem: pem.to_vec(),
        });
        Ok(())
    }

    /// Checks no certificate at all: whoever is in between reads and changes everything.
    pub fn without_verification(mut self) -> Self {
        self.is_unverified = true;
        self
    }

    /// Has the clients call themselves so (`User-Agent`, NAME/VERSION); without it they are the
    /// tool. A server that asks others is another one.
    pub fn with_user_agent(mut self, agent: &'static str) -> Self {
        self.user_agent = Some(agent);
        self
    }

    /// The client for the registry itself, and the one for wherever it sends a request.
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
        let bundled = webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter();
        let bundled = bundled.filter_map(|root| reqwest::Certificate::from_der(root).ok());
        let mut builder = reqwest::Client::builder()
            .user_agent(self.user_agent.unwrap_or(DEFAULT_USER_AGENT))
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(Duration::from_secs(30))
            .referer(false)
            // What goes along with a redirect, and which are followed at all, is ours to decide.
            .redirect(Policy::none());
        if self.extra_roots.is_empty() || self.is_unverified {
            builder = builder
                .tls_certs_merge(bundled)
                .tls_danger_accept_invalid_certs(self.is_unverified);
            if let Some(identity) = identity {
                builder = builder.identity(identity.parsed.clone());
            }
        } else {
            let config = self.config(identity).map_err(|error| error.to_string())?;
            builder = builder.tls_backend_preconfigured(config);
        }
        if !proxies {
            builder = builder.no_proxy();
        }
        builder.build().map_err(|error| error::chain(&error))
    }

    /// TLS as the HTTP library sets it up, but for whose certificate counts.
    fn config(&self, identity: Option<&ClientCertificate>) -> Result<ClientConfig, rustls::Error> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = CertificateVerifier::new(self.extra_roots.clone(), Arc::clone(&provider))?;
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
        f.debug_struct("Tls")
            .field("roots", &self.extra_roots.len())
            .field("identity", &self.identity.is_some())
            .field("unchecked", &self.is_unverified)
            .finish()
    }
}

/// Two clients, so that a client certificate is shown to the registry alone.
#[derive(Debug, Clone)]
pub(super) struct HttpClients {
    pub(super) registry: reqwest::Client,
    pub(super) other_hosts: reqwest::Client,
}
