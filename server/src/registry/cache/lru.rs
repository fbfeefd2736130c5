//! When what was cached was last used.
//!
//! Exactly in memory, and at most once an hour on the disk, where the time of a manifest's mark is
//! that of its last use.

use std::collections::{HashMap, HashSet};
use std::sync::PoisonError;

use imgsync_oci::{Digest, Repository};

use super::super::Registry;
use super::{CacheState, from_unix_seconds};
use crate::store::MarkKey;

/// A use is noted on the disk when the last one noted is older than so many seconds.
const USE_SAVE_INTERVAL_SECONDS: u64 = 3600;
/// How many manifests' uses are known.
const MAX_TRACKED_MANIFESTS: usize = 8192;
/// How many blobs are remembered for [`Recent`].
const MAX_LEASED_BLOBS: usize = 32_768;

/// The last uses of manifests, and what is on the disk about them.
#[derive(Default)]
pub(super) struct LruIndex {
    entries: HashMap<(Repository, Digest), ManifestUse>,
    /// How many there were.
    use_count: u64,
}

#[derive(Clone, Copy)]
struct ManifestUse {
    /// In unix seconds; and the how-manieth use it was.
    last_used: (u64, u64),
    saved_at: u64,
}

impl LruIndex {
    /// Notes a use; says whether it is to be noted on the disk.
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

    /// Forgets the older half: what is on the disk is at most an hour behind.
    fn drop_older_half(&mut self) {
        let mut uses: Vec<_> = self.entries.values().map(|known| known.last_used).collect();
        let middle = uses.len() / 2;
        let (_, middle, _) = uses.select_nth_unstable(middle);
        let middle = *middle;
        self.entries.retain(|_, known| known.last_used > middle);
    }
}

/// The blobs that somebody was told of not long ago: two spans of time, the later one growing.
#[derive(Default)]
pub(super) struct BlobLeases {
    /// Whether anything is evicted at all.
    is_enabled: bool,
    /// When the later one began, in unix seconds.
    current_since: u64,
    current: LeaseGeneration,
    previous: LeaseGeneration,
}

#[derive(Default)]
struct LeaseGeneration {
    digests: HashSet<Digest>,
    /// Whether there were more than could be remembered.
    has_overflowed: bool,
}

impl LeaseGeneration {
    fn contains(&self, digest: &Digest) -> bool {
        self.has_overflowed || self.digests.contains(digest)
    }
}

impl CacheState {
    /// When a manifest was last used, in unix seconds and as the how-manieth use, as far as that is
    /// known here.
    pub(super) fn last_use_in_memory(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Option<(u64, u64)> {
        let uses = self.lru.lock().unwrap_or_else(PoisonError::into_inner);
        let known = uses.entries.get(&(repository.clone(), digest.clone()));
        known.map(|known| known.last_used)
    }

    /// Somebody was told that a blob is here, and may rely on it for a while.
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

    /// Forgets what was promised at least `span` seconds before `now`, in unix seconds; that of the
    /// last `span` seconds is remembered from now on.
    pub(super) fn expire_leases(&self, now: u64, span: u64) {
        let recent = self.leases.lock();
        let mut recent = recent.unwrap_or_else(PoisonError::into_inner);
        recent.is_enabled = true;
        if now.abs_diff(recent.current_since) >= span {
            recent.previous = std::mem::take(&mut recent.current);
            recent.current_since = now;
        }
    }

    /// Whether somebody was told of a blob since, or may have been.
    pub(super) fn is_leased(&self, digest: &Digest) -> bool {
        let recent = self.leases.lock();
        let recent = recent.unwrap_or_else(PoisonError::into_inner);
        recent.current.contains(digest) || recent.previous.contains(digest)
    }
}

impl Registry {
    /// Notes that a manifest is used `now` (unix seconds), if it is a cached one.
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
