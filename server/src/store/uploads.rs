//! Upload sessions: how their ingests are opened, resumed and removed.
//!
//! A session's bytes are stored where the stock registry stores them; its checkpoint is stored in
//! a file of ours. A session without such a file, for example one that a stock registry opened, is
//! hashed again. The writing itself is done by [`Ingest`].

use std::sync::Arc;

use imgsync_oci::endpoint::UploadId;
use imgsync_oci::{Algorithm, Repository};

use super::checkpoint::{Checkpoint, MAX_STATE_BYTES, UploadState};
use super::error::{IoContext, Result};
use super::ingest::{Ingest, IngestKey, hash_prefix};
use super::{Store, rfc3339};
use crate::wall_clock;

impl Store {
    /// Opens a session. It is durable when this returns.
    ///
    /// `algorithm` is that of the digest with which the session is expected to end. `owner` is the
    /// user who opens the session.
    ///
    /// # Errors
    /// Returns the error of the disk. There is no session then.
    pub(crate) fn create_upload(
        &self,
        repository: &Repository,
        id: UploadId,
        algorithm: Algorithm,
        owner: Option<&str>,
    ) -> Result<()> {
        let key = IngestKey::Upload {
            repository: repository.clone(),
            id,
            owner: owner.map(Arc::from),
        };
        let result = self
            .write_new_upload(repository, id)
            .and_then(|()| self.put_ingest_state(&key, &Checkpoint::initial(algorithm)));
        if result.is_err() {
            // A session that cannot be removed now is purged when it is old.
            let _ = self.cancel_upload(repository, id);
        }
        result
    }

    fn write_new_upload(&self, repository: &Repository, id: UploadId) -> Result<()> {
        let folder = self.paths.upload(repository, id);
        self.folders.ensure(&folder)?;
        let started = self.paths.upload_started(repository, id);
        let now = rfc3339::format(wall_clock::now());
        let written = self
            .disk
            .create(&started)
            .and_then(|file| file.write(0, now.as_bytes()));
        written.context("write", &started)?;
        let data = self.paths.upload_data(repository, id);
        self.disk.create(&data).context("write", &data)?;
        self.disk.sync_folder(&folder)
    }

    /// Returns how many durable bytes a session has; `None` if there is no such session.
    pub(crate) fn upload_offset(
        &self,
        repository: &Repository,
        id: UploadId,
    ) -> Result<Option<u64>> {
        let data = self.paths.upload_data(repository, id);
        let len = match self.disk.len(&data)? {
            Some(len) => len,
            None if self.is_empty_upload_open(repository, id)? => 0,
            None => return Ok(None),
        };
        let state = self.read_upload_state(repository, id)?;
        let offset = state.map(|state| state.checkpoint.offset);
        Ok(Some(offset.filter(|offset| *offset <= len).unwrap_or(len)))
    }

    /// Returns the user who opened a session; `None` if unknown, as for a session of a stock
    /// registry.
    pub(crate) fn upload_owner(
        &self,
        repository: &Repository,
        id: UploadId,
    ) -> Result<Option<Arc<str>>> {
        let state = self.read_upload_state(repository, id)?;
        Ok(state.and_then(|state| state.owner))
    }

    /// Whether a session without a data file is open and empty. The other possibility is a session
    /// that had bytes and became a blob.
    fn is_empty_upload_open(&self, repository: &Repository, id: UploadId) -> Result<bool> {
        let state = self.read_upload_state(repository, id)?;
        if state.is_some_and(|state| state.checkpoint.offset > 0) {
            return Ok(false);
        }
        let started = self.paths.upload_started(repository, id);
        self.disk.is_file(&started)
    }

    fn read_upload_state(
        &self,
        repository: &Repository,
        id: UploadId,
    ) -> Result<Option<UploadState>> {
        let json = self.read_file(&self.paths.upload_state(id), MAX_STATE_BYTES)?;
        Ok(json.and_then(|json| UploadState::from_json(&json, repository)))
    }

    /// Opens a session to append to it, at its last checkpoint; `None` if there is no such session.
    pub(crate) fn resume_upload(
        self: &Arc<Self>,
        repository: &Repository,
        id: UploadId,
    ) -> Result<Option<Ingest>> {
        let data = self.paths.upload_data(repository, id);
        let file = match self.disk.open(&data)? {
            Some(file) => file,
            None if self.is_empty_upload_open(repository, id)? => {
                self.disk.create(&data).context("write", &data)?
            }
            None => return Ok(None),
        };
        let len = file.len()?;
        let state = self.read_upload_state(repository, id)?;
        let (state, is_durable) = match state.filter(|state| state.checkpoint.offset <= len) {
            Some(state) => (state, true),
            None => {
                let hasher = hash_prefix(&file, Algorithm::Sha256, len)?;
                let checkpoint = Checkpoint {
                    offset: len,
                    hasher,
                };
                let owner = None;
                (UploadState { checkpoint, owner }, false)
            }
        };
        let key = IngestKey::Upload {
            repository: repository.clone(),
            id,
            owner: state.owner,
        };
        Ingest::resume(self, key, file, state.checkpoint, is_durable).map(Some)
    }

    /// Removes a session and its bytes, durably; returns whether there was one.
    pub(crate) fn cancel_upload(&self, repository: &Repository, id: UploadId) -> Result<bool> {
        let folder = self.paths.upload(repository, id);
        if !self.disk.is_folder(&folder)? {
            return Ok(false);
        }
        self.remove_durably(&folder)?;
        let state = self.paths.upload_state(id);
        self.disk.unlink(&state)?;
        Ok(true)
    }

    /// Removes the remaining files of a session that became a blob. After a crash the session may
    /// seem to be open and empty.
    pub(crate) fn delete_finished_upload(
        &self,
        repository: &Repository,
        id: UploadId,
    ) -> Result<()> {
        for path in [
            self.paths.upload_data(repository, id),
            self.paths.upload_state(id),
        ] {
            self.disk.unlink(&path)?;
        }
        // A stock registry may have put other files into the folder.
        self.remove_all(&self.paths.upload(repository, id))
    }
}
