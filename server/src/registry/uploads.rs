//! Upload sessions, and what becomes of them.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use imgsync_oci::endpoint::UploadId;
use imgsync_oci::{Algorithm, Digest, Repository};

use super::Registry;
use super::diffids::Job;
use super::error::{Error, Result};
use super::turns::{self, Turn};
use crate::store::{Key, Upload};

/// The right to append to a session. Bytes count once they are kept; those that are not kept when
/// this is dropped are gone.
pub(crate) struct Append {
    registry: Registry,
    repository: Repository,
    id: UploadId,
    upload: Upload,
    turn: Turn,
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
        self.store.open_upload(repository, id, algorithm, owner)?;
        Ok(id)
    }

    /// Looks whether a session may be a user's to go on with: their own, or one that nobody is
    /// known to have opened.
    ///
    /// # Errors
    /// [`Error::UploadUnknown`] where it is another's.
    pub(crate) fn check_owner(
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
    pub(crate) fn append(
        &self,
        repository: &Repository,
        id: UploadId,
        first: Option<u64>,
    ) -> Result<Append> {
        let Some(turn) = turns::take(&self.turns, id) else {
            let held = self.upload_offset(repository, id)?;
            return Err(Error::UploadBusy { held });
        };
        let upload = self
            .store
            .append(repository, id)?
            .ok_or(Error::UploadUnknown(id))?;
        let held = upload.kept();
        if first.is_some_and(|first| first != held) {
            return Err(Error::WrongOffset { held });
        }
        let (registry, repository) = (self.clone(), repository.clone());
        Ok(Append {
            registry,
            repository,
            id,
            upload,
            turn,
        })
    }

    /// Ends a session without a blob.
    ///
    /// # Errors
    /// [`Error::UploadUnknown`]; [`Error::UploadBusy`] while somebody writes to it.
    pub(crate) fn cancel_upload(&self, repository: &Repository, id: UploadId) -> Result<()> {
        let Some(_turn) = turns::take(&self.turns, id) else {
            let held = self.upload_offset(repository, id)?;
            return Err(Error::UploadBusy { held });
        };
        match self.store.cancel_upload(repository, id)? {
            true => Ok(()),
            false => Err(Error::UploadUnknown(id)),
        }
    }
}

impl Append {
    /// How many bytes the session holds, with those just appended.
    pub(crate) fn offset(&self) -> u64 {
        self.upload.offset()
    }

    /// How many of those bytes are not kept.
    pub(crate) fn unkept(&self) -> u64 {
        self.upload.offset() - self.upload.kept()
    }

    /// Becomes true once another request wants to write to the session.
    pub(crate) fn wanted(&self) -> Arc<AtomicBool> {
        Arc::clone(self.turn.wanted())
    }

    /// Appends bytes. When this fails, all that was not kept is gone.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.registry.store.write(&mut self.upload, bytes)?)
    }

    /// Makes durable what was appended.
    pub(crate) fn keep(&mut self) -> Result<()> {
        Ok(self.registry.store.keep(&mut self.upload)?)
    }

    /// Forgets what was appended and not kept.
    pub(crate) fn undo(&mut self) {
        self.registry.store.undo(&mut self.upload);
    }

    /// Ends the session: its repository holds the blob from now on.
    ///
    /// # Errors
    /// [`Error::DigestMismatch`]; the session and its bytes are gone then.
    pub(crate) fn finish(self, expected: &Digest) -> Result<()> {
        let Self {
            registry,
            repository,
            id,
            upload,
            turn,
        } = self;
        let store = &registry.store;
        let sealed = store.seal(upload, expected.algorithm())?;
        if sealed.digest() != expected {
            store.cancel_upload(&repository, id)?;
            return Err(Error::DigestMismatch {
                expected: expected.clone(),
                actual: sealed.digest().clone(),
            });
        }
        let _hold = registry.hold([expected.clone()]);
        let link = expected.to_string();
        store.commit(
            &sealed,
            &[(Key::Layer(&repository, expected), link.as_bytes())],
        )?;
        registry.promote_blob(&repository, expected)?;
        if let Err(error) = store.forget_upload(&repository, id) {
            tracing::warn!(%id, %error, "what is left of a finished upload stays");
        }
        drop(turn);
        registry
            .diff_ids
            .note(Job::Blob(repository, expected.clone()));
        Ok(())
    }
}
