//! Chooses the number of concurrent uploads from the measured throughput: few if one upload fills
//! the connection, more as long as each further upload adds throughput.
//!
//! This module does no I/O and reads no clock. Start reading at [`UploadConcurrency`].

use std::time::Duration;

/// The number at the start of a push, unless the user sets one.
const INITIAL_UPLOADS: usize = 3;
const MAX_UPLOADS: usize = 8;
/// How long the rate is measured before the number may change.
const MEASURING_WINDOW: Duration = Duration::from_millis(250);
/// A further upload is tried only if a chunk takes less than this time.
const FAST_CHUNK_DURATION: Duration = Duration::from_secs(4);
/// The number of windows without a trial after the number was reduced.
const COOLDOWN_WINDOWS: u32 = 16;
/// Faults within this interval are counted as one, because a broken connection shows in all
/// uploads.
const SAME_FAULT_INTERVAL: Duration = Duration::from_secs(2);

/// The number of concurrent uploads of one push.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct UploadConcurrency {
    current: usize,
    is_fixed: bool,
    window: Option<RateWindow>,
    /// The rate in bytes a second with one upload fewer, while the last upload is on trial.
    previous_rate: Option<f64>,
    /// The number of windows to wait before the next trial.
    cooldown: u32,
    last_fault: Option<Duration>,
}

/// The measurement in progress.
#[derive(Debug, Clone, PartialEq)]
struct RateWindow {
    start: Duration,
    sent: u64,
    chunks: usize,
}

impl UploadConcurrency {
    /// Uses a fixed number of uploads, or adapts the number to the throughput if there is none.
    pub(super) fn new(fixed: Option<usize>) -> Self {
        Self {
            current: fixed.unwrap_or(INITIAL_UPLOADS).max(1),
            is_fixed: fixed.is_some(),
            window: None,
            previous_rate: None,
            // The first window is skipped, because the first bytes only fill buffers.
            cooldown: 1,
            last_fault: None,
        }
    }

    /// Returns the number of uploads that may run at the same time.
    pub(super) fn current(&self) -> usize {
        self.current
    }

    /// Records that a chunk was accepted.
    ///
    /// `took` is the duration of its request, `at` the time since the push started, and `sent` the
    /// number of bytes that the push has sent by then. `queued` tells whether a blob is waiting for
    /// a permit; without one another upload cannot be tried, and nothing is measured.
    pub(super) fn record_chunk(&mut self, at: Duration, sent: u64, took: Duration, queued: bool) {
        if self.is_fixed || !queued {
            self.window = None;
            self.previous_rate = None;
            return;
        }
        let window = self.window.get_or_insert(RateWindow {
            start: at,
            sent,
            chunks: 0,
        });
        window.chunks += 1;
        let duration = at.saturating_sub(window.start);
        if duration < MEASURING_WINDOW || window.chunks <= self.current {
            return;
        }
        let rate = sent.saturating_sub(window.sent) as f64 / duration.as_secs_f64();
        self.window = None;
        self.adapt(rate, took);
    }

    /// Changes the number after a window with this rate.
    fn adapt(&mut self, rate: f64, took: Duration) {
        if let Some(previous) = self.previous_rate.take()
            && rate < previous * required_speedup(self.current)
        {
            self.current -= 1;
            self.cooldown = COOLDOWN_WINDOWS;
            return;
        }
        if self.cooldown > 0 {
            self.cooldown -= 1;
            return;
        }
        if took < FAST_CHUNK_DURATION && self.current < MAX_UPLOADS {
            self.previous_rate = Some(rate);
            self.current += 1;
        }
    }

    /// Records a fault of the connection or the registry at the time `at` since the push started,
    /// and reduces the number by one.
    pub(super) fn record_fault(&mut self, at: Duration) {
        let is_same = |last: Duration| at.saturating_sub(last) < SAME_FAULT_INTERVAL;
        if self.is_fixed || self.last_fault.is_some_and(is_same) {
            return;
        }
        self.last_fault = Some(at);
        self.current = (self.current - 1).max(1);
        self.window = None;
        self.previous_rate = None;
        self.cooldown = COOLDOWN_WINDOWS;
    }
}

/// Returns the factor by which the rate must grow for the last of several uploads to be kept: 40%
/// of the growth that an upload as fast as the others would bring.
fn required_speedup(uploads: usize) -> f64 {
    1.0 + 0.4 / (uploads as f64 - 1.0).max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const CHUNK: u64 = 1024 * 1024;

    /// Sends chunks over a connection with a total rate of `rate(uploads)` bytes a second. Returns
    /// the largest and the last number of uploads.
    fn run(concurrency: &mut UploadConcurrency, rate: impl Fn(usize) -> f64) -> (usize, usize) {
        let (mut at, mut sent, mut most) = (Duration::ZERO, 0, 0);
        for _ in 0..2000 {
            let all = rate(concurrency.current());
            at += Duration::from_secs_f64(CHUNK as f64 / all);
            sent += CHUNK;
            let took = Duration::from_secs_f64(CHUNK as f64 * concurrency.current() as f64 / all);
            concurrency.record_chunk(at, sent, took, true);
            most = most.max(concurrency.current());
        }
        (most, concurrency.current())
    }

    #[test]
    fn more_where_each_adds_throughput() {
        let each = 20e6;
        assert_eq!(
            run(&mut UploadConcurrency::new(None), |concurrency| each
                * concurrency as f64)
            .1,
            MAX_UPLOADS
        );
        let five_fill_the_connection = |concurrency: usize| each * concurrency.min(5) as f64;
        let (most, last) = run(&mut UploadConcurrency::new(None), five_fill_the_connection);
        assert!(most <= 6 && (5..=6).contains(&last), "{most} {last}");
    }

    #[test]
    fn few_where_one_fills_the_connection() {
        let (most, last) = run(&mut UploadConcurrency::new(None), |_| 50e6);
        assert!(
            most <= INITIAL_UPLOADS + 1 && last <= INITIAL_UPLOADS + 1,
            "{most} {last}"
        );
        // Slow chunks give no reason to try another upload.
        assert_eq!(
            run(&mut UploadConcurrency::new(None), |_| 500e3).0,
            INITIAL_UPLOADS
        );
    }

    #[test]
    fn a_fault_removes_one_upload_but_not_the_last() {
        let mut concurrency = UploadConcurrency::new(None);
        for second in [10, 11, 20, 30, 40, 50] {
            concurrency.record_fault(Duration::from_secs(second));
        }
        assert_eq!(concurrency.current(), 1);
        let mut concurrency = UploadConcurrency::new(None);
        concurrency.record_fault(Duration::from_secs(10));
        concurrency.record_fault(Duration::from_secs(11));
        assert_eq!(concurrency.current(), INITIAL_UPLOADS - 1);
    }

    #[test]
    fn a_fixed_number_stays_and_without_a_queue_nothing_changes() {
        let mut concurrency = UploadConcurrency::new(Some(12));
        concurrency.record_fault(Duration::from_secs(10));
        assert_eq!(
            run(&mut concurrency, |concurrency| 20e6 * concurrency as f64),
            (12, 12)
        );
        let mut concurrency = UploadConcurrency::new(None);
        for step in 0..1000 {
            concurrency.record_chunk(MS * step, u64::from(step) * CHUNK, MS, false);
        }
        assert_eq!(concurrency.current(), INITIAL_UPLOADS);
    }
}
