//! Tells receivers what happens in the registry: the endpoints of `notifications`, and webhooks.
//!
//! A change becomes an entry in the queue of each receiver that gets it; one task for each queue
//! sends the entries. This module knows neither requests nor responses of clients: `http` says what
//! has changed. Start reading at [`Events::record`].

mod attempts;
mod change;
mod delivery;
mod document;
mod order;
mod queue;
mod receiver;
mod sender;
mod signature;
mod source;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use arc_swap::ArcSwap;
use imgsync_oci::{Descriptor, Manifest, Repository};
use jiff::Timestamp;
use tokio::task::AbortHandle;
use tokio::time::sleep;
use uuid::Uuid;

pub(crate) use self::change::{ChangeAction, RegistryChange, RequestFacts};
pub(crate) use self::order::OrderGuard;
pub use self::receiver::ReceiverError;

use self::document::{EventSource, EventText};
use self::order::OrderLocks;
use self::queue::{EventQueue, Importance};
use self::receiver::{ConfiguredReceivers, Receiver};
use self::sender::{DeliveryCounts, Sender};
use crate::config::Config;
use crate::registry::Registry;
use crate::store::{self, QueueFiles, Store};
use crate::wall_clock;

/// The time between two writes of entries that are not durable, and between two looks at losses.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(1);
/// How long the queue of a receiver is kept, at least, that is not in the configuration. It is removed
/// at the first start or reload after that.
const MAX_UNUSED_QUEUE_AGE: Duration = Duration::from_secs(7 * 24 * 3600);

/// How often, in seconds, it is logged that events cannot be stored.
const FAILURE_LOG_SECONDS: u64 = 60;

/// All receivers with their queues. Clones share all state.
#[derive(Clone)]
pub(crate) struct Events(Arc<EventsState>);

struct EventsState {
    store: Arc<Store>,
    source: EventSource,
    subscriptions: ArcSwap<Vec<Arc<Subscription>>>,
    includes_references: AtomicBool,
    order: OrderLocks,
}

/// A receiver with its queue, and the task that sends its entries.
struct Subscription {
    receiver: Receiver,
    queue: Arc<EventQueue>,
    counts: Arc<DeliveryCounts>,
    /// How many lost entries were logged.
    logged_losses: AtomicU64,
    /// When it was last logged that entries cannot be stored, in Unix seconds.
    failure_logged_at: AtomicU64,
    task: AbortHandle,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A receiver, as `status` and the metrics show it.
#[derive(Debug, Clone)]
pub(crate) struct ReceiverStatus {
    /// The name.
    pub(crate) name: String,
    /// How many entries wait.
    pub(crate) waiting: u64,
    /// How many entries were added since the start.
    pub(crate) added: u64,
    /// How many entries the receiver accepted since the start.
    pub(crate) delivered: u64,
    /// How many attempts failed since the start.
    pub(crate) failed_attempts: u64,
    /// How many entries the receiver rejected since the start. They are not sent again.
    pub(crate) rejected: u64,
    /// How many entries were lost since the start, because too many waited or their file is damaged.
    pub(crate) lost: u64,
    /// Why the last attempt failed; `None` if it succeeded.
    pub(crate) error: Option<String>,
}

impl Events {
    /// Opens the queues of all receivers, and starts to send what waits. Blocks on the disk; must be
    /// called within a runtime.
    ///
    /// # Errors
    /// A receiver cannot be set up.
    pub(crate) fn open(registry: &Registry, config: &Config) -> Result<Self, ReceiverError> {
        let events = Self(Arc::new(EventsState {
            store: Arc::clone(registry.store()),
            source: source::this_server(&config.http.listen_address),
            subscriptions: ArcSwap::default(),
            includes_references: AtomicBool::default(),
            order: OrderLocks::default(),
        }));
        events.reload(config)?;
        Ok(events)
    }

    /// Checks the receivers of a configuration.
    ///
    /// # Errors
    /// A receiver cannot be set up.
    pub(crate) fn check(config: &Config) -> Result<(), ReceiverError> {
        for receiver in ConfiguredReceivers::of(config)?.active {
            receiver.client()?;
        }
        Ok(())
    }

