//! Opens, writes, finishes and cancels upload sessions.
//!
//! Start reading at [`UploadWriter`].

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use imgsync_oci::endpoint::UploadId;
use imgsync_oci::{Algorithm, Digest, Repository};

use super::Registry;
use super::diffids::DiffIdJob;
use super::error::{Error, Result};
use super::open_uploads::UploadOwner;
use super::space::UploadClaim;
use super::upload_locks::{self, UploadLock};
use crate::store::{Ingest, ObjectCursor, ObjectKey, SealedIngest};

/// How long a request that writes to a session may take to notice that the session is cancelled. If
/// the client is silent, it waits for the bytes of the client for some seconds.
const MAX_INTERRUPTION_WAIT: Duration = Duration::from_secs(30);
/// How often to look whether it has noticed.
const INTERRUPTION_INTERVAL: Duration = Duration::from_millis(20);

/// The only writer of a session. Bytes that are not synced when the writer is dropped are lost.
pub(crate) struct UploadWriter {
    registry: Registry,
    repository: Repository,
    id: UploadId,
    /// The bytes of the session.
    pub(crate) ingest: Ingest,
    claim: UploadClaim,
    lock: UploadLock,
}

/// An upload session with all its bytes, which match the digest that the client named.
pub(super) struct SealedUpload {
    registry: Registry,
    repository: Repository,
    id: UploadId,
    bytes: SealedIngest,
    claim: UploadClaim,
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
            claim: UploadClaim::open(self, repository, id, offset),
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
        if !self.remove_upload(repository, id)? {
            return Err(Error::UploadUnknown(id));
        }
        Ok(())
    }

    /// Cancels a session, also while a request writes to it or a layer is assembled from it: waits until
    /// that was interrupted.
    /// Returns false if it goes on nevertheless.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub(super) fn interrupt_upload(&self, repository: &Repository, id: UploadId) -> Result<bool> {
        let started_at = Instant::now();
        loop {
            if let Some(_lock) = upload_locks::try_lock_or_interrupt(&self.upload_locks, id) {
                self.remove_upload(repository, id)?;
                return Ok(true);
            }
            self.drop_waiting_assembly(id);
            if started_at.elapsed() >= MAX_INTERRUPTION_WAIT {
                return Ok(false);
            }
            std::thread::sleep(INTERRUPTION_INTERVAL);
        }
    }

    /// Removes a session with its bytes; returns false if there is none. The caller holds its lock.
    pub(super) fn remove_upload(&self, repository: &Repository, id: UploadId) -> Result<bool> {
        let is_removed = self.store.cancel_upload(repository, id)?;
        self.forget_upload(id);
        Ok(is_removed)
    }

    /// Forgets a session that was finished or cancelled.
    pub(super) fn forget_upload(&self, id: UploadId) {
        self.open_uploads.remove(id);
        self.forget_claim(id);
    }
}

