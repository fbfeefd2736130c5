//! Blobs: what a repository holds, and how another comes to hold it.

use std::io;

use imgsync_oci::{Algorithm, Digest, Repository};

use super::Registry;
use super::diffids::DiffIdJob;
use super::error::{Error, Result};
use super::locks::{LockGuard, LockKey, lock_exclusive, lock_shared};
use crate::store::{self, ListScope, ObjectKey};

/// How many repositories are listed at a time.
const REPOSITORY_PAGE_SIZE: usize = 1000;

/// A blob, open to be read.
pub(crate) struct OpenBlob {
    reader: store::ObjectReader,
    size: u64,
}

impl OpenBlob {
    /// The size in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Reads `len` bytes from `offset` on.
    ///
    /// # Errors
    /// As [`Blob::read_into`].
    pub(crate) fn read(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        self.read_into(offset, &mut bytes)?;
        Ok(bytes)
    }

    /// Fills `bytes` from `offset` on.
    ///
    /// # Errors
    /// The disk's; and where the blob has become shorter.
    pub(crate) fn read_into(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        match self.reader.read_into(offset, bytes)? < bytes.len() {
            true => Err(io::ErrorKind::UnexpectedEof.into()),
            false => Ok(()),
        }
    }
}

/// A blob that a repository holds.
pub(super) struct LinkedBlob {
    /// What its bytes are stored under. Differs from the digest asked for where a stock registry
    /// stored a sha512 blob, which it does under sha256.
    pub(super) target: Digest,
    /// In bytes.
    pub(super) size: u64,
}

impl Registry {
    /// The one door for whatever makes blobs count on.
    pub(super) fn lock_digests(&self, digests: impl IntoIterator<Item = Digest>) -> LockGuard {
        lock_exclusive(&self.locks, digests.into_iter().map(LockKey::from))
    }

    /// The same, for what is not only blobs.
    pub(super) fn lock_keys(&self, things: impl IntoIterator<Item = LockKey>) -> LockGuard {
        lock_exclusive(&self.locks, things)
    }

    /// The size in bytes of a blob that the repository holds.
    ///
    /// # Errors
    /// [`Error::BlobUnknown`], also where the link is there and the bytes are not.
    pub(crate) fn blob_size(&self, repository: &Repository, digest: &Digest) -> Result<u64> {
        let _hold = lock_shared(&self.locks, digest.clone().into());
        let held = self.find_linked_blob(repository, digest)?;
        if held.is_some() {
            self.cache.lease_blob(digest);
        }
        held.map(|held| held.size)
            .ok_or_else(|| Error::BlobUnknown(digest.clone()))
    }

    /// Opens a blob that the repository holds.
    ///
    /// # Errors
    /// [`Error::BlobUnknown`], also where the link is there and the bytes are not.
    pub(crate) fn open_blob(&self, repository: &Repository, digest: &Digest) -> Result<OpenBlob> {
        let unknown = || Error::BlobUnknown(digest.clone());
        let _hold = lock_shared(&self.locks, digest.clone().into());
        let target = self
            .resolve_link(ObjectKey::LayerLink(repository, digest), digest)?
            .ok_or_else(unknown)?;
        let opened = self.store.open_object(ObjectKey::Blob(&target))?;
        let (bytes, size) = opened.ok_or_else(unknown)?;
        if !self.is_possible_size(digest, &target, size) {
            return Err(unknown());
        }
        Ok(OpenBlob {
            reader: bytes,
            size,
        })
    }

    /// Makes a repository hold a blob that another one holds; false where that one does not.
    pub(crate) fn mount(
        &self,
        repository: &Repository,
        from: &Repository,
        digest: &Digest,
    ) -> Result<bool> {
        let _hold = self.lock_digests([digest.clone()]);
        let Some(held) = self.find_linked_blob(from, digest)? else {
            return Ok(false);
        };
        let link = held.target.to_string();
        self.store
            .put(ObjectKey::LayerLink(repository, digest), link.as_bytes())?;
        self.claim_blob(repository, digest)?;
        self.diff_id_queue
            .push(DiffIdJob::Blob(repository.clone(), digest.clone()));
        // Looked at again: only now does a collector see that the blob is wanted.
        Ok(self.find_linked_blob(repository, digest)?.is_some())
    }

    /// The same, from whichever repository holds it among those that the caller `may_pull`.
    pub(crate) fn mount_from_any(
        &self,
        repository: &Repository,
        digest: &Digest,
        may_pull: &dyn Fn(&Repository) -> bool,
    ) -> Result<bool> {
        // What a stock registry stored under sha256 is found by its links alone.
        let is_sha256 = digest.algorithm() == Algorithm::Sha256;
        if is_sha256 && self.store.len(ObjectKey::Blob(digest))?.is_none() {
            return Ok(false);
        }
        let mut after = String::new();
        loop {
            let names = self.store.list(
                ListScope::RepositoriesWithBlobs,
                &after,
                REPOSITORY_PAGE_SIZE,
            )?;
            for from in names.iter().filter_map(|name| name.parse().ok()) {
                if may_pull(&from) && self.mount(repository, &from, digest)? {
                    return Ok(true);
                }
            }
            match names.into_iter().last() {
                Some(last) => after = last,
                None => return Ok(false),
            }
        }
    }

    /// Looks whether a repository holds a blob, link and bytes. The caller holds the digest.
    pub(super) fn find_linked_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Option<LinkedBlob>> {
        let Some(target) = self.resolve_link(ObjectKey::LayerLink(repository, digest), digest)?
        else {
            return Ok(None);
        };
        let size = self.store.len(ObjectKey::Blob(&target))?;
        let size = size.filter(|size| self.is_possible_size(digest, &target, *size));
        Ok(size.map(|size| LinkedBlob { target, size }))
    }

    /// Whether so many bytes under `target` can be the content of `digest`. What was cut off counts
    /// as absent, so that the next push mends it: no bytes at all are what a crash leaves of a blob
    /// that is not the empty one, and of a layer that was read once the size is known.
    pub(super) fn is_possible_size(&self, digest: &Digest, target: &Digest, size: u64) -> bool {
        let is_possible = size > 0 || *target == Digest::of_with(target.algorithm(), b"");
        let known = self.recorded_size(digest).unwrap_or_else(|error| {
            tracing::debug!(%digest, %error, "what is known of a blob cannot be read");
            None
        });
        let is_known_size = known.is_none_or(|known| known == size);
        if !is_known_size {
            tracing::warn!(%digest, size, "a blob that was cut off or grew counts as absent");
        }
        is_possible && is_known_size
    }
}
