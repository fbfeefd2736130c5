//! Circuit breaker: pauses requests to an upstream for a short time after it failed.
//!
//! A request that the cache can answer respects every pause. A missing manifest is still requested
//! during a pause, unless the upstream asked for the pause with a rate limit. Start reading at
//! [`CircuitBreaker`].

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::error::{UpstreamFailure, UpstreamFailureKind};

/// Length of the pause after a failure without `Retry-After`, and its lower bound.
const MIN_BREAKER_OPEN_TIME: Duration = Duration::from_secs(5);
/// Upper bound of the pause, even if `Retry-After` asks for more.
const MAX_BREAKER_OPEN_TIME: Duration = Duration::from_secs(300);

/// The last failure of an upstream, and the time until which requests to it are paused.
#[derive(Debug, Default)]
pub(super) struct CircuitBreaker(Mutex<Option<(Instant, UpstreamFailure)>>);

impl CircuitBreaker {
    /// Records that the upstream answered, and closes the breaker. A rate limit stays in effect:
    /// many registries limit only manifest requests, so other requests still succeed.
    pub(super) fn record_success(&self) {
        if self.rate_limit_failure().is_none() {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }

    /// Records a failure. Failures that concern only the requested content, and not the whole
    /// upstream, are ignored.
    pub(super) fn record_failure(&self, failure: &UpstreamFailure) {
        let is_rate_limit = failure.kind == UpstreamFailureKind::RateLimited;
        if !failure.kind.is_upstream_wide()
            || (!is_rate_limit && self.rate_limit_failure().is_some())
        {
            return;
        }
        let pause = failure
            .retry_after
            .unwrap_or(MIN_BREAKER_OPEN_TIME)
            .clamp(MIN_BREAKER_OPEN_TIME, MAX_BREAKER_OPEN_TIME);
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *state = Some((Instant::now() + pause, failure.clone()));
    }

    /// Returns the failure that keeps the breaker open, with the remaining pause as `retry_after`,
    /// or `None` if the breaker is closed.
    pub(super) fn current_failure(&self) -> Option<UpstreamFailure> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (until, failure) = state.as_ref()?;
        let remaining = until.checked_duration_since(Instant::now())?;
        Some(UpstreamFailure {
            retry_after: Some(remaining),
            ..failure.clone()
        })
    }

    /// Returns the current failure if it is a rate limit. Then missing manifests are not requested
    /// either.
    pub(super) fn rate_limit_failure(&self) -> Option<UpstreamFailure> {
        self.current_failure()
            .filter(|failure| failure.kind == UpstreamFailureKind::RateLimited)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_success_closes_the_breaker_unless_a_rate_limit_opened_it() {
        let breaker = CircuitBreaker::default();
        breaker.record_failure(&UpstreamFailure::new("u", UpstreamFailureKind::Denied, "x"));
        assert_eq!(breaker.current_failure(), None);
        breaker.record_failure(&UpstreamFailure::new("u", UpstreamFailureKind::Down, "x"));
        let open = breaker.current_failure().unwrap();
        assert!(
            open.retry_after.unwrap() <= MIN_BREAKER_OPEN_TIME
                && breaker.rate_limit_failure().is_none()
        );
        breaker.record_success();
        assert_eq!(breaker.current_failure(), None);
        let hour = Some(Duration::from_secs(3600));
        let limited = UpstreamFailure::new("u", UpstreamFailureKind::RateLimited, "x");
        breaker.record_failure(&UpstreamFailure {
            retry_after: hour,
            ..limited
        });
        breaker.record_failure(&UpstreamFailure::new("u", UpstreamFailureKind::Down, "x"));
        breaker.record_success();
        let remaining = breaker.rate_limit_failure().unwrap().retry_after.unwrap();
        assert!(remaining > MIN_BREAKER_OPEN_TIME && remaining <= MAX_BREAKER_OPEN_TIME);
    }
}
