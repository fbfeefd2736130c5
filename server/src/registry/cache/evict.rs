//! Evicts the least recently used images when the cache exceeds its limits.
//!
//! This module decides when to evict and how much. Which content of a repository can be
//! evicted is decided in [`super::images`]. Start reading at [`Registry::evict`].

use std::collections::{BTreeMap, HashSet};
use std::sync::{MutexGuard, PoisonError, TryLockError};

use imgsync_oci::{Digest, Repository};

use super::super::Registry;
use super::super::error::Result;
use super::limits::CacheLimits;
use super::scan::{EvictionCandidate, link_key};
use super::to_unix_seconds;
use crate::store::{MarkKey, ObjectKey};

/// Interval at which the cache is recounted and expired images are looked for.
const SCAN_INTERVAL_SECONDS: u64 = 3600;
/// Interval at which unreferenced blobs are swept, and the minimum age of a swept blob.
const SWEEP_INTERVAL_SECONDS: u64 = 24 * 3600;
/// Longest pause after a round that could not bring the cache within its limits.
const MAX_EVICTION_PAUSE_SECONDS: u64 = 300;
/// Age at which an interrupted download is discarded.
const MAX_PARTIAL_BLOB_AGE_SECONDS: u64 = 7 * 24 * 3600;
/// Maximum number of interrupted downloads that are kept.
const MAX_PARTIAL_BLOBS: usize = 64;
/// Number of named blobs after which a batch of images is complete.
const MAX_BLOBS_PER_BATCH: usize = 20_000;
/// The part of the cache that an eviction frees in addition to what is needed, so that not every
/// fetch into a full cache has to scan it.
pub(super) const SLACK_DIVISOR: u64 = 20;

/// The room that is missing to store something, apart from what exceeds the limits already.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shortage {
    /// Number of bytes that must fit into the cache in addition.
    pub(super) room: u64,
    /// Number of bytes that the disk lacks.
    pub(super) disk: u64,
}

/// Result of an eviction.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EvictionStats {
    /// Number of evicted images.
    pub(crate) images: usize,
    /// Number of freed bytes.
    pub(crate) freed_bytes: u64,
    /// Number of cached bytes afterwards, if known.
    pub(crate) cached_bytes: Option<u64>,
}

/// State between evictions. Times are in Unix seconds.
#[derive(Default)]
pub(super) struct EvictionSchedule {
    /// Whether the pending evictions of an interrupted round are finished.
    is_recovered: bool,
    last_scan: Option<u64>,
    last_sweep: Option<u64>,
    /// When a round last left the cache above its limit.
    last_futile_round: Option<u64>,
    /// When a round last could not free enough of the disk.
    last_futile_disk_round: Option<u64>,
}

/// Reports whether `pause` seconds have passed since `last`.
fn is_due(last: Option<u64>, now: u64, pause: u64) -> bool {
    last.is_none_or(|last| now.abs_diff(last) >= pause)
}

impl Registry {
    /// Reports whether the known size of the cache exceeds the limit. Never blocks.
    pub(crate) fn is_over_limit(&self, limits: &CacheLimits) -> bool {
        self.exceeds_limit(limits, 0)
    }

    fn exceeds_limit(&self, limits: &CacheLimits, room: u64) -> bool {
        let cached_bytes = self.cache.size.get();
        cached_bytes
            .zip(limits.max_bytes)
            .is_some_and(|(bytes, max)| bytes.saturating_add(room) > max)
    }

    /// Evicts whole images, least recently used first, until the cache is within its limits at
    /// `now` (Unix seconds). Returns at once if nothing is due or another eviction is running;
    /// otherwise it may take seconds. Call it once at the start and then periodically.
    ///
    /// # Errors
    /// Returns an error of the store; the rest of the work is left to the next call.
    pub(crate) fn evict(&self, limits: &CacheLimits, now: u64) -> Result<EvictionStats> {
        let schedule = match self.cache.eviction_schedule.try_lock() {
            Ok(schedule) => schedule,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Ok(EvictionStats::default()),
        };
        self.evict_scheduled(schedule, limits, Shortage::default(), now)
    }

