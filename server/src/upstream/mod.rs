//! What lies behind this registry: other registries, whose images are fetched when somebody asks
//! for them, and kept. What is here is the registry's; this room knows how it gets there.
//!
//! Whatever a client sends, only configured hosts are spoken to, with this server's own logins.
//! No header of a client goes there, and none of theirs comes back.

mod absent;
mod blobs;
mod breaker;
mod counts;
mod download;
mod error;
mod files;
mod flights;
mod follower;
mod lists;
mod manifests;
mod names;
mod remote;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use imgsync_oci::Repository;
use tokio_util::task::TaskTracker;

pub(crate) use self::blobs::Found;
pub(crate) use self::error::{Error, Failed, Kind};
pub use self::files::OpenError;
pub(crate) use self::follower::Follower;
pub(crate) use self::manifests::Freshness;

use self::absent::Absent;
use self::blobs::{Downloads, Known};
use self::counts::{Answer, Counts, Subject};
use self::download::Ending;
use self::flights::{Flights, Lost};
use self::lists::Lists;
use self::manifests::Outcome;
use self::remote::Remote;
use crate::config::{self, Config};
use crate::registry::{self, Evicted, Limits, Registry};

/// Images in use are not taken away from those who are about to read them.
const SPARE: std::time::Duration = std::time::Duration::from_secs(15 * 60);

/// A name in a repository: of a manifest or a blob.
type Name = (Repository, String);

/// All registries behind this one. Clones share everything.
#[derive(Clone)]
pub(crate) struct Upstreams {
    inner: Arc<Inner>,
}

struct Inner {
    registry: Registry,
    known: ArcSwap<Remotes>,
    counts: Counts,
    absent: Absent<Name>,
    manifests: Flights<Name, Outcome>,
    blobs: Flights<Name, Known>,
    downloads: Downloads,
    lists: Lists,
    tasks: TaskTracker,
    ending: Ending,
}

/// The upstreams of one configuration.
#[derive(Default)]
struct Remotes {
    settings: Vec<config::Upstream>,
    /// One each, in the same order.
    remotes: Vec<Arc<Remote>>,
    /// None where nothing is kept.
    limits: Option<Limits>,
    is_read_only: bool,
}

/// A repository with an upstream behind it.
#[derive(Clone)]
pub(crate) struct Place {
    remote: Arc<Remote>,
    /// What it is called there.
    name: Repository,
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
    pub(crate) fn open(registry: Registry, config: &Config) -> Result<Self, OpenError> {
        let known = Remotes::open(config, &[])?;
        Ok(Self {
            inner: Arc::new(Inner {
                registry,
                known: ArcSwap::from_pointee(known),
                counts: Counts::default(),
                absent: Absent::default(),
                manifests: Flights::default(),
                blobs: Flights::default(),
                downloads: Downloads::default(),
                lists: Lists::default(),
                tasks: TaskTracker::new(),
                ending: Ending::default(),
            }),
        })
    }

    /// Takes up another configuration. Upstreams that stay the same keep their logins.
    ///
    /// # Errors
    /// As [`Upstreams::open`]; everything stays as it was then.
    pub(crate) fn reload(&self, config: &Config) -> Result<(), OpenError> {
        let before = self.inner.known.load();
        let known = Remotes::open(config, &before.remotes)?;
        self.inner.known.store(Arc::new(known));
        Ok(())
    }

    /// The upstream behind a repository, if there is one.
    pub(crate) fn behind(&self, repository: &Repository) -> Option<Place> {
        let known = self.inner.known.load();
        let (at, name) = names::behind(&known.settings, repository)?;
        Some(Place {
            remote: Arc::clone(known.remotes.get(at)?),
            name,
            repository: repository.clone(),
            is_read_only: known.is_read_only,
        })
    }

    /// Whether there is any upstream.
    pub(crate) fn is_empty(&self) -> bool {
        self.inner.known.load().settings.is_empty()
    }

    /// The repository that a name means which stands in a path by itself: the Hub's short names in
    /// full, any other as it is.
    pub(crate) fn in_full(&self, repository: Repository) -> Repository {
        names::in_full(&self.inner.known.load().settings, repository)
    }

    /// The repository that is meant by a name within another registry's, as in `?ns=`; `None`
    /// where there can be none. `is_own` tells whether that registry is this one.
    pub(crate) fn within(
        &self,
        namespace: &str,
        repository: &Repository,
        is_own: impl Fn(&str) -> bool,
    ) -> Option<Repository> {
        names::within(
            &self.inner.known.load().settings,
            namespace,
            repository,
            is_own,
        )
    }

    /// The repository that is meant by a name as Docker's daemon asks a mirror for it, where there
    /// is a mirror and the name has no upstream itself.
    pub(crate) fn mirrored(&self, repository: &Repository) -> Option<Repository> {
        let known = self.inner.known.load();
        match names::behind(&known.settings, repository) {
            Some(_) => None,
            None => names::mirrored(&known.settings, repository),
        }
    }

    /// Takes note of bytes that went to a client.
    pub(crate) fn sent(&self, bytes: u64) {
        self.inner.counts.served.fetch_add(bytes, Relaxed);
    }

