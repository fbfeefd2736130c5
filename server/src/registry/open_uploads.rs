//! Limits how many upload sessions are open: in total, and for each user or client address.
//!
//! At the limit a new session replaces an idle one: first one of the owner with the most sessions,
//! so that nobody can take all of them; then one that seems abandoned. Sessions are removed when
//! they are old by [`super::purge`]. Start reading at [`Registry::check_upload_limit`].

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use imgsync_oci::Repository;
use imgsync_oci::endpoint::UploadId;

use super::Registry;
use super::cache::to_unix_seconds;
use super::error::{Error, Result};
use super::upload_locks;
use crate::client_address::ClientAddress;
use crate::store::UploadSummary;
use crate::wall_clock;

/// How long a session must be idle before it may be cancelled to make room for another one of an
/// owner with as many sessions.
const ABANDONED_UPLOAD_AGE: Duration = Duration::from_secs(3600);
/// How long a session without bytes must be idle for that; cancelling it loses no work.
const ABANDONED_EMPTY_UPLOAD_AGE: Duration = Duration::from_secs(600);
/// How long to wait after a search for abandoned sessions that did not find enough.
const ABANDONED_SCAN_INTERVAL: Duration = Duration::from_secs(10);

/// The user or client that opened an upload session.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum UploadOwner {
    /// A user.
    User(Arc<str>),
    /// A client that is not logged in.
    Client(ClientAddress),
    /// A client before the last restart, or one of a stock registry.
    Unknown,
}

impl UploadOwner {
    /// Returns the name of the user.
    pub(super) fn user(&self) -> Option<&str> {
        match self {
            Self::User(name) => Some(name),
            Self::Client(_) | Self::Unknown => None,
        }
    }

    fn of(summary: &UploadSummary) -> Self {
        summary.owner.clone().map_or(Self::Unknown, Self::User)
    }
}

/// An upload session, for people. Times are in Unix seconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OpenUpload {
    pub(crate) id: UploadId,
    pub(crate) repository: Repository,
    /// The user who opened it, if there is one.
    pub(crate) user: Option<Arc<str>>,
    pub(crate) started_at: Option<u64>,
    /// When bytes were last written.
    pub(crate) written_at: Option<u64>,
    /// How many bytes have arrived.
    pub(crate) bytes: u64,
}

/// The open sessions that have a state file, with their owners.
#[derive(Default)]
pub(super) struct OpenUploads {
    /// `None` until the state files are read for the first time.
    owners: Mutex<Option<HashMap<UploadId, UploadOwner>>>,
    /// The time of the last search for abandoned sessions that did not find enough.
    last_abandoned_scan: Mutex<Option<Instant>>,
}

impl OpenUploads {
    fn lock(&self) -> MutexGuard<'_, Option<HashMap<UploadId, UploadOwner>>> {
        self.owners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a session that was created.
    pub(super) fn insert(&self, id: UploadId, owner: UploadOwner) {
        // If the state files have not been read, this one will be.
        if let Some(owners) = &mut *self.lock() {
            owners.insert(id, owner);
        }
    }

    /// Removes a session that was finished or cancelled.
    pub(super) fn remove(&self, id: UploadId) {
        if let Some(owners) = &mut *self.lock() {
            owners.remove(&id);
        }
    }

    /// Returns the sessions of an owner, or all.
    pub(super) fn sessions(&self, of: Option<&UploadOwner>) -> HashSet<UploadId> {
        let owners = self.lock();
        let sessions = owners.iter().flatten();
        let sessions = sessions.filter(|(_, owner)| of.is_none_or(|wanted| *owner == wanted));
        sessions.map(|(id, _)| *id).collect()
    }

    /// Returns the owner of a session, if it is known.
    pub(super) fn owner(&self, id: UploadId) -> Option<UploadOwner> {
        self.lock().as_ref()?.get(&id).cloned()
    }

    fn count(&self, of: Option<&UploadOwner>) -> usize {
        let owners = self.lock();
        let owners = owners.iter().flat_map(HashMap::values);
        owners
            .filter(|owner| of.is_none_or(|wanted| *owner == wanted))
            .count()
    }

    /// Returns the owner with the most sessions, and their number.
    fn greediest(&self) -> Option<(UploadOwner, usize)> {
        let owners = self.lock();
        let mut counts = HashMap::new();
        for owner in owners.iter().flat_map(HashMap::values) {
            *counts.entry(owner).or_default() += 1;
        }
        let greediest = counts.into_iter().max_by_key(|(_, count)| *count);
        greediest.map(|(owner, count)| (owner.clone(), count))
    }

