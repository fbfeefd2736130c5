//! Hands out the permits to upload, as many at a time as [`UploadConcurrency`] allows at that
//! moment.
//!
//! This module does not choose the number. Start reading at [`ConcurrencyLimiter`].

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, SemaphorePermit};

use super::concurrency::UploadConcurrency;
use super::lock;

/// The upload permits of one push.
#[derive(Debug)]
pub(super) struct ConcurrencyLimiter {
    semaphore: Semaphore,
    state: Mutex<LimiterState>,
    /// Each waiting upload has a clone, so that a cancelled wait does not count.
    waiting: Arc<()>,
    start: Instant,
}

#[derive(Debug)]
struct LimiterState {
    concurrency: UploadConcurrency,
    /// The number of permits to destroy when they are next released.
    surplus: usize,
}

/// A permit to upload, released when dropped.
#[derive(Debug)]
pub(super) struct UploadPermit<'a> {
    limiter: &'a ConcurrencyLimiter,
    permit: Option<SemaphorePermit<'a>>,
}

impl ConcurrencyLimiter {
    /// Creates a limiter with a fixed number of permits; `None` adapts the number to the
    /// throughput.
    pub(super) fn new(fixed: Option<usize>) -> Self {
        let concurrency = UploadConcurrency::new(fixed);
        Self {
            semaphore: Semaphore::new(concurrency.current()),
            state: Mutex::new(LimiterState {
                concurrency,
                surplus: 0,
            }),
            waiting: Arc::default(),
            start: Instant::now(),
        }
    }

    /// Waits for a permit.
    pub(super) async fn acquire(&self) -> UploadPermit<'_> {
        let _waiting = Arc::clone(&self.waiting);
        UploadPermit {
            limiter: self,
            // The semaphore is never closed, so this cannot fail.
            permit: self.semaphore.acquire().await.ok(),
        }
    }

    /// Records that a chunk was accepted, after `sent` bytes in all.
    pub(super) fn record_chunk(&self, sent: u64, took: Duration) {
        let at = self.start.elapsed();
        self.update(|concurrency, has_queue| concurrency.record_chunk(at, sent, took, has_queue));
    }

    /// Records a fault of the connection or the registry.
    pub(super) fn record_fault(&self) {
        let at = self.start.elapsed();
        self.update(|concurrency, _| concurrency.record_fault(at));
    }

    /// Changes the concurrency, and with it the number of permits.
    fn update(&self, change: impl FnOnce(&mut UploadConcurrency, bool)) {
        let mut state = self.state();
        let before = state.concurrency.current();
        let has_queue = Arc::strong_count(&self.waiting) > 1;
        change(&mut state.concurrency, has_queue);
        for _ in before..state.concurrency.current() {
            match state.surplus {
                0 => self.semaphore.add_permits(1),
                surplus => state.surplus = surplus - 1,
            }
        }
        let fewer = before.saturating_sub(state.concurrency.current());
        state.surplus += fewer - self.semaphore.forget_permits(fewer);
    }

    fn state(&self) -> MutexGuard<'_, LimiterState> {
        lock(&self.state)
    }
}

impl<'a> UploadPermit<'a> {
    /// Releases the permit if there are more than there should be, and waits for the next one.
    /// Returns the same permit otherwise.
    pub(super) async fn yield_if_surplus(self) -> UploadPermit<'a> {
        let limiter = self.limiter;
        if limiter.state().surplus == 0 {
            return self;
        }
        drop(self);
        limiter.acquire().await
    }
}

impl Drop for UploadPermit<'_> {
    fn drop(&mut self) {
        let Some(permit) = self.permit.take() else {
            return;
        };
        let mut state = self.limiter.state();
        if state.surplus > 0 {
            state.surplus -= 1;
            permit.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_surplus_permit_vanishes_when_it_is_dropped() {
        let limiter = ConcurrencyLimiter::new(None);
        let permits: Vec<UploadPermit<'_>> =
            std::iter::from_fn(|| limiter.acquire().now_or_never()).collect();
        limiter.record_fault();
        let mut permits = permits.into_iter();
        let first = permits.next().unwrap();
        assert!(first.yield_if_surplus().now_or_never().is_none());
        // There is one permit fewer than before. The first permit that was given up leaves no free
        // one; the next to be dropped does.
        let second = permits
            .next()
            .unwrap()
            .yield_if_surplus()
            .now_or_never()
            .unwrap();
        assert!(limiter.acquire().now_or_never().is_none());
        drop(second);
        assert!(limiter.acquire().now_or_never().is_some());
    }
}
