//! One writer at a time for each upload session.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use imgsync_oci::endpoint::UploadId;

/// The sessions that are being written to, each with whether another writer came meanwhile.
#[derive(Default)]
pub(super) struct UploadLocks {
    locked: Mutex<HashMap<UploadId, Arc<AtomicBool>>>,
    /// When sessions that nobody writes to were last looked for, in vain.
    pub(super) last_abandoned_scan: Mutex<Option<Instant>>,
}

/// The right to write to a session, until it is dropped.
pub(super) struct UploadLock {
    locks: Arc<UploadLocks>,
    id: UploadId,
    contended: Arc<AtomicBool>,
}

/// Takes the turn; `None` where another has it, who is told that it is wanted.
pub(super) fn try_lock(turns: &Arc<UploadLocks>, id: UploadId) -> Option<UploadLock> {
    let mut taken = turns.locked.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(wanted) = taken.get(&id) {
        wanted.store(true, Ordering::Relaxed);
        return None;
    }
    let wanted = Arc::new(AtomicBool::new(false));
    taken.insert(id, Arc::clone(&wanted));
    Some(UploadLock {
        locks: Arc::clone(turns),
        id,
        contended: wanted,
    })
}

/// Takes the turn if nobody has it, and disturbs nobody who does.
pub(super) fn try_lock_quietly(turns: &Arc<UploadLocks>, id: UploadId) -> Option<UploadLock> {
    let mut taken = turns.locked.lock().unwrap_or_else(PoisonError::into_inner);
    match taken.entry(id) {
        Entry::Occupied(_) => None,
        Entry::Vacant(place) => {
            let wanted = Arc::clone(place.insert(Arc::default()));
            let turns = Arc::clone(turns);
            Some(UploadLock {
                locks: turns,
                id,
                contended: wanted,
            })
        }
    }
}

impl UploadLock {
    /// Set once another writer came.
    pub(super) fn contended_flag(&self) -> &Arc<AtomicBool> {
        &self.contended
    }
}

impl Drop for UploadLock {
    fn drop(&mut self) {
        let mut taken = self
            .locks
            .locked
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        taken.remove(&self.id);
    }
}
