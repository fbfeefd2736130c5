//! The limits of the cache, and its size.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bound of the grace period while the cache is far above its limit.
const MAX_GRACE_PERIOD_UNDER_PRESSURE: Duration = Duration::from_secs(60);
/// Means that the cached bytes were not counted yet.
const UNKNOWN_SIZE: u64 = u64::MAX;

/// Limits of the cache.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CacheLimits {
    /// Maximum size in bytes; `None` for no limit.
    pub(crate) max_bytes: Option<u64>,
    /// Time without use after which an image expires; `None` for no limit.
    pub(crate) max_unused: Option<Duration>,
    /// Images that were used within this time are never evicted, because a client may be pulling
    /// them.
    pub(crate) grace_period: Duration,
}

impl CacheLimits {
    /// Returns the limits to apply when `cached_bytes` are cached. Far above the limit, and on a
    /// disk that `is_disk_full`, the grace period is shorter, or many concurrent pulls could fill
    /// the disk. A client that is still pulling an evicted image causes it to be fetched again.
    pub(super) fn adjusted_for_pressure(
        self,
        cached_bytes: Option<u64>,
        is_disk_full: bool,
    ) -> Self {
        let mut limits = self;
        let is_far_above = cached_bytes
            .zip(self.max_bytes)
            .is_some_and(|(bytes, max)| bytes > max.saturating_add(max / 4));
        if is_far_above || is_disk_full {
            limits.grace_period = self.grace_period.min(MAX_GRACE_PERIOD_UNDER_PRESSURE);
        }
        limits
    }
}

/// The size of the cache: the last count, and what was added since.
pub(super) struct CacheSize {
    /// The last count in bytes, or [`UNKNOWN_SIZE`].
    counted: AtomicU64,
    /// Bytes added since the last count.
    added: AtomicU64,
}

impl Default for CacheSize {
    fn default() -> Self {
        Self {
            counted: AtomicU64::new(UNKNOWN_SIZE),
            added: AtomicU64::new(0),
        }
    }
}

impl CacheSize {
    /// Returns the cached bytes, or `None` before the first count.
    pub(super) fn get(&self) -> Option<u64> {
        let counted = self.counted.load(Ordering::Relaxed);
        let added = self.added.load(Ordering::Relaxed);
        (counted != UNKNOWN_SIZE).then(|| counted.saturating_add(added))
    }

    /// Begins a count. What is added from now on is added to its result.
    pub(super) fn begin_count(&self) {
        self.added.store(0, Ordering::Relaxed);
    }

    /// Records the result of a count.
    pub(super) fn set_counted(&self, bytes: u64) {
        self.counted.store(bytes, Ordering::Relaxed);
    }

    /// Removes bytes of an interrupted fetch that goes on, and that has reserved room for them.
    pub(super) fn remove(&self, bytes: u64) {
        let remove =
            |counted| (counted != UNKNOWN_SIZE).then(|| u64::saturating_sub(counted, bytes));
        let order = Ordering::Relaxed;
        // The update fails only if the size is unknown.
        let _ = self.counted.fetch_update(order, order, remove);
    }

    /// Adds bytes that were cached from an upstream.
    pub(super) fn add(&self, bytes: u64) {
        self.added.fetch_add(bytes, Ordering::Relaxed);
    }
}
