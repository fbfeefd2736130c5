//! Decides whether, and after which delay, a download continues after a failure.

use std::time::Duration;

use super::error::UpstreamFailure;

/// Number of consecutive attempts without a new byte after which a download fails.
const MAX_TRIES_WITHOUT_PROGRESS: u32 = 4;
/// Delay before the first retry. It doubles with each further retry.
const FIRST_RETRY_DELAY: Duration = Duration::from_millis(500);
/// Longest delay between retries. A download fails if the upstream asks for a longer one.
const MAX_RETRY_DELAY: Duration = Duration::from_secs(10);

/// The failures of a download since its last new byte.
pub(super) struct DownloadRetries {
    failures: u32,
    delay: Duration,
}

impl Default for DownloadRetries {
    fn default() -> Self {
        Self {
            failures: 0,
            delay: FIRST_RETRY_DELAY,
        }
    }
}

impl DownloadRetries {
    /// Returns the delay before the next attempt, or `None` if the download must fail.
    /// `has_progressed` tells whether the failed attempt received a new byte.
    pub(super) fn delay_after(
        &mut self,
        failure: &UpstreamFailure,
        has_progressed: bool,
    ) -> Option<Duration> {
        if has_progressed {
            *self = Self::default();
        }
        self.failures += 1;
        let is_last = self.failures >= MAX_TRIES_WITHOUT_PROGRESS;
        let delay = failure.retry_after.unwrap_or(self.delay);
        if !failure.kind.is_upstream_wide() || is_last || delay > MAX_RETRY_DELAY {
            return None;
        }
        self.delay = (self.delay * 2).min(MAX_RETRY_DELAY);
        Some(delay)
    }
}
