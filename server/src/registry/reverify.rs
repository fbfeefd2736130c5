//! Verifies stored blobs against their digests.
//!
//! If a manifest states another size for a blob than the blob has, one of the two is wrong, and
//! only hashing the blob tells which. Any client that may push can cause that again and again.
//! Therefore one blob is hashed at a time, few requests may wait for it, and results are
//! remembered. Start reading at [`Registry::reverify`].

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use imgsync_oci::Digest;

use super::Registry;
use super::error::{Error, Result};
use crate::store::{FileIdentity, ObjectKey, ObjectReader};

/// Bounds how many requests wait to verify a blob; each of them occupies a thread.
const MAX_WAITING_REVERIFICATIONS: usize = 4;
/// Bounds how many results are remembered.
const MAX_REMEMBERED_BLOBS: usize = 1024;

/// The result of verifying a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReverifyOutcome {
    /// The bytes match the digest.
    Intact,
    /// There is no such blob; a damaged one was removed.
    Absent,
}

/// Lets one request at a time verify a blob, and remembers the results.
#[derive(Default)]
pub(super) struct Reverifier {
    state: Mutex<ReverifierState>,
    finished: Condvar,
}

#[derive(Default)]
struct ReverifierState {
    is_hashing: bool,
    waiting: usize,
    /// The blobs that were found intact, the latest last.
    intact: VecDeque<(Digest, FileIdentity)>,
}

/// The permit to verify a blob, released on drop.
struct ReverifyPermit<'a>(&'a Reverifier);

impl Reverifier {
    fn lock(&self) -> MutexGuard<'_, ReverifierState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the permit; `None` if too many requests wait already.
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
        let mut intact = state.intact.iter();
        intact.any(|(known, identity)| known == digest && *identity == file)
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
    /// Hashes a blob whose size differs from the size in a manifest. Removes a damaged blob, so
    /// that clients push it again.
    ///
    /// The caller must not hold the lock of the digest, because hashing can take long.
    ///
    /// # Errors
    /// [`Error::TooManyReverifications`] if too many requests wait already; [`Error::Store`].
    pub(super) fn reverify(&self, target: &Digest) -> Result<ReverifyOutcome> {
        if let Some(outcome) = self.outcome_without_reading(target)? {
            return Ok(outcome);
        }
        let _permit = self
            .reverifier
            .acquire()
            .ok_or(Error::TooManyReverifications)?;
        // Another request may have verified this blob in the meantime.
        if let Some(outcome) = self.outcome_without_reading(target)? {
            return Ok(outcome);
        }
        let Some((reader, _)) = self.store.open_object(ObjectKey::Blob(target))? else {
            return Ok(ReverifyOutcome::Absent);
        };
        let before = reader.identity()?;
        if reader.hash(target.algorithm())? != *target {
            self.remove_damaged_blob(target, &reader)?;
            return Ok(ReverifyOutcome::Absent);
        }
        if reader.identity()? == before {
            self.reverifier.remember_intact(target, before);
        }
        Ok(ReverifyOutcome::Intact)
    }

    /// Returns the outcome if it is known without hashing the blob.
    fn outcome_without_reading(&self, target: &Digest) -> Result<Option<ReverifyOutcome>> {
        let Some((reader, _)) = self.store.open_object(ObjectKey::Blob(target))? else {
            return Ok(Some(ReverifyOutcome::Absent));
        };
        let is_intact = self.reverifier.is_known_intact(target, reader.identity()?);
        Ok(is_intact.then_some(ReverifyOutcome::Intact))
    }

    /// Removes a blob whose bytes do not match its digest, unless it was replaced since `reader`
    /// was opened. The caller must not hold the lock of the digest.
    pub(super) fn remove_damaged_blob(&self, target: &Digest, reader: &ObjectReader) -> Result<()> {
        tracing::warn!(%target, "removing a damaged blob");
        let _lock = self.lock_digests([target.clone()]);
        Ok(self
            .store
            .delete_if_unchanged(ObjectKey::Blob(target), reader)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_runs_at_a_time_few_wait_and_the_others_are_refused() {
        let reverifier = Reverifier::default();
        let first = reverifier.acquire().unwrap();
        std::thread::scope(|scope| {
            let waiting: Vec<_> = (0..MAX_WAITING_REVERIFICATIONS)
                .map(|_| scope.spawn(|| reverifier.acquire().is_some()))
                .collect();
            while reverifier.lock().waiting < MAX_WAITING_REVERIFICATIONS {
                std::thread::yield_now();
            }
            assert!(reverifier.acquire().is_none());
            drop(first);
            assert!(waiting.into_iter().all(|thread| thread.join().unwrap()));
        });
        assert!(reverifier.acquire().is_some());
        assert_eq!(reverifier.lock().waiting, 0);
    }

    #[test]
    fn an_intact_blob_is_remembered_until_its_file_changes() {
        let root = tempfile::tempdir().unwrap();
        let registry = Registry::open(root.path()).unwrap();
        let digest = Digest::of(b"content");
        let key = ObjectKey::Blob(&digest);
        assert_eq!(registry.reverify(&digest).unwrap(), ReverifyOutcome::Absent);
        registry.store.put(key, b"content").unwrap();
        assert_eq!(registry.outcome_without_reading(&digest).unwrap(), None);
        assert_eq!(registry.reverify(&digest).unwrap(), ReverifyOutcome::Intact);
        // A remembered blob needs no permit.
        let permit = registry.reverifier.acquire().unwrap();
        assert_eq!(registry.reverify(&digest).unwrap(), ReverifyOutcome::Intact);
        drop(permit);
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
        let (reader, _) = registry
            .store
            .open_object(ObjectKey::Blob(&digest))
            .unwrap()
            .unwrap();
        let file = reader.identity().unwrap();
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
