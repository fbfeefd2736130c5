//! The bound on open connections, and who gives way when it is reached.
//!
//! This module must not decide which connection that is: `eviction` does. Start reading at
//! [`ConnectionPlaces::enter`].

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use super::eviction::{Candidate, choose_victim};
use crate::http::{ConnectionActivity, ConnectionStanding};

/// How often a new connection without a place looks for one that may be closed.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);
/// The shortest time between two warnings that all connections are in use.
const WARNING_INTERVAL: Duration = Duration::from_secs(60);

/// The open connections.
pub(super) struct ConnectionPlaces {
    limit: usize,
    open: Mutex<OpenConnections>,
    freed: Notify,
}

/// A place for one connection, which is free again when this value is dropped.
pub(super) struct ConnectionPlace {
    id: u64,
    eviction: Arc<Notify>,
    places: Arc<ConnectionPlaces>,
}

#[derive(Default)]
struct OpenConnections {
    next_id: u64,
    by_id: HashMap<u64, OpenConnection>,
    last_warning: Option<Instant>,
}

struct OpenConnection {
    activity: Arc<ConnectionActivity>,
    eviction: Arc<Notify>,
}

impl ConnectionPlaces {
    /// Creates places for `limit` connections.
    pub(super) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            limit,
            open: Mutex::default(),
            freed: Notify::new(),
        })
    }

    /// Waits for a place for a new connection. If there is none, another connection is closed,
    /// which can be the new one itself. `share` is the number of connections that each client may
    /// have while others need them.
    pub(super) async fn enter(
        self: &Arc<Self>,
        activity: &Arc<ConnectionActivity>,
        share: usize,
    ) -> ConnectionPlace {
        let (id, eviction) = self.add(activity);
        let place = ConnectionPlace {
            id,
            eviction,
            places: Arc::clone(self),
        };
        while !self.make_room(id, share) {
            // A timeout, because connections can be closed once they have been idle for a while.
            let _ = timeout(RETRY_INTERVAL, self.freed.notified()).await;
        }
        activity.restart_idle_time();
        place
    }

    fn add(&self, activity: &Arc<ConnectionActivity>) -> (u64, Arc<Notify>) {
        let mut open = self.lock();
        let id = open.next_id;
        open.next_id += 1;
        let eviction = Arc::new(Notify::new());
        let connection = OpenConnection {
            activity: Arc::clone(activity),
            eviction: Arc::clone(&eviction),
        };
        open.by_id.insert(id, connection);
        (id, eviction)
    }

    /// Closes a connection if there are more than the limit with the new one. Returns whether there
    /// are no more than the limit then.
    fn make_room(&self, new_id: u64, share: usize) -> bool {
        let mut open = self.lock();
        if open.by_id.len() <= self.limit {
            return true;
        }
        open.warn(self.limit);
        let candidates = open.by_id.iter().map(|(id, open)| Candidate {
            id: *id,
            client: open.activity.client(),
            // The server keeps the new connection waiting, so it is not idle.
            standing: if *id == new_id {
                ConnectionStanding::Working
            } else {
                open.activity.standing()
            },
        });
        let candidates: Vec<_> = candidates.collect();
        let victim = choose_victim(&candidates, share).and_then(|id| open.by_id.remove(&id));
        if let Some(victim) = &victim {
            victim.eviction.notify_one();
        }
        victim.is_some()
    }

    fn lock(&self) -> MutexGuard<'_, OpenConnections> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OpenConnections {
    /// Warns from time to time that all connections are in use.
    fn warn(&mut self, limit: usize) {
        let is_due = |last: Instant| last.elapsed() >= WARNING_INTERVAL;
        if self.last_warning.is_none_or(is_due) {
            self.last_warning = Some(Instant::now());
            tracing::warn!(
                "all {limit} connections are in use (imgsync.limits.connections): closing idle and \
                 stalled ones"
            );
        }
    }
}

impl ConnectionPlace {
    /// Waits until the connection must be closed for another one.
    pub(super) async fn evicted(&self) {
        self.eviction.notified().await;
    }
}

impl Drop for ConnectionPlace {
    fn drop(&mut self) {
        self.places.lock().by_id.remove(&self.id);
        self.places.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;
    use crate::client_address::ClientAddress;

    fn connection(client: [u8; 4]) -> Arc<ConnectionActivity> {
        let client = ClientAddress::Ipv4(client.into());
        Arc::new(ConnectionActivity::from_peer(Some(client)))
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_connection_takes_the_place_of_an_idle_one() {
        let places = ConnectionPlaces::new(2);
        let [first, second, third] = [1, 2, 3].map(|client| connection([192, 0, 2, client]));
        let first_place = places.enter(&first, 1).await;
        let second_place = places.enter(&second, 1).await;
        let began = Instant::now();
        let third_place = places.enter(&third, 1).await;
        // Each connection has some time for its request.
        assert_eq!(began.elapsed().as_secs(), 1);
        assert!(first_place.evicted().now_or_never().is_some());
        assert!(second_place.evicted().now_or_never().is_none());
        assert!(third_place.evicted().now_or_never().is_none());
        drop(first_place);
        assert_eq!(places.lock().by_id.len(), 2);
        drop((second_place, third_place));
        assert!(places.lock().by_id.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_over_its_share_takes_its_own_place_only() {
        let places = ConnectionPlaces::new(2);
        let mut held = Vec::new();
        for client in [1, 2] {
            held.push(places.enter(&connection([192, 0, 2, client]), 1).await);
        }
        let began = Instant::now();
        let other = places.enter(&connection([192, 0, 2, 1]), 1).await;
        assert_eq!(began.elapsed(), Duration::ZERO);
        let evicted: Vec<_> = held
            .iter()
            .chain([&other])
            .map(|place| place.evicted().now_or_never().is_some())
            .collect();
        assert_eq!(evicted, [true, false, false]);
    }
}
