//! Upload sessions, and what becomes of them.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use imgsync_oci::endpoint::UploadId;
use imgsync_oci::{Algorithm, Digest, Repository};

use super::Registry;
use super::diffids::DiffIdJob;
use super::error::{Error, Result};
use super::upload_locks::{self, UploadLock};
use crate::store::{Ingest, ObjectKey};

/// The right to append to a session. Bytes count once they are kept; those that are not kept when
/// this is dropped are gone.
pub(crate) struct UploadWriter {
    registry: Registry,
    repository: Repository,
    id: UploadId,
    ingest: Ingest,
    lock: UploadLock,
}

impl Registry {
    /// Opens an upload session; `algorithm` is that of the digest that it should end with, `owner`
    /// the user who opens it.
    pub(crate) fn start_upload(
        &self,
        repository: &Repository,
        algorithm: Algorithm,
        owner: Option<&str>,
    ) -> Result<UploadId> {
        let id = UploadId::random();
        self.store.create_upload(repository, id, algorithm, owner)?;
        Ok(id)
    }

    /// Looks whether a session may be a user's to go on with: their own, or one that nobody is
    /// known to have opened.
    ///
    /// # Errors
    /// [`Error::UploadUnknown`] where it is another's.
    pub(crate) fn check_upload_owner(
        &self,
        repository: &Repository,
        id: UploadId,
        user: &str,
    ) -> Result<()> {
        match self.store.upload_owner(repository, id)? {
            Some(owner) if *owner != *user => Err(Error::UploadUnknown(id)),
            Some(_) | None => Ok(()),
        }
    }

    /// How many bytes a session safely holds.
    ///
    /// # Errors
    /// [`Error::UploadUnknown`], also where the session is another repository's.
    pub(crate) fn upload_offset(&self, repository: &Repository, id: UploadId) -> Result<u64> {
        self.store
            .upload_offset(repository, id)?
            .ok_or(Error::UploadUnknown(id))
    }

    /// Begins to append to a session, at the end of what it safely holds; `first` is where the
    /// caller believes that to be, if they said so.
    ///
    /// # Errors
    /// [`Error::UploadUnknown`]; [`Error::UploadBusy`] while another writes;
    /// [`Error::WrongOffset`].
    pub(crate) fn open_upload_writer(
        &self,
        repository: &Repository,
        id: UploadId,
        first: Option<u64>,
    ) -> Result<UploadWriter> {
        let Some(turn) = upload_locks::try_lock(&self.upload_locks, id) else {
            let held = self.upload_offset(repository, id)?;
            return Err(Error::UploadBusy { offset: held });
        };
        let upload = self
            .store
            .resume_upload(repository, id)?
            .ok_or(Error::UploadUnknown(id))?;
        let held = upload.durable_offset();
        if first.is_some_and(|first| first != held) {
            return Err(Error::WrongOffset { offset: held });
        }
        let (registry, repository) = (self.clone(), repository.clone());
        Ok(UploadWriter {
            registry,
            repository,
            id,
            ingest: upload,
            lock: turn,
        })
    }

    /// Ends a session without a blob.
    ///
    /// # Errors
    /// [`Error::UploadUnknown`]; [`Error::UploadBusy`] while somebody writes to it.
    pub(crate) fn cancel_upload(&self, repository: &Repository, id: UploadId) -> Result<()> {
        let Some(_turn) = upload_locks::try_lock(&self.upload_locks, id) else {
            let held = self.upload_offset(repository, id)?;
            return Err(Error::UploadBusy { offset: held });
        };
        match self.store.cancel_upload(repository, id)? {
            true => Ok(()),
            false => Err(Error::UploadUnknown(id)),
        }
    }
}

impl UploadWriter {
    /// How many bytes the session holds, with those just appended.
    pub(crate) fn offset(&self) -> u64 {
        self.ingest.offset()
    }

    /// How many of those bytes are not kept.
    pub(crate) fn unsynced_bytes(&self) -> u64 {
        self.ingest.unsynced_bytes()
    }

    /// Becomes true once another request wants to write to the session.
    pub(crate) fn contended_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(self.lock.contended_flag())
    }

    /// Appends bytes. When this fails, all that was not kept is gone.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.ingest.write(bytes)?)
    }

    /// Makes durable what was appended.
    pub(crate) fn sync(&mut self) -> Result<()> {
        Ok(self.registry.store.sync_ingest(&mut self.ingest)?)
    }

    /// Forgets what was appended and not kept.
    pub(crate) fn roll_back(&mut self) {
        self.ingest.roll_back();
    }

    /// Ends the session: its repository holds the blob from now on.
    ///
    /// # Errors
    /// [`Error::DigestMismatch`]; the session and its bytes are gone then.
    pub(crate) fn commit(self, expected: &Digest) -> Result<()> {
        let Self {
            registry,
            repository,
            id,
            ingest: upload,
            lock: turn,
        } = self;
        let store = &registry.store;
        let sealed = upload.seal(expected.algorithm())?;
        if sealed.digest() != expected {
            store.cancel_upload(&repository, id)?;
            return Err(Error::DigestMismatch {
                expected: expected.clone(),
                actual: sealed.digest().clone(),
            });
        }
        let _hold = registry.lock_digests([expected.clone()]);
        let link = expected.to_string();
        store.commit_ingest(
            &sealed,
            &[(ObjectKey::LayerLink(&repository, expected), link.as_bytes())],
        )?;
        registry.claim_blob(&repository, expected)?;
        if let Err(error) = store.delete_finished_upload(&repository, id) {
            tracing::warn!(%id, %error, "what is left of a finished upload stays");
        }
        drop(turn);
        registry
            .diff_id_queue
            .push(DiffIdJob::Blob(repository, expected.clone()));
        Ok(())
    }
}
