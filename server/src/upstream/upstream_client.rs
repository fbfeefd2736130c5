//! One upstream: the client that speaks to it, with this server's login and nobody else's, and
//! what is known of how it fares.

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
use super::metrics::UpstreamMetrics;
use crate::config::UpstreamConfig;

/// What it is called by those whom it asks: not the tool, which never asks a mirror.
const USER_AGENT: &str = concat!("imgsync-server/", env!("CARGO_PKG_VERSION"));
/// How often the same trouble with one upstream is told.
const FAILURE_LOG_INTERVAL: Duration = Duration::from_secs(60);
/// How many blobs are fetched from one upstream at a time.
const MAX_CONCURRENT_DOWNLOADS: usize = 8;
/// How many manifests, each of which may have 4 MiB.
const MAX_CONCURRENT_MANIFESTS: usize = 16;
/// How many questions wait for the heads of their answers, or for all of a short one.
const MAX_CONCURRENT_REQUESTS: usize = 32;

/// An upstream.
pub(super) struct UpstreamClient {
    pub(super) settings: UpstreamConfig,
    files: UpstreamFiles,
    client: Client,
    pub(super) breaker: CircuitBreaker,
    pub(super) metrics: Arc<UpstreamMetrics>,
    pub(super) download_permits: Semaphore,
    pub(super) manifest_permits: Semaphore,
    request_permits: Semaphore,
    stale_log: LogThrottle,
    failure_log: LogThrottle,
}

/// Keeps the log short while an upstream has trouble.
#[derive(Default)]
struct LogThrottle {
    last_logged: Mutex<Option<Instant>>,
    count: AtomicU64,
}

impl LogThrottle {
    /// How often something happened since it was last told; `None` where that is not long ago.
    fn record(&self) -> Option<u64> {
        let before = self.count.fetch_add(1, Relaxed);
        let mut told = self
            .last_logged
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if told.is_some_and(|told| told.elapsed() < FAILURE_LOG_INTERVAL) {
            return None;
        }
        *told = Some(Instant::now());
        self.count.store(0, Relaxed);
        Some(before + 1)
    }
}

impl UpstreamClient {
    /// An upstream; the one that was there before, where it is still the same.
    ///
    /// # Errors
    /// Its files cannot be read or used.
    pub(super) fn open(
        settings: &UpstreamConfig,
        before: &[Arc<Self>],
    ) -> Result<Arc<Self>, UpstreamConfigError> {
        let files = UpstreamFiles::read(settings)?;
        let named = before
            .iter()
            .find(|it| it.settings.name() == settings.name());
        if let Some(same) = named.filter(|it| it.settings == *settings && it.files == files) {
            return Ok(Arc::clone(same));
        }
        let setup = |what: String| UpstreamConfigError::Setup {
            upstream: settings.name().to_owned(),
            reason: what,
        };
        let mut tls = TlsOptions::default().with_user_agent(USER_AGENT);
        if let Some(pem) = &files.ca_certificates {
            tls.add_ca_certificates(pem).map_err(setup)?;
        }
        if settings.is_insecure {
            tls = tls.without_verification();
        }
        let scheme = match settings.is_tls {
            true => UrlScheme::Https,
            false => UrlScheme::Http,
        };
        let client = Client::with_tls(&settings.remote, scheme, &tls)
            .map_err(|error| setup(error.to_string()))?;
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
                    "the password goes there without encryption"
                );
            })
            // Somebody is waiting, and may have a stale answer instead.
            .with_max_attempts(1);
        Ok(Arc::new(Self {
            settings: settings.clone(),
            files,
            client,
            breaker: CircuitBreaker::default(),
            metrics: named.map(|it| Arc::clone(&it.metrics)).unwrap_or_default(),
            download_permits: Semaphore::new(MAX_CONCURRENT_DOWNLOADS),
            manifest_permits: Semaphore::new(MAX_CONCURRENT_MANIFESTS),
            request_permits: Semaphore::new(MAX_CONCURRENT_REQUESTS),
            stale_log: LogThrottle::default(),
            failure_log: LogThrottle::default(),
        }))
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// The name under which what comes from it is marked: where it is.
    pub(super) fn address(&self) -> &str {
        self.settings.remote.as_str()
    }

    /// Whether the operator wants anything fetched from this repository of it.
    pub(super) fn is_allowed(&self, repository: &Repository) -> bool {
        let patterns = &self.settings.repositories;
        patterns.is_empty() || patterns.iter().any(|pattern| pattern.matches(repository))
    }

    /// Asks, for at most `time`; once more at once where a connection turns out to be dead.
    ///
    /// # Errors
    /// It failed, which is counted, remembered, and logged.
    pub(super) async fn request<T, F>(
        &self,
        time: Duration,
        mut question: impl FnMut() -> F,
    ) -> Result<T, UpstreamFailure>
    where
        F: Future<Output = Result<T, client::Error>>,
    {
        self.metrics.requests.fetch_add(1, Relaxed);
        let asking = async {
            // Fails only where the semaphore is closed, and it never is.
            let _turn = self.request_permits.acquire().await;
            match question().await {
                Err(client::Error::ConnectionLost { .. }) => question().await,
                answer => answer,
            }
        };
        let failed = match timeout(time, asking).await {
            Ok(Ok(answer)) => {
                self.breaker.record_success();
                return Ok(answer);
            }
            Ok(Err(error)) => {
                match self.failure_log.record() {
                    Some(times) => {
                        tracing::warn!(times, "{} failed: {error}", self.settings.name());
                    }
                    None => tracing::debug!("an upstream failed: {error}"),
                }
                UpstreamFailure::from_client(self.settings.name(), &error)
            }
            Err(_) => {
                let what = format!("did not answer within {} s", time.as_secs());
                UpstreamFailure::new(self.settings.name(), UpstreamFailureKind::TimedOut, what)
            }
        };
        self.record_failure(&failed);
        Err(failed)
    }

    /// Takes note of a failure.
    pub(super) fn record_failure(&self, failed: &UpstreamFailure) {
        self.metrics.record_failure(failed.kind);
        match failed.kind.is_upstream_wide() {
            true => self.breaker.record_failure(failed),
            // It did answer.
            false => self.breaker.record_success(),
        }
    }

    /// Says, now and then, that answers are stale.
    pub(super) fn log_stale(&self, failed: &UpstreamFailure) {
        if let Some(answers) = self.stale_log.record() {
            tracing::warn!(answers, "stale answers are served: {failed}");
        }
    }
}
