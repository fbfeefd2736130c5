//! The state of the running server that several parts of it share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::StorageMeter;
use crate::events::Events;
use crate::upstream::Upstreams;
use crate::wall_clock::unix_now;

/// The state of the running server, apart from its registry and its configuration.
pub(crate) struct ServerState {
    /// When the server started, in Unix seconds.
    pub(crate) started_at: u64,
    pub(crate) upstreams: Upstreams,
    pub(crate) events: Events,
    pub(crate) collection_schedule: Arc<CollectionSchedule>,
    pub(crate) storage_meter: StorageMeter,
}

/// When the next garbage collection begins.
#[derive(Default)]
pub(crate) struct CollectionSchedule {
    /// In Unix seconds; 0 if none is planned.
    next: AtomicU64,
}

impl ServerState {
    /// Creates the state of a server that starts now.
    pub(crate) fn new(upstreams: Upstreams, events: Events) -> Self {
        Self {
            started_at: unix_now(),
            upstreams,
            events,
            collection_schedule: Arc::default(),
            storage_meter: StorageMeter::default(),
        }
    }
}

impl CollectionSchedule {
    /// Plans the next collection after this time; `None` if there is none.
    pub(crate) fn set(&self, wait: Option<Duration>) {
        let next = wait.map_or(0, |wait| unix_now().saturating_add(wait.as_secs()));
        self.next.store(next, Ordering::Relaxed);
    }

    /// Returns when the next collection begins, in Unix seconds.
    pub(crate) fn next(&self) -> Option<u64> {
        Some(self.next.load(Ordering::Relaxed)).filter(|next| *next > 0)
    }
}