    /// Evicts images until nothing is short any more, or until nothing more can be evicted. Waits
    /// for an eviction that is running.
    pub(super) fn make_room(&self, limits: &CacheLimits, short: Shortage, now: u64) -> Result<()> {
        let schedule = self.cache.eviction_schedule.lock();
        let schedule = schedule.unwrap_or_else(PoisonError::into_inner);
        self.evict_scheduled(schedule, limits, short, now)?;
        Ok(())
    }

    fn evict_scheduled(
        &self,
        mut schedule: MutexGuard<'_, EvictionSchedule>,
        limits: &CacheLimits,
        mut short: Shortage,
        now: u64,
    ) -> Result<EvictionStats> {
        let limits = &limits.adjusted_for_pressure(self.cache.size.get(), short.disk > 0);
        let grace_seconds = limits.grace_period.as_secs();
        self.cache.expire_leases(now, grace_seconds);
        if !schedule.is_recovered {
            let pending = self.store.pending_evictions()?;
            self.remove_unlinked_bytes(pending.into_iter().collect())?;
            schedule.is_recovered = true;
        }
        let pause = MAX_EVICTION_PAUSE_SECONDS.min(grace_seconds / 4);
        if !is_due(schedule.last_futile_disk_round, now, pause) {
            short.disk = 0;
        }
        let is_waiting = !is_due(schedule.last_futile_round, now, pause);
        if !is_due(schedule.last_scan, now, SCAN_INTERVAL_SECONDS)
            && (is_waiting || !self.exceeds_limit(limits, short.room))
            && short.disk == 0
        {
            return Ok(EvictionStats {
                cached_bytes: self.cache.size.get(),
                ..EvictionStats::default()
            });
        }
        // If this round fails, the next one must finish its pending evictions.
        schedule.is_recovered = false;
        let mut round = EvictionRound {
            registry: self,
            limits,
            short,
            now,
            stats: EvictionStats::default(),
            cached_bytes: 0,
        };
        round.recount_cached_bytes()?;
        let is_disk_hopeless = round.adjust_disk_shortage();
        schedule.last_scan = Some(now);
        if is_due(schedule.last_sweep, now, SWEEP_INTERVAL_SECONDS) {
            let min_age = SWEEP_INTERVAL_SECONDS.max(grace_seconds);
            round.add_freed_bytes(self.sweep(now.saturating_sub(min_age))?);
            schedule.last_sweep = Some(now);
        }
        round.discard_stale_partial_blobs()?;
        round.evict_images()?;
        if round.excess_bytes() > 0 {
            round.add_freed_bytes(self.sweep(now.saturating_sub(grace_seconds))?);
        }
        schedule.is_recovered = true;
        schedule.last_futile_round = (round.bytes_above_limit() > 0).then_some(now);
        if is_disk_hopeless || round.short.disk > 0 {
            schedule.last_futile_disk_round = Some(now);
        }
        self.cache.size.set_counted(round.cached_bytes);
        Ok(EvictionStats {
            cached_bytes: self.cache.size.get(),
            ..round.stats
        })
    }

    /// Deletes the bytes of those digests that no repository links. Returns the number of freed
    /// bytes.
    pub(super) fn remove_unlinked_bytes(&self, digests: HashSet<Digest>) -> Result<u64> {
        if digests.is_empty() {
            return Ok(0);
        }
        self.mark_unlinked_bytes(digests)?;
        let freed = self.remove_marked_bytes()?;
        self.store.clear_pending_evictions()?;
        Ok(freed)
    }

    /// Marks those digests for eviction that no repository links. If a repository links one of them
    /// from now on, it unmarks the digest.
    pub(super) fn mark_unlinked_bytes(&self, digests: HashSet<Digest>) -> Result<()> {
        self.cache.mark_bytes_for_eviction(digests);
        self.for_each_link_anywhere(&mut |repository, links, digest| {
            let link = link_key(repository, links, digest);
            if self.cache.has_bytes_marked_for_eviction(digest) && self.store.len(link)?.is_some() {
                self.cache.unmark_bytes(digest);
            }
            if let Some(target) = self.alias_target(repository, links, digest)? {
                self.cache.unmark_bytes(&target);
            }
            Ok(())
        })
    }

