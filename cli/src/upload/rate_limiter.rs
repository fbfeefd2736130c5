//! Limits the bytes a second of all uploads together, for `--limit-rate`.
//!
//! This module does not see the bytes, only their number. Start reading at [`RateLimiter`].

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use super::lock;

/// A limit of the average rate, shared by all uploads of a push.
#[derive(Debug)]
pub(super) struct RateLimiter {
    rate: Option<u64>,
    /// The time at which the next bytes may pass.
    free: Mutex<Instant>,
}

impl RateLimiter {
    /// Creates a limiter of `rate` bytes a second; `None` for no limit.
    pub(super) fn new(rate: Option<u64>) -> Self {
        Self {
            rate,
            free: Mutex::new(Instant::now()),
        }
    }

    /// Returns the number of bytes to send at a time, at most `max_bytes`: a fraction of a second's
    /// worth, so that the bytes are spread evenly.
    pub(super) fn max_piece(&self, max_bytes: u64) -> u64 {
        const PIECES_PER_SECOND: u64 = 8;
        match self.rate {
            Some(rate) => max_bytes.min((rate / PIECES_PER_SECOND).max(1)),
            None => max_bytes,
        }
    }

    /// Waits until `bytes` more bytes may be sent.
    pub(super) async fn acquire(&self, bytes: u64) {
        if let Some(rate) = self.rate {
            let time = Duration::from_secs_f64(bytes as f64 / rate as f64);
            let start = {
                let mut free = lock(&self.free);
                let start = (*free).max(Instant::now());
                *free = start + time;
                start
            };
            tokio::time::sleep_until(start).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn bytes_pass_at_the_rate() {
        let limiter = RateLimiter::new(Some(1000));
        let start = Instant::now();
        for _ in 0..20 {
            limiter.acquire(limiter.max_piece(1 << 20)).await;
        }
        // The last of twenty pieces of 125 bytes is sent after the time of the nineteen before.
        assert_eq!(start.elapsed().as_millis(), 2375);
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_rate_nothing_waits() {
        let limiter = RateLimiter::new(None);
        let start = Instant::now();
        limiter.acquire(u64::MAX).await;
        assert_eq!(start.elapsed(), Duration::ZERO);
        assert_eq!(limiter.max_piece(5), 5);
    }
}