impl UploadWriter {
    /// Returns the flag that is set when another request tries to write to the session.
    pub(crate) fn contended_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(self.lock.contended_flag())
    }

    /// Claims room for the next `bytes` bytes. If there is none, removes the session.
    ///
    /// # Errors
    /// [`Error::NoSpace`]; [`Error::UploadUnknown`] if the session is being cancelled;
    /// [`Error::Store`].
    pub(crate) fn claim(&mut self, bytes: u64) -> Result<()> {
        self.check_interruption()?;
        let end = self.ingest.offset().saturating_add(bytes);
        let claimed = self.claim.extend(end);
        claimed.map_err(|error| self.refused(error))
    }

    /// Appends bytes. They are durable after [`UploadWriter::sync`].
    ///
    /// # Errors
    /// [`Error::NoSpace`] if there is no room, which also removes the session and its bytes;
    /// [`Error::UploadUnknown`] if the session is being cancelled; [`Error::Store`].
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.claim(bytes.len() as u64)?;
        let written = self.ingest.write(bytes);
        self.update_claim();
        written.map_err(|error| self.refused(error.into()))
    }

    /// Makes the appended bytes durable.
    ///
    /// # Errors
    /// As [`UploadWriter::write`].
    pub(crate) fn sync(&mut self) -> Result<()> {
        // Another upload of this push may have been refused meanwhile.
        self.claim(0)?;
        let synced = self.ingest.sync();
        self.update_claim();
        synced.map_err(|error| self.refused(error.into()))
    }

    /// Checks that nobody waits to cancel the session.
    fn check_interruption(&self) -> Result<()> {
        if self.lock.is_interrupted() {
            return Err(Error::UploadUnknown(self.id));
        }
        Ok(())
    }

    fn update_claim(&mut self) {
        let (written, kept) = (self.ingest.offset(), self.ingest.durable_offset());
        self.claim.set_written(written, kept);
    }

    /// Removes the session, and the other uploads of this push, if an error says that there is no
    /// room.
    fn refused(&self, error: Error) -> Error {
        self.registry
            .refuse_upload(&self.repository, self.id, error)
    }

    /// Finishes the session: its bytes become a blob of the repository.
    ///
    /// # Errors
    /// As [`UploadWriter::seal`].
    pub(crate) fn commit(self, expected: &Digest) -> Result<()> {
        let upload = self.seal(expected)?;
        let SealedUpload {
            registry,
            repository,
            id,
            ..
        } = &upload;
        let committed = registry.commit_blob(repository, &upload.bytes);
        committed.map_err(|error| registry.refuse_upload(repository, *id, error))?;
        let job = DiffIdJob(repository.clone(), expected.clone());
        if let Err(error) = registry.store.delete_finished_upload(repository, *id) {
            tracing::warn!(%id, %error, "cannot remove the files of a finished upload");
        }
        registry.forget_upload(*id);
        let registry = registry.clone();
        drop(upload);
        registry.diff_id_queue.push(job);
        Ok(())
    }

    /// Makes the bytes durable and checks their digest. Nobody else can write to the session or cancel
    /// it until the result is dropped.
    ///
    /// # Errors
    /// [`Error::DigestMismatch`], and [`Error::NoSpace`] on a full disk, which also remove the session
    /// and its bytes; [`Error::UploadUnknown`] if the session is being cancelled; [`Error::Store`].
    pub(super) fn seal(self, expected: &Digest) -> Result<SealedUpload> {
        self.check_interruption()?;
        let Self {
            registry,
            repository,
            id,
            ingest,
            claim,
            lock,
        } = self;
        let sealed = ingest.seal(expected.algorithm());
        let bytes =
            sealed.map_err(|error| registry.refuse_upload(&repository, id, error.into()))?;
        if bytes.digest() != expected {
            registry.remove_upload(&repository, id)?;
            return Err(Error::DigestMismatch {
                expected: expected.clone(),
                actual: bytes.digest().clone(),
            });
        }
        Ok(SealedUpload {
            registry,
            repository,
            id,
            bytes,
            claim,
            lock,
        })
    }
}

impl SealedUpload {
    /// Returns the ID of the session.
    pub(super) fn id(&self) -> UploadId {
        self.id
    }

    /// Returns the number of bytes.
    pub(super) fn size(&self) -> u64 {
        self.bytes.size()
    }

    /// Returns the flag that is set when somebody waits to cancel the session.
    pub(super) fn interrupted_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(self.lock.interrupted_flag())
    }

    /// Opens the bytes to read them.
    ///
    /// # Errors
    /// [`Error::UploadUnknown`] if another program removed the session; [`Error::Store`].
    pub(super) fn open(&self) -> Result<ObjectCursor> {
        let opened = self
            .registry
            .store
            .open_upload_data(&self.repository, self.id)?;
        let (reader, _) = opened.ok_or(Error::UploadUnknown(self.id))?;
        Ok(ObjectCursor::new(reader, self.size()))
    }

    /// Claims room for a blob of `bytes` bytes that is made from the session.
    ///
    /// # Errors
    /// [`Error::NoSpace`]; [`Error::Store`].
    pub(super) fn claim_result(&self, bytes: u64) -> Result<()> {
        self.claim.extend(self.size().saturating_add(bytes))
    }

    /// Records that `bytes` bytes of the result are on the disk.
    pub(super) fn set_result_written(&mut self, bytes: u64) {
        let kept = self.size();
        self.claim.set_written(kept.saturating_add(bytes), kept);
    }

    /// Removes the session and its bytes.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub(super) fn remove(self) -> Result<()> {
        self.registry.remove_upload(&self.repository, self.id)?;
        Ok(())
    }
}

impl Registry {
    /// Makes sealed bytes a blob of a repository.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub(super) fn commit_blob(&self, repository: &Repository, bytes: &SealedIngest) -> Result<()> {
        let (store, digest) = (&self.store, bytes.digest());
        let _digest_lock = self.lock_digests([digest.clone()]);
        let (key, link) = (ObjectKey::LayerLink(repository, digest), digest.to_string());
        let is_new = store.len(key)?.is_none();
        let was_stored = store.len(ObjectKey::Blob(digest))?.is_some();
        store.commit_ingest(bytes, &[(key, link.as_bytes())])?;
        if is_new {
            self.count_link(repository, digest, bytes.size(), was_stored);
            self.log_blob_link(repository, digest);
        } else if !was_stored {
            self.count_until_next_count(repository, digest, bytes.size());
        }
        self.claim_blob(repository, digest)?;
        self.record_upload(repository);
        Ok(())
    }
}
