//! Tracks the activity of one connection, to distinguish a slow client from a disconnected one, and
//! a client that makes the server wait from one that waits for the server.
//!
//! This module must not close the connection: `listen` does. Start reading at
//! [`ConnectionActivity`].

mod request;
mod timeouts;

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::Version;
use tokio::time::Instant;

pub(super) use self::request::{DrainGuard, RequestActivity, RequestGuard};
pub(crate) use self::timeouts::{CloseReason, ConnectionTimeouts};

use crate::client_address::ClientAddress;

/// The bytes that count as progress of a request or response. HTTP/2 sends fewer to answer pings
/// while its streams are blocked.
const MIN_PROGRESS_BYTES: u64 = 512;

/// The counters of one connection.
pub(crate) struct ConnectionActivity {
    began: Instant,
    /// The peer, unless it is a trusted proxy.
    peer: Option<ClientAddress>,
    /// The client of the running request, if a trusted proxy names it.
    forwarded_client: Mutex<Option<ClientAddress>>,
    /// The bytes that the socket accepted.
    written: AtomicU64,
    /// Whether the socket accepts no more bytes for now.
    is_blocked: AtomicBool,
    /// Whether the last request used HTTP/1.
    is_http1: AtomicBool,
    /// All requests so far.
    requests: AtomicU64,
    /// The requests that are not complete.
    running: AtomicUsize,
    /// The responses that are being sent.
    running_responses: AtomicUsize,
    /// The requests that wait for the server, not for the client.
    working: AtomicUsize,
    /// The request bodies that are read and dropped after their response.
    draining: AtomicUsize,
    /// The bytes in both directions since the last progress.
    bytes_since_progress: AtomicU64,
    /// The time of the last progress, in milliseconds after `began`.
    progress_ms: AtomicU64,
    /// The time of the first byte of a request head that is not complete, in milliseconds after
    /// `began`; 0 if there is none.
    head_ms: AtomicU64,
}

/// The state of a connection that could be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConnectionStanding {
    /// The connection has had no request for this long.
    Idle(Duration),
    /// All its requests have waited for the client for this long, without progress.
    Waiting(Duration),
    /// The server works on one of its requests.
    Working,
}

impl Default for ConnectionActivity {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            peer: None,
            forwarded_client: Mutex::default(),
            written: AtomicU64::default(),
            is_blocked: AtomicBool::default(),
            is_http1: AtomicBool::default(),
            requests: AtomicU64::default(),
            running: AtomicUsize::default(),
            running_responses: AtomicUsize::default(),
            working: AtomicUsize::default(),
            draining: AtomicUsize::default(),
            bytes_since_progress: AtomicU64::default(),
            progress_ms: AtomicU64::default(),
            head_ms: AtomicU64::default(),
        }
    }
}

impl ConnectionActivity {
    /// Creates the counters of a connection from a peer; `None` is a peer that serves many clients.
    pub(crate) fn from_peer(peer: Option<ClientAddress>) -> Self {
        Self {
            peer,
            ..Self::default()
        }
    }

    /// Records that the socket accepted bytes.
    pub(crate) fn record_written(&self, bytes: usize) {
        self.is_blocked.store(false, Relaxed);
        self.written.fetch_add(bytes as u64, Relaxed);
        self.record_bytes(bytes);
    }

    /// Records that the socket accepts no more bytes for now.
    pub(crate) fn mark_blocked(&self) {
        self.is_blocked.store(true, Relaxed);
    }

    /// Records that the client sent bytes.
    pub(crate) fn record_received(&self, bytes: usize) {
        if self.running.load(Relaxed) > 0 {
            self.record_bytes(bytes);
        } else if self.is_http1.load(Relaxed) && self.draining.load(Relaxed) == 0 {
            // Over HTTP/2, these can be bytes that belong to no request.
            let now = self.now_ms().max(1);
            let _ = self.head_ms.compare_exchange(0, now, Relaxed, Relaxed);
        }
    }

    /// Returns the client that uses the connection, if it is known.
    pub(crate) fn client(&self) -> Option<ClientAddress> {
        self.peer.or_else(|| *lock(&self.forwarded_client))
    }

    /// Counts the time without a request from now.
    pub(crate) fn restart_idle_time(&self) {
        self.record_progress();
    }

    /// Returns what the connection is doing.
    pub(crate) fn standing(&self) -> ConnectionStanding {
        let progress = Duration::from_millis(self.progress_ms.load(Relaxed));
        let time = self.began.elapsed().saturating_sub(progress);
        if self.working.load(Relaxed) > 0 {
            ConnectionStanding::Working
        } else if self.running.load(Relaxed) > 0 {
            ConnectionStanding::Waiting(time)
        } else {
            ConnectionStanding::Idle(time)
        }
    }

    /// Records the start of a request.
    pub(super) fn begin_request(self: &Arc<Self>, version: Version) -> RequestGuard {
        self.is_http1.store(version < Version::HTTP_2, Relaxed);
        self.requests.fetch_add(1, Relaxed);
        self.head_ms.store(0, Relaxed);
        RequestGuard::new(Arc::clone(self))
    }

    /// Records for which client a trusted proxy sends the running request.
    pub(super) fn set_forwarded_client(&self, client: ClientAddress) {
        *lock(&self.forwarded_client) = Some(client);
    }

    fn end_request(&self) {
        self.record_progress();
        *lock(&self.forwarded_client) = None;
        self.running.fetch_sub(1, Relaxed);
    }

    fn record_bytes(&self, bytes: usize) {
        let added = bytes as u64;
        if self.bytes_since_progress.fetch_add(added, Relaxed) + added >= MIN_PROGRESS_BYTES {
            self.record_progress();
        }
    }

    fn record_progress(&self) {
        self.bytes_since_progress.store(0, Relaxed);
        self.progress_ms.store(self.now_ms(), Relaxed);
    }

    /// Returns for how long the client has been sending the head of a request.
    fn head_began_before(&self) -> Option<Duration> {
        match self.head_ms.load(Relaxed) {
            0 => None,
            began => Some(Duration::from_millis(self.now_ms().saturating_sub(began))),
        }
    }

    /// Returns the milliseconds since the connection began.
    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn the_standing_says_which_side_a_connection_waits_for() {
        let activity = Arc::new(ConnectionActivity::default());
        advance(SECOND).await;
        // Bytes of an incomplete head are no progress.
        activity.record_received(1000);
        assert_eq!(activity.standing(), ConnectionStanding::Idle(SECOND));
        let mut request = activity.begin_request(Version::HTTP_11);
        let other = activity.begin_request(Version::HTTP_11);
        other.activity().wait_for_client();
        assert_eq!(activity.standing(), ConnectionStanding::Working);
        request.begin_response();
        advance(SECOND).await;
        activity.record_received(511);
        assert_eq!(activity.standing(), ConnectionStanding::Waiting(SECOND));
        activity.record_written(1);
        let now = ConnectionStanding::Waiting(Duration::ZERO);
        assert_eq!(activity.standing(), now);
        // The response waits for data.
        request.activity().wait_for_server();
        assert_eq!(activity.standing(), ConnectionStanding::Working);
        // A task that outlives its request changes nothing.
        let outliving = Arc::clone(request.activity());
        drop((request, other));
        outliving.wait_for_server();
        advance(SECOND).await;
        assert_eq!(activity.standing(), ConnectionStanding::Idle(SECOND));
    }
}
