//! Cached blobs: what is here of them, and in which repositories.

use imgsync_oci::{Digest, Repository};

use super::super::Registry;
use super::super::blobs::Held;
use super::super::diffids::Job;
use super::super::error::Result;
use super::super::hold::hold_to_look;
use super::moment;
use crate::store::{Key, Mark};

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
        let _hold = hold_to_look(&self.holds, digest.clone().into());
        if let Some(Held { size, .. }) = self.held(repository, digest)? {
            return Ok(BlobState::Linked { size });
        }
        Ok(match self.whole(digest)? {
            Some(size) => BlobState::Elsewhere { size },
            None => BlobState::Absent,
        })
    }

    /// The size in bytes of what is stored under a digest, as far as it can be its content. The
    /// caller holds the digest.
    fn whole(&self, digest: &Digest) -> Result<Option<u64>> {
        let size = self.store.len(Key::Blob(digest))?;
        Ok(size.filter(|size| self.may_be(digest, digest, *size)))
    }

    /// Lets a repository hold a blob whose bytes are here, an upstream having said `now` (unix
    /// seconds) that the blob is in that repository; false where the bytes are not here any more.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) fn link_cached(
        &self,
        repository: &Repository,
        digest: &Digest,
        now: u64,
    ) -> Result<bool> {
        let _hold = self.hold([digest.clone()]);
        if self.held(repository, digest)?.is_some() {
            return Ok(true);
        }
        if self.whole(digest)?.is_none() {
            return Ok(false);
        }
        self.mark_layer(repository, digest, now)?;
        let link = digest.to_string();
        self.store
            .put(Key::Layer(repository, digest), link.as_bytes())?;
        self.linked_cached(repository, digest);
        Ok(true)
    }

    /// Says that a repository holds a blob from an upstream now. The caller holds the digest.
    pub(super) fn linked_cached(&self, repository: &Repository, digest: &Digest) {
        self.cache.linked(digest);
        self.cache.named(repository, [digest]);
        self.diff_ids
            .note(Job::Blob(repository.clone(), digest.clone()));
    }

    /// Makes the mark of a blob that is about to be linked, unless its link is there already: one
    /// without a mark was pushed, and stays that. The caller holds the digest.
    pub(super) fn mark_layer(
        &self,
        repository: &Repository,
        digest: &Digest,
        now: u64,
    ) -> Result<()> {
        if self.store.len(Key::Layer(repository, digest))?.is_none() {
            let mark = Mark::Layer(repository, digest);
            self.store.mark(mark, b"", moment(now))?;
        }
        Ok(())
    }
}