    /// Corrects the table after the state files were listed. `before` are the sessions that it had
    /// before; sessions that were added since may be missing from the list.
    fn reconcile(&self, before: &HashSet<UploadId>, listed: &[UploadSummary]) {
        if let Some(owners) = &mut *self.lock() {
            let ids: HashSet<UploadId> = listed.iter().map(|session| session.id).collect();
            owners.retain(|id, _| ids.contains(id) || !before.contains(id));
        }
    }
}

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
    /// Checks that `owner` may open one more upload session: no owner may have more than three
    /// quarters of `max_uploads`. Makes room for it if there are `max_uploads` already.
    ///
    /// # Errors
    /// [`Error::TooManyOwnUploads`]; [`Error::TooManyUploads`] if no session may be cancelled;
    /// [`Error::Store`].
    pub(crate) fn check_upload_limit(&self, owner: &UploadOwner, max_uploads: usize) -> Result<()> {
        self.load_open_uploads()?;
        let open = &self.open_uploads;
        let max_own_uploads = max_uploads - max_uploads / 4;
        if open.count(Some(owner)) >= max_own_uploads {
            self.cancel_abandoned_uploads(Some(owner), max_own_uploads)?;
            if open.count(Some(owner)) >= max_own_uploads {
                return Err(Error::TooManyOwnUploads);
            }
        }
        if open.count(None) < max_uploads {
            return Ok(());
        }
        self.cancel_greediest_uploads(owner, max_uploads)?;
        if open.count(None) >= max_uploads {
            self.cancel_abandoned_uploads(None, max_uploads)?;
            if open.count(None) >= max_uploads {
                return Err(Error::TooManyUploads);
            }
        }
        Ok(())
    }

    /// Returns the open sessions, in no order.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub(crate) fn list_open_uploads(&self) -> Result<Vec<OpenUpload>> {
        self.load_open_uploads()?;
        let mut uploads = Vec::new();
        for id in self.open_uploads.sessions(None) {
            let Some(UploadSummary {
                repository, owner, ..
            }) = self.store.upload_summary(id)?
            else {
                continue;
            };
            let started_at = self.store.upload_started_at(&repository, id)?;
            let written_at = self.store.upload_written_at(&repository, id)?;
            uploads.push(OpenUpload {
                bytes: self.store.upload_len(&repository, id)?,
                id,
                user: owner,
                started_at: started_at.map(to_unix_seconds),
                written_at: written_at.map(to_unix_seconds),
                repository,
            });
        }
        Ok(uploads)
    }

    fn load_open_uploads(&self) -> Result<()> {
        let mut owners = self.open_uploads.lock();
        if owners.is_none() {
            let sessions = self.store.list_uploads()?;
            let sessions = sessions.iter();
            *owners = Some(
                sessions
                    .map(|session| (session.id, UploadOwner::of(session)))
                    .collect(),
            );
        }
        Ok(())
    }

    /// Cancels sessions of the owner with the most of them, those first that were idle the longest,
    /// unless `owner` would then have as many.
    fn cancel_greediest_uploads(&self, owner: &UploadOwner, max_uploads: usize) -> Result<()> {
        let open = &self.open_uploads;
        let Some((greediest, count)) = open.greediest() else {
            return Ok(());
        };
        let difference = count.saturating_sub(open.count(Some(owner)) + 1);
        // A few at a time, so that not every request reads the state files.
        let excess = difference.min(max_uploads / 64 + 1);
        if excess == 0 {
            return Ok(());
        }
        let mut sessions = Vec::new();
        for id in open.sessions(Some(&greediest)) {
            match self.store.upload_summary(id)? {
                Some(session) => sessions.push(session),
                None => self.forget_upload(id),
            }
        }
        self.cancel_oldest_uploads(sessions, excess);
        Ok(())
    }

    /// Cancels abandoned sessions, of one owner or of all, the oldest first, until there are a few
    /// less than `max_uploads` of them.
    fn cancel_abandoned_uploads(&self, of: Option<&UploadOwner>, max_uploads: usize) -> Result<()> {
        let open = &self.open_uploads;
        let last_scan = open.last_abandoned_scan.lock();
        let mut last_scan = last_scan.unwrap_or_else(PoisonError::into_inner);
        // A scan reads the state file of each session, and clients may retry at once.
        if last_scan.is_some_and(|time| time.elapsed() < ABANDONED_SCAN_INTERVAL) {
            return Ok(());
        }
        let now = wall_clock::now();
        self.store.delete_orphaned_upload_states(now)?;
        let before = open.sessions(None);
        let mut sessions = self.store.list_uploads()?;
        open.reconcile(&before, &sessions);
        let candidates = open.sessions(of);
        // Cancel some more, so that the next requests need no scan.
        let count = candidates.len() + (max_uploads / 16).max(1);
        let excess = count.saturating_sub(max_uploads);
        sessions.retain(|session| candidates.contains(&session.id) && is_abandoned(session, now));
        let cancelled = self.cancel_oldest_uploads(sessions, excess);
        *last_scan = (cancelled < excess).then(Instant::now);
        Ok(())
    }

    /// Cancels all abandoned sessions, because the disk is full. Returns how many.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub(super) fn cancel_all_abandoned_uploads(&self, now: SystemTime) -> Result<usize> {
        let mut sessions = self.store.list_uploads()?;
        sessions.retain(|session| !session.is_empty && is_abandoned(session, now));
        let count = sessions.len();
        Ok(self.cancel_oldest_uploads(sessions, count))
    }

    /// Cancels up to `count` sessions, those first that were idle the longest, except those that
    /// are being written to. Returns how many were cancelled.
    fn cancel_oldest_uploads(&self, mut sessions: Vec<UploadSummary>, count: usize) -> usize {
        sessions.sort_by_key(|session| session.modified_at);
        let mut cancelled = 0;
        for session in &sessions {
            if cancelled == count {
                break;
            }
            cancelled += usize::from(self.cancel_idle_upload(session));
        }
        cancelled
    }

    /// Cancels a session to make room for another one; returns false if it is being written to, or
    /// cannot be cancelled.
    pub(super) fn cancel_idle_upload(
        &self,
        UploadSummary { repository, id, .. }: &UploadSummary,
    ) -> bool {
        let Some(_lock) = upload_locks::try_lock_quietly(&self.upload_locks, *id) else {
            return false;
        };
        match self.store.cancel_upload(repository, *id) {
            Ok(is_cancelled) => {
                self.forget_upload(*id);
                if is_cancelled {
                    tracing::info!(%repository, %id, "cancelled an idle upload to make room");
                }
                is_cancelled
            }
            Err(error) => {
                tracing::warn!(%repository, %id, %error, "cannot cancel an upload");
                false
            }
        }
    }
}
