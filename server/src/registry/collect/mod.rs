//! Collects garbage while requests are served: blobs that no manifest of their repository names, and
//! bytes that no repository links. What is collected goes to the trash, from which it can be
//! restored.
//!
//! A collection first lists candidates, then reads all manifests and links and keeps what they
//! name. Content that a request promises meanwhile is kept, too: the request holds the lock of the
//! digest and removes it from the candidates, and the collection looks again under the same lock
//! before it removes anything. Whoever pushes an image relies on promises for longer than a request
//! lasts, so each promise is a lease for some time ([`leases`]).
//!
//! Cached content is left to eviction ([`super::cache`]): a link with a mark is never a candidate.
//! Start reading at [`Registry::collect_garbage`].

mod bytes;
pub(super) mod candidates;
mod deleted_tags;
mod layers;
mod leases;
pub(super) mod manifest_children;
mod manifest_graph;
mod purge;
mod removal_watch;
mod removed_content;
mod restore;
mod trash;
mod untagged;
mod untagged_policy;

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use imgsync_oci::{Digest, Repository};
use serde::{Deserialize, Serialize};

use self::candidates::Candidates;
pub(crate) use self::deleted_tags::DeletedTag;
use self::leases::Leases;
pub(super) use self::manifest_graph::ManifestGraph;
pub(crate) use self::purge::{ImageName, PurgeOptions, PurgeOutcome, PurgeReport};
use self::removal_watch::RemovalWatch;
pub(crate) use self::restore::{ContentTarget, RestoreReport};
pub(crate) use self::untagged_policy::UntaggedPolicy;
use super::Registry;
use super::error::Result;
use crate::store::{LinkKind, ListScope, TrashEntry, TrashPart, Walk};
use crate::wall_clock::unix_now;

/// How many things are removed between two writes to the log of the trash.
const REMOVALS_PER_LOG_WRITE: usize = 256;

/// How a collection works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CollectOptions {
    /// How long content is kept after it was written or promised.
    pub(crate) grace: Duration,
    /// The treatment of manifests that no tag needs.
    pub(crate) untagged: UntaggedPolicy,
    /// Whether nothing is removed.
    pub(crate) is_dry_run: bool,
}

/// The result of a collection.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct CollectStats {
    /// Number of manifests that were removed from repositories.
    pub(crate) manifests: usize,
    /// Number of manifests that rules would remove that are only reported.
    pub(crate) expired: usize,
    /// Number of bytes that only images without a tag hold that no rule removes.
    pub(crate) untagged_bytes: u64,
    /// Number of links to blobs that were removed from repositories.
    pub(crate) links: usize,
    /// Number of blobs and manifests whose bytes were moved to the trash.
    pub(crate) blobs: usize,
    /// Number of bytes that were moved to the trash.
    pub(crate) bytes: u64,
    /// Number of unused blobs and manifests that were kept, because they are not old enough or are
    /// leased.
    pub(crate) recent: usize,
    /// Number of damaged manifests.
    pub(crate) damaged: usize,
}

/// A collection that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CollectionRecord {
    /// When it ended, in Unix seconds.
    pub(crate) ended_at: u64,
    /// The numbers of what was removed.
    pub(crate) stats: CollectStats,
    /// Whether it ended early because of an error.
    pub(crate) is_failed: bool,
}

/// The digests that may be removed from a repository, while this repository is collected.
type RepositoryCandidates = Option<(Repository, Candidates)>;

/// The state of collections that is held in memory.
#[derive(Default)]
pub(super) struct CollectState {
    leases: Leases,
    /// Manifests that may be removed from a repository.
    manifests: Mutex<RepositoryCandidates>,
    /// Blobs that may be removed from a repository.
    layers: Mutex<RepositoryCandidates>,
    /// Bytes that may be removed.
    bytes: Mutex<Option<Candidates>>,
    /// Held by the collection that is running.
    running: Mutex<()>,
    /// The purge or the deletion of a repository that is running.
    pub(super) removal: RemovalWatch,
    /// The last collection since the start that was not a dry run.
    last: Mutex<Option<CollectionRecord>>,
    /// By how many seconds the clock of a test is ahead.
    #[cfg(test)]
    clock_offset: std::sync::atomic::AtomicU64,
}

