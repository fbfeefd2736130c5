//! An upstream that just failed is left alone for a moment, by those who can do without it.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::error::{Failed, Kind};

/// How long after a failure.
const PAUSE: Duration = Duration::from_secs(5);
/// Nobody is obeyed for longer.
const MOST: Duration = Duration::from_secs(300);

/// What is known of an upstream's health.
#[derive(Debug, Default)]
pub(super) struct Breaker(Mutex<Option<(Instant, Failed)>>);

impl Breaker {
    /// It answered. That ends no pause that it asked for: many limit manifests and nothing else.
    pub(super) fn worked(&self) {
        if self.forbidden().is_none() {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }

    /// It failed in a way that is not about what was asked for.
    pub(super) fn failed(&self, failed: &Failed) {
        let is_limited = failed.kind == Kind::Limited;
        if !failed.kind.is_general() || (!is_limited && self.forbidden().is_some()) {
            return;
        }
        let pause = failed.retry_after.unwrap_or(PAUSE).clamp(PAUSE, MOST);
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *state = Some((Instant::now() + pause, failed.clone()));
    }

    /// The failure for which it is left alone now, with what is left of the time.
    pub(super) fn open(&self) -> Option<Failed> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (until, failed) = state.as_ref()?;
        let left = until.checked_duration_since(Instant::now())?;
        Some(Failed {
            retry_after: Some(left),
            ..failed.clone()
        })
    }

    /// The same, where it asked for that itself: then nobody goes there.
    pub(super) fn forbidden(&self) -> Option<Failed> {
        self.open().filter(|failed| failed.kind == Kind::Limited)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn general_trouble_is_remembered_for_a_moment_and_an_answer_ends_it() {
        let breaker = Breaker::default();
        breaker.failed(&Failed::new("u", Kind::Refused, "x"));
        assert_eq!(breaker.open(), None);
        breaker.failed(&Failed::new("u", Kind::Down, "x"));
        let open = breaker.open().unwrap();
        assert!(open.retry_after.unwrap() <= PAUSE && breaker.forbidden().is_none());
        breaker.worked();
        assert_eq!(breaker.open(), None);
        let hour = Some(Duration::from_secs(3600));
        let limited = Failed::new("u", Kind::Limited, "x");
        breaker.failed(&Failed {
            retry_after: hour,
            ..limited
        });
        breaker.failed(&Failed::new("u", Kind::Down, "x"));
        breaker.worked();
        let left = breaker.forbidden().unwrap().retry_after.unwrap();
        assert!(left > PAUSE && left <= MOST);
    }
}
