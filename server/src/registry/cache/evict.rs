//! The cache stays within its bounds: what was used longest ago goes first, image by image.

use std::collections::{BTreeMap, HashSet};
use std::sync::TryLockError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use imgsync_oci::{Digest, Repository};

use super::super::Registry;
use super::super::error::Result;
use super::survey::{Candidate, key};
use super::{Cache, seconds};
use crate::store::{Key, Mark};

/// All is counted anew after so many seconds, and what was unused for too long is looked for.
const SURVEY_SECONDS: u64 = 3600;
/// What nothing names is looked for after so many seconds, and goes when it is as old.
const SWEEP_SECONDS: u64 = 24 * 3600;
/// Where nothing could go, one looks again after so many seconds at most.
const PAUSE_SECONDS: u64 = 300;
/// A fetch that broke off is not gone on with after so many seconds.
const FILLING_SECONDS: u64 = 7 * 24 * 3600;
/// How many fetches that broke off are kept.
const MOST_FILLINGS: usize = 64;
/// What was used within this time is spared even where far too much is cached.
const PRESSED: Duration = Duration::from_secs(60);
/// How much is named by what goes in one round.
const MOST_NAMED: usize = 20_000;
/// Not known.
const UNKNOWN: u64 = u64::MAX;

/// How much is cached, and for how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// How many bytes.
    pub(crate) bytes: Option<u64>,
    /// How long what is not used.
    pub(crate) unused: Option<Duration>,
    /// What was used within this time stays in any case: somebody may be pulling it.
    pub(crate) spare: Duration,
}

impl Limits {
    /// The same where so many bytes are `held`: far above the limit less is spared, or whoever pulls
    /// much at a time fills the disk. Who is still pulling what goes then has it fetched again.
    fn under(self, held: Option<u64>) -> Self {
        let is_far_above = held
            .zip(self.bytes)
            .is_some_and(|(held, most)| held > most.saturating_add(most / 4));
        let spare = match is_far_above {
            true => self.spare.min(PRESSED),
            false => self.spare,
        };
        Self { spare, ..self }
    }
}

/// What came of evicting.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Evicted {
    /// How many images went.
    pub(crate) images: usize,
    /// How many bytes there are less.
    pub(crate) bytes: u64,
    /// How many bytes are cached now, as far as that is known.
    pub(crate) held: Option<u64>,
}

/// How much is cached.
pub(super) struct Held {
    /// When it was last counted, in bytes; or [`UNKNOWN`].
    counted: AtomicU64,
    /// What came since.
    added: AtomicU64,
}

impl Default for Held {
    fn default() -> Self {
        Self {
            counted: AtomicU64::new(UNKNOWN),
            added: AtomicU64::new(0),
        }
    }
}

impl Held {
    fn get(&self) -> Option<u64> {
        let counted = self.counted.load(Ordering::Relaxed);
        let added = self.added.load(Ordering::Relaxed);
        (counted != UNKNOWN).then(|| counted.saturating_add(added))
    }

