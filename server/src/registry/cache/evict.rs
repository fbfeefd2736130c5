//! The cache stays within its bounds: what was used longest ago goes first, image by image.

use std::collections::{BTreeMap, HashSet};
use std::sync::TryLockError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use imgsync_oci::{Digest, Repository};

use super::super::Registry;
use super::super::error::Result;
use super::scan::{EvictionCandidate, link_key};
use super::{CacheState, to_unix_seconds};
use crate::store::{MarkKey, ObjectKey};

/// All is counted anew after so many seconds, and what was unused for too long is looked for.
const SCAN_INTERVAL_SECONDS: u64 = 3600;
/// What nothing names is looked for after so many seconds, and goes when it is as old.
const SWEEP_INTERVAL_SECONDS: u64 = 24 * 3600;
/// Where nothing could go, one looks again after so many seconds at most.
const MAX_EVICTION_PAUSE_SECONDS: u64 = 300;
/// A fetch that broke off is not gone on with after so many seconds.
const MAX_PARTIAL_BLOB_AGE_SECONDS: u64 = 7 * 24 * 3600;
/// How many fetches that broke off are kept.
const MAX_PARTIAL_BLOBS: usize = 64;
/// What was used within this time is spared even where far too much is cached.
const MAX_GRACE_PERIOD_UNDER_PRESSURE: Duration = Duration::from_secs(60);
/// How much is named by what goes in one round.
const MAX_BLOBS_PER_BATCH: usize = 20_000;
/// Not known.
const UNKNOWN_SIZE: u64 = u64::MAX;

/// How much is cached, and for how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CacheLimits {
    /// How many bytes.
    pub(crate) max_bytes: Option<u64>,
    /// How long what is not used.
    pub(crate) max_unused: Option<Duration>,
    /// What was used within this time stays in any case: somebody may be pulling it.
    pub(crate) grace_period: Duration,
}

impl CacheLimits {
    /// The same where so many bytes are `held`: far above the limit less is spared, or whoever pulls
    /// much at a time fills the disk. Who is still pulling what goes then has it fetched again.
    fn adjusted_for_pressure(self, held: Option<u64>) -> Self {
        let is_far_above = held
            .zip(self.max_bytes)
            .is_some_and(|(held, most)| held > most.saturating_add(most / 4));
        let spare = match is_far_above {
            true => self.grace_period.min(MAX_GRACE_PERIOD_UNDER_PRESSURE),
            false => self.grace_period,
        };
        Self {
            grace_period: spare,
            ..self
        }
    }
}

/// What came of evicting.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EvictionStats {
    /// How many images went.
    pub(crate) images: usize,
    /// How many bytes there are less.
    pub(crate) freed_bytes: u64,
    /// How many bytes are cached now, as far as that is known.
    pub(crate) cached_bytes: Option<u64>,
}

/// How much is cached.
pub(super) struct CacheSize {
    /// When it was last counted, in bytes; or [`UNKNOWN`].
    counted: AtomicU64,
    /// What came since.
    added: AtomicU64,
}

impl Default for CacheSize {
    fn default() -> Self {
        Self {
            counted: AtomicU64::new(UNKNOWN_SIZE),
            added: AtomicU64::new(0),
        }
    }
}

impl CacheSize {
    fn get(&self) -> Option<u64> {
        let counted = self.counted.load(Ordering::Relaxed);
        let added = self.added.load(Ordering::Relaxed);
        (counted != UNKNOWN_SIZE).then(|| counted.saturating_add(added))
    }

