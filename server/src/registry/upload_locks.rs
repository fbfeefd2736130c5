//! Locks upload sessions: each has at most one writer.
//!
//! Start reading at [`try_lock`].

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use imgsync_oci::endpoint::UploadId;

/// The locked sessions, each with what others told its writer.
#[derive(Default)]
pub(super) struct UploadLocks {
    locked: Mutex<HashMap<UploadId, LockFlags>>,
}

/// The requests of others to the writer of a session.
#[derive(Clone, Default)]
struct LockFlags {
    /// Whether another writer tried to lock the session.
    is_contended: Arc<AtomicBool>,
    /// Whether the writer must stop.
    is_interrupted: Arc<AtomicBool>,
}

/// The lock of a session, released on drop.
pub(super) struct UploadLock {
    locks: Arc<UploadLocks>,
    id: UploadId,
    flags: LockFlags,
}

/// Locks a session; `None` if it is locked. In that case, sets the contended flag of the lock.
pub(super) fn try_lock(locks: &Arc<UploadLocks>, id: UploadId) -> Option<UploadLock> {
    lock_or_else(locks, id, |flags| {
        flags.is_contended.store(true, Ordering::Relaxed);
    })
}

/// Locks a session; `None` if it is locked. In that case, the writer must stop.
pub(super) fn try_lock_or_interrupt(locks: &Arc<UploadLocks>, id: UploadId) -> Option<UploadLock> {
    lock_or_else(locks, id, |flags| {
        flags.is_contended.store(true, Ordering::Relaxed);
        flags.is_interrupted.store(true, Ordering::Relaxed);
    })
}

/// Locks a session; `None` if it is locked. Does not set the contended flag.
pub(super) fn try_lock_quietly(locks: &Arc<UploadLocks>, id: UploadId) -> Option<UploadLock> {
    lock_or_else(locks, id, |_| {})
}

/// Locks a session, or calls `on_locked` with the flags of its lock.
fn lock_or_else(
    locks: &Arc<UploadLocks>,
    id: UploadId,
    on_locked: impl FnOnce(&LockFlags),
) -> Option<UploadLock> {
    let mut locked = locks.locked.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(flags) = locked.get(&id) {
        on_locked(flags);
        return None;
    }
    let flags = locked.entry(id).or_default().clone();
    Some(UploadLock {
        locks: Arc::clone(locks),
        id,
        flags,
    })
}

impl UploadLock {
    /// Returns the flag that is set when another writer tries to lock the session.
    pub(super) fn contended_flag(&self) -> &Arc<AtomicBool> {
        &self.flags.is_contended
    }

    /// Returns the flag that is set when the writer must stop.
    pub(super) fn interrupted_flag(&self) -> &Arc<AtomicBool> {
        &self.flags.is_interrupted
    }

    /// Returns whether the writer must stop.
    pub(super) fn is_interrupted(&self) -> bool {
        self.flags.is_interrupted.load(Ordering::Relaxed)
    }
}

impl Drop for UploadLock {
    fn drop(&mut self) {
        let locked = self.locks.locked.lock();
        let mut locked = locked.unwrap_or_else(PoisonError::into_inner);
        locked.remove(&self.id);
    }
}