    /// So many bytes came.
    pub(super) fn add(&self, bytes: u64) {
        self.added.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// What evicting remembers, in unix seconds.
#[derive(Default)]
pub(super) struct Rounds {
    /// Whether what an earlier server was about to remove is removed.
    is_recovered: bool,
    counted: Option<u64>,
    swept: Option<u64>,
    /// When it was in vain.
    in_vain: Option<u64>,
}

fn is_due(last: Option<u64>, now: u64, pause: u64) -> bool {
    last.is_none_or(|last| now.abs_diff(last) >= pause)
}

impl Registry {
    /// Whether more is cached than there should be, as far as that is known. Never waits.
    pub(crate) fn is_over(&self, limits: &Limits) -> bool {
        let held = self.cache.held.get();
        held.zip(limits.bytes)
            .is_some_and(|(held, most)| held > most)
    }

    /// Brings the cache within its limits, as things are `now` (unix seconds): whole images, used
    /// longest ago first. Returns at once where nothing is due, or another does it already; may take
    /// seconds otherwise. Call it once at the start, and then from time to time.
    ///
    /// # Errors
    /// Those of the store; what comes after the one that failed is left for the next time.
    pub(crate) fn evict(&self, limits: &Limits, now: u64) -> Result<Evicted> {
        let mut rounds = match self.cache.rounds.try_lock() {
            Ok(rounds) => rounds,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Ok(Evicted::default()),
        };
        let limits = &limits.under(self.cache.held.get());
        let spare = limits.spare.as_secs();
        self.cache.forget_promises(now, spare);
        if !rounds.is_recovered {
            let left: HashSet<Digest> = self.store.going()?.into_iter().collect();
            self.release(left)?;
            rounds.is_recovered = true;
        }
        let pause = PAUSE_SECONDS.min(spare / 4);
        let is_waiting = !is_due(rounds.in_vain, now, pause);
        if !is_due(rounds.counted, now, SURVEY_SECONDS) && (is_waiting || !self.is_over(limits)) {
            let held = self.cache.held.get();
            return Ok(Evicted {
                held,
                ..Evicted::default()
            });
        }
        // Until all of it is done.
        rounds.is_recovered = false;
        let mut round = Round {
            registry: self,
            limits,
            now,
            evicted: Evicted::default(),
            held: 0,
        };
        round.count()?;
        rounds.counted = Some(now);
        if is_due(rounds.swept, now, SWEEP_SECONDS) {
            let freed = self.sweep(now.saturating_sub(SWEEP_SECONDS.max(spare)))?;
            round.freed(freed);
            rounds.swept = Some(now);
        }
        round.drop_fillings()?;
        round.evict()?;
        if round.excess() > 0 {
            let freed = self.sweep(now.saturating_sub(spare))?;
            round.freed(freed);
        }
        rounds.is_recovered = true;
        rounds.in_vain = (round.excess() > 0).then_some(now);
        self.cache.held.counted.store(round.held, Ordering::Relaxed);
        let mut evicted = round.evicted;
        evicted.held = self.cache.held.get();
        Ok(evicted)
    }

    /// Removes the bytes of what no repository links to any more; yields how many there were.
    pub(super) fn release(&self, digests: HashSet<Digest>) -> Result<u64> {
        if digests.is_empty() {
            return Ok(0);
        }
        self.find_released(digests)?;
        let freed = self.remove_released()?;
        self.store.forget_going()?;
        Ok(freed)
    }

    /// Finds out which of these no repository links to. Who links to one of them from now on says
    /// so.
    pub(super) fn find_released(&self, digests: HashSet<Digest>) -> Result<()> {
        self.cache.let_bytes_go(digests);
        self.each_link_anywhere(&mut |repository, links, digest| {
            if self.cache.may_bytes_go(&digest)
                && self.store.len(key(repository, links, &digest))?.is_some()
            {
                self.cache.linked(&digest);
            }
            if let Some(target) = self.other_target(repository, links, &digest)? {
                self.cache.linked(&target);
            }
            Ok(())
        })
    }

    /// Removes their bytes; yields how many there were.
    pub(super) fn remove_released(&self) -> Result<u64> {
        let mut freed = 0;
        for digest in self.cache.bytes_going() {
            let _hold = self.hold([digest.clone()]);
            if self.cache.may_bytes_go(&digest) {
                freed += self.store.len(Key::Blob(&digest))?.unwrap_or(0);
                self.store.delete(Key::Blob(&digest))?;
            }
        }
        self.cache.let_bytes_go(HashSet::new());
        Ok(freed)
    }
}

/// One time of evicting.
struct Round<'a> {
    registry: &'a Registry,
    limits: &'a Limits,
    now: u64,
    evicted: Evicted,
    /// How many bytes are cached now.
    held: u64,
}

impl Round<'_> {
    /// How many bytes are too many.
    fn excess(&self) -> u64 {
        let most = self.limits.bytes.unwrap_or(u64::MAX);
        self.held.saturating_sub(most)
    }

    fn freed(&mut self, bytes: u64) {
        self.evicted.bytes += bytes;
        self.held = self.held.saturating_sub(bytes);
    }

