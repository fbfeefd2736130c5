//! Sends requests to one upstream, with this server's own credentials, and tracks its health.
//!
//! Limits on concurrency, timeouts, the circuit breaker and logging of failures are here; what to
//! request is not. Start reading at [`UpstreamClient`].

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use imgsync_oci::Repository;
use imgsync_oci::client::{self, Client, Credentials, TlsOptions, UrlScheme};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::circuit_breaker::CircuitBreaker;
use super::error::{UpstreamFailure, UpstreamFailureKind};
use super::files::{UpstreamConfigError, UpstreamFiles};
use super::internal_addresses::InternalAddressPolicy;
use super::metrics::UpstreamMetrics;
use crate::config::{Network, UpstreamConfig};

/// The `User-Agent` header. It differs from that of the tool, because this server assumes that the
/// tool never uses it as a mirror.
const USER_AGENT: &str = concat!("imgsync-server/", env!("CARGO_PKG_VERSION"));
/// Minimum time between two log messages about the same problem of an upstream.
const FAILURE_LOG_INTERVAL: Duration = Duration::from_secs(60);
/// Maximum number of concurrent blob downloads from one upstream.
const MAX_CONCURRENT_DOWNLOADS: usize = 8;
/// Maximum number of concurrent manifest fetches; each manifest may have 4 MiB.
const MAX_CONCURRENT_MANIFESTS: usize = 16;
/// Maximum number of blobs that are streamed to clients without being stored, at the same time.
const MAX_CONCURRENT_STREAMS: usize = 16;
/// Maximum number of concurrent requests that wait for response headers, or for a short response.
const MAX_CONCURRENT_REQUESTS: usize = 32;

/// An upstream, with its client and its state.
pub(super) struct UpstreamClient {
    pub(super) settings: UpstreamConfig,
    files: UpstreamFiles,
    /// The internal networks that the upstream may name.
    allowed_networks: Vec<Network>,
    client: Client,
    pub(super) breaker: CircuitBreaker,
    pub(super) metrics: Arc<UpstreamMetrics>,
    pub(super) download_permits: Semaphore,
    pub(super) manifest_permits: Semaphore,
    request_permits: Semaphore,
    /// Limits the blobs that are streamed to clients without being stored. They have their own
    /// permits, because a slow client holds one for as long as it reads.
    pub(super) stream_permits: Arc<Semaphore>,
    stale_log: LogThrottle,
    failure_log: LogThrottle,
    refusal_log: LogThrottle,
}

/// Limits how often a repeated problem is logged.
#[derive(Default)]
struct LogThrottle {
    last_logged: Mutex<Option<Instant>>,
    count: AtomicU64,
}

impl LogThrottle {
    /// Counts an event. Returns how many events happened since the last log message, or `None` if
    /// that message was logged recently.
    fn record(&self) -> Option<u64> {
        let before = self.count.fetch_add(1, Relaxed);
        let last_logged = self.last_logged.lock();
        let mut last_logged = last_logged.unwrap_or_else(PoisonError::into_inner);
        if last_logged.is_some_and(|time| time.elapsed() < FAILURE_LOG_INTERVAL) {
            return None;
        }
        *last_logged = Some(Instant::now());
        self.count.store(0, Relaxed);
        Some(before + 1)
    }
}

