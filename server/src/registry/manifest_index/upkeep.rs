//! Marks indexes as complete after pushes, so that no request and no later server has to compare
//! them.
//!
//! This costs a comparison, so it waits until the manifests of the repository no longer change.
//! Start reading at [`Registry::mark_idle_indexes`].

use std::collections::HashMap;
use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use imgsync_oci::Repository;

use super::{MAX_REMEMBERED_REPOSITORIES, MIN_MARKED_MANIFESTS, ManifestIndexState};
use crate::registry::Registry;
use crate::registry::error::{Error, Result};
use crate::store::{self, DerivedLogKey, LinkKind, Walk};

/// How long the manifests of a repository must not have changed.
const MIN_IDLE_TIME: Duration = Duration::from_secs(5);
/// A larger index must be idle for longer: one second for each of so many bytes. They are compared
/// in some 10 ms, so that a repository with regular pushes takes little of the CPU time.
const BYTES_PER_IDLE_SECOND: u64 = 1024 * 1024;
/// The length of the shortest line.
const MIN_LINE_BYTES: usize = 76;

impl ManifestIndexState {
    fn changed(&self) -> MutexGuard<'_, HashMap<Repository, Instant>> {
        self.changed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registry {
    /// Notes that a manifest is added to a repository or removed from it, so that its index is
    /// marked as complete later. If there are too many such repositories, nothing is noted: the
    /// next use of the index, or the next start of the server, compares it.
    pub(in crate::registry) fn note_manifest_change(&self, repository: &Repository) {
        let mut changed = self.manifest_indexes.changed();
        if let Some(time) = changed.get_mut(repository) {
            *time = Instant::now();
        } else if changed.len() < MAX_REMEMBERED_REPOSITORIES {
            changed.insert(repository.clone(), Instant::now());
        }
    }

    /// Completes the indexes of repositories that have not changed for some time, and marks them as
    /// complete. `now` is the time of both clocks. Those for which the walk has ended are completed later. A failure is
    /// only logged: the next use of the index completes it.
    pub(in crate::registry) fn mark_idle_indexes(
        &self,
        (now, now_by_clock): (Instant, SystemTime),
        walk: &Walk<'_>,
    ) {
        let changed = self.manifest_indexes.changed().clone();
        for (repository, changed_at) in changed {
            let idle_time = now.saturating_duration_since(changed_at);
            match self.mark_if_idle(&repository, idle_time, now_by_clock, walk) {
                Ok(false) => continue,
                Ok(true) => {}
                Err(Error::Store(store::Error::WalkEnded)) => return,
                Err(error) => {
                    tracing::warn!(%repository, %error, "cannot complete an index of manifests");
                }
            }
            let mut changed = self.manifest_indexes.changed();
            // The manifests may have changed again meanwhile.
            if changed.get(&repository) == Some(&changed_at) {
                changed.remove(&repository);
            }
        }
    }

    /// Marks the index of a repository that has not changed for `idle_time` as complete, if it is
    /// worth it. Returns false if that must be tried again later.
    fn mark_if_idle(
        &self,
        repository: &Repository,
        idle_time: Duration,
        now: SystemTime,
        walk: &Walk<'_>,
    ) -> Result<bool> {
        let bytes = self.store.log_len(DerivedLogKey::Manifests(repository))?;
        if bytes < (MIN_MARKED_MANIFESTS * MIN_LINE_BYTES) as u64 {
            return Ok(true);
        }
        let needed = MIN_IDLE_TIME + Duration::from_secs(bytes / BYTES_PER_IDLE_SECOND);
        Ok(idle_time >= needed && self.mark_index(repository, now, walk)?)
    }

    /// Completes an index and marks it as complete, if that is possible. Returns false if that must
    /// be tried again later.
    fn mark_index(
        &self,
        repository: &Repository,
        now: SystemTime,
        walk: &Walk<'_>,
    ) -> Result<bool> {
        if !self.store.has_repository(repository)? {
            return Ok(true);
        }
        let _lock = self.lock_index(repository);
        if self.is_index_marked(repository)? {
            return Ok(true);
        }
        let folders = self
            .store
            .link_folders_identity(repository, LinkKind::Revisions)?;
        if !folders.is_settled_at(now) {
            return Ok(false);
        }
        self.complete_index(repository, now, walk).map(|_| true)
    }
}