    /// Makes room, where more is kept than should be; `None` where there is no upstream. Blocks.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) fn evict(&self) -> Result<Option<Evicted>, registry::Error> {
        let Some(limits) = self.inner.known.load().limits else {
            return Ok(None);
        };
        let evicted = self.inner.registry.evict(&limits, now())?;
        let counts = &self.inner.counts;
        counts.evicted_bytes.fetch_add(evicted.bytes, Relaxed);
        counts
            .evicted_images
            .fetch_add(evicted.images as u64, Relaxed);
        if let Some(held) = evicted.held {
            counts.held.store(held, Relaxed);
        }
        Ok(Some(evicted))
    }

    /// Whether room should be made now.
    pub(crate) fn is_over(&self) -> bool {
        let limits = self.inner.known.load().limits;
        limits.is_some_and(|limits| self.inner.registry.is_over(&limits))
    }

    /// Takes over what a stock registry in proxy mode fetched into the same folder, so that it is
    /// not taken for pushed; before anything is served. Blocks.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) fn import(&self) -> Result<(), registry::Error> {
        let known = self.inner.known.load();
        if known.is_read_only {
            return Ok(());
        }
        let proxy = known.remotes.iter().find(|it| it.settings.prefix.is_none());
        if let Some(proxy) = proxy {
            let count = self.inner.registry.import_proxied(proxy.address(), now())?;
            if count > 0 {
                tracing::info!(count, "what a stock registry fetched is taken over");
            }
        }
        Ok(())
    }

    /// What happened, in Prometheus's text format.
    pub(crate) fn metrics(&self) -> String {
        let known = self.inner.known.load();
        let remotes = known.remotes.iter().map(|remote| {
            let limit = remote.client().rate_limit();
            (remote.settings.name(), &*remote.counts, limit)
        });
        self.inner.counts.print(remotes)
    }

    /// Has downloads end that nobody waits for, and waits for all to end. They are gone on with
    /// after the next start.
    pub(crate) async fn settle(&self) {
        self.inner.ending.soon.cancel();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }

    /// Has all downloads end.
    pub(crate) fn break_off(&self) {
        self.inner.ending.now.cancel();
    }

    fn count<T>(&self, subject: Subject, result: &Result<T, Error>, answer: impl Fn(&T) -> Answer) {
        let answer = match result {
            Ok(found) => answer(found),
            Err(Error::Registry(
                registry::Error::BlobUnknown(_) | registry::Error::ManifestUnknown(_),
            )) => Answer::Absent,
            Err(Error::Registry(_) | Error::Failed(_) | Error::NotAllowed { .. }) => Answer::Failed,
        };
        self.inner.counts.answered(subject, answer);
    }
}

impl Remotes {
    fn open(config: &Config, before: &[Arc<Remote>]) -> Result<Self, OpenError> {
        let is_read_only = config.storage.is_read_only;
        let settings = config.cache.upstreams.clone();
        let remotes = settings.iter().map(|it| Remote::open(it, before));
        let remotes = remotes.collect::<Result<Vec<_>, _>>()?;
        let limits = (!settings.is_empty() && !is_read_only).then_some(Limits {
            bytes: config.cache.max_bytes,
            unused: config.cache.max_age,
            spare: SPARE,
        });
        Ok(Self {
            settings,
            remotes,
            limits,
            is_read_only,
        })
    }
}

impl Place {
    fn is_allowed(&self) -> bool {
        self.remote.allows(&self.name)
    }

    fn refused(&self) -> Error {
        Error::NotAllowed {
            upstream: self.remote.settings.name().to_owned(),
            repository: self.name.clone(),
        }
    }

    /// Why the upstream is not asked for anything at all, if so.
    fn closed(&self) -> Option<Failed> {
        let what = "is not asked while this registry is read-only";
        self.is_read_only.then(|| self.failed(Kind::Busy, what))
    }

    /// Whether something may be fetched.
    ///
    /// # Errors
    /// It may not.
    fn check(&self) -> Result<(), Error> {
        match self.closed() {
            Some(closed) => Err(closed.into()),
            None if self.is_allowed() => Ok(()),
            None => Err(self.refused()),
        }
    }

    fn failed(&self, kind: Kind, what: &str) -> Failed {
        Failed::new(self.remote.settings.name(), kind, what)
    }

    /// The same failure, counted and remembered.
    fn broke(&self, failed: Failed) -> Failed {
        self.remote.failed(&failed);
        failed
    }

    fn lost(&self, lost: Lost) -> Failed {
        match lost {
            Lost::TooMany => self.failed(Kind::Busy, "is asked for too much at once; try again"),
            Lost::Broken => self.failed(Kind::Store, "is asked through a server that failed"),
        }
    }

    /// What came could not be kept, or is not what it should be.
    fn store(&self, error: &registry::Error) -> Failed {
        self.broke(Failed::of_store(self.remote.settings.name(), error))
    }

    fn received(&self, bytes: u64) {
        self.remote.counts.bytes.fetch_add(bytes, Relaxed);
    }
}

/// Unix seconds.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// Runs what blocks on the disk where that is allowed.
///
/// # Panics
/// As the work does.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime ends, and this future with it.
            Err(_) => std::future::pending().await,
        },
    }
}
