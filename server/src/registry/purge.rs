//! Removes old upload sessions.
//!
//! When the purge runs is decided by its callers. Start reading at [`Registry::purge_uploads`].

use std::time::SystemTime;

use imgsync_oci::Repository;
use imgsync_oci::endpoint::UploadId;

use super::Registry;
use super::error::Result;
use super::upload_locks;
use crate::store::{ListScope, Walk};

impl Registry {
    /// Removes the state files that were last written before `before` and whose session is gone,
    /// for example because a stock registry finished it.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub(crate) fn delete_orphaned_upload_states(&self, before: SystemTime) -> Result<()> {
        Ok(self.store.delete_orphaned_upload_states(before)?)
    }

    /// Cancels the sessions that were opened before `before`, except those that are being written
    /// to; returns how many. A dry run only logs them.
    ///
    /// # Errors
    /// [`Error::Store`]. The sessions after the failed one are left for the next purge.
    pub(crate) fn purge_uploads(&self, before: SystemTime, is_dry_run: bool) -> Result<usize> {
        let mut count = 0;
        for repository in self.repositories(ListScope::RepositoriesWithUploads, &Walk::unbounded())
        {
            let repository = repository?;
            for id in self.store.uploads(&repository) {
                let is_purged = self.purge_upload(&repository, id?, before, is_dry_run)?;
                count += usize::from(is_purged);
            }
        }
        Ok(count)
    }

    fn purge_upload(
        &self,
        repository: &Repository,
        id: UploadId,
        before: SystemTime,
        is_dry_run: bool,
    ) -> Result<bool> {
        let started_at = self.store.upload_started_at(repository, id)?;
        if started_at.is_none_or(|time| time >= before) {
            return Ok(false);
        }
        let Some(_lock) = upload_locks::try_lock(&self.upload_locks, id) else {
            return Ok(false);
        };
        if is_dry_run {
            tracing::info!(%repository, %id, "an old upload would be purged");
            return Ok(true);
        }
        tracing::info!(%repository, %id, "purging an old upload");
        let is_cancelled = self.store.cancel_upload(repository, id)?;
        self.forget_upload(id);
        Ok(is_cancelled)
    }
}
