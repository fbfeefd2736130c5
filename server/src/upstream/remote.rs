//! One upstream: the client that speaks to it, with this server's login and nobody else's, and
//! what is known of how it fares.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use imgsync_oci::Repository;
use imgsync_oci::client::{self, Client, Credentials, Scheme, Tls};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::breaker::Breaker;
use super::counts::RemoteCounts;
use super::error::{Failed, Kind};
use super::files::{Files, OpenError};
use crate::config::Upstream;

/// What it is called by those whom it asks: not the tool, which never asks a mirror.
const AGENT: &str = concat!("imgsync-server/", env!("CARGO_PKG_VERSION"));
/// How often the same trouble with one upstream is told.
const QUIET: Duration = Duration::from_secs(60);
/// How many blobs are fetched from one upstream at a time.
const DOWNLOADS: usize = 8;
/// How many manifests, each of which may have 4 MiB.
const MANIFESTS: usize = 16;
/// How many questions wait for the heads of their answers, or for all of a short one.
const QUESTIONS: usize = 32;

/// An upstream.
pub(super) struct Remote {
    pub(super) settings: Upstream,
    files: Files,
    client: Client,
    pub(super) breaker: Breaker,
    pub(super) counts: Arc<RemoteCounts>,
    pub(super) downloads: Semaphore,
    pub(super) manifests: Semaphore,
    questions: Semaphore,
    stale: Quiet,
    trouble: Quiet,
}

/// Keeps the log short while an upstream has trouble.
#[derive(Default)]
struct Quiet {
    told: Mutex<Option<Instant>>,
    since: AtomicU64,
}

impl Quiet {
    /// How often something happened since it was last told; `None` where that is not long ago.
    fn count(&self) -> Option<u64> {
        let before = self.since.fetch_add(1, Relaxed);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_some_and(|told| told.elapsed() < QUIET) {
            return None;
        }
        *told = Some(Instant::now());
        self.since.store(0, Relaxed);
        Some(before + 1)
    }
}

impl Remote {
    /// An upstream; the one that was there before, where it is still the same.
    ///
    /// # Errors
    /// Its files cannot be read or used.
    pub(super) fn open(settings: &Upstream, before: &[Arc<Self>]) -> Result<Arc<Self>, OpenError> {
        let files = Files::read(settings)?;
        let named = before
            .iter()
            .find(|it| it.settings.name() == settings.name());
        if let Some(same) = named.filter(|it| it.settings == *settings && it.files == files) {
            return Ok(Arc::clone(same));
        }
        let setup = |what: String| OpenError::Setup {
            upstream: settings.name().to_owned(),
            what,
        };
        let mut tls = Tls::default().called(AGENT);
        if let Some(pem) = &files.authorities {
            tls.trust(pem).map_err(setup)?;
        }
        if settings.is_insecure {
            tls = tls.unchecked();
        }
        let scheme = match settings.is_tls {
            true => Scheme::Https,
            false => Scheme::Http,
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
            .warning(move |host| {
                tracing::warn!(
                    upstream = name,
                    host,
                    "the password goes there without encryption"
                );
            })
            // Somebody is waiting, and may have a stale answer instead.
            .with_tries(1);
        Ok(Arc::new(Self {
            settings: settings.clone(),
            files,
            client,
            breaker: Breaker::default(),
            counts: named.map(|it| Arc::clone(&it.counts)).unwrap_or_default(),
            downloads: Semaphore::new(DOWNLOADS),
            manifests: Semaphore::new(MANIFESTS),
            questions: Semaphore::new(QUESTIONS),
            stale: Quiet::default(),
            trouble: Quiet::default(),
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
    pub(super) fn allows(&self, repository: &Repository) -> bool {
        let patterns = &self.settings.repositories;
        patterns.is_empty() || patterns.iter().any(|pattern| pattern.matches(repository))
    }

    /// Asks, for at most `time`; once more at once where a connection turns out to be dead.
    ///
    /// # Errors
    /// It failed, which is counted, remembered, and logged.
    pub(super) async fn ask<T, F>(
        &self,
        time: Duration,
        mut question: impl FnMut() -> F,
    ) -> Result<T, Failed>
    where
        F: Future<Output = Result<T, client::Error>>,
    {
        self.counts.requests.fetch_add(1, Relaxed);
        let asking = async {
            // Fails only where the semaphore is closed, and it never is.
            let _turn = self.questions.acquire().await;
            match question().await {
                Err(client::Error::Broken { .. }) => question().await,
                answer => answer,
            }
        };
        let failed = match timeout(time, asking).await {
            Ok(Ok(answer)) => {
                self.breaker.worked();
                return Ok(answer);
            }
            Ok(Err(error)) => {
                match self.trouble.count() {
                    Some(times) => {
                        tracing::warn!(times, "{} failed: {error}", self.settings.name());
                    }
                    None => tracing::debug!("an upstream failed: {error}"),
                }
                Failed::of_client(self.settings.name(), &error)
            }
            Err(_) => {
                let what = format!("did not answer within {} s", time.as_secs());
                Failed::new(self.settings.name(), Kind::Slow, what)
            }
        };
        self.failed(&failed);
        Err(failed)
    }

    /// Takes note of a failure.
    pub(super) fn failed(&self, failed: &Failed) {
        self.counts.failed(failed.kind);
        match failed.kind.is_general() {
            true => self.breaker.failed(failed),
            // It did answer.
            false => self.breaker.worked(),
        }
    }

    /// Says, now and then, that answers are stale.
    pub(super) fn tell_stale(&self, failed: &Failed) {
        if let Some(answers) = self.stale.count() {
            tracing::warn!(answers, "stale answers are served: {failed}");
        }
    }
}
