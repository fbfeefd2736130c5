//! An upstream that just failed is left alone for a moment, by those who can do without it.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::error::{UpstreamFailure, UpstreamFailureKind};

/// How long after a failure.
const MIN_BREAKER_OPEN_TIME: Duration = Duration::from_secs(5);
/// Nobody is obeyed for longer.
const MAX_BREAKER_OPEN_TIME: Duration = Duration::from_secs(300);

/// What is known of an upstream's health.
#[derive(Debug, Default)]
pub(super) struct CircuitBreaker(Mutex<Option<(Instant, UpstreamFailure)>>);

impl CircuitBreaker {
    /// It answered. That ends no pause that it asked for: many limit manifests and nothing else.
    pub(super) fn record_success(&self) {
        if self.rate_limit_failure().is_none() {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }

    /// It failed in a way that is not about what was asked for.
    pub(super) fn record_failure(&self, failed: &UpstreamFailure) {
        let is_limited = failed.kind == UpstreamFailureKind::RateLimited;
        if !failed.kind.is_upstream_wide() || (!is_limited && self.rate_limit_failure().is_some()) {
            return;
        }
        let pause = failed
            .retry_after
            .unwrap_or(MIN_BREAKER_OPEN_TIME)
            .clamp(MIN_BREAKER_OPEN_TIME, MAX_BREAKER_OPEN_TIME);
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *state = Some((Instant::now() + pause, failed.clone()));
    }

    /// The failure for which it is left alone now, with what is left of the time.
    pub(super) fn current_failure(&self) -> Option<UpstreamFailure> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (until, failed) = state.as_ref()?;
        let left = until.checked_duration_since(Instant::now())?;
        Some(UpstreamFailure {
            retry_after: Some(left),
            ..failed.clone()
        })
    }

    /// The same, where it asked for that itself: then nobody goes there.
    pub(super) fn rate_limit_failure(&self) -> Option<UpstreamFailure> {
        self.current_failure()
            .filter(|failed| failed.kind == UpstreamFailureKind::RateLimited)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn general_trouble_is_remembered_for_a_moment_and_an_answer_ends_it() {
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
        let left = breaker.rate_limit_failure().unwrap().retry_after.unwrap();
        assert!(left > MIN_BREAKER_OPEN_TIME && left <= MAX_BREAKER_OPEN_TIME);
    }
}
