//! How a client retries: attempts, waits, and the delays that all clients of one registry share. Also
//! the rate limit that a registry reports.
//!
//! Docker Hub counts GET requests of manifests, and reports its limit in `ratelimit-limit` and
//! `ratelimit-remaining`: `100;w=21600` is one hundred in six hours ("Docker Hub usage and limits").
//! HEAD requests are not counted.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::{HeaderMap, HeaderName, StatusCode};
use tokio::time::Instant;

use super::retry::backoff;
use super::{Client, Error, RetryVerdict, response_headers};

/// The rate limit that a registry last reported.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RateLimit {
    /// The requests that one window allows.
    pub limit: Option<u64>,
    /// The requests that are left in the current window.
    pub remaining: Option<u64>,
    /// The length of a window.
    pub window: Option<Duration>,
}

type RetryNotifier = Box<dyn Fn(&Error, Duration) + Send + Sync>;

/// The retry state that all clients of one registry share.
#[derive(Default)]
pub struct RetryPolicy {
    rate_limit: Mutex<Option<RateLimit>>,
    /// The time before which no request is sent.
    paused_until: Mutex<Option<Instant>>,
    wait_limit: Option<WaitLimit>,
    /// Called once, when a request has failed for the second time.
    notify_once: Mutex<Option<RetryNotifier>>,
}

struct WaitLimit {
    max_wait: Duration,
    notify: RetryNotifier,
}

impl std::fmt::Debug for RetryPolicy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RetryPolicy")
            .field("rate_limit", &self.rate_limit)
            .finish_non_exhaustive()
    }
}

impl RetryPolicy {
    /// Returns a policy that waits as long as `Retry-After` asks for, for all clients together, and
    /// calls `notify` with the error and the delay. If the delay exceeds `max_wait`, the error is
    /// returned at once. The default policy waits for at most 30 seconds.
    pub fn waiting_up_to(
        max_wait: Duration,
        notify: impl Fn(&Error, Duration) + Send + Sync + 'static,
    ) -> Self {
        let notify = Box::new(notify);
        Self {
            wait_limit: Some(WaitLimit { max_wait, notify }),
            ..Self::default()
        }
    }

    /// Returns a policy that calls `notify`, once, with the error and the delay when a request has
    /// failed for the second time, so that the user learns early why there is no progress.
    pub fn with_notifier(notify: impl Fn(&Error, Duration) + Send + Sync + 'static) -> Self {
        Self {
            notify_once: Mutex::new(Some(Box::new(notify))),
            ..Self::default()
        }
    }

    /// Returns the rate limit that the registry last reported.
    pub fn rate_limit(&self) -> Option<RateLimit> {
        *lock(&self.rate_limit)
    }

    /// Records the rate limit in the headers of a response.
    pub(super) fn record_rate_limit(&self, headers: &HeaderMap) {
        if let Some(limit) = RateLimit::from_headers(headers) {
            *lock(&self.rate_limit) = Some(limit);
        }
    }

    /// Returns the delay before the next attempt after `failures` of them; `None` if the error should
    /// be returned instead.
    fn pause_before_retry(
        &self,
        error: &Error,
        retry_after: Option<Duration>,
        failures: u32,
    ) -> Option<Duration> {
        let (Some(limit), Some(retry_after)) = (&self.wait_limit, retry_after) else {
            let pause = backoff(failures, retry_after);
            if failures > 1
                && let Some(notify) = lock(&self.notify_once).take()
            {
                notify(error, pause);
            }
            return Some(pause);
        };
        if retry_after > limit.max_wait {
            return None;
        }
        // The rate limit applies to all requests, so all of them wait. One notification is enough.
        if error.status() == Some(StatusCode::TOO_MANY_REQUESTS) {
            const SAME_DEADLINE_TOLERANCE: Duration = Duration::from_secs(1);
            let deadline = Instant::now() + retry_after;
            let mut until = lock(&self.paused_until);
            if until.is_some_and(|until| until + SAME_DEADLINE_TOLERANCE > deadline) {
                return Some(retry_after);
            }
            *until = Some(deadline);
        }
        (limit.notify)(error, retry_after);
        Some(retry_after)
    }

