//! Pull-through cache: fetches content from upstream registries and stores it in this registry.
//!
//! This module decides when an upstream is asked and shares each fetch among clients. The files on
//! disk belong to [`crate::registry`]. Only configured hosts are contacted, with this server's own
//! credentials: no client header is forwarded to an upstream, and no upstream header to a client.
//! Start reading at [`Upstreams`].

mod batch_reader;
mod blobs;
mod circuit_breaker;
mod download;
mod download_reader;
mod error;
mod files;
mod internal_addresses;
mod lists;
mod manifests;
mod metrics;
mod negative_cache;
mod pull_rights;
mod retries;
mod routing;
mod singleflight;
mod transfer;
mod uncached_blob;
mod upstream_client;
mod upstream_repository;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use arc_swap::ArcSwap;
use imgsync_oci::Repository;
use tokio_util::task::TaskTracker;

pub(crate) use self::blobs::BlobAvailability;
pub(crate) use self::download_reader::DownloadReader;
pub(crate) use self::error::{Error, UpstreamFailure, UpstreamFailureKind};
pub use self::files::UpstreamConfigError;
pub(crate) use self::manifests::Freshness;
pub(crate) use self::metrics::{CacheFigures, UpstreamFigures, UpstreamOutcome};
pub(crate) use self::pull_rights::PullRights;
pub(crate) use self::uncached_blob::UncachedBlob;
pub(crate) use self::upstream_repository::UpstreamRepository;

use self::blobs::{BlobHeadResult, Downloads};
use self::download::DownloadShutdown;
use self::lists::TagListCache;
pub(crate) use self::lists::local_page;
use self::manifests::ManifestOutcome;
use self::metrics::{CacheMetrics, CacheStatus, ContentKind};
use self::negative_cache::NegativeCache;
use self::singleflight::SingleFlight;
use self::upstream_client::UpstreamClient;
use crate::config::{self, Config};
use crate::registry::{self, CacheLimits, EvictionStats, Registry};
use crate::wall_clock::unix_now;

/// Images that were used within this time are not evicted: a client may still be pulling their
/// blobs.
const MIN_IDLE_BEFORE_EVICTION: Duration = Duration::from_secs(15 * 60);

/// Key of a manifest or a blob within a repository.
type ContentKey = (Repository, String);

/// All configured upstreams. Clones share the same state.
#[derive(Clone)]
pub(crate) struct Upstreams {
    inner: Arc<Inner>,
}

struct Inner {
    registry: Registry,
    configured: ArcSwap<UpstreamSet>,
    metrics: CacheMetrics,
    negative_cache: NegativeCache<ContentKey>,
    manifest_requests: SingleFlight<ContentKey, ManifestOutcome>,
    blob_requests: SingleFlight<ContentKey, BlobHeadResult>,
    downloads: Downloads,
    tag_lists: TagListCache,
    tasks: TaskTracker,
    shutdown: DownloadShutdown,
}

/// The upstreams of one configuration.
#[derive(Default)]
struct UpstreamSet {
    settings: Vec<config::UpstreamConfig>,
    /// One client per entry of `settings`, in the same order.
    clients: Vec<Arc<UpstreamClient>>,
    /// `None` if nothing can be cached: no upstream is configured, or the storage is read-only.
    limits: Option<CacheLimits>,
    is_read_only: bool,
}

impl Upstreams {
    /// Creates the clients of the configured upstreams. Sends no request.
    ///
    /// # Errors
    /// Returns an error if a file that the configuration names cannot be read or used.
    pub(crate) fn open(registry: Registry, config: &Config) -> Result<Self, UpstreamConfigError> {
        let configured = UpstreamSet::open(config, &[])?;
        Ok(Self {
            inner: Arc::new(Inner {
                registry,
                configured: ArcSwap::from_pointee(configured),
                metrics: CacheMetrics::default(),
                negative_cache: NegativeCache::default(),
                manifest_requests: SingleFlight::default(),
                blob_requests: SingleFlight::default(),
                downloads: Downloads::default(),
                tag_lists: TagListCache::default(),
                tasks: TaskTracker::new(),
                shutdown: DownloadShutdown::default(),
            }),
        })
    }

