//! How much a registry allows to be asked, and waiting where it was too much.
//!
//! Docker Hub counts manifests that are read, and tells with `ratelimit-limit` and
//! `ratelimit-remaining`, as `100;w=21600`: a hundred in six hours ("Docker Hub usage and
//! limits"). HEAD is not counted.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::{HeaderMap, HeaderName, StatusCode};
use tokio::time::Instant;

use super::retry::backoff;
use super::{Client, Error, RetryVerdict, response_headers};

/// The number of requests that a registry last said that it allows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RateLimit {
    /// So many in a window.
    pub limit: Option<u64>,
    /// So many are left.
    pub remaining: Option<u64>,
    /// How long a window is.
    pub window: Option<Duration>,
}

type RetryNotifier = Box<dyn Fn(&Error, Duration) + Send + Sync>;

/// What all clients of one registry share of its patience.
#[derive(Default)]
pub struct RetryPolicy {
    rate_limit: Mutex<Option<RateLimit>>,
    /// Nothing is asked before.
    paused_until: Mutex<Option<Instant>>,
    wait_limit: Option<WaitLimit>,
    /// Is told of the first fault that lasts.
    notify_once: Mutex<Option<RetryNotifier>>,
}

struct WaitLimit {
    max_wait: Duration,
    notify: RetryNotifier,
}

impl std::fmt::Debug for RetryPolicy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Quota")
            .field("seen", &self.rate_limit)
            .finish_non_exhaustive()
    }
}

impl RetryPolicy {
    /// One that waits as long as a registry asks for with `Retry-After`, all clients together, and
    /// says so to `told`; where that is more than `longest` the error counts at once. Without this
    /// at most half a minute is waited for, and nothing said.
    pub fn waiting_up_to(
        longest: Duration,
        told: impl Fn(&Error, Duration) + Send + Sync + 'static,
    ) -> Self {
        let told = Box::new(told);
        Self {
            wait_limit: Some(WaitLimit {
                max_wait: longest,
                notify: told,
            }),
            ..Self::default()
        }
    }

    /// One that says once to `told` that something is tried again, and why: when a request has failed
    /// for the second time. Else nobody would know for long what is waited for.
    pub fn with_notifier(told: impl Fn(&Error, Duration) + Send + Sync + 'static) -> Self {
        Self {
            notify_once: Mutex::new(Some(Box::new(told))),
            ..Self::default()
        }
    }

    /// What the registry last said of its limit.
    pub fn rate_limit(&self) -> Option<RateLimit> {
        *lock(&self.rate_limit)
    }

    /// Takes note of what an answer says of the limit.
    pub(super) fn record_rate_limit(&self, headers: &HeaderMap) {
        if let Some(said) = RateLimit::from_headers(headers) {
            *lock(&self.rate_limit) = Some(said);
        }
    }

    /// How long to wait before the next try after `failures` of them; `None` where it is not worth
    /// it.
    fn pause_before_retry(
        &self,
        error: &Error,
        asked: Option<Duration>,
        failures: u32,
    ) -> Option<Duration> {
        let (Some(patience), Some(asked)) = (&self.wait_limit, asked) else {
            let pause = backoff(failures, asked);
            if failures > 1
                && let Some(told) = lock(&self.notify_once).take()
            {
                told(error, pause);
            }
            return Some(pause);
        };
        if asked > patience.max_wait {
            return None;
        }
        // A whole host's limit, not one request's: nobody else need run into it, and who did is
        // told once.
        if error.status() == Some(StatusCode::TOO_MANY_REQUESTS) {
            const SAME_DEADLINE_TOLERANCE: Duration = Duration::from_secs(1);
            let end = Instant::now() + asked;
            let mut until = lock(&self.paused_until);
            if until.is_some_and(|until| until + SAME_DEADLINE_TOLERANCE > end) {
                return Some(asked);
            }
            *until = Some(end);
        }
        (patience.notify)(error, asked);
        Some(asked)
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
    /// The same client, which shares what it learns of its registry's limits, and waits as
    /// `quota` says.
    pub fn with_retry_policy(self, quota: std::sync::Arc<RetryPolicy>) -> Self {
        Self {
            retry_policy: quota,
            ..self
        }
    }

    /// The same client, which sends a small request at most so often before its fault counts;
    /// seven times without this.
    pub fn with_max_attempts(self, tries: u32) -> Self {
        Self {
            max_attempts: tries,
            ..self
        }
    }

    /// What the registry last said of how much may be asked of it, on any answer to this client
    /// or its clones.
    pub fn rate_limit(&self) -> Option<RateLimit> {
        self.retry_policy.rate_limit()
    }

    /// Repeats `attempt` until it succeeds, fails for good, or has failed too often.
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
                RetryVerdict::After(asked) if failures < self.max_attempts => self
                    .retry_policy
                    .pause_before_retry(&error, asked, failures),
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

    fn said(pairs: &[(&'static str, &str)]) -> Option<RateLimit> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.insert(*name, value.parse().unwrap());
        }
        RateLimit::from_headers(&headers)
    }

    #[test]
    fn limits_as_registries_write_them() {
        let hub = [
            ("ratelimit-limit", "100;w=21600"),
            ("ratelimit-remaining", "76;w=21600"),
        ];
        let read = RateLimit {
            limit: Some(100),
            remaining: Some(76),
            window: Some(Duration::from_secs(21600)),
        };
        assert_eq!(said(&hub), Some(read));
        let bare = said(&[("ratelimit-remaining", "5")]).unwrap();
        assert_eq!(
            (bare.remaining, bare.limit, bare.window),
            (Some(5), None, None)
        );
        assert_eq!(said(&[("ratelimit-limit", "many")]), None);
        assert_eq!(said(&[]), None);
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
            account: None,
        }
    }

    #[test]
    fn a_fault_that_lasts_is_told_once() {
        let (told, heard) = std::sync::mpsc::channel();
        let quota = RetryPolicy::with_notifier(move |error, _| told.send(error.status()).unwrap());
        let counts = [1, 1, 2, 3, 1, 2].map(|failures| {
            assert!(
                quota
                    .pause_before_retry(&too_many(1), None, failures)
                    .is_some()
            );
            heard.try_iter().count()
        });
        assert_eq!(counts, [0, 0, 1, 0, 0, 0]);
    }

    #[tokio::test]
    async fn waits_as_long_as_it_is_asked_to_and_says_so_or_gives_up() {
        let (told, heard) = std::sync::mpsc::channel();
        let quota = RetryPolicy::waiting_up_to(Duration::from_secs(600), move |_, pause| {
            told.send(pause).unwrap();
        });
        let pause = |seconds| {
            let error = too_many(seconds);
            quota.pause_before_retry(&error, Some(Duration::from_secs(seconds)), 1)
        };
        assert_eq!(pause(300), Some(Duration::from_secs(300)));
        assert_eq!(pause(299), Some(Duration::from_secs(299)));
        assert_eq!(heard.try_recv(), Ok(Duration::from_secs(300)));
        assert!(heard.try_recv().is_err());
        assert!(lock(&quota.paused_until).is_some_and(|until| until > Instant::now()));
        assert_eq!(pause(3600), None);
        assert!(heard.try_recv().is_err());
    }
}
