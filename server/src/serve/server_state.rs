//! Facts about the running server that commands of the operator need.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::registry::StorageUsage;
use crate::upstream::Upstreams;
use crate::wall_clock::unix_now;

/// The state of the running server, apart from its registry and its configuration.
pub(super) struct ServerState {
    /// When the server started, in Unix seconds.
    pub(super) started_at: u64,
    pub(super) upstreams: Upstreams,
    pub(super) collection_schedule: Arc<CollectionSchedule>,
    last_measurement: Mutex<Option<UsageMeasurement>>,
}

/// When the next garbage collection begins.
#[derive(Default)]
pub(super) struct CollectionSchedule {
    /// In Unix seconds; 0 if none is planned.
    next: AtomicU64,
}

/// A measurement of the storage that is complete.
pub(super) struct UsageMeasurement {
    pub(super) usage: StorageUsage,
    /// The most repositories that were to be listed.
    pub(super) limit: usize,
    /// When it ended, in Unix seconds.
    pub(super) ended_at: u64,
    pub(super) ended: Instant,
    /// How long it took.
    pub(super) duration: Duration,
}

impl ServerState {
    pub(super) fn new(upstreams: Upstreams) -> Self {
        Self {
            started_at: unix_now(),
            upstreams,
            collection_schedule: Arc::default(),
            last_measurement: Mutex::default(),
        }
    }

    /// Returns the last measurement of the storage, to read or to replace. Waits for a measurement
    /// that is running, so that there is only one at a time.
    pub(super) fn lock_measurement(&self) -> MutexGuard<'_, Option<UsageMeasurement>> {
        let measurement = self.last_measurement.lock();
        measurement.unwrap_or_else(PoisonError::into_inner)
    }
}

impl CollectionSchedule {
    /// Plans the next collection after this time; `None` if there is none.
    pub(super) fn set(&self, wait: Option<Duration>) {
        let next = wait.map_or(0, |wait| unix_now().saturating_add(wait.as_secs()));
        self.next.store(next, Ordering::Relaxed);
    }

    /// Returns when the next collection begins, in Unix seconds.
    pub(super) fn next(&self) -> Option<u64> {
        Some(self.next.load(Ordering::Relaxed)).filter(|next| *next > 0)
    }
}
