//! What a registry's certificate is checked against, and the two HTTP clients that follow from it.

use std::time::Duration;

use reqwest::redirect::Policy;

use super::{CONNECT, error};

/// How TLS is spoken. The roots of the system and the bundled ones always count; without the
/// latter an image without CA files could reach no registry.
#[derive(Clone, Default)]
pub struct Tls {
    roots: Vec<reqwest::Certificate>,
    identity: Option<reqwest::Identity>,
    unchecked: bool,
}

impl Tls {
    /// Takes more CA certificates, from PEM.
    ///
    /// # Errors
    /// Text without a certificate in it.
    pub fn trust(&mut self, pem: &[u8]) -> Result<(), String> {
        let found = reqwest::Certificate::from_pem_bundle(pem);
        let found = found.map_err(|error| error::innermost(&error))?;
        if found.is_empty() {
            return Err("there is no certificate in it".to_owned());
        }
        self.roots.extend(found);
        Ok(())
    }

    /// Shows this client certificate to the registry, and to no other host: PEM of the
    /// certificate, its chain and its key, one after the other.
    ///
    /// # Errors
    /// Text without both.
    pub fn identify(&mut self, pem: &[u8]) -> Result<(), String> {
        let identity = reqwest::Identity::from_pem(pem);
        self.identity = Some(identity.map_err(|error| error::innermost(&error))?);
        Ok(())
    }

    /// Checks no certificate at all: whoever is in between reads and changes everything.
    pub fn unchecked(mut self) -> Self {
        self.unchecked = true;
        self
    }

    /// The client for the registry itself, and the one for wherever it sends a request.
    pub(super) fn clients(&self, proxies: bool) -> reqwest::Result<Clients> {
        let registry = self.client(proxies, self.identity.clone())?;
        let elsewhere = match self.identity {
            Some(_) => self.client(proxies, None)?,
            None => registry.clone(),
        };
        Ok(Clients {
            registry,
            elsewhere,
        })
    }

    fn client(
        &self,
        proxies: bool,
        identity: Option<reqwest::Identity>,
    ) -> reqwest::Result<reqwest::Client> {
        let bundled = webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter();
        let bundled = bundled.filter_map(|root| reqwest::Certificate::from_der(root).ok());
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("imgsync/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT)
            .pool_idle_timeout(Duration::from_secs(30))
            .referer(false)
            // What goes along with a redirect, and which are followed at all, is ours to decide.
            .redirect(Policy::none())
            .tls_certs_merge(bundled.chain(self.roots.iter().cloned()))
            .tls_danger_accept_invalid_certs(self.unchecked);
        if let Some(identity) = identity {
            builder = builder.identity(identity);
        }
        if !proxies {
            builder = builder.no_proxy();
        }
        builder.build()
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls")
            .field("roots", &self.roots.len())
            .field("identity", &self.identity.is_some())
            .field("unchecked", &self.unchecked)
            .finish()
    }
}

/// Two clients, so that a client certificate is shown to the registry alone.
#[derive(Debug, Clone)]
pub(super) struct Clients {
    pub(super) registry: reqwest::Client,
    pub(super) elsewhere: reqwest::Client,
}
