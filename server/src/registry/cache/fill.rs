//! Blobs that are being fetched.

use std::sync::PoisonError;

use imgsync_oci::{Digest, Repository};

use super::super::Registry;
use super::super::error::{Error, Result};
use crate::store::{self, Ingest, ObjectKey, PartialBlob};

/// How many bytes are appended between two checkpoints.
const CHECKPOINT_INTERVAL_BYTES: u64 = 32 * 1024 * 1024;

/// The one writer of a blob that is being fetched. Dropped, it leaves what it has for the next one.
pub(crate) struct CacheFill {
    lock: FillLock,
    ingest: Ingest,
}

/// The right to fill, until it is dropped.
struct FillLock {
    registry: Registry,
    digest: Digest,
}

impl Drop for FillLock {
    fn drop(&mut self) {
        let filling = self.registry.cache.fills_in_progress.lock();
        let mut filling = filling.unwrap_or_else(PoisonError::into_inner);
        filling.remove(&self.digest);
    }
}

impl Registry {
    /// Begins to fill a blob, or goes on; `None` where another does already.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) fn open_cache_fill(&self, digest: &Digest) -> Result<Option<CacheFill>> {
        let Some(turn) = self.try_lock_fill(digest) else {
            return Ok(None);
        };
        let filling = self.store.open_cache_fill(digest)?;
        Ok(Some(CacheFill {
            lock: turn,
            ingest: filling,
        }))
    }

    fn try_lock_fill(&self, digest: &Digest) -> Option<FillLock> {
        let filling = self.cache.fills_in_progress.lock();
        let mut filling = filling.unwrap_or_else(PoisonError::into_inner);
        filling.insert(digest.clone()).then(|| FillLock {
            registry: self.clone(),
            digest: digest.clone(),
        })
    }

    /// Removes what is left of a fetch that broke off; false where somebody goes on with it.
    pub(super) fn discard_partial_blob(&self, digest: &Digest) -> Result<bool> {
        let Some(_turn) = self.try_lock_fill(digest) else {
            return Ok(false);
        };
        self.store.discard_cache_fill(digest)?;
        Ok(true)
    }
}

impl CacheFill {
    /// How many bytes there are: where to go on.
    pub(crate) fn len(&self) -> u64 {
        self.ingest.offset()
    }

    /// What there is, for those who read it while more comes.
    pub(crate) fn reader(&self) -> PartialBlob {
        self.ingest.reader()
    }

    /// Appends bytes, and makes all durable from time to time.
    ///
    /// # Errors
    /// Those of the store; what was not durable is gone then.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.ingest.write(bytes)?;
        if self.ingest.unsynced_bytes() < CHECKPOINT_INTERVAL_BYTES {
            return Ok(());
        }
        self.sync()
    }

    /// Makes durable what was appended, so that the next one can go on from there.
    ///
    /// # Errors
    /// Those of the store; what was not durable is gone then.
    pub(crate) fn sync(&mut self) -> Result<()> {
        Ok(self.lock.registry.store.sync_ingest(&mut self.ingest)?)
    }

    /// Begins anew.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) fn restart(&mut self) -> Result<()> {
        let store = &self.lock.registry.store;
        Ok(store.restart_ingest(&mut self.ingest)?)
    }

    /// Ends it, at `now` (unix seconds): these repositories hold the blob from now on.
    ///
    /// # Errors
    /// [`Error::DigestMismatch`]: the bytes are gone then. Those of the store.
    pub(crate) fn commit(self, repositories: &[Repository], now: u64) -> Result<()> {
        let Self {
            lock: turn,
            ingest: filling,
        } = self;
        let FillLock { registry, digest } = &turn;
        let sealed = filling.seal(digest.algorithm())?;
        if sealed.digest() != digest {
            registry.store.discard_cache_fill(digest)?;
            return Err(Error::DigestMismatch {
                expected: digest.clone(),
                actual: sealed.digest().clone(),
            });
        }
        let _hold = registry.lock_digests([digest.clone()]);
        let text = digest.to_string();
        let mut links = Vec::new();
        for repository in repositories {
            registry.mark_layer_cached(repository, digest, now)?;
            links.push((ObjectKey::LayerLink(repository, digest), text.as_bytes()));
        }
        registry.store.commit_ingest(&sealed, &links)?;
        registry.store.delete_finished_cache_fill(digest);
        registry.cache.add_cached_bytes(sealed.size());
        for repository in repositories {
            registry.note_cached_blob_linked(repository, digest);
        }
        Ok(())
    }

    /// Ends it after an error, which it yields. What came is left for the next one, but for a full
    /// disk: that needs the room for what is pushed.
    pub(crate) fn give_up(self, error: Error) -> Error {
        if matches!(error, Error::Store(store::Error::Full { .. }))
            && let Err(error) = self.discard()
        {
            tracing::warn!(%error, "what was fetched of a blob stays on a full disk");
        }
        error
    }

    /// Ends it without a blob.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) fn discard(self) -> Result<()> {
        let FillLock { registry, digest } = &self.lock;
        Ok(registry.store.discard_cache_fill(digest)?)
    }
}
