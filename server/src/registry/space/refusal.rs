//! Removes the bytes of a push that was refused because there is no room for it.
//!
//! A client sends several layers at the same time. If one of them is refused, the push fails, and
//! nobody continues the others. So the sessions of the same owner in the repository go together.
//! Start reading at [`Registry::refuse_upload`].

use imgsync_oci::Repository;
use imgsync_oci::endpoint::UploadId;

use super::super::Registry;
use super::super::error::Error;
use super::super::open_uploads::UploadOwner;
use super::SpaceShortage;
use crate::store;

impl Registry {
    /// Forgets the claim of a session that was finished or cancelled.
    pub(in crate::registry) fn forget_claim(&self, id: UploadId) {
        self.space.ledger().remove(id);
    }

    /// Removes a session, and the other uploads of its push, if an error says that there is no room
    /// for it. Returns the error for the client. The caller holds the lock of the session.
    pub(in crate::registry) fn refuse_upload(
        &self,
        repository: &Repository,
        id: UploadId,
        error: Error,
    ) -> Error {
        let error = self.with_remedy(error);
        if let Error::NoSpace { shortage, .. } = &error {
            self.cancel_refused_push(repository, id, shortage);
        }
        error
    }

    /// Returns the error for the client if the disk is full.
    pub(in crate::registry) fn with_remedy(&self, error: Error) -> Error {
        if !matches!(error, Error::Store(store::Error::Full { .. })) {
            return error;
        }
        tracing::error!(%error, "the disk is full");
        match self.store.disk_space() {
            Ok(disk) => self.no_space(SpaceShortage::Disk {
                lacking: 0,
                free: disk.free,
                reserve: self.reserve_bytes(disk),
            }),
            Err(_) => error,
        }
    }

    /// Removes a session that was refused, and the other uploads of its push. A failure is only
    /// logged: the bytes are then left to the purge.
    fn cancel_refused_push(&self, repository: &Repository, id: UploadId, shortage: &SpaceShortage) {
        let owner = self.open_uploads.owner(id);
        if let Err(error) = self.remove_upload(repository, id) {
            tracing::warn!(%repository, %id, %error, "cannot remove a refused upload");
        }
        if let Some(owner) = owner {
            self.cancel_push(repository, &owner, shortage);
        }
    }

    /// Cancels the sessions of an owner in a repository. A session that is being written to is refused
    /// at its next write. A failure is only logged.
    pub(super) fn cancel_push(
        &self,
        repository: &Repository,
        owner: &UploadOwner,
        shortage: &SpaceShortage,
    ) {
        tracing::warn!(%repository, "refused an upload: {shortage}");
        if *owner == UploadOwner::Unknown {
            return;
        }
        for id in self.open_uploads.sessions(Some(owner)) {
            let session = match self.store.upload_summary(id) {
                Ok(Some(session)) => session,
                Ok(None) => continue,
                Err(error) => {
                    tracing::warn!(%repository, %id, %error, "cannot read a refused upload");
                    continue;
                }
            };
            if session.repository == *repository {
                self.space.ledger().revoke(id, shortage);
                self.cancel_idle_upload(&session);
            }
        }
    }
}