    /// So many bytes came.
    pub(super) fn add(&self, bytes: u64) {
        self.added.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// What evicting remembers, in unix seconds.
#[derive(Default)]
pub(super) struct EvictionSchedule {
    /// Whether what an earlier server was about to remove is removed.
    is_recovered: bool,
    last_scan: Option<u64>,
    last_sweep: Option<u64>,
    /// When it was in vain.
    last_futile_round: Option<u64>,
}

fn is_due(last: Option<u64>, now: u64, pause: u64) -> bool {
    last.is_none_or(|last| now.abs_diff(last) >= pause)
}

impl Registry {
    /// Whether more is cached than there should be, as far as that is known. Never waits.
    pub(crate) fn is_over_limit(&self, limits: &CacheLimits) -> bool {
        let held = self.cache.size.get();
        held.zip(limits.max_bytes)
            .is_some_and(|(held, most)| held > most)
    }

    /// Brings the cache within its limits, as things are `now` (unix seconds): whole images, used
    /// longest ago first. Returns at once where nothing is due, or another does it already; may take
    /// seconds otherwise. Call it once at the start, and then from time to time.
    ///
    /// # Errors
    /// Those of the store; what comes after the one that failed is left for the next time.
    pub(crate) fn evict(&self, limits: &CacheLimits, now: u64) -> Result<EvictionStats> {
        let mut rounds = match self.cache.eviction_schedule.try_lock() {
            Ok(rounds) => rounds,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Ok(EvictionStats::default()),
        };
        let limits = &limits.adjusted_for_pressure(self.cache.size.get());
        let spare = limits.grace_period.as_secs();
        self.cache.expire_leases(now, spare);
        if !rounds.is_recovered {
            let left: HashSet<Digest> = self.store.pending_evictions()?.into_iter().collect();
            self.remove_unlinked_bytes(left)?;
            rounds.is_recovered = true;
        }
        let pause = MAX_EVICTION_PAUSE_SECONDS.min(spare / 4);
        let is_waiting = !is_due(rounds.last_futile_round, now, pause);
        if !is_due(rounds.last_scan, now, SCAN_INTERVAL_SECONDS)
            && (is_waiting || !self.is_over_limit(limits))
        {
            let held = self.cache.size.get();
            return Ok(EvictionStats {
                cached_bytes: held,
                ..EvictionStats::default()
            });
        }
        // Until all of it is done.
        rounds.is_recovered = false;
        let mut round = EvictionRound {
            registry: self,
            limits,
            now,
            stats: EvictionStats::default(),
            cached_bytes: 0,
        };
        round.recount_cached_bytes()?;
        rounds.last_scan = Some(now);
        if is_due(rounds.last_sweep, now, SWEEP_INTERVAL_SECONDS) {
            let freed = self.sweep(now.saturating_sub(SWEEP_INTERVAL_SECONDS.max(spare)))?;
            round.add_freed_bytes(freed);
            rounds.last_sweep = Some(now);
        }
        round.discard_stale_partial_blobs()?;
        round.evict_images()?;
        if round.excess_bytes() > 0 {
            let freed = self.sweep(now.saturating_sub(spare))?;
            round.add_freed_bytes(freed);
        }
        rounds.is_recovered = true;
        rounds.last_futile_round = (round.excess_bytes() > 0).then_some(now);
        self.cache
            .size
            .counted
            .store(round.cached_bytes, Ordering::Relaxed);
        let mut evicted = round.stats;
        evicted.cached_bytes = self.cache.size.get();
        Ok(evicted)
    }

    /// Removes the bytes of what no repository links to any more; yields how many there were.
    pub(super) fn remove_unlinked_bytes(&self, digests: HashSet<Digest>) -> Result<u64> {
        if digests.is_empty() {
            return Ok(0);
        }
        self.mark_unlinked_bytes(digests)?;
        let freed = self.remove_marked_bytes()?;
        self.store.clear_pending_evictions()?;
        Ok(freed)
    }

    /// Finds out which of these no repository links to. Who links to one of them from now on says
    /// so.
    pub(super) fn mark_unlinked_bytes(&self, digests: HashSet<Digest>) -> Result<()> {
        self.cache.mark_bytes_for_eviction(digests);
        self.for_each_link_anywhere(&mut |repository, links, digest| {
            if self.cache.has_bytes_marked_for_eviction(&digest)
                && self
                    .store
                    .len(link_key(repository, links, &digest))?
                    .is_some()
            {
                self.cache.unmark_bytes(&digest);
            }
            if let Some(target) = self.alias_target(repository, links, &digest)? {
                self.cache.unmark_bytes(&target);
            }
            Ok(())
        })
    }

    /// Removes their bytes; yields how many there were.
    pub(super) fn remove_marked_bytes(&self) -> Result<u64> {
        let mut freed = 0;
        for digest in self.cache.bytes_marked_for_eviction() {
            let _hold = self.lock_digests([digest.clone()]);
            if self.cache.has_bytes_marked_for_eviction(&digest) {
                freed += self.store.len(ObjectKey::Blob(&digest))?.unwrap_or(0);
                self.store.delete(ObjectKey::Blob(&digest))?;
            }
        }
        self.cache.mark_bytes_for_eviction(HashSet::new());
        Ok(freed)
    }
}

/// One time of evicting.
struct EvictionRound<'a> {
    registry: &'a Registry,
    limits: &'a CacheLimits,
    now: u64,
    stats: EvictionStats,
    /// How many bytes are cached now.
    cached_bytes: u64,
}

impl EvictionRound<'_> {
    /// How many bytes are too many.
    fn excess_bytes(&self) -> u64 {
        let most = self.limits.max_bytes.unwrap_or(u64::MAX);
        self.cached_bytes.saturating_sub(most)
    }

    fn add_freed_bytes(&mut self, bytes: u64) {
        self.stats.freed_bytes += bytes;
        self.cached_bytes = self.cached_bytes.saturating_sub(bytes);
    }

