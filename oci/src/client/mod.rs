//! A client of one registry, with one method for each operation of the API. Start at [`Client`];
//! uploads are in [`upload`].
//!
//! The client accepts the deviations from the specification that registries show, and returns an
//! [`Error`] that names registry and operation for everything else. It retries small requests;
//! uploads are continued by the caller, who has the bytes.

mod address_policy;
mod assemble;
mod auth;
mod blobs;
mod ca_leaf;
mod certificate_verifier;
mod chain_recorder;
mod connect_error;
mod download;
mod environment_proxies;
mod error;
mod failed_requests;
mod layer_index;
mod lists;
mod manifests;
mod paging;
mod probe;
mod referrers;
mod resolve;
mod response_headers;
mod resume;
mod retry;
mod retry_policy;
mod send;
mod tls;
mod trash;
pub mod upload;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use url::Url;

pub use address_policy::AddressPolicy;
pub use assemble::{AssembleAnswer, AssemblyProgress};
#[cfg(any(test, fuzzing))]
pub use auth::fuzz_challenges;
pub use auth::{CredentialUse, Credentials};
pub use chain_recorder::ChainRecorder;
pub use connect_error::ConnectErrorKind;
pub use download::BlobDownload;
pub use error::{Error, RetryVerdict};
pub use layer_index::LayerIndexAnswer;
pub use lists::{DeleteOutcome, ListPage};
pub use manifests::{FetchedManifest, ManifestHead};
pub use paging::NextPage;
pub use probe::{BodyAnnouncement, ProbeResponse};
pub use resume::ResumingDownload;
pub use retry::backoff;
pub use retry_policy::{RateLimit, RetryPolicy};
pub use tls::TlsOptions;
pub use trash::TrashOutcome;

use crate::Registry;

/// The timeout of a request without a large body, from the first byte to the last.
const SMALL_REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// The default time that the transfer of a blob may stall.
const DEFAULT_STALL_TIMEOUT: Duration = Duration::from_secs(60);
/// The timeout of the request that finishes an upload: a registry may hash the whole blob again.
const FINISH_TIMEOUT: Duration = Duration::from_secs(600);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The scheme of a registry's URLs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UrlScheme {
    /// Plain HTTP: for loopback addresses, and where the user asks for it.
    Http,
    /// HTTPS.
    Https,
}

/// A client of one registry. Clones share connections, login and rate limit.
#[derive(Debug, Clone)]
pub struct Client {
    http_clients: tls::HttpClients,
    /// Checks the addresses that the registry names; without it, all are allowed.
    address_guard: Option<address_policy::AddressGuard>,
    base: Url,
    registry: Registry,
    login_variables: Option<&'static str>,
    auth: Arc<auth::ClientAuth>,
    /// Whether tokens for reading ask for push as well, because a push follows.
    is_for_push: bool,
    /// Whether the registry has answered any request so far.
    has_answered: Arc<AtomicBool>,
    /// The time that the transfer of a blob may stall.
    stall_timeout: Duration,
    /// The most attempts of a small request.
    max_attempts: u32,
    retry_policy: Arc<RetryPolicy>,
}

impl Client {
    /// Returns a client of `registry`. No request is made yet.
    ///
    /// # Errors
    /// Fails if the address makes no URL, or if TLS cannot be set up on this machine.
    pub fn new(registry: &Registry, scheme: UrlScheme) -> Result<Self, Error> {
        Self::with_tls(registry, scheme, &TlsOptions::default())
    }

    /// Returns a client of `registry` with these TLS options. It uses the proxies of the environment
    /// (`HTTPS_PROXY` and others), except for loopback addresses.
    ///
    /// # Errors
    /// As [`Client::new`]; also on invalid certificates.
    pub fn with_tls(
        registry: &Registry,
        scheme: UrlScheme,
        tls: &TlsOptions,
    ) -> Result<Self, Error> {
        let scheme = match scheme {
            UrlScheme::Http => "http",
            UrlScheme::Https => "https",
        };
        let setup = |what: String| Error::Setup {
            registry: registry.clone(),
            what,
        };
        // The API of Docker Hub has another host name than the one that people type.
        let host = if registry.is_docker_hub() {
            "registry-1.docker.io"
        } else {
            registry.as_str()
        };
        let base =
            Url::parse(&format!("{scheme}://{host}")).map_err(|error| setup(error.to_string()))?;
        let clients = tls.clients(!registry.is_loopback()).map_err(setup)?;
        Ok(Self {
            http_clients: clients,
            address_guard: None,
            base,
            registry: registry.clone(),
            auth: Arc::default(),
            login_variables: None,
            is_for_push: false,
            has_answered: Arc::default(),
            stall_timeout: DEFAULT_STALL_TIMEOUT,
            max_attempts: retry::DEFAULT_MAX_ATTEMPTS,
            retry_policy: Arc::default(),
        })
    }

