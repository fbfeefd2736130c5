//! Locks upload sessions: each has at most one writer.
//!
//! Start reading at [`try_lock`].

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use imgsync_oci::endpoint::UploadId;

/// The locked sessions, each with a flag that says whether another writer tried to lock it.
#[derive(Default)]
pub(super) struct UploadLocks {
    locked: Mutex<HashMap<UploadId, Arc<AtomicBool>>>,
}

/// The lock of a session, released on drop.
pub(super) struct UploadLock {
    locks: Arc<UploadLocks>,
    id: UploadId,
    contended: Arc<AtomicBool>,
}

/// Locks a session; `None` if it is locked. In that case, sets the contended flag of the lock.
pub(super) fn try_lock(locks: &Arc<UploadLocks>, id: UploadId) -> Option<UploadLock> {
    lock_or_else(locks, id, |contended| {
        contended.store(true, Ordering::Relaxed);
    })
}

/// Locks a session; `None` if it is locked. Does not set the contended flag.
pub(super) fn try_lock_quietly(locks: &Arc<UploadLocks>, id: UploadId) -> Option<UploadLock> {
    lock_or_else(locks, id, |_| {})
}

/// Locks a session, or calls `on_locked` with the contended flag of its lock.
fn lock_or_else(
    locks: &Arc<UploadLocks>,
    id: UploadId,
    on_locked: impl FnOnce(&AtomicBool),
) -> Option<UploadLock> {
    let mut locked = locks.locked.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(contended) = locked.get(&id) {
        on_locked(contended);
        return None;
    }
    let contended = Arc::clone(locked.entry(id).or_default());
    Some(UploadLock {
        locks: Arc::clone(locks),
        id,
        contended,
    })
}

impl UploadLock {
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