    async fn wait_until_allowed(&self) {
        loop {
            let until = *lock(&self.paused_until);
            match until.filter(|until| *until > Instant::now()) {
                Some(until) => tokio::time::sleep_until(until).await,
                None => return,
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl RateLimit {
    fn from_headers(headers: &HeaderMap) -> Option<Self> {
        let read = |name: &'static str| {
            let text = response_headers::text(headers, &HeaderName::from_static(name))?;
            let (number, rest) = text.split_once(';').unwrap_or((text, ""));
            let window = rest.split(';').find_map(|part| {
                let seconds = part.trim().strip_prefix("w=")?.parse().ok()?;
                Some(Duration::from_secs(seconds))
            });
            Some((number.trim().parse::<u64>().ok()?, window))
        };
        let (limit, remaining) = (read("ratelimit-limit"), read("ratelimit-remaining"));
        let window = limit.and_then(|(_, window)| window);
        let window = window.or(remaining.and_then(|(_, window)| window));
        (limit.is_some() || remaining.is_some()).then_some(Self {
            limit: limit.map(|(limit, _)| limit),
            remaining: remaining.map(|(remaining, _)| remaining),
            window,
        })
    }
}

impl Client {
    /// Sets the retry policy, which several clients of the registry may share.
    pub fn with_retry_policy(self, retry_policy: std::sync::Arc<RetryPolicy>) -> Self {
        Self {
            retry_policy,
            ..self
        }
    }

    /// Sets the most attempts of a small request. The default is seven.
    pub fn with_max_attempts(self, max_attempts: u32) -> Self {
        Self {
            max_attempts,
            ..self
        }
    }

    /// Returns the rate limit that the registry last reported to this client or its clones.
    pub fn rate_limit(&self) -> Option<RateLimit> {
        self.retry_policy.rate_limit()
    }

    /// Repeats `attempt` until it succeeds, fails for good, or reaches the most attempts.
    pub(super) async fn retry<T, F>(&self, mut attempt: impl FnMut() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let mut failures = 0;
        loop {
            self.retry_policy.wait_until_allowed().await;
            let error = match attempt().await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            failures += 1;
            let pause = match error.retry_verdict() {
                RetryVerdict::After(retry_after) if failures < self.max_attempts => self
                    .retry_policy
                    .pause_before_retry(&error, retry_after, failures),
                RetryVerdict::After(_) | RetryVerdict::Never => None,
            };
            match pause {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit_of(pairs: &[(&'static str, &str)]) -> Option<RateLimit> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.insert(*name, value.parse().unwrap());
        }
        RateLimit::from_headers(&headers)
    }

    #[test]
    fn limits_are_parsed_as_registries_write_them() {
        let hub = [
            ("ratelimit-limit", "100;w=21600"),
            ("ratelimit-remaining", "76;w=21600"),
        ];
        let read = RateLimit {
            limit: Some(100),
            remaining: Some(76),
            window: Some(Duration::from_secs(21600)),
        };
        assert_eq!(limit_of(&hub), Some(read));
        let bare = limit_of(&[("ratelimit-remaining", "5")]).unwrap();
        assert_eq!(
            (bare.remaining, bare.limit, bare.window),
            (Some(5), None, None)
        );
        assert_eq!(limit_of(&[("ratelimit-limit", "many")]), None);
        assert_eq!(limit_of(&[]), None);
    }

    fn too_many(retry_after: u64) -> Error {
        Error::Status {
            registry: "a".parse().unwrap(),
            operation: String::new(),
            status: StatusCode::TOO_MANY_REQUESTS,
            faults: Vec::new(),
            server: None,
            retry_after: Some(Duration::from_secs(retry_after)),
            is_login: false,
            credentials: Box::new(super::super::CredentialUse::NoCredentials { variables: None }),
        }
    }

    #[test]
    fn an_error_that_lasts_is_notified_once() {
        let (sender, notified) = std::sync::mpsc::channel();
        let policy =
            RetryPolicy::with_notifier(move |error, _| sender.send(error.status()).unwrap());
        let counts = [1, 1, 2, 3, 1, 2].map(|failures| {
            assert!(
                policy
                    .pause_before_retry(&too_many(1), None, failures)
                    .is_some()
            );
            notified.try_iter().count()
        });
        assert_eq!(counts, [0, 0, 1, 0, 0, 0]);
    }

    #[tokio::test]
    async fn waits_as_long_as_the_registry_asks_up_to_the_limit() {
        let (sender, notified) = std::sync::mpsc::channel();
        let policy = RetryPolicy::waiting_up_to(Duration::from_secs(600), move |_, pause| {
            sender.send(pause).unwrap();
        });
        let pause = |seconds| {
            let error = too_many(seconds);
            policy.pause_before_retry(&error, Some(Duration::from_secs(seconds)), 1)
        };
        assert_eq!(pause(300), Some(Duration::from_secs(300)));
        assert_eq!(pause(299), Some(Duration::from_secs(299)));
        assert_eq!(notified.try_recv(), Ok(Duration::from_secs(300)));
        assert!(notified.try_recv().is_err());
        assert!(lock(&policy.paused_until).is_some_and(|until| until > Instant::now()));
        assert_eq!(pause(3600), None);
        assert!(notified.try_recv().is_err());
    }
}
