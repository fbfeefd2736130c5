//! A client of any registry: one method per operation, every answer read generously and every
//! fault named. Sending a blob is in [`upload`].

mod auth;
mod certificate_verifier;
mod connect_error;
mod download;
mod error;
mod lists;
mod referrers;
mod resolve;
mod response_headers;
mod resume;
mod retry;
mod retry_policy;
mod send;
mod tls;
pub mod upload;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, StatusCode};
use url::Url;

pub use auth::Credentials;
pub use connect_error::ConnectErrorKind;
pub use download::BlobDownload;
pub use error::{Error, RetryVerdict};
pub use lists::{DeleteOutcome, ListPage, NextPage};
pub use resume::ResumingDownload;
pub use retry::backoff;
pub use retry_policy::{RateLimit, RetryPolicy};
pub use tls::TlsOptions;

use crate::endpoint::RepositoryOperation;
use crate::{Digest, Endpoint, MAX_MANIFEST_BYTES, Reference, Registry, Repository, media};

/// How long a request that carries little may take, from the first byte to the last.
const SMALL_REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a blob on its way may stand still, where nobody says otherwise.
const DEFAULT_STALL_TIMEOUT: Duration = Duration::from_secs(60);
/// How long finishing an upload may take: a registry may hash the whole blob once more.
const FINISH_TIMEOUT: Duration = Duration::from_secs(600);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How a registry is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UrlScheme {
    /// Without encryption: for loopback, and where the user says so.
    Http,
    /// With TLS.
    Https,
}

/// One registry, and the connections to it.
#[derive(Debug, Clone)]
pub struct Client {
    http_clients: tls::HttpClients,
    base: Url,
    registry: Registry,
    auth: Arc<auth::ClientAuth>,
    /// Whether what is read is read for a push.
    is_for_push: bool,
    /// Whether it ever answered.
    has_answered: Arc<AtomicBool>,
    /// How long a blob on its way may stand still.
    stall_timeout: Duration,
    /// How often a small request is sent before its fault counts.
    max_attempts: u32,
    retry_policy: Arc<RetryPolicy>,
}

/// What a HEAD says of a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestHead {
    /// Its digest, where the registry names it.
    pub digest: Option<Digest>,
    /// Its media type, where the registry names it.
    pub media_type: Option<String>,
    /// Its size in bytes, where the registry names it.
    pub size: Option<u64>,
}

/// A manifest, as the registry has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedManifest {
    /// The digest of the bytes, computed here.
    pub digest: Digest,
    /// The media type that the registry sent it with.
    pub media_type: Option<String>,
    /// The bytes.
    pub bytes: Bytes,
}

impl Client {
    /// A client of `registry`. No request is made yet.
    ///
    /// # Errors
    /// An address that makes no URL; TLS that cannot be set up on this machine.
    pub fn new(registry: &Registry, scheme: UrlScheme) -> Result<Self, Error> {
        Self::with_tls(registry, scheme, &TlsOptions::default())
    }

