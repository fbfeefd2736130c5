//! What lies behind this registry: other registries, whose images are fetched when somebody asks
//! for them, and kept. What is here is the registry's; this room knows how it gets there.
//!
//! Whatever a client sends, only configured hosts are spoken to, with this server's own logins.
//! No header of a client goes there, and none of theirs comes back.

mod blobs;
mod circuit_breaker;
mod download;
mod download_reader;
mod error;
mod files;
mod lists;
mod manifests;
mod metrics;
mod negative_cache;
mod routing;
mod singleflight;
mod upstream_client;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use imgsync_oci::Repository;
use tokio_util::task::TaskTracker;

pub(crate) use self::blobs::BlobAvailability;
pub(crate) use self::download_reader::DownloadReader;
pub(crate) use self::error::{Error, UpstreamFailure, UpstreamFailureKind};
pub use self::files::UpstreamConfigError;
pub(crate) use self::manifests::Freshness;

use self::blobs::{Downloads, UpstreamBlob};
use self::download::DownloadShutdown;
use self::lists::TagListCache;
use self::manifests::ManifestOutcome;
use self::metrics::{CacheMetrics, CacheStatus, ContentKind};
use self::negative_cache::NegativeCache;
use self::singleflight::{SingleFlight, SingleFlightError};
use self::upstream_client::UpstreamClient;
use crate::config::{self, Config};
use crate::registry::{self, CacheLimits, EvictionStats, Registry};

/// Images in use are not taken away from those who are about to read them.
const MIN_IDLE_BEFORE_EVICTION: std::time::Duration = std::time::Duration::from_secs(15 * 60);

/// A name in a repository: of a manifest or a blob.
type ContentKey = (Repository, String);

/// All registries behind this one. Clones share everything.
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
    blob_requests: SingleFlight<ContentKey, UpstreamBlob>,
    downloads: Downloads,
    tag_lists: TagListCache,
    tasks: TaskTracker,
    shutdown: DownloadShutdown,
}

/// The upstreams of one configuration.
#[derive(Default)]
struct UpstreamSet {
    settings: Vec<config::UpstreamConfig>,
    /// One each, in the same order.
    clients: Vec<Arc<UpstreamClient>>,
    /// None where nothing is kept.
    limits: Option<CacheLimits>,
    is_read_only: bool,
}

/// A repository with an upstream behind it.
#[derive(Clone)]
pub(crate) struct UpstreamRepository {
    upstream: Arc<UpstreamClient>,
    /// What it is called there.
    upstream_name: Repository,
    /// What it is called here.
    repository: Repository,
    /// Whether nothing may be kept, and so nothing is asked for.
    is_read_only: bool,
}

