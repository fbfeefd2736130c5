//! Looks up blobs that may be cached, and links cached blobs into repositories.
//!
//! Fetching the bytes is up to [`super::fill`]. Start reading at [`BlobState`].

use imgsync_oci::{Digest, Repository};

use super::super::Registry;
use super::super::blobs::LinkedBlob;
use super::super::diffids::DiffIdJob;
use super::super::error::Result;
use super::super::locks::lock_shared;
use super::from_unix_seconds;
use crate::store::{MarkKey, ObjectKey};

/// Where a blob is stored, from the point of view of one repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BlobState {
    /// The repository links the blob.
    Linked {
        /// The size of the blob in bytes.
        size: u64,
    },
    /// The bytes are stored, but the repository does not link them.
    Elsewhere {
        /// The size of the blob in bytes.
        size: u64,
    },
    /// The bytes are not stored.
    Absent,
}

impl Registry {
    /// Returns where a blob is stored.
    ///
    /// # Errors
    /// Returns the errors of the store.
    pub(crate) fn blob_state(&self, repository: &Repository, digest: &Digest) -> Result<BlobState> {
        let _lock = lock_shared(&self.locks, digest.clone().into());
        if let Some(LinkedBlob { size, .. }) = self.find_linked_blob(repository, digest)? {
            return Ok(BlobState::Linked { size });
        }
        Ok(match self.stored_size(digest)? {
            Some(size) => BlobState::Elsewhere { size },
            None => BlobState::Absent,
        })
    }

    /// Returns whether a blob was pushed to a repository, and is there not only because it was cached.
    ///
    /// # Errors
    /// Returns the errors of the store.
    pub(crate) fn is_pushed_blob(&self, repository: &Repository, digest: &Digest) -> Result<bool> {
        let _lock = lock_shared(&self.locks, digest.clone().into());
        let mark = MarkKey::Layer(repository, digest);
        Ok(self.find_linked_blob(repository, digest)?.is_some()
            && self.store.mark_time(mark)?.is_none())
    }

    /// Returns the size in bytes of the stored blob, if that size is possible for its digest. The
    /// caller holds the lock of the digest.
    fn stored_size(&self, digest: &Digest) -> Result<Option<u64>> {
        let size = self.store.len(ObjectKey::Blob(digest))?;
        Ok(size.filter(|size| self.is_possible_size(digest, digest, *size)))
    }

    /// Links a stored blob into a repository, because the upstream with the address `upstream`
    /// reported at `now` (Unix seconds) that the repository has it. Returns false if the bytes are no longer stored.
    ///
    /// # Errors
    /// Returns the errors of the store.
    pub(crate) fn link_cached_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        upstream: &str,
        now: u64,
    ) -> Result<bool> {
        let _lock = self.lock_digests([digest.clone()]);
        if self.find_linked_blob(repository, digest)?.is_some() {
            return Ok(true);
        }
        if self.stored_size(digest)?.is_none() {
            return Ok(false);
        }
        self.mark_layer_cached(repository, digest, upstream, now)?;
        let link = digest.to_string();
        let key = ObjectKey::LayerLink(repository, digest);
        let is_new = self.store.len(key)?.is_none();
        self.store.put(key, link.as_bytes())?;
        if is_new {
            self.log_blob_link(repository, digest);
        }
        self.note_cached_blob_linked(repository, digest);
        Ok(true)
    }

    /// Protects a newly linked cached blob from the eviction in progress, and queues it for its
    /// diffID. The caller holds the lock of the digest.
    pub(super) fn note_cached_blob_linked(&self, repository: &Repository, digest: &Digest) {
        self.protect_bytes(digest);
        self.cache.unmark_named(repository, [digest]);
        self.diff_id_queue
            .push(DiffIdJob(repository.clone(), digest.clone()));
    }

    /// Marks a blob that is about to be linked as cached, unless it is already linked: a link
    /// without a mark was pushed and must stay unmarked. The mark stores the address of the upstream.
    /// The caller holds the lock of the digest.
    pub(super) fn mark_layer_cached(
        &self,
        repository: &Repository,
        digest: &Digest,
        upstream: &str,
        now: u64,
    ) -> Result<()> {
        let link = ObjectKey::LayerLink(repository, digest);
        if self.store.len(link)?.is_none() {
            let mark = MarkKey::Layer(repository, digest);
            self.store
                .put_mark(mark, upstream.as_bytes(), from_unix_seconds(now))?;
        }
        Ok(())
    }
}