    /// Restricts the hosts to which the registry can send this client, with redirects and as token
    /// server, to the addresses that `policy` allows. A registry whose certificate is not verified
    /// must not move to an internal address, either. `tls` are the options of [`Client::with_tls`].
    ///
    /// # Errors
    /// As [`Client::with_tls`].
    pub fn with_address_policy(
        self,
        policy: Arc<dyn AddressPolicy>,
        tls: &TlsOptions,
    ) -> Result<Self, Error> {
        let setup = |what: String| Error::Setup {
            registry: self.registry.clone(),
            what,
        };
        let uses_proxies = !self.registry.is_loopback();
        let direct = tls.builder(false, None).map_err(setup)?;
        let guard = address_policy::AddressGuard::new(policy, &self.base, uses_proxies, direct);
        let failed = |error: reqwest::Error| setup(error::chain(&error));
        let guard = guard.map_err(failed)?;
        let mut http_clients = self.http_clients;
        if self.base.scheme() != "https" || !tls.verifies() {
            let builder = tls.registry_builder(uses_proxies).map_err(setup)?;
            http_clients.registry = guard.unverified_registry(builder).map_err(failed)?;
        }
        Ok(Self {
            address_guard: Some(guard),
            http_clients,
            ..self
        })
    }

    /// Sets the credentials. With `pushes`, tokens for reading are requested with push as well, so
    /// that one token serves the lookups and the push that follows.
    pub fn with_login(self, credentials: Option<Credentials>, pushes: bool) -> Self {
        let auth = Arc::new(auth::ClientAuth::new(credentials, None));
        Self {
            auth,
            is_for_push: pushes,
            ..self
        }
    }

    /// Sets the variables that the program reads credentials for this registry from, for messages: the
    /// client does not read them.
    pub fn with_login_variables(self, variables: Option<&'static str>) -> Self {
        Self {
            login_variables: variables,
            ..self
        }
    }

    /// Sets a function that is called with the host name, once, before a password or token is sent
    /// without encryption. It is not called for loopback addresses.
    pub fn with_cleartext_warning(self, warn: impl Fn(&str) + Send + Sync + 'static) -> Self {
        let credentials = self.auth.credentials.clone();
        let auth = Arc::new(auth::ClientAuth::new(credentials, Some(Arc::new(warn))));
        Self { auth, ..self }
    }

    /// Sets the time that the transfer of a blob, in either direction, may stall before the
    /// connection counts as lost. The default is one minute.
    pub fn with_stall_timeout(self, stall: Duration) -> Self {
        Self {
            stall_timeout: stall,
            ..self
        }
    }

    /// Returns the time that the transfer of a blob may stall.
    pub fn stall_timeout(&self) -> Duration {
        self.stall_timeout
    }

    /// Returns a client with the same login whose tokens for reading allow no more than pull.
    pub fn for_reading(&self) -> Self {
        Self {
            is_for_push: false,
            ..self.clone()
        }
    }

    /// Returns whether the registry has answered any request so far.
    pub fn has_answered(&self) -> bool {
        self.has_answered.load(Ordering::Relaxed)
    }

    fn mark_answered(&self) {
        self.has_answered.store(true, Ordering::Relaxed);
    }

    /// Reports whether a URL is at the registry itself, not at a store that it redirects to.
    fn is_registry_url(&self, url: &Url) -> bool {
        url.origin() == self.base.origin()
    }

    /// Returns the scheme of the registry's URLs: `http` or `https`.
    pub fn scheme(&self) -> &'static str {
        match self.base.scheme() {
            "https" => "https",
            _ => "http",
        }
    }

    /// Returns the URL of the registry, to which the paths of requests are added.
    pub fn base_url(&self) -> &Url {
        &self.base
    }

    /// Returns the proxy of the environment through which requests to the registry are sent, without
    /// its credentials.
    pub fn proxy(&self) -> Option<String> {
        if self.registry.is_loopback() {
            return None;
        }
        environment_proxies::proxy_of(&self.base)
    }

    /// Returns the address of the registry.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }
}
