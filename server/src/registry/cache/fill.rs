//! Fills the cache with blobs that are fetched from an upstream.
//!
//! Start reading at [`CacheFill`]; the fetching itself is up to `upstream`.

use std::sync::PoisonError;

use imgsync_oci::{Digest, Repository};

use super::super::Registry;
use super::super::error::{Error, Result};
use super::CacheLimits;
use super::room::RoomReservation;
use crate::store::{Ingest, ObjectKey};

/// Number of bytes that are appended between two checkpoints.
const CHECKPOINT_INTERVAL_BYTES: u64 = 32 * 1024 * 1024;

/// The only writer of a blob that is being fetched. If it is dropped, the durable bytes remain for
/// the next fetch.
pub(crate) struct CacheFill {
    lock: FillLock,
    /// The address of the upstream.
    upstream: String,
    room: Option<RoomReservation>,
    /// The bytes fetched so far. A resumed fetch continues at their end.
    pub(crate) ingest: Ingest,
}

/// The lock of a digest that is being fetched, released on drop.
struct FillLock {
    registry: Registry,
    digest: Digest,
}

impl Drop for FillLock {
    fn drop(&mut self) {
        let locked = self.registry.cache.fills_in_progress.lock();
        let mut locked = locked.unwrap_or_else(PoisonError::into_inner);
        locked.remove(&self.digest);
    }
}

impl Registry {
    /// Starts or resumes a fetch of a blob from the upstream with the address `upstream`. Returns `None` if another fetch of the blob is running.
    ///
    /// # Errors
    /// Returns [`Error::Store`] if the store fails.
    pub(crate) fn open_cache_fill(
        &self,
        digest: &Digest,
        upstream: &str,
    ) -> Result<Option<CacheFill>> {
        let Some(lock) = self.try_lock_fill(digest) else {
            return Ok(None);
        };
        let ingest = self.store.open_cache_fill(digest, upstream)?;
        let (upstream, room) = (upstream.to_owned(), None);
        Ok(Some(CacheFill {
            lock,
            upstream,
            room,
            ingest,
        }))
    }

    /// Locks a digest for a fetch. Returns `None` if another fetch holds the lock.
    fn try_lock_fill(&self, digest: &Digest) -> Option<FillLock> {
        let locked = self.cache.fills_in_progress.lock();
        let mut locked = locked.unwrap_or_else(PoisonError::into_inner);
        locked.insert(digest.clone()).then(|| FillLock {
            registry: self.clone(),
            digest: digest.clone(),
        })
    }

    /// Removes the bytes of an interrupted fetch. Returns false if a fetch of the blob is running.
    pub(in crate::registry) fn discard_partial_blob(&self, digest: &Digest) -> Result<bool> {
        let Some(_lock) = self.try_lock_fill(digest) else {
            return Ok(false);
        };
        self.store.discard_cache_fill(digest)?;
        Ok(true)
    }
}

impl CacheFill {
    /// Reserves room for a blob of `size` bytes, and evicts images if the cache is full. Returns
    /// false if the blob does not fit. `now` is in Unix seconds.
    ///
    /// # Errors
    /// Returns [`Error::Store`] if the store fails.
    pub(crate) fn reserve(&mut self, size: u64, limits: &CacheLimits, now: u64) -> Result<bool> {
        let stored = self.ingest.offset();
        if let Some(room) = self.room.as_mut().filter(|room| room.size == size) {
            room.set_stored(stored);
            return Ok(true);
        }
        if let Some(mut room) = self.room.take() {
            room.leave_nothing();
        }
        let FillLock { registry, digest } = &self.lock;
        self.room = registry.reserve_room(digest, (size, stored), limits, now)?;
        Ok(self.room.is_some())
    }

    /// Appends bytes, and makes all of them durable from time to time.
    ///
    /// # Errors
    /// Returns [`Error::Store`] if the store fails. The bytes that were not durable are then lost.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.ingest.write(bytes)?;
        if let Some(room) = &mut self.room {
            room.set_stored(self.ingest.offset());
        }
        if self.ingest.unsynced_bytes() >= CHECKPOINT_INTERVAL_BYTES {
            self.ingest.sync()?;
        }
        Ok(())
    }

    /// Finishes the fetch: the bytes become a cached blob of `repositories`, fetched at `now` (Unix
    /// seconds).
    ///
    /// # Errors
    /// Returns [`Error::DigestMismatch`] if the bytes do not match the digest, and removes them;
    /// returns [`Error::Store`] if the store fails.
    pub(crate) fn commit(self, repositories: &[Repository], now: u64) -> Result<()> {
        let Self {
            lock,
            upstream,
            mut room,
            ingest,
        } = self;
        let FillLock { registry, digest } = &lock;
        let sealed = ingest.seal(digest.algorithm())?;
        if sealed.digest() != digest {
            registry.store.discard_cache_fill(digest)?;
            room.iter_mut().for_each(RoomReservation::leave_nothing);
            return Err(Error::DigestMismatch {
                expected: digest.clone(),
                actual: sealed.digest().clone(),
            });
        }
        let _digest_lock = registry.lock_digests([digest.clone()]);
        let link = digest.to_string();
        let (mut links, mut new_links) = (Vec::new(), Vec::new());
        for repository in repositories {
            let key = ObjectKey::LayerLink(repository, digest);
            if registry.store.len(key)?.is_none() {
                new_links.push(repository);
            }
            registry.mark_layer_cached(repository, digest, &upstream, now)?;
            links.push((key, link.as_bytes()));
        }
        registry.store.commit_ingest(&sealed, &links)?;
        for repository in new_links {
            registry.log_blob_link(repository, digest);
        }
        registry.store.delete_finished_cache_fill(digest);
        registry.cache.size.add(sealed.size());
        room.iter_mut().for_each(RoomReservation::leave_nothing);
        for repository in repositories {
            registry.note_cached_blob_linked(repository, digest);
        }
        Ok(())
    }

    /// Ends the fetch after an error, and returns the error. The bytes remain for the next fetch,
    /// unless the disk is full: pushes need that space.
    pub(crate) fn give_up(self, error: Error) -> Error {
        if error.is_disk_full()
            && let Err(error) = self.discard()
        {
            tracing::warn!(%error, "cannot remove an interrupted fetch from a full disk");
        }
        error
    }

    /// Ends the fetch and removes its bytes.
    ///
    /// # Errors
    /// Returns [`Error::Store`] if the store fails.
    pub(crate) fn discard(mut self) -> Result<()> {
        let FillLock { registry, digest } = &self.lock;
        registry.store.discard_cache_fill(digest)?;
        self.room
            .iter_mut()
            .for_each(RoomReservation::leave_nothing);
        Ok(())
    }
}
