//! Measures how much the storage holds: once at a time, with a low priority, and not again while the
//! last measurement is recent for how long it took.
//!
//! Requests of clients use the last measurement, and never wait for one. Start reading at
//! [`StorageMeter`].

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::low_priority::with_low_priority;
use crate::registry::{DiskSample, Registry, StorageUsage, Walk};
use crate::wall_clock::unix_now;

/// How many repositories a measurement lists at least, the largest ones. Each takes about 100 bytes.
const LISTED_REPOSITORIES: usize = 10_000;
/// A measurement that took at least this long is used again.
const MIN_REUSED_DURATION: Duration = Duration::from_secs(1);
/// For how many times its own duration a measurement is used again, so that a program that asks all
/// the time does not keep the disk busy.
const REUSE_FACTOR: u32 = 20;
/// For how long the background job uses every measurement again.
const MIN_REFRESH_AGE: Duration = Duration::from_secs(5);

/// A measurement of the storage that is complete.
#[derive(Debug)]
pub(crate) struct StorageMeasurement {
    pub(crate) usage: StorageUsage,
    /// The sums for the history, with the time when the measurement ended.
    pub(crate) sample: DiskSample,
    /// Number of open upload sessions.
    pub(crate) open_uploads: u64,
    /// The most repositories that were to be listed.
    limit: usize,
    ended: Instant,
    /// How long it took.
    duration: Duration,
}

impl StorageMeasurement {
    fn lists(&self, limit: usize) -> bool {
        self.limit >= limit || self.usage.largest.len() < self.limit
    }

    /// Returns for how long the background job takes no other measurement.
    pub(crate) fn refresh_age(&self) -> Duration {
        MIN_REFRESH_AGE.max(self.duration * REUSE_FACTOR)
    }

    fn is_reusable(&self, limit: usize) -> bool {
        let is_slow = self.duration >= MIN_REUSED_DURATION;
        is_slow && self.lists(limit) && self.ended.elapsed() < self.duration * REUSE_FACTOR
    }

    fn is_stale(&self) -> bool {
        self.ended.elapsed() >= self.refresh_age()
    }
}

/// Measures the storage, and keeps the last measurement.
#[derive(Default)]
pub(crate) struct StorageMeter {
    /// Held while the storage is measured.
    running: Mutex<()>,
    last: Mutex<Option<Arc<StorageMeasurement>>>,
    requested: Notify,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl StorageMeter {
    /// Returns the last measurement; `None` before the first one. Does no I/O. If it is not recent,
    /// the background job takes another one, for a later call.
    pub(crate) fn latest(&self) -> Option<Arc<StorageMeasurement>> {
        let last = lock(&self.last).clone();
        if last.as_ref().is_none_or(|last| last.is_stale()) {
            self.requested.notify_one();
        }
        last
    }

    /// Waits until a measurement is wanted.
    pub(crate) async fn wait_for_request(&self) {
        self.requested.notified().await;
    }

    /// Measures the storage for the background job, unless the last measurement is recent. Blocks for
    /// as long as that takes.
    ///
    /// # Errors
    /// Returns the reason for which the storage cannot be measured.
    pub(crate) fn refresh(&self, registry: &Registry) -> Result<Arc<StorageMeasurement>, String> {
        let _running = lock(&self.running);
        if let Some(last) = lock(&self.last).clone().filter(|last| !last.is_stale()) {
            return Ok(last);
        }
        self.replace(measure(registry, LISTED_REPOSITORIES, &|| false)?)
    }

    /// Measures the storage, with the `limit` largest repositories, unless the last measurement took
    /// long and is recent. Blocks for as long as that takes. Waits for a measurement that is running.
    ///
    /// # Errors
    /// Returns the reason for which the storage cannot be measured.
    pub(crate) fn measure(
        &self,
        registry: &Registry,
        limit: usize,
        is_gone: &(dyn Fn() -> bool + Sync),
    ) -> Result<Arc<StorageMeasurement>, String> {
        let _running = lock(&self.running);
        let last = lock(&self.last).clone();
        if let Some(last) = last.filter(|last| last.is_reusable(limit)) {
            return Ok(last);
        }
        self.replace(measure(registry, limit.max(LISTED_REPOSITORIES), is_gone)?)
    }

    fn replace(&self, measured: StorageMeasurement) -> Result<Arc<StorageMeasurement>, String> {
        let measured = Arc::new(measured);
        *lock(&self.last) = Some(Arc::clone(&measured));
        Ok(measured)
    }
}

/// Measures the storage on a thread with a low priority.
fn measure(
    registry: &Registry,
    limit: usize,
    is_gone: &(dyn Fn() -> bool + Sync),
) -> Result<StorageMeasurement, String> {
    let begun = Instant::now();
    let measure = || {
        let walk = Walk::new(u64::MAX, is_gone);
        let usage = registry.measure_storage(limit, &walk)?;
        let uploads = registry.summarize_uploads(&walk)?;
        let trash = registry.summarize_trash(Duration::ZERO, &walk)?;
        let space = registry.disk_space()?;
        let sample = DiskSample {
            time: unix_now(),
            total: space.total,
            free: space.free,
            blobs: usage.blob_bytes,
            uploads: uploads.bytes,
            trash: trash.bytes,
            unlinked: usage.unlinked_bytes,
            untagged: usage.untagged_bytes,
        };
        Ok::<_, crate::registry::Error>((usage, sample, uploads.count))
    };
    let measured = with_low_priority("the measurement of the storage", measure)?;
    let (usage, sample, open_uploads) = measured.map_err(|error| error.to_string())?;
    Ok(StorageMeasurement {
        usage,
        sample,
        open_uploads,
        limit,
        ended: Instant::now(),
        duration: begun.elapsed(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measurement(limit: usize, duration: Duration) -> StorageMeasurement {
        StorageMeasurement {
            usage: StorageUsage::default(),
            sample: DiskSample::default(),
            open_uploads: 0,
            limit,
            ended: Instant::now(),
            duration,
        }
    }

    #[test]
    fn only_a_slow_measurement_is_used_again_by_a_command() {
        let slow = measurement(20, Duration::from_secs(100));
        // Fewer repositories than the limit, so all are listed.
        assert!(slow.is_reusable(20) && slow.is_reusable(50));
        assert!(!measurement(20, Duration::from_millis(10)).is_reusable(20));
        let full = measurement(0, Duration::from_secs(100));
        assert!(full.is_reusable(0) && !full.is_reusable(1));
    }

    #[tokio::test]
    async fn the_first_look_asks_for_a_measurement_and_the_next_one_gets_it() {
        let root = tempfile::tempdir().unwrap();
        let registry = Registry::open(root.path()).unwrap();
        let meter = StorageMeter::default();
        assert!(meter.latest().is_none());
        meter.wait_for_request().await;
        let measured = meter.refresh(&registry).unwrap();
        assert!(Arc::ptr_eq(&meter.refresh(&registry).unwrap(), &measured));
        assert!(Arc::ptr_eq(&meter.latest().unwrap(), &measured));
        assert!(measured.sample.total >= measured.sample.free);
    }
}
