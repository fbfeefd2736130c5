//! Removes old and abandoned upload sessions.
//!
//! When the purge runs is decided by its callers. Start reading at [`Registry::purge_uploads`] and
//! [`Registry::check_upload_limit`].

use std::sync::PoisonError;
use std::time::{Duration, Instant, SystemTime};

use imgsync_oci::Repository;
use imgsync_oci::endpoint::UploadId;

use super::Registry;
use super::error::{Error, Result};
use super::upload_locks;
use crate::store::{ListScope, UploadSummary};
use crate::wall_clock;

/// How long a session must be idle before it may be cancelled to make room for another one.
const ABANDONED_UPLOAD_AGE: Duration = Duration::from_secs(3600);
/// How long a session without bytes must be idle for that; cancelling it loses no work.
const ABANDONED_EMPTY_UPLOAD_AGE: Duration = Duration::from_secs(600);
/// How long to wait after a search for abandoned sessions that did not find enough.
const ABANDONED_SCAN_INTERVAL: Duration = Duration::from_secs(10);

fn is_abandoned(session: &UploadSummary, now: SystemTime) -> bool {
    let limit = if session.is_empty {
        ABANDONED_EMPTY_UPLOAD_AGE
    } else {
        ABANDONED_UPLOAD_AGE
    };
    // The age is unknown if the clock was set back.
    now.duration_since(session.modified_at)
        .is_ok_and(|idle| idle > limit)
}

impl Registry {
    /// Checks that one more upload session may be opened; cancels abandoned ones if there are
    /// `max_uploads` already.
    ///
    /// # Errors
    /// [`Error::TooManyUploads`] if not enough of them are abandoned; [`Error::Store`].
    pub(crate) fn check_upload_limit(&self, max_uploads: usize) -> Result<()> {
        if self.store.count_uploads(max_uploads)? < max_uploads {
            return Ok(());
        }
        self.cancel_abandoned_uploads(max_uploads)?;
        if self.store.count_uploads(max_uploads)? >= max_uploads {
            return Err(Error::TooManyUploads);
        }
        Ok(())
    }

    /// Cancels abandoned sessions, the oldest first, until there are a few less than `max_uploads`.
    fn cancel_abandoned_uploads(&self, max_uploads: usize) -> Result<()> {
        let last_scan = self.upload_locks.last_abandoned_scan.lock();
        let mut last_scan = last_scan.unwrap_or_else(PoisonError::into_inner);
        // A scan reads the state file of each session, and clients may retry at once.
        if last_scan.is_some_and(|time| time.elapsed() < ABANDONED_SCAN_INTERVAL) {
            return Ok(());
        }
        let now = wall_clock::now();
        self.store.delete_orphaned_upload_states(now)?;
        let mut sessions = self.store.list_uploads()?;
        // Cancel some more, so that the next requests need no scan.
        let mut excess = (sessions.len() + (max_uploads / 16).max(1)).saturating_sub(max_uploads);
        sessions.sort_by_key(|session| session.modified_at);
        for session in sessions.iter().filter(|session| is_abandoned(session, now)) {
            if excess == 0 {
                break;
            }
            let UploadSummary { repository, id, .. } = session;
            let Some(_lock) = upload_locks::try_lock_quietly(&self.upload_locks, *id) else {
                continue;
            };
            match self.store.cancel_upload(repository, *id) {
                Ok(true) => {
                    tracing::info!(%repository, %id, "cancelled an abandoned upload: too many are open");
                    excess -= 1;
                }
                Ok(false) => {}
                Err(error) => tracing::warn!(%repository, %id, %error, "cannot cancel an upload"),
            }
        }
        *last_scan = (excess > 0).then(Instant::now);
        Ok(())
    }

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
        for repository in self.repositories(ListScope::RepositoriesWithUploads) {
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
        Ok(self.store.cancel_upload(repository, id)?)
    }
}