    /// Deletes the bytes that are marked for eviction. Returns the number of freed bytes.
    pub(super) fn remove_marked_bytes(&self) -> Result<u64> {
        let mut freed = 0;
        for digest in self.cache.bytes_marked_for_eviction() {
            let _lock = self.lock_digests([digest.clone()]);
            if self.cache.has_bytes_marked_for_eviction(&digest) {
                freed += self.store.len(ObjectKey::Blob(&digest))?.unwrap_or(0);
                self.store.delete(ObjectKey::Blob(&digest))?;
            }
        }
        self.cache.mark_bytes_for_eviction(HashSet::new());
        Ok(freed)
    }
}

/// One run of eviction.
struct EvictionRound<'a> {
    registry: &'a Registry,
    limits: &'a CacheLimits,
    /// The room that is missing. The bytes that the disk lacks are updated during the round.
    short: Shortage,
    now: u64,
    stats: EvictionStats,
    /// Number of bytes in the cache, updated during the round.
    cached_bytes: u64,
}

impl EvictionRound<'_> {
    /// Returns the number of bytes to free.
    fn excess_bytes(&self) -> u64 {
        self.bytes_above_limit().max(self.short.disk)
    }

    fn bytes_above_limit(&self) -> u64 {
        let max_bytes = self.limits.max_bytes.unwrap_or(u64::MAX);
        self.cached_bytes
            .saturating_add(self.short.room)
            .saturating_sub(max_bytes)
    }

    /// Makes the round free some more of the disk than it lacks, so that not every fetch has to
    /// scan the cache. Returns true if the whole cache would not be enough, and keeps it then.
    fn adjust_disk_shortage(&mut self) -> bool {
        let disk = &mut self.short.disk;
        let is_hopeless = *disk > self.cached_bytes;
        if is_hopeless {
            *disk = 0;
        } else if *disk > 0 {
            let slack = self.cached_bytes / SLACK_DIVISOR;
            *disk = disk.saturating_add(slack).min(self.cached_bytes);
        }
        is_hopeless
    }

    /// Counts freed bytes.
    fn add_freed_bytes(&mut self, bytes: u64) {
        self.stats.freed_bytes += bytes;
        self.short.disk = self.short.disk.saturating_sub(bytes);
        self.cached_bytes = self.cached_bytes.saturating_sub(bytes);
    }

    /// Counts the cached bytes on disk, including interrupted downloads.
    fn recount_cached_bytes(&mut self) -> Result<()> {
        // Reset before counting: content that is cached meanwhile may count twice, but is never
        // missed.
        let size = &self.registry.cache.size;
        size.begin_count();
        let partial_blobs = self.registry.store.partial_blob_files()?;
        let partial_blobs = partial_blobs.iter();
        // A reservation counts the whole blob.
        let partial_bytes: u64 = partial_blobs
            .filter(|blob| !self.registry.has_reserved_room(&blob.digest))
            .map(|blob| blob.size)
            .sum();
        self.cached_bytes = partial_bytes + self.registry.count_cached_bytes()?;
        size.set_counted(self.cached_bytes);
        Ok(())
    }

    /// Discards interrupted downloads that are too old, too many, or do not fit into the cache.
    fn discard_stale_partial_blobs(&mut self) -> Result<()> {
        self.registry.store.delete_orphaned_ingest_states()?;
        let mut partial_blobs = self.registry.store.partial_blob_files()?;
        partial_blobs.sort_by_key(|blob| blob.modified_at);
        let mut count = partial_blobs.len();
        for blob in partial_blobs {
            let age = self.now.saturating_sub(to_unix_seconds(blob.modified_at));
            let is_stale = age >= MAX_PARTIAL_BLOB_AGE_SECONDS
                || count > MAX_PARTIAL_BLOBS
                || self.excess_bytes() > 0;
            let is_in_grace_period = age < self.limits.grace_period.as_secs();
            if is_stale
                && !is_in_grace_period
                && self.registry.discard_partial_blob(&blob.digest)?
            {
                count -= 1;
                self.add_freed_bytes(blob.size);
            }
        }
        Ok(())
    }

    /// Evicts expired images, and others until the cache is within its limit.
    fn evict_images(&mut self) -> Result<()> {
        let Some(until) = self.now.checked_sub(self.limits.grace_period.as_secs()) else {
            return Ok(());
        };
        let mut after: Option<EvictionCandidate> = None;
        loop {
            let candidates = self
                .registry
                .find_least_recently_used(after.as_ref(), until)?;
            let count = self.count_to_evict(&candidates)?;
            let Some(last) = candidates[..count].last() else {
                return Ok(());
            };
            self.evict_candidates(&candidates[..count], last.last_used.0)?;
            after = Some(last.clone());
        }
    }

    /// Returns how many of the candidates to evict in one batch: no more than needed.
    fn count_to_evict(&self, candidates: &[EvictionCandidate]) -> Result<usize> {
        let max_unused = self.limits.max_unused;
        let expiry = max_unused.and_then(|unused| self.now.checked_sub(unused.as_secs()));
        let (mut freed_bytes, mut digest_count) = (0, 0);
        for (index, candidate) in candidates.iter().enumerate() {
            let is_expired = expiry.is_some_and(|expiry| candidate.last_used.0 < expiry);
            let is_needed = freed_bytes < self.excess_bytes();
            if !(is_expired || is_needed) || digest_count > MAX_BLOBS_PER_BATCH {
                return Ok(index);
            }
            let (bytes, digests) = self.estimate_freed(candidate)?;
            freed_bytes += bytes;
            digest_count += digests;
        }
        Ok(candidates.len())
    }

    /// Returns an estimate of the bytes that evicting a manifest frees, and the number of digests
    /// that go with it: the manifest and the blobs that it names.
    fn estimate_freed(&self, candidate: &EvictionCandidate) -> Result<(u64, usize)> {
        let EvictionCandidate {
            repository, digest, ..
        } = candidate;
        let store = &self.registry.store;
        let mut bytes = store.len(ObjectKey::Blob(digest))?.unwrap_or(0);
        let Some(manifest) = self.registry.read_parsed_manifest(repository, digest)? else {
            return Ok((bytes, 1));
        };
        let blobs = manifest.children().blobs;
        for blob in &blobs {
            let mark = MarkKey::Layer(repository, &blob.digest);
            if store.mark_time(mark)?.is_some() {
                bytes += store.len(ObjectKey::Blob(&blob.digest))?.unwrap_or(0);
            }
        }
        Ok((bytes, blobs.len() + 1))
    }

    /// Evicts manifests that were not used after `until`, and deletes the bytes that no repository
    /// links afterwards.
    fn evict_candidates(&mut self, candidates: &[EvictionCandidate], until: u64) -> Result<()> {
        let mut by_repository: BTreeMap<&Repository, Vec<Digest>> = BTreeMap::new();
        for candidate in candidates {
            let digests = by_repository.entry(&candidate.repository).or_default();
            digests.push(candidate.digest.clone());
        }
        let mut unlinked = HashSet::new();
        for (repository, digests) in by_repository {
            let registry = self.registry;
            // Saved first: if the server stops here, the next start deletes the bytes.
            let mut save = |digests: &HashSet<Digest>| {
                let pending: Vec<_> = unlinked.union(digests).collect();
                Ok(registry.store.save_pending_evictions(&pending)?)
            };
            let evicted = registry.evict_from_repository(repository, &digests, until, &mut save)?;
            if evicted.images > 0 {
                tracing::info!(%repository, images = evicted.images, "evicted from the cache");
            }
            self.stats.images += evicted.images;
            unlinked.extend(evicted.digests);
        }
        let freed = self.registry.remove_unlinked_bytes(unlinked)?;
        self.add_freed_bytes(freed);
        Ok(())
    }
}