    fn recount_cached_bytes(&mut self) -> Result<()> {
        // What comes meanwhile may count twice, but not be forgotten.
        let held = &self.registry.cache.size;
        held.added.store(0, Ordering::Relaxed);
        let fillings = self.registry.store.partial_blob_files()?;
        let filling: u64 = fillings.iter().map(|filling| filling.size).sum();
        self.cached_bytes = filling + self.registry.count_cached_bytes()?;
        held.counted.store(self.cached_bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Removes what is left of fetches that broke off: the old ones, those that are too many, and
    /// all that there is no room for.
    fn discard_stale_partial_blobs(&mut self) -> Result<()> {
        self.registry.store.delete_orphaned_ingest_states()?;
        let mut left = self.registry.store.partial_blob_files()?;
        left.sort_by_key(|filling| filling.modified_at);
        let mut count = left.len();
        for filling in left {
            let age = self
                .now
                .saturating_sub(to_unix_seconds(filling.modified_at));
            let is_wanted = age < MAX_PARTIAL_BLOB_AGE_SECONDS
                && count <= MAX_PARTIAL_BLOBS
                && self.excess_bytes() == 0;
            if is_wanted || age < self.limits.grace_period.as_secs() {
                continue;
            }
            if self.registry.discard_partial_blob(&filling.digest)? {
                count -= 1;
                self.add_freed_bytes(filling.size);
            }
        }
        Ok(())
    }

    /// Evicts images until there is room, and those that were unused for too long.
    fn evict_images(&mut self) -> Result<()> {
        let until = self.now.checked_sub(self.limits.grace_period.as_secs());
        let mut after: Option<EvictionCandidate> = None;
        while let Some(until) = until {
            let candidates = self
                .registry
                .find_least_recently_used(after.as_ref(), until)?;
            let count = self.count_to_evict(&candidates)?;
            let Some(last) = candidates[..count].last() else {
                break;
            };
            self.evict_candidates(&candidates[..count], last.last_used.0)?;
            after = Some(last.clone());
        }
        Ok(())
    }

    /// How many of these have to go, at most so many that less would be too few.
    fn count_to_evict(&self, candidates: &[EvictionCandidate]) -> Result<usize> {
        let unused = self.limits.max_unused.map(|unused| unused.as_secs());
        let too_old = unused.and_then(|unused| self.now.checked_sub(unused));
        let (mut freed, mut named) = (0, 0);
        for (count, candidate) in candidates.iter().enumerate() {
            let is_too_old = too_old.is_some_and(|too_old| candidate.last_used.0 < too_old);
            let is_needed = freed < self.excess_bytes();
            if !(is_too_old || is_needed) || named > MAX_BLOBS_PER_BATCH {
                return Ok(count);
            }
            let (bytes, names) = self.estimate_freed(candidate)?;
            freed += bytes;
            named += names;
        }
        Ok(candidates.len())
    }

    /// How many bytes may be freed with a manifest, and how many blobs it names.
    fn estimate_freed(&self, candidate: &EvictionCandidate) -> Result<(u64, usize)> {
        let EvictionCandidate {
            repository, digest, ..
        } = candidate;
        let store = &self.registry.store;
        let own = store.len(ObjectKey::Blob(digest))?.unwrap_or(0);
        let Some(manifest) = self.registry.read_parsed_manifest(repository, digest)? else {
            return Ok((own, 1));
        };
        let (mut bytes, blobs) = (own, manifest.children().blobs);
        for blob in &blobs {
            if store
                .mark_time(MarkKey::Layer(repository, &blob.digest))?
                .is_some()
            {
                bytes += store.len(ObjectKey::Blob(&blob.digest))?.unwrap_or(0);
            }
        }
        Ok((bytes, blobs.len() + 1))
    }

    fn evict_candidates(&mut self, candidates: &[EvictionCandidate], until: u64) -> Result<()> {
        let mut by_repository: BTreeMap<&Repository, Vec<Digest>> = BTreeMap::new();
        for candidate in candidates {
            let digests = by_repository.entry(&candidate.repository).or_default();
            digests.push(candidate.digest.clone());
        }
        let mut unlinked = HashSet::new();
        for (repository, digests) in by_repository {
            let registry = self.registry;
            // Should all end here, the next start removes the bytes.
            let mut note = |more: &HashSet<Digest>| {
                let all: Vec<_> = unlinked.union(more).collect();
                Ok(registry.store.save_pending_evictions(&all)?)
            };
            let gone = registry.evict_from_repository(repository, &digests, until, &mut note)?;
            if gone.images > 0 {
                tracing::info!(%repository, images = gone.images, "evicted from the cache");
            }
            self.stats.images += gone.images;
            unlinked.extend(gone.digests);
        }
        let freed = self.registry.remove_unlinked_bytes(unlinked)?;
        self.add_freed_bytes(freed);
        Ok(())
    }
}

impl CacheState {
    /// So many bytes came from an upstream.
    pub(super) fn add_cached_bytes(&self, bytes: u64) {
        self.size.add(bytes);
    }
}
