//! When what was cached was last used.
//!
//! Exactly in memory, and at most once an hour on the disk, where the time of a manifest's mark is
//! that of its last use.

use std::collections::{HashMap, HashSet};
use std::sync::PoisonError;

use imgsync_oci::{Digest, Repository};

use super::super::Registry;
use super::{Cache, moment};
use crate::store::Mark;

/// A use is noted on the disk when the last one noted is older than so many seconds.
const NOTE_SECONDS: u64 = 3600;
/// How many manifests' uses are known.
const MOST_USES: usize = 8192;
/// How many blobs are remembered for [`Recent`].
const MOST_RECENT: usize = 32_768;

/// The last uses of manifests, and what is on the disk about them.
#[derive(Default)]
pub(super) struct Uses {
    known: HashMap<(Repository, Digest), Use>,
    /// How many there were.
    count: u64,
}

#[derive(Clone, Copy)]
struct Use {
    /// In unix seconds; and the how-manieth use it was.
    last: (u64, u64),
    noted: u64,
}

impl Uses {
    /// Notes a use; says whether it is to be noted on the disk.
    fn note(&mut self, repository: &Repository, digest: &Digest, now: u64) -> bool {
        if self.known.len() >= MOST_USES {
            self.forget_half();
        }
        self.count += 1;
        let (last, noted) = ((now, self.count), now);
        match self.known.get_mut(&(repository.clone(), digest.clone())) {
            Some(known) => {
                known.last = known.last.max(last);
                let is_due = now.saturating_sub(known.noted) >= NOTE_SECONDS;
                if is_due {
                    known.noted = now;
                }
                is_due
            }
            None => {
                let key = (repository.clone(), digest.clone());
                self.known.insert(key, Use { last, noted });
                true
            }
        }
    }

    /// Forgets the older half: what is on the disk is at most an hour behind.
    fn forget_half(&mut self) {
        let mut uses: Vec<_> = self.known.values().map(|known| known.last).collect();
        let middle = uses.len() / 2;
        let (_, middle, _) = uses.select_nth_unstable(middle);
        let middle = *middle;
        self.known.retain(|_, known| known.last > middle);
    }
}

/// The blobs that somebody was told of not long ago: two spans of time, the later one growing.
#[derive(Default)]
pub(super) struct Recent {
    /// Whether anything is evicted at all.
    is_wanted: bool,
    /// When the later one began, in unix seconds.
    since: u64,
    now: Told,
    before: Told,
}

#[derive(Default)]
struct Told {
    digests: HashSet<Digest>,
    /// Whether there were more than could be remembered.
    is_too_many: bool,
}

impl Told {
    fn has(&self, digest: &Digest) -> bool {
        self.is_too_many || self.digests.contains(digest)
    }
}

impl Cache {
    /// When a manifest was last used, in unix seconds and as the how-manieth use, as far as that is
    /// known here.
    pub(super) fn last_use(&self, repository: &Repository, digest: &Digest) -> Option<(u64, u64)> {
        let uses = self.uses.lock().unwrap_or_else(PoisonError::into_inner);
        let known = uses.known.get(&(repository.clone(), digest.clone()));
        known.map(|known| known.last)
    }

    /// Somebody was told that a blob is here, and may rely on it for a while.
    pub(in crate::registry) fn promise(&self, digest: &Digest) {
        let recent = self.promised.lock();
        let mut recent = recent.unwrap_or_else(PoisonError::into_inner);
        let is_wanted = recent.is_wanted;
        let told = &mut recent.now;
        if !is_wanted || told.has(digest) {
            return;
        }
        match told.digests.len() < MOST_RECENT {
            true => drop(told.digests.insert(digest.clone())),
            false => told.is_too_many = true,
        }
    }

    /// Forgets what was promised at least `span` seconds before `now`, in unix seconds; that of the
    /// last `span` seconds is remembered from now on.
    pub(super) fn forget_promises(&self, now: u64, span: u64) {
        let recent = self.promised.lock();
        let mut recent = recent.unwrap_or_else(PoisonError::into_inner);
        recent.is_wanted = true;
        if now.abs_diff(recent.since) >= span {
            recent.before = std::mem::take(&mut recent.now);
            recent.since = now;
        }
    }

    /// Whether somebody was told of a blob since, or may have been.
    pub(super) fn is_promised(&self, digest: &Digest) -> bool {
        let recent = self.promised.lock();
        let recent = recent.unwrap_or_else(PoisonError::into_inner);
        recent.now.has(digest) || recent.before.has(digest)
    }
}

impl Registry {
    /// Notes that a manifest is used `now` (unix seconds), if it is a cached one.
    pub(crate) fn used(&self, repository: &Repository, digest: &Digest, now: u64) {
        self.cache.named(repository, [digest]);
        let uses = self.cache.uses.lock();
        let is_due = uses
            .unwrap_or_else(PoisonError::into_inner)
            .note(repository, digest, now);
        if !is_due {
            return;
        }
        let mark = Mark::Revision(repository, digest);
        if let Err(error) = self.store.touch_mark(mark, moment(now)) {
            tracing::debug!(%repository, %digest, %error, "a use is not noted");
        }
    }
}
