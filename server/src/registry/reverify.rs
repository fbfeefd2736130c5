//! Blobs whose size is not what a manifest says: is it the blob that is wrong, or the manifest?
//!
//! Only reading all of the bytes tells, which anybody who may push could ask for as often as they
//! like. So it is done for one blob at a time, few wait for it, and the answer is remembered.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use imgsync_oci::Digest;

use super::Registry;
use super::error::{Error, Result};
use crate::store::{FileIdentity, ObjectKey, ObjectReader};

/// How much is read at a time to be hashed again.
const HASH_BUFFER_BYTES: usize = 256 * 1024;
/// How many may wait for their turn, each of them on a thread.
const MAX_WAITING_REVERIFICATIONS: usize = 4;
/// How many answers are remembered.
const MAX_REMEMBERED_BLOBS: usize = 1024;

/// What came of doubting a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReverifyOutcome {
    /// Its bytes are what its digest says.
    Intact,
    /// It is not there, or not any more.
    Absent,
}

/// The doubts about blobs, one after the other.
#[derive(Default)]
pub(super) struct Reverifier {
    state: Mutex<ReverifierState>,
    finished: Condvar,
}

#[derive(Default)]
struct ReverifierState {
    is_hashing: bool,
    waiting: usize,
    /// What was found to be fine, the latest last.
    intact: VecDeque<(Digest, FileIdentity)>,
}

/// The turn to read a blob, until it is dropped.
struct ReverifyPermit<'a>(&'a Reverifier);

impl Reverifier {
    fn lock(&self) -> MutexGuard<'_, ReverifierState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the turn; `None` where too many do already.
    fn acquire(&self) -> Option<ReverifyPermit<'_>> {
        let mut state = self.lock();
        if state.is_hashing {
            if state.waiting >= MAX_WAITING_REVERIFICATIONS {
                return None;
            }
            state.waiting += 1;
            let waited = self.finished.wait_while(state, |state| state.is_hashing);
            state = waited.unwrap_or_else(PoisonError::into_inner);
            state.waiting -= 1;
        }
        state.is_hashing = true;
        Some(ReverifyPermit(self))
    }

    fn is_known_intact(&self, digest: &Digest, file: FileIdentity) -> bool {
        let state = self.lock();
        let mut known = state.intact.iter();
        known.any(|known| known.0 == *digest && known.1 == file)
    }

    fn remember_intact(&self, digest: &Digest, file: FileIdentity) {
        let mut state = self.lock();
        if state.intact.len() >= MAX_REMEMBERED_BLOBS {
            state.intact.pop_front();
        }
        state.intact.push_back((digest.clone(), file));
    }
}

impl Drop for ReverifyPermit<'_> {
    fn drop(&mut self) {
        self.0.lock().is_hashing = false;
        self.0.finished.notify_one();
    }
}

impl Registry {
    /// Reads bytes whose size is not what a manifest says. If they are not what their own digest
    /// says either, they are removed, so that they are asked for and sent again. The caller does
    /// not hold the digest, since this takes long.
    ///
    /// # Errors
    /// [`Error::Busy`] where too many wait for such an answer already; those of the store.
    pub(super) fn reverify(&self, target: &Digest) -> Result<ReverifyOutcome> {
        if let Some(verdict) = self.outcome_without_reading(target)? {
            return Ok(verdict);
        }
        let _turn = self
            .reverifier
            .acquire()
            .ok_or(Error::TooManyReverifications)?;
        // Perhaps that is what was waited for.
        if let Some(verdict) = self.outcome_without_reading(target)? {
            return Ok(verdict);
        }
        let key = ObjectKey::Blob(target);
        let Some((bytes, _)) = self.store.open_object(key)? else {
            return Ok(ReverifyOutcome::Absent);
        };
        let before = self.store.identity(key, &bytes)?;
        if self
            .store
            .hash_object(key, &bytes, target.algorithm(), HASH_BUFFER_BYTES)?
            != *target
        {
            self.remove_damaged_blob(target, &bytes)?;
            return Ok(ReverifyOutcome::Absent);
        }
        if self.store.identity(key, &bytes)? == before {
            self.reverifier.remember_intact(target, before);
        }
        Ok(ReverifyOutcome::Intact)
    }