    /// Checks, without a change, whether the upstreams of a configuration could be opened.
    ///
    /// # Errors
    /// As [`Upstreams::open`].
    pub(crate) fn check(config: &Config) -> Result<(), UpstreamConfigError> {
        UpstreamSet::open(config, &[]).map(drop)
    }

    /// Applies a new configuration. Unchanged upstreams keep their client and its tokens.
    ///
    /// # Errors
    /// Returns the errors of [`Upstreams::open`]; the previous configuration then stays in effect.
    pub(crate) fn reload(&self, config: &Config) -> Result<(), UpstreamConfigError> {
        let before = self.inner.configured.load();
        let configured = UpstreamSet::open(config, &before.clients)?;
        self.inner.configured.store(Arc::new(configured));
        Ok(())
    }

    /// Returns the upstream of a repository, or `None` if it has none.
    pub(crate) fn upstream_for(&self, repository: &Repository) -> Option<UpstreamRepository> {
        let configured = self.inner.configured.load();
        let (index, name) = routing::find_upstream(&configured.settings, repository)?;
        Some(UpstreamRepository {
            upstream: Arc::clone(configured.clients.get(index)?),
            upstream_name: name,
            repository: repository.clone(),
            is_read_only: configured.is_read_only,
        })
    }

    /// Reports whether no upstream is configured.
    pub(crate) fn is_empty(&self) -> bool {
        self.inner.configured.load().settings.is_empty()
    }

    /// Expands a short Docker Hub name in a request path to its full form, and returns every other
    /// name unchanged.
    pub(crate) fn expand_hub_name(&self, repository: Repository) -> Repository {
        routing::expand_hub_name(&self.inner.configured.load().settings, repository)
    }

    /// Returns the local repository for a name in the namespace of another registry, as in `?ns=`,
    /// or `None` if no local repository can have that name. `is_own` reports whether a namespace is
    /// this registry's own address.
    pub(crate) fn resolve_namespace(
        &self,
        namespace: &str,
        repository: &Repository,
        is_own: impl Fn(&str) -> bool,
    ) -> Option<Repository> {
        routing::resolve_namespace(
            &self.inner.configured.load().settings,
            namespace,
            repository,
            is_own,
        )
    }

    /// Returns the local repository for a name that the Docker daemon requests from a registry
    /// mirror. Returns `None` if no upstream is configured as the mirror, or if the name itself has
    /// an upstream.
    pub(crate) fn mirror_repository(&self, repository: &Repository) -> Option<Repository> {
        let configured = self.inner.configured.load();
        match routing::find_upstream(&configured.settings, repository) {
            Some(_) => None,
            None => routing::mirror_repository(&configured.settings, repository),
        }
    }

    /// Returns the names by which the operator may name a repository of the stock registry's proxy;
    /// nothing for other repositories.
    pub(crate) fn proxied_names(&self, repository: &Repository) -> Vec<Repository> {
        routing::proxied_names(&self.inner.configured.load().settings, repository)
    }

    /// Counts blob bytes that were sent to a client.
    pub(crate) fn count_served_bytes(&self, bytes: u64) {
        self.inner.metrics.served_bytes.fetch_add(bytes, Relaxed);
    }

    /// Evicts cached images until the cache is within its limits. Returns `None` if nothing is
    /// cached. Blocks.
    ///
    /// # Errors
    /// Returns the errors of the store.
    pub(crate) fn evict(&self) -> Result<Option<EvictionStats>, registry::Error> {
        let Some(limits) = self.inner.configured.load().limits else {
            return Ok(None);
        };
        let evicted = self.inner.registry.evict(&limits, unix_now())?;
        let counts = &self.inner.metrics;
        counts.evicted_bytes.fetch_add(evicted.freed_bytes, Relaxed);
        counts
            .evicted_images
            .fetch_add(evicted.images as u64, Relaxed);
        if let Some(bytes) = evicted.cached_bytes {
            counts.cached_bytes.store(bytes, Relaxed);
        }
        Ok(Some(evicted))
    }

    /// Returns the limits of the cache; `None` if nothing is cached.
    pub(crate) fn cache_limits(&self) -> Option<CacheLimits> {
        self.inner.configured.load().limits
    }

    /// Reports whether the cache exceeds its limits and should be evicted now.
    pub(crate) fn is_over_limit(&self) -> bool {
        let limits = self.cache_limits();
        limits.is_some_and(|limits| self.inner.registry.is_over_limit(&limits))
    }

