//! One writer at a time for each upload session.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use imgsync_oci::endpoint::UploadId;

/// The sessions that are being written to, each with whether another writer came meanwhile.
#[derive(Default)]
pub(super) struct Turns {
    taken: Mutex<HashMap<UploadId, Arc<AtomicBool>>>,
    /// When sessions that nobody writes to were last looked for, in vain.
    pub(super) looked: Mutex<Option<Instant>>,
}

/// The right to write to a session, until it is dropped.
pub(super) struct Turn {
    turns: Arc<Turns>,
    id: UploadId,
    wanted: Arc<AtomicBool>,
}

/// Takes the turn; `None` where another has it, who is told that it is wanted.
pub(super) fn take(turns: &Arc<Turns>, id: UploadId) -> Option<Turn> {
    let mut taken = turns.taken.lock().unwrap_or_else(PoisonError::into_inner);
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

/// Takes the turn if nobody has it, and disturbs nobody who does.
pub(super) fn take_idle(turns: &Arc<Turns>, id: UploadId) -> Option<Turn> {
    let mut taken = turns.taken.lock().unwrap_or_else(PoisonError::into_inner);
    match taken.entry(id) {
        Entry::Occupied(_) => None,
        Entry::Vacant(place) => {
            let wanted = Arc::clone(place.insert(Arc::default()));
            let turns = Arc::clone(turns);
            Some(Turn { turns, id, wanted })
        }
    }
}

impl Turn {
    /// Set once another writer came.
    pub(super) fn wanted(&self) -> &Arc<AtomicBool> {
        &self.wanted
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut taken = self
            .turns
            .taken
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        taken.remove(&self.id);
    }
}
