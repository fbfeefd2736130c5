//! Cached blobs: what is here of them, and in which repositories.

use imgsync_oci::{Digest, Repository};

use super::super::Registry;
use super::super::blobs::LinkedBlob;
use super::super::diffids::DiffIdJob;
use super::super::error::Result;
use super::super::locks::lock_shared;
use super::from_unix_seconds;
use crate::store::{MarkKey, ObjectKey};

/// What is here of a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BlobState {
    /// The repository holds it; its size in bytes.
    Linked {
        /// In bytes.
        size: u64,
    },
    /// Its bytes are here, but the repository does not hold it.
    Elsewhere {
        /// In bytes.
        size: u64,
    },
    /// There is nothing of it.
    Absent,
}

impl Registry {
    /// What is here of a blob.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) fn blob_state(&self, repository: &Repository, digest: &Digest) -> Result<BlobState> {
        let _hold = lock_shared(&self.locks, digest.clone().into());
        if let Some(LinkedBlob { size, .. }) = self.find_linked_blob(repository, digest)? {
            return Ok(BlobState::Linked { size });
        }
        Ok(match self.stored_size(digest)? {
            Some(size) => BlobState::Elsewhere { size },
            None => BlobState::Absent,
        })
    }

    /// The size in bytes of what is stored under a digest, as far as it can be its content. The
    /// caller holds the digest.
    fn stored_size(&self, digest: &Digest) -> Result<Option<u64>> {
        let size = self.store.len(ObjectKey::Blob(digest))?;
        Ok(size.filter(|size| self.is_possible_size(digest, digest, *size)))
    }

    /// Lets a repository hold a blob whose bytes are here, an upstream having said `now` (unix
    /// seconds) that the blob is in that repository; false where the bytes are not here any more.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) fn link_cached_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        now: u64,
    ) -> Result<bool> {
        let _hold = self.lock_digests([digest.clone()]);
        if self.find_linked_blob(repository, digest)?.is_some() {
            return Ok(true);
        }
        if self.stored_size(digest)?.is_none() {
            return Ok(false);
        }
        self.mark_layer_cached(repository, digest, now)?;
        let link = digest.to_string();
        self.store
            .put(ObjectKey::LayerLink(repository, digest), link.as_bytes())?;
        self.note_cached_blob_linked(repository, digest);
        Ok(true)
    }

    /// Says that a repository holds a blob from an upstream now. The caller holds the digest.
    pub(super) fn note_cached_blob_linked(&self, repository: &Repository, digest: &Digest) {
        self.cache.unmark_bytes(digest);
        self.cache.unmark_named(repository, [digest]);
        self.diff_id_queue
            .push(DiffIdJob::Blob(repository.clone(), digest.clone()));
    }

    /// Makes the mark of a blob that is about to be linked, unless its link is there already: one
    /// without a mark was pushed, and stays that. The caller holds the digest.
    pub(super) fn mark_layer_cached(
        &self,
        repository: &Repository,
        digest: &Digest,
        now: u64,
    ) -> Result<()> {
        if self
            .store
            .len(ObjectKey::LayerLink(repository, digest))?
            .is_none()
        {
            let mark = MarkKey::Layer(repository, digest);
            self.store.put_mark(mark, b"", from_unix_seconds(now))?;
        }
        Ok(())
    }
}