    /// The same, with a say in whose certificates count. The environment's proxies count too
    /// (`HTTPS_PROXY` and the like), but never on the way to this very machine.
    ///
    /// # Errors
    /// As [`Client::new`]; also certificates that are none.
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
        // The Hub's API lives under another name than the one that people write.
        let host = match registry.is_docker_hub() {
            true => "registry-1.docker.io",
            false => registry.as_str(),
        };
        let base =
            Url::parse(&format!("{scheme}://{host}")).map_err(|error| setup(error.to_string()))?;
        let clients = tls.clients(!registry.is_loopback()).map_err(setup)?;
        Ok(Self {
            http_clients: clients,
            base,
            registry: registry.clone(),
            auth: Arc::default(),
            is_for_push: false,
            has_answered: Arc::default(),
            stall_timeout: DEFAULT_STALL_TIMEOUT,
            max_attempts: retry::DEFAULT_MAX_ATTEMPTS,
            retry_policy: Arc::default(),
        })
    }

    /// The same client, for someone with these credentials. `pushes` tells that reading will be
    /// followed by writing, so that one token can be asked for both.
    pub fn with_login(self, credentials: Option<Credentials>, pushes: bool) -> Self {
        let auth = Arc::new(auth::ClientAuth::new(credentials, None));
        Self {
            auth,
            is_for_push: pushes,
            ..self
        }
    }

    /// The same client, which calls `warn` with a host's name before it sends a password or token
    /// there without encryption; once, and never for this very machine.
    pub fn with_cleartext_warning(self, warn: impl Fn(&str) + Send + Sync + 'static) -> Self {
        let credentials = self.auth.credentials.clone();
        let auth = Arc::new(auth::ClientAuth::new(credentials, Some(Arc::new(warn))));
        Self { auth, ..self }
    }

    /// The same client, for which a blob on its way, up or down, may stand still for `stall` before
    /// that counts as a broken line; a minute without this.
    pub fn with_stall_timeout(self, stall: Duration) -> Self {
        Self {
            stall_timeout: stall,
            ..self
        }
    }

    /// How long a blob on its way may stand still.
    pub fn stall_timeout(&self) -> Duration {
        self.stall_timeout
    }

    /// The same client, with the same login, for repositories that are only read from: it asks for
    /// no more than that takes.
    pub fn for_reading(&self) -> Self {
        Self {
            is_for_push: false,
            ..self.clone()
        }
    }

    /// Whom this client is logged in as, where it has credentials.
    pub fn account(&self) -> Option<&str> {
        self.auth.credentials.as_ref().map(Credentials::account)
    }

    fn has_answered(&self) -> bool {
        self.has_answered.load(Ordering::Relaxed)
    }

    fn mark_answered(&self) {
        self.has_answered.store(true, Ordering::Relaxed);
    }

    /// Whether an address is at the registry itself.
    fn is_registry_url(&self, url: &Url) -> bool {
        url.origin() == self.base.origin()
    }

    /// `http` or `https`: how this client speaks.
    pub fn scheme(&self) -> &'static str {
        match self.base.scheme() {
            "https" => "https",
            _ => "http",
        }
    }

    /// The registry that this client speaks to.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Whether the registry has a manifest; `None` where it says that it has not.
    ///
    /// # Errors
    /// Anything but a yes or a no: a question that failed is not a "no".
    pub async fn head_manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> Result<Option<ManifestHead>, Error> {
        let endpoint = Endpoint::within(
            repository,
            RepositoryOperation::HeadManifest {
                reference: reference.clone(),
            },
        );
        let response = self.send_with_retry(&endpoint, accept_manifests()).await?;
        match response.status() {
            StatusCode::OK => Ok(Some(ManifestHead {
                digest: response_headers::digest(response.headers()),
                media_type: response_headers::media_type(response.headers()),
                size: response_headers::number(response.headers(), &CONTENT_LENGTH),
            })),
            StatusCode::NOT_FOUND => Ok(None),
            _ => Err(self.status_error(&endpoint, response).await),
        }
    }

    /// A manifest's bytes; `None` where the registry has none of that name.
    ///
    /// # Errors
    /// As [`Client::head_manifest`]; also a manifest beyond the limit, or one that does not match
    /// the digest that it was asked for by.
    pub async fn fetch_manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> Result<Option<FetchedManifest>, Error> {
        let endpoint = Endpoint::within(
            repository,
            RepositoryOperation::GetManifest {
                reference: reference.clone(),
            },
        );
        let response = self.send_with_retry(&endpoint, accept_manifests()).await?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Ok(None),
            _ => return Err(self.status_error(&endpoint, response).await),
        }
        let media_type = response_headers::media_type(response.headers());
        let bytes = self
            .read_bounded(&endpoint.to_string(), response, MAX_MANIFEST_BYTES)
            .await?;
        let digest = match reference {
            Reference::Tag(_) => Digest::of(&bytes),
            Reference::Digest(asked) => {
                let digest = Digest::of_with(asked.algorithm(), &bytes);
                if digest != *asked {
                    return Err(
                        self.invalid_response(&endpoint, format!("it sent content of {digest}"))
                    );
                }
                digest
            }
        };
        Ok(Some(FetchedManifest {
            digest,
            media_type,
            bytes,
        }))
    }

    /// Puts a manifest under a tag or its digest. Safe to repeat, and repeated after passing
    /// faults.
    ///
    /// # Errors
    /// The registry does not take it, for instance because a blob is missing there; it says that
    /// it does, but does not have it.
    pub async fn put_manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
        media_type: &str,
        bytes: Bytes,
    ) -> Result<(), Error> {
        let endpoint = Endpoint::within(
            repository,
            RepositoryOperation::PutManifest {
                reference: reference.clone(),
                tags: Vec::new(),
            },
        );
        let response = self
            .retry(|| async {
                let request = self
                    .request(&endpoint)
                    .timeout(SMALL_REQUEST_TIMEOUT)
                    .header(CONTENT_TYPE, media_type)
                    .body(bytes.clone());
                self.send_once(&endpoint, request).await
            })
            .await?;
        let status = response.status();
        if !status.is_success() {
            return Err(self.status_error(&endpoint, response).await);
        }
        let is_ours = |digest: &Digest| *digest == Digest::of_with(digest.algorithm(), &bytes);
        let said = response_headers::digest(response.headers());
        if status == StatusCode::CREATED && said.as_ref().is_some_and(is_ours) {
            return Ok(());
        }
        // Not the answer of a registry that stored this: a proxy's, perhaps. It must be there.
        let held = match self.head_manifest(repository, reference).await? {
            None => false,
            Some(ManifestHead {
                digest: Some(digest),
                ..
            }) => is_ours(&digest),
            Some(ManifestHead { digest: None, .. }) => {
                let found = self.fetch_manifest(repository, reference).await?;
                found.is_some_and(|found| found.bytes == bytes)
            }
        };
        match held {
            true => Ok(()),
            false => Err(self.invalid_response(
                &endpoint,
                format!("it says {status}, but does not have the manifest"),
            )),
        }
    }

    /// The size in bytes of a blob that the registry holds; `None` where it says that it does not.
    ///
    /// # Errors
    /// Anything but a yes or a no, and a yes without a size.
    pub async fn head_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Option<u64>, Error> {
        let endpoint = Endpoint::within(
            repository,
            RepositoryOperation::HeadBlob {
                digest: digest.clone(),
            },
        );
        let response = self.send_with_retry(&endpoint, HeaderMap::new()).await?;
        match response.status() {
            StatusCode::OK => {
                let size = response_headers::number(response.headers(), &CONTENT_LENGTH);
                size.map(Some).ok_or_else(|| {
                    self.invalid_response(&endpoint, "it names no Content-Length".to_owned())
                })
            }
            StatusCode::NOT_FOUND => Ok(None),
            _ => Err(self.status_error(&endpoint, response).await),
        }
    }

    /// Returns whether the registry holds a blob of this digest and size. A blob of another size
    /// counts as absent.
    ///
    /// # Errors
    /// As [`Client::head_blob`].
    pub async fn has_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        size: u64,
    ) -> Result<bool, Error> {
        Ok(self.head_blob(repository, digest).await? == Some(size))
    }

    /// A small blob, such as a config, whole and verified; `None` where the registry has no such
    /// blob.
    ///
    /// # Errors
    /// As [`Client::blob`]; also more than `limit` bytes, or bytes that do not match the digest.
    pub async fn fetch_small_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        limit: usize,
    ) -> Result<Option<Bytes>, Error> {
        let endpoint = Endpoint::within(
            repository,
            RepositoryOperation::GetBlob {
                digest: digest.clone(),
            },
        );
        let response = self.send_with_retry(&endpoint, HeaderMap::new()).await?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Ok(None),
            _ => return Err(self.status_error(&endpoint, response).await),
        }
        let bytes = self
            .read_bounded(&endpoint.to_string(), response, limit)
            .await?;
        if Digest::of_with(digest.algorithm(), &bytes) != *digest {
            return Err(self.invalid_response(&endpoint, "it sent other content".to_owned()));
        }
        Ok(Some(bytes))
    }
}

fn accept_manifests() -> HeaderMap {
    let mut headers = HeaderMap::new();
    for media_type in media::MANIFEST_TYPES {
        headers.append(ACCEPT, http::HeaderValue::from_static(media_type));
    }
    headers
}
