//! Decides how long the sender waits after a failed attempt. This module does no I/O.

use std::time::Duration;

/// The attempts to send an entry that failed in a row, as the stock registry counts them.
#[derive(Debug, Clone)]
pub(super) struct FailedAttempts {
    threshold: u32,
    backoff: Duration,
    count: u32,
}

impl FailedAttempts {
    /// After `threshold` failures in a row, each further attempt waits for `backoff`.
    pub(super) fn new(threshold: u32, backoff: Duration) -> Self {
        Self {
            threshold,
            backoff,
            count: 0,
        }
    }

    /// Counts a failure, and returns how long to wait before the next attempt.
    pub(super) fn fail(&mut self) -> Duration {
        self.count = self.count.saturating_add(1);
        if self.count < self.threshold {
            Duration::ZERO
        } else {
            self.backoff
        }
    }

    /// Starts again after a success.
    pub(super) fn succeed(&mut self) {
        self.count = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_back_off_from_the_threshold_until_one_succeeds() {
        let backoff = Duration::from_secs(3);
        let mut attempts = FailedAttempts::new(3, backoff);
        let mut waits = || [(); 4].map(|()| attempts.fail());
        assert_eq!(waits(), [Duration::ZERO, Duration::ZERO, backoff, backoff]);
        attempts.succeed();
        assert_eq!(attempts.fail(), Duration::ZERO);
    }
}
