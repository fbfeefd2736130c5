//! Leases: until when content is kept because a client relies on it.
//!
//! A client that is told that a blob exists does not upload it, and names it in a manifest later. So
//! the blob is kept for the grace period after each such promise. A push can take longer than that:
//! an upload in a repository renews the leases of this repository. Start reading at [`Leases`].

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

use imgsync_oci::{Digest, Repository};

/// The longest pause between two uploads of one push. A shorter grace period shortens it.
const MAX_UPLOAD_PAUSE_SECONDS: u64 = 3600;
/// The longest time for which uploads renew leases. Repositories into which somebody always pushes
/// are collected later by this time.
const MAX_RENEWAL_SECONDS: u64 = 3 * 24 * 3600;
/// The number of promises and of repositories that are held in memory. Beyond it, everything counts
/// as promised.
const MAX_ENTRIES: usize = if cfg!(test) { 100 } else { 500_000 };

/// The promises that were made, and the uploads that renew them. Times are in Unix seconds.
#[derive(Default)]
pub(super) struct Leases {
    /// Entries are stored under hashes, to save memory. If two have the same hash, content is kept
    /// for longer.
    hasher: RandomState,
    state: Mutex<LeaseState>,
}

#[derive(Default)]
struct LeaseState {
    /// When promises began to be recorded. What was promised before is not known, so everything
    /// counts as promised at that time. `None` if no promises are made.
    since: Option<u64>,
    /// The longest pause between two uploads of one push, in seconds.
    max_pause: u64,
    promises: HashMap<u64, u64>,
    uploads: HashMap<u64, UploadActivity>,
}

/// Uploads in a repository that follow each other without a long pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct UploadActivity {
    /// The start of the first one.
    pub(super) since: u64,
    /// The last use of the last one.
    pub(super) last: u64,
}

impl UploadActivity {
    /// Returns the activity with another one, if there is no long pause between the two, or else the
    /// later one of them.
    fn joined_with(self, other: Self, max_pause: u64) -> Self {
        let (first, second) = if self.since <= other.since {
            (self, other)
        } else {
            (other, self)
        };
        if second.since > first.last.saturating_add(max_pause) {
            return second;
        }
        Self {
            since: first.since,
            last: first.last.max(second.last),
        }
    }
}

impl Leases {
    fn lock(&self) -> MutexGuard<'_, LeaseState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records promises from `now` on, for collections with this grace period in seconds.
    pub(super) fn start(&self, now: u64, grace: u64) {
        let mut state = self.lock();
        state.since.get_or_insert(now);
        state.max_pause = grace.min(MAX_UPLOAD_PAUSE_SECONDS);
    }

    /// Records that a client was told at `now` that a repository has some content.
    pub(super) fn record(&self, repository: &Repository, digest: &Digest, now: u64) {
        let key = self.hasher.hash_one((repository, digest));
        let mut state = self.lock();
        if state.since.is_none() {
            return;
        }
        state.promises.insert(key, now);
        if state.promises.len() > MAX_ENTRIES {
            state.forget_all(now);
        }
    }

    /// Records that an upload in a repository was opened or finished at `now`.
    pub(super) fn record_upload(&self, repository: &Repository, now: u64) {
        let key = self.hasher.hash_one(repository);
        let mut state = self.lock();
        if state.since.is_none() {
            return;
        }
        let activity = UploadActivity {
            since: now,
            last: now,
        };
        let max_pause = state.max_pause;
        let joined = |earlier: &UploadActivity| earlier.joined_with(activity, max_pause);
        let activity = state.uploads.get(&key).map_or(activity, joined);
        state.uploads.insert(key, activity);
        if state.uploads.len() > MAX_ENTRIES {
            state.forget_all(now);
        }
    }

    /// Returns whether content of a repository must be kept at `now`. `written_at` is when it was
    /// written, `open` are the sessions of the repository that are open.
    pub(super) fn is_leased(
        &self,
        (repository, digest): (&Repository, &Digest),
        written_at: u64,
        open: Option<UploadActivity>,
        (now, grace): (u64, u64),
    ) -> bool {
        let state = self.lock();
        let promise = self.hasher.hash_one((repository, digest));
        let promised_at = state.promises.get(&promise).copied().max(state.since);
        let used_at = promised_at.unwrap_or_default().max(written_at);
        if now.saturating_sub(used_at) < grace {
            return true;
        }
        let finished = state
            .uploads
            .get(&self.hasher.hash_one(repository))
            .copied();
        let uploads = match (finished, open) {
            (Some(finished), Some(open)) => Some(finished.joined_with(open, state.max_pause)),
            (finished, open) => finished.or(open),
        };
        let Some(uploads) = uploads else {
            return false;
        };
        if now.saturating_sub(uploads.last) >= grace {
            return false;
        }
        // Without promises in memory, a client may rely on anything.
        let since = uploads.since.max(now.saturating_sub(MAX_RENEWAL_SECONDS));
        state.since.is_none() || used_at.saturating_add(grace) > since
    }

    /// Forgets what has no effect any more at `now`.
    pub(super) fn expire(&self, now: u64, grace: u64) {
        let mut state = self.lock();
        let is_renewed = !state.uploads.is_empty();
        let kept_for = grace.saturating_add(if is_renewed { MAX_RENEWAL_SECONDS } else { 0 });
        let is_current = |time: u64| now.saturating_sub(time) < kept_for;
        state.promises.retain(|_, time| is_current(*time));
        state
            .uploads
            .retain(|_, uploads| now.saturating_sub(uploads.last) < grace);
        state.promises.shrink_to_fit();
        state.uploads.shrink_to_fit();
    }
}

impl LeaseState {
    /// Forgets all entries. Everything counts as promised at `now` instead.
    fn forget_all(&mut self, now: u64) {
        *self = Self {
            since: Some(now),
            max_pause: self.max_pause,
            ..Self::default()
        };
    }
}