    /// The answer that can be given without reading.
    fn outcome_without_reading(&self, target: &Digest) -> Result<Option<ReverifyOutcome>> {
        let key = ObjectKey::Blob(target);
        let Some((bytes, _)) = self.store.open_object(key)? else {
            return Ok(Some(ReverifyOutcome::Absent));
        };
        let file = self.store.identity(key, &bytes)?;
        let is_fine = self.reverifier.is_known_intact(target, file);
        Ok(is_fine.then_some(ReverifyOutcome::Intact))
    }

    /// Removes a blob whose bytes were found not to be what its digest says, unless others have
    /// come into its place. The caller does not hold the digest.
    pub(super) fn remove_damaged_blob(&self, target: &Digest, bytes: &ObjectReader) -> Result<()> {
        tracing::warn!(%target, "the bytes of a blob are damaged; they are removed");
        let _hold = self.lock_digests([target.clone()]);
        Ok(self
            .store
            .delete_if_unchanged(ObjectKey::Blob(target), bytes)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_runs_at_a_time_few_wait_and_the_others_are_refused() {
        let doubts = Reverifier::default();
        let first = doubts.acquire().unwrap();
        std::thread::scope(|scope| {
            let waiting: Vec<_> = (0..MAX_WAITING_REVERIFICATIONS)
                .map(|_| scope.spawn(|| doubts.acquire().is_some()))
                .collect();
            while doubts.lock().waiting < MAX_WAITING_REVERIFICATIONS {
                std::thread::yield_now();
            }
            assert!(doubts.acquire().is_none());
            drop(first);
            assert!(waiting.into_iter().all(|it| it.join().unwrap()));
        });
        assert!(doubts.acquire().is_some());
        assert_eq!(doubts.lock().waiting, 0);
    }

    #[test]
    fn what_was_read_once_is_remembered_until_the_file_is_another() {
        let root = tempfile::tempdir().unwrap();
        let registry = Registry::open(root.path()).unwrap();
        let digest = Digest::of(b"content");
        let key = ObjectKey::Blob(&digest);
        assert_eq!(registry.reverify(&digest).unwrap(), ReverifyOutcome::Absent);
        registry.store.put(key, b"content").unwrap();
        assert_eq!(registry.outcome_without_reading(&digest).unwrap(), None);
        assert_eq!(registry.reverify(&digest).unwrap(), ReverifyOutcome::Intact);
        // Now nobody has to wait for a turn.
        let turn = registry.reverifier.acquire().unwrap();
        assert_eq!(registry.reverify(&digest).unwrap(), ReverifyOutcome::Intact);
        drop(turn);
        registry.store.put(key, b"other").unwrap();
        assert_eq!(registry.reverify(&digest).unwrap(), ReverifyOutcome::Absent);
        assert_eq!(registry.store.len(key).unwrap(), None);
    }

    #[test]
    fn remembered_blobs_are_bounded() {
        let root = tempfile::tempdir().unwrap();
        let registry = Registry::open(root.path()).unwrap();
        let digest = Digest::of(b"content");
        registry
            .store
            .put(ObjectKey::Blob(&digest), b"content")
            .unwrap();
        let (bytes, _) = registry
            .store
            .open_object(ObjectKey::Blob(&digest))
            .unwrap()
            .unwrap();
        let file = registry
            .store
            .identity(ObjectKey::Blob(&digest), &bytes)
            .unwrap();
        for number in 0..MAX_REMEMBERED_BLOBS + 3 {
            let digest = Digest::of(&number.to_ne_bytes());
            registry.reverifier.remember_intact(&digest, file);
        }
        assert_eq!(
            registry.reverifier.lock().intact.len(),
            MAX_REMEMBERED_BLOBS
        );
    }
}