    /// Applies a new configuration. What waits for a receiver is kept, also if its address has
    /// changed. Blocks on the disk; must be called within a runtime.
    ///
    /// # Errors
    /// A receiver cannot be set up. Nothing is changed then.
    pub(crate) fn reload(&self, config: &Config) -> Result<(), ReceiverError> {
        let state = &self.0;
        let configured = ConfiguredReceivers::of(config)?;
        let old = state.subscriptions.load_full();
        let mut prepared = Vec::new();
        for receiver in configured.active {
            let old = old
                .iter()
                .find(|old| old.receiver.queue_name == receiver.queue_name);
            prepared.push((receiver.client()?, receiver, old));
        }
        let mut subscriptions = Vec::new();
        for (client, receiver, old) in prepared {
            subscriptions.push(match old {
                Some(old) if old.receiver == receiver => Arc::clone(old),
                _ => Arc::new(self.subscribe(receiver, client, old.map(Arc::as_ref))),
            });
        }
        let used = subscriptions.iter();
        let used = used.map(|subscription| subscription.receiver.queue_name.clone());
        let used = used.chain(configured.disabled_queues).collect();
        let includes_references = config.notifications.includes_references;
        state
            .includes_references
            .store(includes_references, Relaxed);
        state.subscriptions.store(Arc::new(subscriptions));
        self.remove_unused_queues(&used);
        Ok(())
    }

    /// Starts to send to a receiver. `old` is what it replaces.
    fn subscribe(
        &self,
        receiver: Receiver,
        client: reqwest::Client,
        old: Option<&Subscription>,
    ) -> Subscription {
        let (queue, counts, logged) = match old {
            Some(old) => {
                old.task.abort();
                let logged = old.logged_losses.load(Relaxed);
                (Arc::clone(&old.queue), Arc::clone(&old.counts), logged)
            }
            None => {
                let files = self.0.store.queue_files(&receiver.queue_name);
                let queue = EventQueue::open(&receiver.name, files, receiver.entry_key());
                (Arc::new(queue), Arc::default(), 0)
            }
        };
        let waiting = queue.waiting();
        if waiting > 0 {
            tracing::info!(waiting, "{}: sending the events that wait", receiver.name);
        }
        let sender = Sender {
            receiver: receiver.clone(),
            queue: Arc::clone(&queue),
            counts: Arc::clone(&counts),
            client,
        };
        Subscription {
            receiver,
            queue,
            counts,
            logged_losses: logged.into(),
            failure_logged_at: AtomicU64::default(),
            task: tokio::spawn(sender.run()).abort_handle(),
        }
    }

    /// Removes the queues of receivers that have not been in the configuration for a week. Logs what
    /// waits for the others, because the queue of a webhook belongs to its URL.
    fn remove_unused_queues(&self, used: &HashSet<String>) {
        let store = &self.0.store;
        if !store.is_writable() {
            return;
        }
        let names = store.queue_names().unwrap_or_default();
        for name in names.iter().filter(|name| !used.contains(*name)) {
            let files = store.queue_files(name);
            let removed = files.changed_at().and_then(|changed| {
                let age = changed.and_then(|time| wall_clock::now().duration_since(time).ok());
                if age.is_none_or(|age| age < MAX_UNUSED_QUEUE_AGE) {
                    return warn_about_waiting(files);
                }
                tracing::info!("removing the events of a receiver that is not configured any more");
                store.queue_files(name).remove()
            });
            if let Err(error) = removed {
                tracing::warn!(%error, "cannot remove the events of an old receiver");
            }
        }
    }

    /// Returns whether there are receivers.
    pub(crate) fn is_active(&self) -> bool {
        !self.0.subscriptions.load().is_empty()
    }

    /// Returns the descriptors in a manifest, if events contain them.
    pub(crate) fn references(&self, manifest: &[u8]) -> Vec<Descriptor> {
        if !self.is_active() || !self.0.includes_references.load(Relaxed) {
            return Vec::new();
        }
        match Manifest::parse(manifest, None) {
            Ok((_, Manifest::Image { config, layers, .. })) => {
                std::iter::once(config).chain(layers).collect()
            }
            Ok((_, Manifest::Index { manifests, .. })) => manifests,
            Err(_) => Vec::new(),
        }
    }

    /// Waits until no other request changes the repository. Changes of which the guard is held from
    /// before the change until it is recorded are sent in their order.
    pub(crate) async fn order(&self, repository: &Repository) -> Option<OrderGuard> {
        if !self.is_active() {
            return None;
        }
        Some(self.0.order.lock(repository).await)
    }

