//! Locks upload sessions: each has at most one writer.
//!
//! Start reading at [`try_lock`].

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use imgsync_oci::endpoint::UploadId;

/// The locked sessions, each with a flag that says whether another writer tried to lock it.
#[derive(Default)]
pub(super) struct UploadLocks {
    locked: Mutex<HashMap<UploadId, Arc<AtomicBool>>>,
    /// The time of the last search for abandoned sessions that did not find enough.
    pub(super) last_abandoned_scan: Mutex<Option<Instant>>,
}

/// The lock of a session, released on drop.
pub(super) struct UploadLock {
    locks: Arc<UploadLocks>,
    id: UploadId,
    contended: Arc<AtomicBool>,
}

/// Locks a session; `None` if it is locked. In that case, sets the contended flag of the lock.
pub(super) fn try_lock(locks: &Arc<UploadLocks>, id: UploadId) -> Option<UploadLock> {
    let mut locked = locks.locked.lock().unwrap_or_else(PoisonError::into_inner);
    match locked.entry(id) {
        Entry::Occupied(entry) => {
            entry.get().store(true, Ordering::Relaxed);
            None
        }
        Entry::Vacant(entry) => Some(UploadLock::new(locks, id, entry.insert(Arc::default()))),
    }
}

/// Locks a session; `None` if it is locked. Does not set the contended flag.
pub(super) fn try_lock_quietly(locks: &Arc<UploadLocks>, id: UploadId) -> Option<UploadLock> {
    let mut locked = locks.locked.lock().unwrap_or_else(PoisonError::into_inner);
    match locked.entry(id) {
        Entry::Occupied(_) => None,
        Entry::Vacant(entry) => Some(UploadLock::new(locks, id, entry.insert(Arc::default()))),
    }
}

impl UploadLock {
    fn new(locks: &Arc<UploadLocks>, id: UploadId, contended: &Arc<AtomicBool>) -> Self {
        Self {
            locks: Arc::clone(locks),
            id,
            contended: Arc::clone(contended),
        }
    }

    /// Returns the flag that is set when another writer tries to lock the session.
    pub(super) fn contended_flag(&self) -> &Arc<AtomicBool> {
        &self.contended
    }
}

impl Drop for UploadLock {
    fn drop(&mut self) {
        let locked = self.locks.locked.lock();
        let mut locked = locked.unwrap_or_else(PoisonError::into_inner);
        locked.remove(&self.id);
    }
}
