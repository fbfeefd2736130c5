//! Blobs whose size is not what a manifest says: is it the blob that is wrong, or the manifest?
//!
//! Only reading all of the bytes tells, which anybody who may push could ask for as often as they
//! like. So it is done for one blob at a time, few wait for it, and the answer is remembered.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use imgsync_oci::Digest;

use super::Registry;
use super::error::{Error, Result};
use crate::store::{Bytes, FileIdentity, Key};

/// How much is read at a time to be hashed again.
const READ_BYTES: usize = 256 * 1024;
/// How many may wait for their turn, each of them on a thread.
const MOST_WAITING: usize = 4;
/// How many answers are remembered.
const MOST_KNOWN: usize = 1024;

/// What came of doubting a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Its bytes are what its digest says.
    Fine,
    /// It is not there, or not any more.
    Gone,
}

/// The doubts about blobs, one after the other.
#[derive(Default)]
pub(super) struct Doubts {
    state: Mutex<State>,
    over: Condvar,
}

#[derive(Default)]
struct State {
    is_hashing: bool,
    waiting: usize,
    /// What was found to be fine, the latest last.
    fine: VecDeque<(Digest, FileIdentity)>,
}

/// The turn to read a blob, until it is dropped.
struct Turn<'a>(&'a Doubts);

impl Doubts {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the turn; `None` where too many do already.
    fn turn(&self) -> Option<Turn<'_>> {
        let mut state = self.lock();
        if state.is_hashing {
            if state.waiting >= MOST_WAITING {
                return None;
            }
            state.waiting += 1;
            let waited = self.over.wait_while(state, |state| state.is_hashing);
            state = waited.unwrap_or_else(PoisonError::into_inner);
            state.waiting -= 1;
        }
        state.is_hashing = true;
        Some(Turn(self))
    }

    fn is_fine(&self, digest: &Digest, file: FileIdentity) -> bool {
        let state = self.lock();
        let mut known = state.fine.iter();
        known.any(|known| known.0 == *digest && known.1 == file)
    }

    fn remember(&self, digest: &Digest, file: FileIdentity) {
        let mut state = self.lock();
        if state.fine.len() >= MOST_KNOWN {
            state.fine.pop_front();
        }
        state.fine.push_back((digest.clone(), file));
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.lock().is_hashing = false;
        self.0.over.notify_one();
    }
}

impl Registry {
    /// Reads bytes whose size is not what a manifest says. If they are not what their own digest
    /// says either, they are removed, so that they are asked for and sent again. The caller does
    /// not hold the digest, since this takes long.
    ///
    /// # Errors
    /// [`Error::Busy`] where too many wait for such an answer already; those of the store.
    pub(super) fn doubt(&self, target: &Digest) -> Result<Verdict> {
        if let Some(verdict) = self.remembered(target)? {
            return Ok(verdict);
        }
        let _turn = self.doubts.turn().ok_or(Error::Busy)?;
        // Perhaps that is what was waited for.
        if let Some(verdict) = self.remembered(target)? {
            return Ok(verdict);
        }
        let key = Key::Blob(target);
        let Some((bytes, _)) = self.store.open_to_read(key)? else {
            return Ok(Verdict::Gone);
        };
        let before = self.store.identity(key, &bytes)?;
        if self
            .store
            .hash(key, &bytes, target.algorithm(), READ_BYTES)?
            != *target
        {
            self.remove_damaged(target, &bytes)?;
            return Ok(Verdict::Gone);
        }
        if self.store.identity(key, &bytes)? == before {
            self.doubts.remember(target, before);
        }
        Ok(Verdict::Fine)
    }

    /// The answer that can be given without reading.
    fn remembered(&self, target: &Digest) -> Result<Option<Verdict>> {
        let key = Key::Blob(target);
        let Some((bytes, _)) = self.store.open_to_read(key)? else {
            return Ok(Some(Verdict::Gone));
        };
        let file = self.store.identity(key, &bytes)?;
        let is_fine = self.doubts.is_fine(target, file);
        Ok(is_fine.then_some(Verdict::Fine))
    }

    /// Removes a blob whose bytes were found not to be what its digest says, unless others have
    /// come into its place. The caller does not hold the digest.
    pub(super) fn remove_damaged(&self, target: &Digest, bytes: &Bytes) -> Result<()> {
        tracing::warn!(%target, "the bytes of a blob are damaged; they are removed");
        let _hold = self.hold([target.clone()]);
        Ok(self.store.delete_this(Key::Blob(target), bytes)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_few_wait_and_the_others_are_sent_away() {
        let doubts = Doubts::default();
        let first = doubts.turn().unwrap();
        std::thread::scope(|scope| {
            let waiting: Vec<_> = (0..MOST_WAITING)
                .map(|_| scope.spawn(|| doubts.turn().is_some()))
                .collect();
            while doubts.lock().waiting < MOST_WAITING {
                std::thread::yield_now();
            }
            assert!(doubts.turn().is_none());
            drop(first);
            assert!(waiting.into_iter().all(|it| it.join().unwrap()));
        });
        assert!(doubts.turn().is_some());
        assert_eq!(doubts.lock().waiting, 0);
    }

    #[test]
    fn what_was_read_once_is_remembered_until_the_file_is_another() {
        let root = tempfile::tempdir().unwrap();
        let registry = Registry::open(root.path()).unwrap();
        let digest = Digest::of(b"content");
        let key = Key::Blob(&digest);
        assert_eq!(registry.doubt(&digest).unwrap(), Verdict::Gone);
        registry.store.put(key, b"content").unwrap();
        assert_eq!(registry.remembered(&digest).unwrap(), None);
        assert_eq!(registry.doubt(&digest).unwrap(), Verdict::Fine);
        // Now nobody has to wait for a turn.
        let turn = registry.doubts.turn().unwrap();
        assert_eq!(registry.doubt(&digest).unwrap(), Verdict::Fine);
        drop(turn);
        registry.store.put(key, b"other").unwrap();
        assert_eq!(registry.doubt(&digest).unwrap(), Verdict::Gone);
        assert_eq!(registry.store.len(key).unwrap(), None);
    }

    #[test]
    fn no_more_is_remembered_than_there_is_room_for() {
        let root = tempfile::tempdir().unwrap();
        let registry = Registry::open(root.path()).unwrap();
        let digest = Digest::of(b"content");
        registry.store.put(Key::Blob(&digest), b"content").unwrap();
        let (bytes, _) = registry
            .store
            .open_to_read(Key::Blob(&digest))
            .unwrap()
            .unwrap();
        let file = registry.store.identity(Key::Blob(&digest), &bytes).unwrap();
        for number in 0..MOST_KNOWN + 3 {
            let digest = Digest::of(&number.to_ne_bytes());
            registry.doubts.remember(&digest, file);
        }
        assert_eq!(registry.doubts.lock().fine.len(), MOST_KNOWN);
    }
}