impl UpstreamClient {
    /// Returns a client for an upstream: the one in `before` if neither its settings nor its files
    /// changed, or else a new one.
    ///
    /// # Errors
    /// Returns an error if the files of the upstream cannot be read or used.
    pub(super) fn open(
        settings: &UpstreamConfig,
        allowed_networks: &[Network],
        before: &[Arc<Self>],
    ) -> Result<Arc<Self>, UpstreamConfigError> {
        let files = UpstreamFiles::read(settings)?;
        let old = before
            .iter()
            .find(|client| client.settings.name() == settings.name());
        let is_same = |old: &&Arc<Self>| {
            old.settings == *settings
                && old.files == files
                && old.allowed_networks == allowed_networks
        };
        if let Some(unchanged) = old.filter(is_same) {
            return Ok(Arc::clone(unchanged));
        }
        let setup_error = |reason: String| UpstreamConfigError::Setup {
            upstream: settings.name().to_owned(),
            reason,
        };
        let mut tls = TlsOptions::default().with_user_agent(USER_AGENT);
        if let Some(pem) = &files.ca_certificates {
            tls.add_ca_certificates(pem).map_err(setup_error)?;
        }
        if settings.is_insecure {
            tls = tls.without_verification();
        }
        let scheme = if settings.is_tls {
            UrlScheme::Https
        } else {
            UrlScheme::Http
        };
        let policy = Arc::new(InternalAddressPolicy {
            allowed: allowed_networks.to_vec(),
        });
        let client = Client::with_tls(&settings.remote, scheme, &tls)
            .and_then(|client| client.with_address_policy(policy, &tls))
            .map_err(|error| setup_error(error.to_string()))?;
        let credentials = settings.login.as_ref().zip(files.password.as_ref());
        let credentials = credentials.map(|(login, password)| Credentials::Password {
            username: login.username.clone(),
            password: password.0.clone(),
        });
        let name = settings.name().to_owned();
        let client = client
            .with_login(credentials, false)
            .with_cleartext_warning(move |host| {
                tracing::warn!(
                    upstream = name,
                    host,
                    "sending the password without encryption"
                );
            })
            // A client is waiting and may be served a stale answer instead, so do not retry.
            .with_max_attempts(1);
        Ok(Arc::new(Self {
            settings: settings.clone(),
            files,
            allowed_networks: allowed_networks.to_vec(),
            client,
            breaker: CircuitBreaker::default(),
            metrics: old.map(|old| Arc::clone(&old.metrics)).unwrap_or_default(),
            download_permits: Semaphore::new(MAX_CONCURRENT_DOWNLOADS),
            manifest_permits: Semaphore::new(MAX_CONCURRENT_MANIFESTS),
            request_permits: Semaphore::new(MAX_CONCURRENT_REQUESTS),
            stream_permits: Arc::new(Semaphore::new(MAX_CONCURRENT_STREAMS)),
            stale_log: LogThrottle::default(),
            failure_log: LogThrottle::default(),
            refusal_log: LogThrottle::default(),
        }))
    }

    /// Returns the HTTP client.
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Returns the address of the upstream. Cached content is marked with it.
    pub(super) fn address(&self) -> &str {
        self.settings.remote.as_str()
    }

    /// Reports whether the configuration allows fetching from this repository of the upstream.
    pub(super) fn is_allowed(&self, repository: &Repository) -> bool {
        let patterns = &self.settings.repositories;
        patterns.is_empty() || patterns.iter().any(|pattern| pattern.matches(repository))
    }

    /// Sends a request, with a time limit for all of it. Repeats the request once if the connection
    /// was lost, because an idle connection may have been closed.
    ///
    /// # Errors
    /// Returns the failure, which is already counted and reported to the circuit breaker.
    pub(super) async fn request<T, F>(
        &self,
        time_limit: Duration,
        mut send: impl FnMut() -> F,
    ) -> Result<T, UpstreamFailure>
    where
        F: Future<Output = Result<T, client::Error>>,
    {
        self.metrics.requests.fetch_add(1, Relaxed);
        let sending = async {
            // `acquire` fails only on a closed semaphore, and this one is never closed.
            let _permit = self.request_permits.acquire().await;
            match send().await {
                Err(client::Error::ConnectionLost { .. }) => send().await,
                result => result,
            }
        };
        let name = self.settings.name();
        let failure = match timeout(time_limit, sending).await {
            Ok(Ok(response)) => {
                self.breaker.record_success();
                self.metrics.record_success();
                return Ok(response);
            }
            Ok(Err(error)) => {
                // A refusal names the key that allows the address, so other failures must not keep
                // it out of the log.
                let log = match error {
                    client::Error::ForbiddenAddress { .. } => &self.refusal_log,
                    _ => &self.failure_log,
                };
                match log.record() {
                    Some(times) => {
                        tracing::warn!(times, "request to upstream {name} failed: {error}");
                    }
                    None => tracing::debug!("request to upstream {name} failed: {error}"),
                }
                UpstreamFailure::from_client(name, &error)
            }
            Err(_) => {
                let message = format!("no response within {} s", time_limit.as_secs());
                UpstreamFailure::new(name, UpstreamFailureKind::TimedOut, message)
            }
        };
        self.record_failure(&failure);
        Err(failure)
    }

    /// Counts a failure and reports it to the circuit breaker.
    pub(super) fn record_failure(&self, failure: &UpstreamFailure) {
        self.metrics.record_failure(failure);
        if failure.kind.is_upstream_wide() {
            self.breaker.record_failure(failure);
        } else {
            // The upstream did answer.
            self.breaker.record_success();
        }
    }

    /// Logs, at most once per interval, that stale answers are served.
    pub(super) fn log_stale(&self, failure: &UpstreamFailure) {
        if let Some(answers) = self.stale_log.record() {
            tracing::warn!(answers, "serving stale answers: {failure}");
        }
    }
}