    fn count(&mut self) -> Result<()> {
        // What comes meanwhile may count twice, but not be forgotten.
        let held = &self.registry.cache.held;
        held.added.store(0, Ordering::Relaxed);
        let fillings = self.registry.store.fillings()?;
        let filling: u64 = fillings.iter().map(|filling| filling.size).sum();
        self.held = filling + self.registry.count_held()?;
        held.counted.store(self.held, Ordering::Relaxed);
        Ok(())
    }

    /// Removes what is left of fetches that broke off: the old ones, those that are too many, and
    /// all that there is no room for.
    fn drop_fillings(&mut self) -> Result<()> {
        self.registry.store.drop_filling_states()?;
        let mut left = self.registry.store.fillings()?;
        left.sort_by_key(|filling| filling.changed);
        let mut count = left.len();
        for filling in left {
            let age = self.now.saturating_sub(seconds(filling.changed));
            let is_wanted = age < FILLING_SECONDS && count <= MOST_FILLINGS && self.excess() == 0;
            if is_wanted || age < self.limits.spare.as_secs() {
                continue;
            }
            if self.registry.drop_filling(&filling.digest)? {
                count -= 1;
                self.freed(filling.size);
            }
        }
        Ok(())
    }

    /// Evicts images until there is room, and those that were unused for too long.
    fn evict(&mut self) -> Result<()> {
        let until = self.now.checked_sub(self.limits.spare.as_secs());
        let mut after: Option<Candidate> = None;
        while let Some(until) = until {
            let candidates = self.registry.oldest(after.as_ref(), until)?;
            let count = self.choose(&candidates)?;
            let Some(last) = candidates[..count].last() else {
                break;
            };
            self.evict_these(&candidates[..count], last.used.0)?;
            after = Some(last.clone());
        }
        Ok(())
    }

    /// How many of these have to go, at most so many that less would be too few.
    fn choose(&self, candidates: &[Candidate]) -> Result<usize> {
        let unused = self.limits.unused.map(|unused| unused.as_secs());
        let too_old = unused.and_then(|unused| self.now.checked_sub(unused));
        let (mut freed, mut named) = (0, 0);
        for (count, candidate) in candidates.iter().enumerate() {
            let is_too_old = too_old.is_some_and(|too_old| candidate.used.0 < too_old);
            let is_needed = freed < self.excess();
            if !(is_too_old || is_needed) || named > MOST_NAMED {
                return Ok(count);
            }
            let (bytes, names) = self.most_freed(candidate)?;
            freed += bytes;
            named += names;
        }
        Ok(candidates.len())
    }

    /// How many bytes may be freed with a manifest, and how many blobs it names.
    fn most_freed(&self, candidate: &Candidate) -> Result<(u64, usize)> {
        let Candidate {
            repository, digest, ..
        } = candidate;
        let store = &self.registry.store;
        let own = store.len(Key::Blob(digest))?.unwrap_or(0);
        let Some(manifest) = self.registry.read_manifest(repository, digest)? else {
            return Ok((own, 1));
        };
        let (mut bytes, blobs) = (own, manifest.children().blobs);
        for blob in &blobs {
            if store
                .marked_at(Mark::Layer(repository, &blob.digest))?
                .is_some()
            {
                bytes += store.len(Key::Blob(&blob.digest))?.unwrap_or(0);
            }
        }
        Ok((bytes, blobs.len() + 1))
    }

    fn evict_these(&mut self, candidates: &[Candidate], until: u64) -> Result<()> {
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
                Ok(registry.store.note_going(&all)?)
            };
            let gone = registry.evict_from(repository, &digests, until, &mut note)?;
            if gone.images > 0 {
                tracing::info!(%repository, images = gone.images, "evicted from the cache");
            }
            self.evicted.images += gone.images;
            unlinked.extend(gone.digests);
        }
        let freed = self.registry.release(unlinked)?;
        self.freed(freed);
        Ok(())
    }
}

impl Cache {
    /// So many bytes came from an upstream.
    pub(super) fn added(&self, bytes: u64) {
        self.held.add(bytes);
    }
}