    /// Marks the content that a stock registry in proxy mode fetched into the same directory as
    /// cached, so that it is not treated as pushed. Must run before the first request is served.
    /// Blocks.
    ///
    /// # Errors
    /// Returns the errors of the store.
    pub(crate) fn import_proxied(&self) -> Result<(), registry::Error> {
        let configured = self.inner.configured.load();
        if configured.is_read_only {
            return Ok(());
        }
        let mut clients = configured.clients.iter();
        let Some(proxy) = clients.find(|client| client.settings.prefix.is_none()) else {
            return Ok(());
        };
        let registry = &self.inner.registry;
        let count = registry.import_stock_proxy(proxy.address(), unix_now())?;
        if count > 0 {
            tracing::info!(count, "imported the cache of a stock registry");
        }
        Ok(())
    }

    /// Returns what the cache and the upstreams have counted since the start.
    pub(crate) fn cache_figures(&self) -> CacheFigures {
        let configured = self.inner.configured.load();
        let upstreams = configured.clients.iter().map(|client| {
            let limit = client.client().rate_limit();
            let name = client.settings.name();
            client.metrics.figures(name, limit.as_ref())
        });
        self.inner.metrics.figures(upstreams.collect())
    }

    /// Returns the name and the address of each upstream, and the outcome of the last request to it.
    pub(crate) fn last_outcomes(&self) -> Vec<(String, String, Option<UpstreamOutcome>)> {
        let configured = self.inner.configured.load();
        let clients = configured.clients.iter();
        clients
            .map(|client| {
                let (name, address) = (client.settings.name(), client.address());
                let last = client.metrics.last_outcome();
                (name.to_owned(), address.to_owned(), last)
            })
            .collect()
    }

    /// Stops downloads that no client reads, and waits until all downloads have ended. A stopped
    /// download resumes after the next start.
    pub(crate) async fn drain(&self) {
        self.inner.shutdown.graceful.cancel();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }

    /// Stops all downloads, including those that clients read.
    pub(crate) fn cancel_downloads(&self) {
        self.inner.shutdown.immediate.cancel();
    }

    /// Counts the result of a client's request. `success_status` maps a success to its label.
    fn count_request<T>(
        &self,
        kind: ContentKind,
        result: &Result<T, Error>,
        success_status: impl Fn(&T) -> CacheStatus,
    ) {
        let status = match result {
            Ok(success) => success_status(success),
            Err(Error::Registry(
                registry::Error::BlobUnknown(_) | registry::Error::ManifestUnknown(_),
            )) => CacheStatus::Absent,
            Err(_) => CacheStatus::Failed,
        };
        self.inner.metrics.record_request(kind, status);
    }

    /// Runs blocking work on a repository of this registry.
    async fn run_on_disk<T: Send + 'static>(
        &self,
        source: &UpstreamRepository,
        work: impl FnOnce(&Registry, &Repository) -> T + Send + 'static,
    ) -> T {
        let (registry, repository) = (self.inner.registry.clone(), source.repository.clone());
        run_blocking(move || work(&registry, &repository)).await
    }
}

impl UpstreamSet {
    /// Opens the upstreams of a configuration, reusing the clients in `before` that did not change.
    fn open(config: &Config, before: &[Arc<UpstreamClient>]) -> Result<Self, UpstreamConfigError> {
        let is_read_only = config.storage.is_read_only;
        let settings = config.cache.upstreams.clone();
        let clients = settings
            .iter()
            .map(|settings| UpstreamClient::open(settings, &config.cache.allowed_networks, before));
        let clients = clients.collect::<Result<Vec<_>, _>>()?;
        let limits = (!settings.is_empty() && !is_read_only).then_some(CacheLimits {
            max_bytes: config.cache.max_bytes,
            max_unused: config.cache.max_age,
            grace_period: MIN_IDLE_BEFORE_EVICTION,
        });
        Ok(Self {
            settings,
            clients,
            limits,
            is_read_only,
        })
    }
}

/// Runs blocking disk work on the thread pool for blocking tasks.
///
/// # Panics
/// Panics if `work` panics.
async fn run_blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is shutting down, which drops this future too.
            Err(_) => std::future::pending().await,
        },
    }
}