impl CollectState {
    /// Returns the time of promises in Unix seconds.
    #[cfg(not(test))]
    fn now(&self) -> u64 {
        unix_now()
    }

    /// Returns the time of promises in Unix seconds.
    #[cfg(test)]
    fn now(&self) -> u64 {
        unix_now() + self.clock_offset.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Protects content of a repository from the collection in progress, because a manifest names it
    /// or a request promised it. The caller holds the locks of the digests.
    pub(super) fn keep<'a>(
        &self,
        repository: &Repository,
        digests: impl IntoIterator<Item = &'a Digest> + Clone,
    ) {
        for candidates in [&self.manifests, &self.layers] {
            let mut candidates = lock(candidates);
            if let Some((collected, candidates)) = &mut *candidates
                && collected == repository
            {
                for digest in digests.clone() {
                    candidates.keep(digest);
                }
            }
        }
    }

    /// Protects bytes from the collection in progress, because a repository links them. The caller
    /// holds the lock of the digest.
    pub(super) fn keep_bytes(&self, digest: &Digest) {
        if let Some(candidates) = &mut *lock(&self.bytes) {
            candidates.keep(digest);
        }
    }

    fn set_manifests(&self, candidates: RepositoryCandidates) {
        *lock(&self.manifests) = candidates;
    }

    fn has_manifest(&self, digest: &Digest) -> bool {
        let candidates = lock(&self.manifests);
        let candidates = candidates.as_ref().map(|(_, candidates)| candidates);
        candidates.is_some_and(|candidates| candidates.contains(digest))
    }

    fn set_layers(&self, candidates: RepositoryCandidates) {
        *lock(&self.layers) = candidates;
    }

    fn has_layer(&self, digest: &Digest) -> bool {
        let candidates = lock(&self.layers);
        let candidates = candidates.as_ref().map(|(_, candidates)| candidates);
        candidates.is_some_and(|candidates| candidates.contains(digest))
    }

    fn set_bytes(&self, candidates: Option<Candidates>) {
        *lock(&self.bytes) = candidates;
    }

    fn has_bytes(&self, digest: &Digest) -> bool {
        let candidates = lock(&self.bytes);
        candidates
            .as_ref()
            .is_some_and(|candidates| candidates.contains(digest))
    }
}

/// Locks a mutex whose content is valid even if a thread has panicked.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The links that a dry run would have removed, as hashes, to save memory.
#[derive(Default)]
struct UnremovedLinks {
    hasher: RandomState,
    hashes: HashSet<u64>,
}

impl UnremovedLinks {
    fn hash(&self, repository: &Repository, links: LinkKind, digest: &Digest) -> u64 {
        let is_layer = links == LinkKind::Layers;
        self.hasher.hash_one((repository, is_layer, digest))
    }

    fn insert(&mut self, repository: &Repository, links: LinkKind, digest: &Digest) {
        self.hashes.insert(self.hash(repository, links, digest));
    }

    fn contains(&self, repository: &Repository, links: LinkKind, digest: &Digest) -> bool {
        !self.hashes.is_empty() && self.hashes.contains(&self.hash(repository, links, digest))
    }
}

/// A collection that is running.
struct Collection<'a> {
    registry: &'a Registry,
    options: &'a CollectOptions,
    /// The time of the collection in Unix seconds.
    now: u64,
    /// Is called with everything that is removed, or would be.
    report: &'a mut dyn FnMut(&TrashEntry),
    stats: CollectStats,
    /// The links that a dry run would have removed.
    unremoved: UnremovedLinks,
}

impl Registry {
    /// Records from now on (Unix seconds) which content clients were promised, for collections with
    /// this grace period. Until the first call, a collection assumes that nothing was promised.
    pub(crate) fn start_leases(&self, now: u64, grace: Duration) {
        self.collect.leases.start(now, grace.as_secs());
    }