    /// Tells the receivers of changes. When this returns, the entries about everything but pulls are
    /// durable. If they cannot be stored, this is logged, and they wait in memory.
    pub(crate) async fn record(&self, request: &RequestFacts, changes: &[RegistryChange]) {
        let subscriptions = self.0.subscriptions.load_full();
        let mut unsynced = Vec::new();
        for change in changes {
            let text = EventText {
                id: Uuid::new_v4().to_string(),
                time: time_text(),
                change,
                request,
                source: &self.0.source,
            };
            let importance = match change.action {
                ChangeAction::Pull => Importance::BestEffort,
                ChangeAction::Push | ChangeAction::Mount | ChangeAction::Delete => {
                    Importance::Durable
                }
            };
            for subscription in subscriptions.iter() {
                let Some(entry) = subscription.receiver.entry(&text) else {
                    continue;
                };
                subscription.queue.add(entry, importance);
                if importance == Importance::Durable {
                    unsynced.push(Arc::clone(subscription));
                }
            }
        }
        if unsynced.is_empty() {
            return;
        }
        unsynced.sort_unstable_by_key(Arc::as_ptr);
        unsynced.dedup_by_key(|subscription| Arc::as_ptr(subscription));
        let flushed = tokio::task::spawn_blocking(move || {
            for subscription in unsynced {
                subscription.flush(true);
            }
        });
        if let Err(error) = flushed.await {
            tracing::error!(%error, "cannot store events");
        }
    }

    /// Writes what waits in memory and logs losses, at every interval. Runs until aborted.
    pub(crate) async fn run_upkeep(self) {
        loop {
            sleep(UPKEEP_INTERVAL).await;
            let events = self.clone();
            let upkeep = tokio::task::spawn_blocking(move || events.write_waiting());
            if let Err(error) = upkeep.await {
                tracing::error!(%error, "cannot store events");
            }
        }
    }

    /// Writes what waits in memory, and logs losses. Blocks on the disk.
    pub(crate) fn write_waiting(&self) {
        for subscription in self.0.subscriptions.load().iter() {
            if subscription.queue.has_unwritten() {
                subscription.flush(false);
            }
            subscription.log_losses();
        }
    }

    /// Returns all receivers.
    pub(crate) fn status(&self) -> Vec<ReceiverStatus> {
        let subscriptions = self.0.subscriptions.load();
        let status = subscriptions.iter().map(|subscription| {
            let Subscription { queue, counts, .. } = subscription.as_ref();
            ReceiverStatus {
                name: subscription.receiver.name.clone(),
                waiting: queue.waiting(),
                added: queue.added(),
                delivered: counts.delivered.load(Relaxed),
                failed_attempts: counts.failed_attempts.load(Relaxed),
                rejected: counts.rejected.load(Relaxed),
                lost: queue.lost(),
                error: counts.last_error(),
            }
        });
        status.collect()
    }
}

impl Subscription {
    fn flush(&self, is_synced: bool) {
        let Err(error) = self.queue.flush(is_synced) else {
            return;
        };
        let (now, last) = (wall_clock::unix_now(), &self.failure_logged_at);
        if now.saturating_sub(last.load(Relaxed)) >= FAILURE_LOG_SECONDS {
            last.store(now, Relaxed);
            let name = &self.receiver.name;
            tracing::error!("{name}: cannot store events, which wait in memory now: {error}");
        }
    }

    fn log_losses(&self) {
        let lost = self.queue.lost();
        let logged = self.logged_losses.swap(lost, Relaxed);
        if lost > logged {
            let (lost, waiting) = (lost - logged, self.queue.waiting());
            let name = &self.receiver.name;
            tracing::error!(
                lost,
                waiting,
                "{name}: events are lost, because too many wait or their file is damaged"
            );
        }
    }
}

/// Logs how many events wait for a receiver that is not configured.
fn warn_about_waiting(files: QueueFiles) -> Result<(), store::Error> {
    let waiting = queue::waiting_in(files)?;
    if waiting > 0 {
        tracing::warn!(
            waiting,
            "events wait for a receiver that is not configured any more, for example because its URL \
             has changed: they are kept for a week, and sent if it is configured again"
        );
    }
    Ok(())
}

/// Returns the current time in RFC 3339, with nanoseconds.
fn time_text() -> String {
    let now = Timestamp::try_from(wall_clock::now());
    now.unwrap_or(Timestamp::MAX).to_string()
}
