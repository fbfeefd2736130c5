//! Opens, writes, finishes and cancels upload sessions.
//!
//! Start reading at [`UploadWriter`].

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use imgsync_oci::endpoint::UploadId;
use imgsync_oci::{Algorithm, Digest, Repository};

use super::Registry;
use super::diffids::DiffIdJob;
use super::error::{Error, Result};
use super::open_uploads::UploadOwner;
use super::upload_locks::{self, UploadLock};
use crate::store::{Ingest, ObjectKey};

/// The only writer of a session. Bytes that are not synced when the writer is dropped are lost.
pub(crate) struct UploadWriter {
    registry: Registry,
    repository: Repository,
    id: UploadId,
    /// The bytes of the session.
    pub(crate) ingest: Ingest,
    lock: UploadLock,
}

impl Registry {
    /// Opens an upload session. `algorithm` is that of the digest with which the session is
    /// expected to end; `owner` is the one who opens it.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub(crate) fn start_upload(
        &self,
        repository: &Repository,
        algorithm: Algorithm,
        owner: &UploadOwner,
    ) -> Result<UploadId> {
        let id = UploadId::random();
        self.store
            .create_upload(repository, id, algorithm, owner.user())?;
        self.open_uploads.insert(id, owner.clone());
        self.record_upload(repository);
        Ok(id)
    }

    /// Checks that a user may continue a session: their own one, or one without a known owner.
    ///
    /// # Errors
    /// [`Error::UploadUnknown`] if the session belongs to another user; [`Error::Store`].
    pub(crate) fn check_upload_owner(
        &self,
        repository: &Repository,
        id: UploadId,
        user: &str,
    ) -> Result<()> {
        match self.store.upload_owner(repository, id)? {
            Some(owner) if *owner != *user => Err(Error::UploadUnknown(id)),
            _ => Ok(()),
        }
    }

    /// Returns the number of durable bytes of a session.
    ///
    /// # Errors
    /// [`Error::UploadUnknown`] if there is no such session in the repository; [`Error::Store`].
    pub(crate) fn upload_offset(&self, repository: &Repository, id: UploadId) -> Result<u64> {
        self.store
            .upload_offset(repository, id)?
            .ok_or(Error::UploadUnknown(id))
    }

    /// Opens a session to append after its durable bytes. `expected_offset` is the offset at which
    /// the client wants to append, if it named one.
    ///
    /// # Errors
    /// [`Error::UploadUnknown`]; [`Error::UploadBusy`] while another request writes to the session;
    /// [`Error::WrongOffset`] if the session does not end at `expected_offset`; [`Error::Store`].
    pub(crate) fn open_upload_writer(
        &self,
        repository: &Repository,
        id: UploadId,
        expected_offset: Option<u64>,
    ) -> Result<UploadWriter> {
        let lock = self.lock_upload(repository, id)?;
        let ingest = self
            .store
            .resume_upload(repository, id)?
            .ok_or(Error::UploadUnknown(id))?;
        let offset = ingest.durable_offset();
        if expected_offset.is_some_and(|expected| expected != offset) {
            return Err(Error::WrongOffset { offset });
        }
        Ok(UploadWriter {
            registry: self.clone(),
            repository: repository.clone(),
            id,
            ingest,
            lock,
        })
    }

    fn lock_upload(&self, repository: &Repository, id: UploadId) -> Result<UploadLock> {
        match upload_locks::try_lock(&self.upload_locks, id) {
            Some(lock) => Ok(lock),
            None => Err(Error::UploadBusy {
                offset: self.upload_offset(repository, id)?,
            }),
        }
    }

    /// Cancels a session and removes its bytes.
    ///
    /// # Errors
    /// [`Error::UploadUnknown`]; [`Error::UploadBusy`] while a request writes to the session;
    /// [`Error::Store`].
    pub(crate) fn cancel_upload(&self, repository: &Repository, id: UploadId) -> Result<()> {
        let _lock = self.lock_upload(repository, id)?;
        if !self.store.cancel_upload(repository, id)? {
            return Err(Error::UploadUnknown(id));
        }
        self.open_uploads.remove(id);
        Ok(())
    }
}

impl UploadWriter {
    /// Returns the flag that is set when another request tries to write to the session.
    pub(crate) fn contended_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(self.lock.contended_flag())
    }

    /// Finishes the session: its bytes become a blob of the repository.
    ///
    /// # Errors
    /// [`Error::DigestMismatch`], which also removes the session and its bytes; [`Error::Store`].
    pub(crate) fn commit(self, expected: &Digest) -> Result<()> {
        let Self {
            registry,
            repository,
            id,
            ingest,
            lock,
        } = self;
        let store = &registry.store;
        let sealed = ingest.seal(expected.algorithm())?;
        if sealed.digest() != expected {
            store.cancel_upload(&repository, id)?;
            registry.open_uploads.remove(id);
            return Err(Error::DigestMismatch {
                expected: expected.clone(),
                actual: sealed.digest().clone(),
            });
        }
        let _digest_lock = registry.lock_digests([expected.clone()]);
        let (key, link) = (
            ObjectKey::LayerLink(&repository, expected),
            expected.to_string(),
        );
        let is_new = store.len(key)?.is_none();
        store.commit_ingest(&sealed, &[(key, link.as_bytes())])?;
        if is_new {
            registry.log_blob_link(&repository, expected);
        }
        registry.claim_blob(&repository, expected)?;
        registry.record_upload(&repository);
        if let Err(error) = store.delete_finished_upload(&repository, id) {
            tracing::warn!(%id, %error, "cannot remove the files of a finished upload");
        }
        registry.open_uploads.remove(id);
        drop(lock);
        registry
            .diff_id_queue
            .push(DiffIdJob(repository, expected.clone()));
        Ok(())
    }
}