    /// Leases content of a repository, because a client was told that it exists. The caller holds
    /// the lock of the digest.
    pub(super) fn promise(&self, repository: &Repository, digest: &Digest) {
        let now = self.collect.now();
        self.collect.leases.record(repository, digest, now);
        self.collect.keep(repository, [digest]);
    }

    /// Renews the leases of a repository, because an upload was opened or finished in it.
    pub(super) fn record_upload(&self, repository: &Repository) {
        let now = self.collect.now();
        self.collect.leases.record_upload(repository, now);
    }

    /// Protects bytes from eviction and collection, because a repository links them. The caller holds
    /// the lock of the digest.
    pub(super) fn protect_bytes(&self, digest: &Digest) {
        self.cache.unmark_bytes(digest);
        self.collect.keep_bytes(digest);
    }

    /// Returns the last collection that was not a dry run.
    ///
    /// # Errors
    /// Returns an error of the store.
    pub(crate) fn last_collection(&self) -> Result<Option<CollectionRecord>> {
        let since_start = *lock(&self.collect.last);
        match since_start {
            Some(last) => Ok(Some(last)),
            None => Ok(self.store.last_collection()?),
        }
    }

    fn remember_collection(&self, record: CollectionRecord) {
        *lock(&self.collect.last) = Some(record);
        if let Err(error) = self.store.put_last_collection(&record) {
            tracing::warn!(%error, "cannot store what the last garbage collection has done");
        }
    }

    /// Waits for the collection that is running, and lets no other one start while the value is held.
    pub(crate) fn pause_collection(&self) -> MutexGuard<'_, ()> {
        lock(&self.collect.running)
    }

    /// Moves garbage to the trash at `now` (Unix seconds). Calls `report` with everything that is
    /// removed, or would be in a dry run. Returns `None` if another collection is running, if
    /// collections are paused, or if the store is read-only.
    ///
    /// # Errors
    /// Returns an error of the store; the rest is left to the next collection.
    pub(crate) fn collect_garbage(
        &self,
        options: &CollectOptions,
        now: u64,
        report: &mut dyn FnMut(&TrashEntry),
    ) -> Result<Option<CollectStats>> {
        let _running = match self.collect.running.try_lock() {
            Ok(running) => running,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Ok(None),
        };
        if !self.store.is_writable() {
            return Ok(None);
        }
        let mut collection = Collection {
            registry: self,
            options,
            now,
            report,
            stats: CollectStats::default(),
            unremoved: UnremovedLinks::default(),
        };
        let collected = collection.run();
        self.collect.set_manifests(None);
        self.collect.set_layers(None);
        self.collect.set_bytes(None);
        self.collect.leases.expire(now, options.grace.as_secs());
        if !options.is_dry_run {
            self.remember_collection(CollectionRecord {
                ended_at: unix_now(),
                stats: collection.stats,
                is_failed: collected.is_err(),
            });
        }
        collected?;
        self.remember_untagged_bytes(collection.stats.untagged_bytes, options);
        Ok(Some(collection.stats))
    }
}

impl Collection<'_> {
    fn run(&mut self) -> Result<()> {
        let walk = Walk::unbounded();
        let registry = self.registry;
        for repository in registry.repositories(ListScope::Repositories, &walk) {
            self.collect_untagged(&repository?)?;
        }
        for repository in registry.repositories(ListScope::RepositoriesWithBlobs, &walk) {
            self.collect_layers(&repository?)?;
        }
        self.collect_bytes()
    }

    /// Returns the part of the trash for what is removed now.
    fn trash_part(&self) -> TrashPart {
        TrashPart::at(self.now)
    }

    /// Returns the time in Unix seconds up to which content that was not used since is old enough.
    fn cutoff(&self) -> u64 {
        self.now.saturating_sub(self.options.grace.as_secs())
    }
}

#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod power_tests;
#[cfg(test)]
mod restore_tests;
#[cfg(test)]
mod storm_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod untagged_tests;
