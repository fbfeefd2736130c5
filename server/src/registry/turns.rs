//! One writer at a time for each upload session.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use imgsync_oci::endpoint::UploadId;

/// The sessions that are being written to, each with whether another writer came meanwhile.
#[derive(Default)]
pub(super) struct Turns(Mutex<HashMap<UploadId, Arc<AtomicBool>>>);

/// The right to write to a session, until it is dropped.
pub(super) struct Turn {
    turns: Arc<Turns>,
    id: UploadId,
    wanted: Arc<AtomicBool>,
}

/// Takes the turn; `None` where another has it, who is told that it is wanted.
pub(super) fn take(turns: &Arc<Turns>, id: UploadId) -> Option<Turn> {
    let mut taken = turns.0.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(wanted) = taken.get(&id) {
        wanted.store(true, Ordering::Relaxed);
        return None;
    }
    let wanted = Arc::new(AtomicBool::new(false));
    taken.insert(id, Arc::clone(&wanted));
    Some(Turn {
        turns: Arc::clone(turns),
        id,
        wanted,
    })
}

impl Turn {
    /// Set once another writer came.
    pub(super) fn wanted(&self) -> &Arc<AtomicBool> {
        &self.wanted
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut taken = self.turns.0.lock().unwrap_or_else(PoisonError::into_inner);
        taken.remove(&self.id);
    }
}