impl Upstreams {
    /// Gets ready to ask the configured upstreams. None is asked.
    ///
    /// # Errors
    /// The files that the configuration names for them cannot be read or used.
    pub(crate) fn open(registry: Registry, config: &Config) -> Result<Self, UpstreamConfigError> {
        let known = UpstreamSet::open(config, &[])?;
        Ok(Self {
            inner: Arc::new(Inner {
                registry,
                configured: ArcSwap::from_pointee(known),
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

    /// Takes up another configuration. Upstreams that stay the same keep their logins.
    ///
    /// # Errors
    /// As [`Upstreams::open`]; everything stays as it was then.
    pub(crate) fn reload(&self, config: &Config) -> Result<(), UpstreamConfigError> {
        let before = self.inner.configured.load();
        let known = UpstreamSet::open(config, &before.clients)?;
        self.inner.configured.store(Arc::new(known));
        Ok(())
    }

    /// The upstream behind a repository, if there is one.
    pub(crate) fn upstream_for(&self, repository: &Repository) -> Option<UpstreamRepository> {
        let known = self.inner.configured.load();
        let (at, name) = routing::find_upstream(&known.settings, repository)?;
        Some(UpstreamRepository {
            upstream: Arc::clone(known.clients.get(at)?),
            upstream_name: name,
            repository: repository.clone(),
            is_read_only: known.is_read_only,
        })
    }

    /// Whether there is any upstream.
    pub(crate) fn is_empty(&self) -> bool {
        self.inner.configured.load().settings.is_empty()
    }

    /// The repository that a name means which stands in a path by itself: the Hub's short names in
    /// full, any other as it is.
    pub(crate) fn expand_hub_name(&self, repository: Repository) -> Repository {
        routing::expand_hub_name(&self.inner.configured.load().settings, repository)
    }

    /// The repository that is meant by a name within another registry's, as in `?ns=`; `None`
    /// where there can be none. `is_own` tells whether that registry is this one.
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

    /// The repository that is meant by a name as Docker's daemon asks a mirror for it, where there
    /// is a mirror and the name has no upstream itself.
    pub(crate) fn mirror_repository(&self, repository: &Repository) -> Option<Repository> {
        let known = self.inner.configured.load();
        match routing::find_upstream(&known.settings, repository) {
            Some(_) => None,
            None => routing::mirror_repository(&known.settings, repository),
        }
    }

    /// Takes note of bytes that went to a client.
    pub(crate) fn count_served_bytes(&self, bytes: u64) {
        self.inner.metrics.served_bytes.fetch_add(bytes, Relaxed);
    }

    /// Makes room, where more is kept than should be; `None` where there is no upstream. Blocks.
    ///
    /// # Errors
    /// Those of the store.
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
        if let Some(held) = evicted.cached_bytes {
            counts.cached_bytes.store(held, Relaxed);
        }
        Ok(Some(evicted))
    }

    /// Whether room should be made now.
    pub(crate) fn is_over_limit(&self) -> bool {
        let limits = self.inner.configured.load().limits;
        limits.is_some_and(|limits| self.inner.registry.is_over_limit(&limits))
    }

    /// Takes over what a stock registry in proxy mode fetched into the same folder, so that it is
    /// not taken for pushed; before anything is served. Blocks.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) fn import_proxied(&self) -> Result<(), registry::Error> {
        let known = self.inner.configured.load();
        if known.is_read_only {
            return Ok(());
        }
        let proxy = known.clients.iter().find(|it| it.settings.prefix.is_none());
        if let Some(proxy) = proxy {
            let count = self
                .inner
                .registry
                .import_stock_proxy(proxy.address(), unix_now())?;
            if count > 0 {
                tracing::info!(count, "what a stock registry fetched is taken over");
            }
        }
        Ok(())
    }

    /// What happened, in Prometheus's text format.
    pub(crate) fn render_metrics(&self) -> String {
        let known = self.inner.configured.load();
        let remotes = known.clients.iter().map(|remote| {
            let limit = remote.client().rate_limit();
            (remote.settings.name(), &*remote.metrics, limit)
        });
        self.inner.metrics.render(remotes)
    }

    /// Has downloads end that nobody waits for, and waits for all to end. They are gone on with
    /// after the next start.
    pub(crate) async fn drain(&self) {
        self.inner.shutdown.graceful.cancel();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }

    /// Has all downloads end.
    pub(crate) fn cancel_downloads(&self) {
        self.inner.shutdown.immediate.cancel();
    }

    fn count_request<T>(
        &self,
        subject: ContentKind,
        result: &Result<T, Error>,
        answer: impl Fn(&T) -> CacheStatus,
    ) {
        let answer = match result {
            Ok(found) => answer(found),
            Err(Error::Registry(
                registry::Error::BlobUnknown(_) | registry::Error::ManifestUnknown(_),
            )) => CacheStatus::Absent,
            Err(Error::Registry(_) | Error::Upstream(_) | Error::NotAllowed { .. }) => {
                CacheStatus::Failed
            }
        };
        self.inner.metrics.record_request(subject, answer);
    }
}

impl UpstreamSet {
    fn open(config: &Config, before: &[Arc<UpstreamClient>]) -> Result<Self, UpstreamConfigError> {
        let is_read_only = config.storage.is_read_only;
        let settings = config.cache.upstreams.clone();
        let remotes = settings.iter().map(|it| UpstreamClient::open(it, before));
        let remotes = remotes.collect::<Result<Vec<_>, _>>()?;
        let limits = (!settings.is_empty() && !is_read_only).then_some(CacheLimits {
            max_bytes: config.cache.max_bytes,
            max_unused: config.cache.max_age,
            grace_period: MIN_IDLE_BEFORE_EVICTION,
        });
        Ok(Self {
            settings,
            clients: remotes,
            limits,
            is_read_only,
        })
    }
}

impl UpstreamRepository {
    fn is_allowed(&self) -> bool {
        self.upstream.is_allowed(&self.upstream_name)
    }

    fn not_allowed_error(&self) -> Error {
        Error::NotAllowed {
            upstream: self.upstream.settings.name().to_owned(),
            repository: self.upstream_name.clone(),
        }
    }

    /// Why the upstream is not asked for anything at all, if so.
    fn read_only_failure(&self) -> Option<UpstreamFailure> {
        let what = "is not asked while this registry is read-only";
        self.is_read_only
            .then(|| self.failure(UpstreamFailureKind::Busy, what))
    }

    /// Whether something may be fetched.
    ///
    /// # Errors
    /// It may not.
    fn check_fetch_allowed(&self) -> Result<(), Error> {
        match self.read_only_failure() {
            Some(closed) => Err(closed.into()),
            None if self.is_allowed() => Ok(()),
            None => Err(self.not_allowed_error()),
        }
    }

    fn failure(&self, kind: UpstreamFailureKind, what: &str) -> UpstreamFailure {
        UpstreamFailure::new(self.upstream.settings.name(), kind, what)
    }

    /// The same failure, counted and remembered.
    fn record_failure(&self, failed: UpstreamFailure) -> UpstreamFailure {
        self.upstream.record_failure(&failed);
        failed
    }

    fn singleflight_failure(&self, lost: SingleFlightError) -> UpstreamFailure {
        match lost {
            SingleFlightError::TooMany => self.failure(
                UpstreamFailureKind::Busy,
                "is asked for too much at once; try again",
            ),
            SingleFlightError::Panicked => self.failure(
                UpstreamFailureKind::Store,
                "is asked through a server that failed",
            ),
        }
    }

    /// What came could not be kept, or is not what it should be.
    fn store_failure(&self, error: &registry::Error) -> UpstreamFailure {
        self.record_failure(UpstreamFailure::from_store(
            self.upstream.settings.name(),
            error,
        ))
    }

    fn count_received_bytes(&self, bytes: u64) {
        self.upstream
            .metrics
            .fetched_bytes
            .fetch_add(bytes, Relaxed);
    }
}

/// Unix seconds.
fn unix_now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// Runs what blocks on the disk where that is allowed.
///
/// # Panics
/// As the work does.
async fn run_blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime ends, and this future with it.
            Err(_) => std::future::pending().await,
        },
    }
}
