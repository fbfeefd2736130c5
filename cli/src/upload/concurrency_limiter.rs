//! Hands out the permits to upload, as many at a time as [`UploadConcurrency`] allows at that
//! moment.
//!
//! This module does not choose the number. Start reading at [`ConcurrencyLimiter`].

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, SemaphorePermit};

use super::concurrency::UploadConcurrency;

/// The upload permits of one push.
#[derive(Debug)]
pub(super) struct ConcurrencyLimiter {
    semaphore: Semaphore,
    state: Mutex<LimiterState>,
    began: Instant,
}

#[derive(Debug)]
struct LimiterState {
    concurrency: UploadConcurrency,
    /// The number of permits to destroy when they are next released.
    surplus: usize,
    waiting: usize,
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
    pub(super) fn new(wished: Option<usize>) -> Self {
        let jobs = UploadConcurrency::new(wished);
        Self {
            semaphore: Semaphore::new(jobs.current()),
            state: Mutex::new(LimiterState {
                concurrency: jobs,
                surplus: 0,
                waiting: 0,
            }),
            began: Instant::now(),
        }
    }

    /// Waits for a permit.
    pub(super) async fn acquire(&self) -> UploadPermit<'_> {
        self.state().waiting += 1;
        let waiting = WaitingGuard(self);
        // The semaphore is never closed, so this cannot fail.
        let turn = self.semaphore.acquire().await.ok();
        drop(waiting);
        UploadPermit {
            limiter: self,
            permit: turn,
        }
    }

    /// Records that a chunk was accepted, after `sent` bytes in all.
    pub(super) fn record_chunk(&self, sent: u64, took: Duration) {
        let at = self.began.elapsed();
        let mut state = self.state();
        let before = state.concurrency.current();
        let wanted = state.waiting > 0;
        state.concurrency.record_chunk(at, sent, took, wanted);
        self.apply_concurrency(&mut state, before);
    }

    /// Records a fault of the connection or the registry.
    pub(super) fn record_fault(&self) {
        let at = self.began.elapsed();
        let mut state = self.state();
        let before = state.concurrency.current();
        state.concurrency.record_fault(at);
        self.apply_concurrency(&mut state, before);
    }

    fn apply_concurrency(&self, state: &mut LimiterState, before: usize) {
        for _ in before..state.concurrency.current() {
            match state.surplus {
                0 => self.semaphore.add_permits(1),
                owed => state.surplus = owed - 1,
            }
        }
        let fewer = before.saturating_sub(state.concurrency.current());
        state.surplus += fewer - self.semaphore.forget_permits(fewer);
    }

    fn state(&self) -> MutexGuard<'_, LimiterState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<'a> UploadPermit<'a> {
    /// Releases the permit if there are more than there should be, and waits for the next one.
    /// Returns the same permit otherwise.
    pub(super) async fn yield_if_surplus(self) -> UploadPermit<'a> {
        let slots = self.limiter;
        if slots.state().surplus == 0 {
            return self;
        }
        drop(self);
        slots.acquire().await
    }
}

impl Drop for UploadPermit<'_> {
    fn drop(&mut self) {
        let Some(turn) = self.permit.take() else {
            return;
        };
        let mut state = self.limiter.state();
        if state.surplus > 0 {
            state.surplus -= 1;
            turn.forget();
        }
    }
}

/// Counts one waiting upload until it is dropped, also if the wait is cancelled.
struct WaitingGuard<'a>(&'a ConcurrencyLimiter);

impl Drop for WaitingGuard<'_> {
    fn drop(&mut self) {
        self.0.state().waiting -= 1;
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_surplus_permit_vanishes_when_it_is_dropped() {
        let slots = ConcurrencyLimiter::new(None);
        let held: Vec<UploadPermit<'_>> =
            std::iter::from_fn(|| slots.acquire().now_or_never()).collect();
        slots.record_fault();
        let mut held = held.into_iter();
        let given = held.next().unwrap();
        assert!(given.yield_if_surplus().now_or_never().is_none());
        // There is one permit fewer than before. The permit already given up leaves no free one;
        // the next to be dropped does.
        let kept = held
            .next()
            .unwrap()
            .yield_if_surplus()
            .now_or_never()
            .unwrap();
        assert!(slots.acquire().now_or_never().is_none());
        drop(kept);
        assert!(slots.acquire().now_or_never().is_some());
    }
}
