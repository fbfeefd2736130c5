//! Tracks when cached manifests were last used, and which blobs are leased to clients.
//!
//! Uses are exact in memory. On disk, the time of a manifest's mark is its last use, updated at
//! most once an hour. Start reading at [`LruIndex`].

use std::collections::{HashMap, HashSet};
use std::sync::{MutexGuard, PoisonError};

use imgsync_oci::{Digest, Repository};

use super::super::Registry;
use super::{CacheState, from_unix_seconds};
use crate::store::MarkKey;

/// Minimum time between two updates of a manifest's last use on disk.
const USE_SAVE_INTERVAL_SECONDS: u64 = 3600;
/// Maximum number of manifests whose last use is held in memory.
const MAX_TRACKED_MANIFESTS: usize = 8192;
/// Maximum number of blobs in one generation of [`BlobLeases`].
const MAX_LEASED_BLOBS: usize = 32_768;

/// The last use of each manifest.
#[derive(Default)]
pub(super) struct LruIndex {
    entries: HashMap<(Repository, Digest), ManifestUse>,
    /// Number of uses so far. It orders uses within the same second.
    use_count: u64,
}

#[derive(Clone, Copy)]
struct ManifestUse {
    /// Unix seconds, and the number of the use.
    last_used: (u64, u64),
    /// When the use was last saved to disk, in Unix seconds.
    saved_at: u64,
}

impl LruIndex {
    /// Records a use. Returns whether it should be saved to disk.
    fn record(&mut self, repository: &Repository, digest: &Digest, now: u64) -> bool {
        if self.entries.len() >= MAX_TRACKED_MANIFESTS {
            self.drop_older_half();
        }
        self.use_count += 1;
        let last_used = (now, self.use_count);
        let key = (repository.clone(), digest.clone());
        let Some(entry) = self.entries.get_mut(&key) else {
            let saved_at = now;
            self.entries.insert(
                key,
                ManifestUse {
                    last_used,
                    saved_at,
                },
            );
            return true;
        };
        entry.last_used = entry.last_used.max(last_used);
        let is_due = now.saturating_sub(entry.saved_at) >= USE_SAVE_INTERVAL_SECONDS;
        if is_due {
            entry.saved_at = now;
        }
        is_due
    }

    /// Drops the older half of the entries. Their times on disk are at most an hour behind.
    fn drop_older_half(&mut self) {
        let mut uses: Vec<_> = self.entries.values().map(|entry| entry.last_used).collect();
        let middle = uses.len() / 2;
        let (_, median, _) = uses.select_nth_unstable(middle);
        self.entries.retain(|_, entry| entry.last_used > *median);
    }
}

/// Blobs whose existence was recently reported to a client, in two generations: the current one,
/// which grows, and the previous one.
#[derive(Default)]
pub(super) struct BlobLeases {
    /// Whether eviction is running at all; without it no leases are needed.
    is_enabled: bool,
    /// When the current generation began, in Unix seconds.
    current_since: u64,
    current: LeaseGeneration,
    previous: LeaseGeneration,
}

#[derive(Default)]
struct LeaseGeneration {
    digests: HashSet<Digest>,
    /// Whether the generation was full. Then every blob counts as leased.
    has_overflowed: bool,
}

impl LeaseGeneration {
    fn contains(&self, digest: &Digest) -> bool {
        self.has_overflowed || self.digests.contains(digest)
    }
}

impl CacheState {
    /// Returns the last use of a manifest that is held in memory, as Unix seconds and the number of
    /// the use.
    pub(super) fn last_use_in_memory(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Option<(u64, u64)> {
        let lru = self.lru.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = lru.entries.get(&(repository.clone(), digest.clone()));
        entry.map(|entry| entry.last_used)
    }

    fn lock_leases(&self) -> MutexGuard<'_, BlobLeases> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leases a blob, because a client was told that it exists and may rely on that for a while.
    pub(in crate::registry) fn lease_blob(&self, digest: &Digest) {
        let mut leases = self.lock_leases();
        let is_enabled = leases.is_enabled;
        let current = &mut leases.current;
        if !is_enabled || current.contains(digest) {
            return;
        }
        if current.digests.len() < MAX_LEASED_BLOBS {
            current.digests.insert(digest.clone());
        } else {
            current.has_overflowed = true;
        }
    }

    /// Drops the leases that are at least `span` seconds old at `now` (Unix seconds). The first
    /// call enables leases; all leases of the last `span` seconds are then kept.
    pub(super) fn expire_leases(&self, now: u64, span: u64) {
        let mut leases = self.lock_leases();
        leases.is_enabled = true;
        if now.abs_diff(leases.current_since) >= span {
            leases.previous = std::mem::take(&mut leases.current);
            leases.current_since = now;
        }
    }

    /// Reports whether a blob is leased, or may be.
    pub(super) fn is_leased(&self, digest: &Digest) -> bool {
        let leases = self.lock_leases();
        leases.current.contains(digest) || leases.previous.contains(digest)
    }
}

impl Registry {
    /// Records that a manifest is used at `now` (Unix seconds), and protects it from the eviction
    /// in progress. Has no effect on disk if the manifest is not cached.
    pub(crate) fn record_use(&self, repository: &Repository, digest: &Digest, now: u64) {
        self.cache.unmark_named(repository, [digest]);
        let lru = self.cache.lru.lock();
        let mut lru = lru.unwrap_or_else(PoisonError::into_inner);
        if !lru.record(repository, digest, now) {
            return;
        }
        drop(lru);
        let mark = MarkKey::Revision(repository, digest);
        if let Err(error) = self.store.touch_mark(mark, from_unix_seconds(now)) {
            tracing::debug!(%repository, %digest, %error, "cannot save the last use of a manifest");
        }
    }
}
