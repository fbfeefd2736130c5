//! Reads blobs, and mounts them from one repository into another.
//!
//! Writing blobs is up to `uploads` and `cache`. Start reading at [`Registry::open_blob`] and
//! [`Registry::mount`].

use std::io;

use imgsync_oci::{Algorithm, Digest, Repository};

use super::Registry;
use super::diffids::DiffIdJob;
use super::error::{Error, Result};
use super::locks::{LockGuard, LockKey, lock_exclusive, lock_shared};
use crate::store::{self, ObjectKey, Walk};

/// A blob that is open for reading.
pub(crate) struct OpenBlob {
    reader: store::ObjectReader,
    size: u64,
}

impl OpenBlob {
    pub(super) fn new(reader: store::ObjectReader, size: u64) -> Self {
        Self { reader, size }
    }

    /// Returns the size in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Reads `len` bytes at `offset`.
    ///
    /// # Errors
    /// As [`OpenBlob::read_into`].
    pub(crate) fn read(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        self.read_into(offset, &mut bytes)?;
        Ok(bytes)
    }

    /// Fills `bytes` from `offset`.
    ///
    /// # Errors
    /// Returns the error of the read; [`io::ErrorKind::UnexpectedEof`] if the file has been
    /// truncated.
    pub(crate) fn read_into(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        if self.reader.read_into(offset, bytes)? < bytes.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }
}

/// A blob that a repository holds.
pub(super) struct LinkedBlob {
    /// The digest under which the bytes are stored. Differs from the blob's digest if a stock
    /// registry stored a sha512 blob, which it does under sha256.
    pub(super) target: Digest,
    /// In bytes.
    pub(super) size: u64,
}

impl Registry {
    /// Locks digests exclusively.
    pub(super) fn lock_digests(&self, digests: impl IntoIterator<Item = Digest>) -> LockGuard {
        lock_exclusive(&self.locks, digests.into_iter().map(LockKey::from))
    }

    /// Locks keys of any kind exclusively.
    pub(super) fn lock_keys(&self, keys: impl IntoIterator<Item = LockKey>) -> LockGuard {
        lock_exclusive(&self.locks, keys)
    }

    /// Returns the size in bytes of a blob in a repository.
    ///
    /// # Errors
    /// [`Error::BlobUnknown`], also if there is a link but no bytes; [`Error::Store`].
    pub(crate) fn blob_size(&self, repository: &Repository, digest: &Digest) -> Result<u64> {
        let _lock = lock_shared(&self.locks, digest.clone().into());
        let blob = self
            .find_linked_blob(repository, digest)?
            .ok_or_else(|| Error::BlobUnknown(digest.clone()))?;
        self.cache.lease_blob(digest);
        self.promise(repository, digest);
        Ok(blob.size)
    }

    /// Opens a blob in a repository.
    ///
    /// # Errors
    /// [`Error::BlobUnknown`], also if there is a link but no bytes; [`Error::Store`].
    pub(crate) fn open_blob(&self, repository: &Repository, digest: &Digest) -> Result<OpenBlob> {
        let unknown = || Error::BlobUnknown(digest.clone());
        let _lock = lock_shared(&self.locks, digest.clone().into());
        let target = self
            .resolve_link(ObjectKey::LayerLink(repository, digest), digest)?
            .ok_or_else(unknown)?;
        let opened = self.store.open_object(ObjectKey::Blob(&target))?;
        let (reader, size) = opened.ok_or_else(unknown)?;
        if !self.is_possible_size(digest, &target, size) {
            return Err(unknown());
        }
        Ok(OpenBlob::new(reader, size))
    }

    /// Mounts a blob into a repository; returns false if the source repository does not hold it.
    ///
    /// # Errors
    /// [`Error::NoSpace`] if a quota of the repository is used up; [`Error::Store`].
    pub(crate) fn mount(
        &self,
        repository: &Repository,
        from: &Repository,
        digest: &Digest,
    ) -> Result<bool> {
        let _lock = self.lock_digests([digest.clone()]);
        let Some(blob) = self.find_linked_blob(from, digest)? else {
            return Ok(false);
        };
        let link = ObjectKey::LayerLink(repository, digest);
        let is_new = self.store.len(link)?.is_none();
        if is_new {
            self.check_mount_space(repository, from, &blob)?;
        }
        self.store.put(link, blob.target.to_string().as_bytes())?;
        if is_new {
            self.count_link(repository, digest, blob.size, true);
            self.log_blob_link(repository, digest);
        }
        self.claim_blob(repository, digest)?;
        self.diff_id_queue
            .push(DiffIdJob(repository.clone(), digest.clone()));
        // Checked again, because a garbage collection that ran before the link was written may have
        // removed the blob.
        Ok(self.find_linked_blob(repository, digest)?.is_some())
    }

    /// Mounts a blob from any repository that holds it and for which `may_pull` is true; returns
    /// false if there is none.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub(crate) fn mount_from_any(
        &self,
        repository: &Repository,
        digest: &Digest,
        may_pull: &dyn Fn(&Repository) -> bool,
        walk: &Walk<'_>,
    ) -> Result<bool> {
        // A sha512 blob of a stock registry is stored under sha256, so only a link leads to it.
        let is_sha256 = digest.algorithm() == Algorithm::Sha256;
        if is_sha256 && self.store.len(ObjectKey::Blob(digest))?.is_none() {
            return Ok(false);
        }
        match self.find_linking_repository(digest, may_pull, walk)? {
            Some(source) => self.mount(repository, &source, digest),
            None => Ok(false),
        }
    }

    /// Returns a blob if the repository has both its link and its bytes. The caller holds the lock
    /// of the digest.
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

    /// Returns whether `size` bytes under `target` can be the content of `digest`. A truncated blob counts
    /// as absent, so that the next push repairs it.
    ///
    /// Two cases are recognized: an empty file, unless the digest is that of no bytes, and a layer
    /// whose size was recorded.
    pub(super) fn is_possible_size(&self, digest: &Digest, target: &Digest, size: u64) -> bool {
        let is_possible = size > 0 || *target == Digest::of_with(target.algorithm(), b"");
        let recorded = self.recorded_size(digest).unwrap_or_else(|error| {
            tracing::debug!(%digest, %error, "cannot read a layer record");
            None
        });
        let is_recorded = recorded.is_none_or(|recorded| recorded == size);
        if !is_recorded {
            tracing::warn!(%digest, size, "treating a blob as absent: its size has changed");
        }
        is_possible && is_recorded
    }
}
