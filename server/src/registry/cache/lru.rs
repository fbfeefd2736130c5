//! Tracks when cached manifests were last used, and which blobs are leased to clients.
//!
//! Uses are exact in memory. On disk, the time of a manifest's mark is its last use, updated at
//! most once an hour. Start reading at [`LruIndex`].

use std::collections::{HashMap, HashSet};
use std::sync::PoisonError;

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
        let (last, noted) = ((now, self.use_count), now);
        match self.entries.get_mut(&(repository.clone(), digest.clone())) {
            Some(known) => {
                known.last_used = known.last_used.max(last);
                let is_due = now.saturating_sub(known.saved_at) >= USE_SAVE_INTERVAL_SECONDS;
                if is_due {
                    known.saved_at = now;
                }
                is_due
            }
            None => {
                let key = (repository.clone(), digest.clone());
                self.entries.insert(
                    key,
                    ManifestUse {
                        last_used: last,
                        saved_at: noted,
                    },
                );
                true
            }
        }
    }

    /// Drops the older half of the entries. Their times on disk are at most an hour behind.
    fn drop_older_half(&mut self) {
        let mut uses: Vec<_> = self.entries.values().map(|known| known.last_used).collect();
        let middle = uses.len() / 2;
        let (_, middle, _) = uses.select_nth_unstable(middle);
        let middle = *middle;
        self.entries.retain(|_, known| known.last_used > middle);
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
        let uses = self.lru.lock().unwrap_or_else(PoisonError::into_inner);
        let known = uses.entries.get(&(repository.clone(), digest.clone()));
        known.map(|known| known.last_used)
    }

    /// Leases a blob, because a client was told that it exists and may rely on that for a while.
    pub(in crate::registry) fn lease_blob(&self, digest: &Digest) {
        let recent = self.leases.lock();
        let mut recent = recent.unwrap_or_else(PoisonError::into_inner);
        let is_wanted = recent.is_enabled;
        let told = &mut recent.current;
        if !is_wanted || told.contains(digest) {
            return;
        }
        match told.digests.len() < MAX_LEASED_BLOBS {
            true => drop(told.digests.insert(digest.clone())),
            false => told.has_overflowed = true,
        }
    }

    /// Drops the leases that are at least `span` seconds old at `now` (Unix seconds). The first
    /// call enables leases; all leases of the last `span` seconds are then kept.
    pub(super) fn expire_leases(&self, now: u64, span: u64) {
        let recent = self.leases.lock();
        let mut recent = recent.unwrap_or_else(PoisonError::into_inner);
        recent.is_enabled = true;
        if now.abs_diff(recent.current_since) >= span {
            recent.previous = std::mem::take(&mut recent.current);
            recent.current_since = now;
        }
    }

    /// Reports whether a blob is leased, or may be.
    pub(super) fn is_leased(&self, digest: &Digest) -> bool {
        let recent = self.leases.lock();
        let recent = recent.unwrap_or_else(PoisonError::into_inner);
        recent.current.contains(digest) || recent.previous.contains(digest)
    }
}

impl Registry {
    /// Records that a manifest is used at `now` (Unix seconds), and protects it from the eviction
    /// in progress. Has no effect on disk if the manifest is not cached.
    pub(crate) fn record_use(&self, repository: &Repository, digest: &Digest, now: u64) {
        self.cache.unmark_named(repository, [digest]);
        let uses = self.cache.lru.lock();
        let is_due = uses
            .unwrap_or_else(PoisonError::into_inner)
            .record(repository, digest, now);
        if !is_due {
            return;
        }
        let mark = MarkKey::Revision(repository, digest);
        if let Err(error) = self.store.touch_mark(mark, from_unix_seconds(now)) {
            tracing::debug!(%repository, %digest, %error, "a use is not noted");
        }
    }
}
