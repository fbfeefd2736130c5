//! Upload sessions that nobody goes on with.

use std::ops::ControlFlow;
use std::sync::PoisonError;
use std::time::{Duration, Instant, SystemTime};

use imgsync_oci::Repository;
use imgsync_oci::endpoint::UploadId;

use super::Registry;
use super::error::{Error, Result};
use super::upload_locks;
use crate::store::{ListScope, UploadSummary};

/// How many names of repositories are held at a time.
const REPOSITORY_PAGE_SIZE: usize = 100;

/// How long nothing must have come to a session before it may end for another one's sake.
const ABANDONED_UPLOAD_AGE: Duration = Duration::from_secs(3600);
/// The same for one that holds nothing, so that nothing is lost.
const ABANDONED_EMPTY_UPLOAD_AGE: Duration = Duration::from_secs(600);
/// The time between two looks for such sessions, where there are too few.
const ABANDONED_SCAN_INTERVAL: Duration = Duration::from_secs(10);

fn is_abandoned(session: &UploadSummary, now: SystemTime) -> bool {
    let limit = match session.is_empty {
        true => ABANDONED_EMPTY_UPLOAD_AGE,
        false => ABANDONED_UPLOAD_AGE,
    };
    // A clock that was set back says nothing.
    now.duration_since(session.modified_at)
        .is_ok_and(|idle| idle > limit)
}

impl Registry {
    /// Looks whether one more upload session may be opened.
    ///
    /// # Errors
    /// [`Error::TooManyUploads`] where there are `most` already.
    pub(crate) fn check_upload_limit(&self, most: usize) -> Result<()> {
        if self.store.count_uploads(most)? < most {
            return Ok(());
        }
        self.cancel_abandoned_uploads(most)?;
        match self.store.count_uploads(most)? < most {
            true => Ok(()),
            false => Err(Error::TooManyUploads),
        }
    }

    /// Ends sessions that were abandoned, the oldest first and not more than there is need for:
    /// they must not keep everyone else out.
    fn cancel_abandoned_uploads(&self, most: usize) -> Result<()> {
        let looked = self.upload_locks.last_abandoned_scan.lock();
        let mut looked = looked.unwrap_or_else(PoisonError::into_inner);
        // Every session's file is read, and whoever is refused may come again at once.
        if looked.is_some_and(|looked| looked.elapsed() < ABANDONED_SCAN_INTERVAL) {
            return Ok(());
        }
        let now = SystemTime::now();
        self.store.delete_orphaned_upload_states(now)?;
        let mut sessions = self.store.list_uploads()?;
        // Some more, so that the next one need not look.
        let mut excess = (sessions.len() + (most / 16).max(1)).saturating_sub(most);
        sessions.sort_by_key(|session| session.modified_at);
        for session in sessions.iter().filter(|session| is_abandoned(session, now)) {
            if excess == 0 {
                break;
            }
            let UploadSummary { repository, id, .. } = session;
            let Some(_turn) = upload_locks::try_lock_quietly(&self.upload_locks, *id) else {
                continue;
            };
            match self.store.cancel_upload(repository, *id) {
                Ok(true) => {
                    tracing::info!(%repository, %id, "an abandoned upload ends: there are too many");
                    excess -= 1;
                }
                Ok(false) => {}
                Err(error) => tracing::warn!(%repository, %id, %error, "an upload cannot be ended"),
            }
        }
        *looked = (excess > 0).then(Instant::now);
        Ok(())
    }

    /// Forgets sessions that are gone, a stock registry having ended them, of before a moment.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) fn delete_orphaned_upload_states(&self, before: SystemTime) -> Result<()> {
        Ok(self.store.delete_orphaned_upload_states(before)?)
    }

    /// Ends the sessions that began before a moment, but for those that are being written to;
    /// yields how many. With `is_dry_run` it only tells which it would end.
    ///
    /// # Errors
    /// Those of the store; what comes after the one that failed is left for the next time.
    pub(crate) fn purge_uploads(&self, before: SystemTime, is_dry_run: bool) -> Result<usize> {
        let (mut after, mut count) = (String::new(), 0);
        loop {
            let names = self.store.list(
                ListScope::RepositoriesWithUploads,
                &after,
                REPOSITORY_PAGE_SIZE,
            )?;
            for name in &names {
                if let Ok(repository) = name.parse() {
                    count += self.purge_repository_uploads(&repository, before, is_dry_run)?;
                }
            }
            match names.last() {
                Some(last) => after.clone_from(last),
                None => break,
            }
        }
        Ok(count)
    }

    fn purge_repository_uploads(
        &self,
        repository: &Repository,
        before: SystemTime,
        is_dry_run: bool,
    ) -> Result<usize> {
        let (mut count, mut result) = (0, Ok(()));
        self.store.for_each_upload(repository, &mut |id| match self
            .purge_upload(repository, id, before, is_dry_run)
        {
            Ok(is_purged) => {
                count += usize::from(is_purged);
                ControlFlow::Continue(())
            }
            Err(error) => {
                result = Err(error);
                ControlFlow::Break(())
            }
        })?;
        result.map(|()| count)
    }

    fn purge_upload(
        &self,
        repository: &Repository,
        id: UploadId,
        before: SystemTime,
        is_dry_run: bool,
    ) -> Result<bool> {
        let began = self.store.upload_started_at(repository, id)?;
        if began.is_none_or(|began| began >= before) {
            return Ok(false);
        }
        let Some(_turn) = upload_locks::try_lock(&self.upload_locks, id) else {
            return Ok(false);
        };
        if is_dry_run {
            tracing::info!(%repository, %id, "an old upload would be purged");
            return Ok(true);
        }
        tracing::info!(%repository, %id, "an old upload is purged");
        Ok(self.store.cancel_upload(repository, id)?)
    }
}
