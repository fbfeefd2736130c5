//! Sends the entries of a queue to their receiver, one after the other.
//!
//! Start reading at [`Sender::run`].

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reqwest::Client;
use tokio::time::{Instant, sleep};

use super::delivery::{self, DeliveryError};
use super::queue::{EventQueue, QueueEntry};
use super::receiver::Receiver;
use crate::wall_clock::unix_now;

/// How often a failure is logged that lasts, with the same reason.
const FAILURE_LOG_INTERVAL: Duration = Duration::from_secs(60);
/// How long the sender waits after it could not read the queue.
const INTERNAL_BACKOFF: Duration = Duration::from_secs(1);

/// What became of the entries of a receiver since the start.
#[derive(Debug, Default)]
pub(super) struct DeliveryCounts {
    /// Entries that the receiver accepted.
    pub(super) delivered: AtomicU64,
    /// Entries that the receiver rejected, and that are not sent again.
    pub(super) rejected: AtomicU64,
    /// Attempts that failed.
    pub(super) failed_attempts: AtomicU64,
    last_error: Mutex<Option<String>>,
}

impl DeliveryCounts {
    /// Returns why the last attempt failed; `None` if it succeeded.
    pub(super) fn last_error(&self) -> Option<String> {
        self.lock_error().clone()
    }

    fn lock_error(&self) -> MutexGuard<'_, Option<String>> {
        self.last_error
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends the entries of one queue.
pub(super) struct Sender {
    pub(super) receiver: Receiver,
    pub(super) queue: Arc<EventQueue>,
    pub(super) counts: Arc<DeliveryCounts>,
    pub(super) client: Client,
}

impl Sender {
    /// Sends until the task is aborted. The entry that is being sent then is sent again later.
    pub(super) async fn run(self) {
        let mut attempts = self.receiver.attempts();
        let mut logged = LoggedFailure::default();
        let mut done = 0;
        loop {
            // Asked for again before each attempt: meanwhile, the entry may have been replaced.
            let entry = match self.next(done).await {
                Ok(Some(entry)) => entry,
                Ok(None) => {
                    self.queue.wait().await;
                    continue;
                }
                Err(reason) => {
                    self.report(&mut logged, format!("cannot read what waits: {reason}"));
                    sleep(INTERNAL_BACKOFF).await;
                    continue;
                }
            };
            match self.send(&entry).await {
                Ok(()) => {
                    self.counts.delivered.fetch_add(1, Relaxed);
                    *self.counts.lock_error() = None;
                    attempts.succeed();
                    done = entry.number;
                    if logged.end() {
                        tracing::info!("{}: events are delivered again", self.receiver.name);
                    }
                }
                Err(error) if self.receiver.gives_up(&error) => {
                    self.counts.failed_attempts.fetch_add(1, Relaxed);
                    *self.counts.lock_error() = Some(error.to_string());
                    self.counts.rejected.fetch_add(1, Relaxed);
                    done = entry.number;
                    tracing::error!(
                        "{} rejects a request, which is not repeated: {error}",
                        self.receiver.name
                    );
                }
                Err(error) => {
                    self.counts.failed_attempts.fetch_add(1, Relaxed);
                    self.report(&mut logged, error.to_string());
                    sleep(attempts.fail()).await;
                }
            }
        }
    }

    /// Returns the entry after `done`.
    ///
    /// # Errors
    /// The reason why the queue cannot be read.
    async fn next(&self, done: u64) -> Result<Option<QueueEntry>, String> {
        let queue = Arc::clone(&self.queue);
        let next = tokio::task::spawn_blocking(move || queue.next(done)).await;
        let next = next.map_err(|error| error.to_string())?;
        next.map_err(|error| error.to_string())
    }

    async fn send(&self, entry: &QueueEntry) -> Result<(), DeliveryError> {
        let Receiver { url, timeout, .. } = &self.receiver;
        let (headers, body) = self.receiver.request(&entry.text, unix_now());
        delivery::post(&self.client, url, &headers, &body, *timeout).await
    }

    /// Stores why the queue does not go on, and logs it if it was not logged lately.
    fn report(&self, logged: &mut LoggedFailure, reason: String) {
        *self.counts.lock_error() = Some(reason.clone());
        if logged.is_due(&reason) {
            tracing::warn!(
                waiting = self.queue.waiting(),
                "{}: cannot deliver events, trying again: {reason}",
                self.receiver.name
            );
            logged.0 = Some((Instant::now(), reason));
        }
    }
}

/// When a failure was last logged, and its reason.
#[derive(Default)]
struct LoggedFailure(Option<(Instant, String)>);

impl LoggedFailure {
    fn is_due(&self, reason: &str) -> bool {
        self.0
            .as_ref()
            .is_none_or(|(time, logged)| time.elapsed() >= FAILURE_LOG_INTERVAL || logged != reason)
    }

    /// Forgets the failure. Returns whether there was one.
    fn end(&mut self) -> bool {
        self.0.take().is_some()
    }
}
