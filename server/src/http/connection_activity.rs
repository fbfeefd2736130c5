//! Tracks the activity of one connection, to distinguish a slow client from a disconnected one.
//!
//! This module must not close the connection: `listen` does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use hyper::Version;
use tokio::time::sleep;

/// The bytes that count as progress of a response. HTTP/2 sends fewer to answer pings while its
/// streams are blocked.
const MIN_PROGRESS_BYTES: u64 = 512;
/// The number of checks in each timeout.
const CHECKS_PER_TIMEOUT: u32 = 10;

/// The counters of one connection.
#[derive(Default)]
pub(crate) struct ConnectionActivity {
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
}

/// A running request. Dropping the guard completes it.
pub(super) struct RequestGuard {
    activity: Arc<ConnectionActivity>,
    is_responding: bool,
}

/// How long a client may accept no bytes while a response is pending.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WriteTimeouts {
    /// The timeout of HTTP/1. It is long, because a buffering proxy reads much at once and then
    /// pauses until its own client has read that. TCP detects a disconnected peer.
    pub(crate) http1: Duration,
    /// The timeout of HTTP/2, where many responses can wait on each connection.
    pub(crate) http2: Duration,
}

/// Why a connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CloseReason {
    /// The client accepted no bytes of a pending response for this long.
    Stalled(Duration),
    /// The client sent no request for too long.
    Idle,
}

impl ConnectionActivity {
    /// Records that the socket accepted bytes.
    pub(crate) fn record_written(&self, bytes: usize) {
        self.is_blocked.store(false, Relaxed);
        self.written.fetch_add(bytes as u64, Relaxed);
    }

    /// Records that the socket accepts no more bytes for now.
    pub(crate) fn mark_blocked(&self) {
        self.is_blocked.store(true, Relaxed);
    }

    /// Records the start of a request.
    pub(super) fn begin_request(self: &Arc<Self>, version: Version) -> RequestGuard {
        self.is_http1.store(version < Version::HTTP_2, Relaxed);
        self.requests.fetch_add(1, Relaxed);
        self.running.fetch_add(1, Relaxed);
        RequestGuard {
            activity: Arc::clone(self),
            is_responding: false,
        }
    }

    /// Waits until the connection should be closed: the client has accepted no bytes of a pending
    /// response for too long, or has sent no request for the time `idle`.
    pub(crate) async fn wait_for_timeout(
        &self,
        timeouts: WriteTimeouts,
        idle: Duration,
    ) -> CloseReason {
        let tick = timeouts.http1.min(timeouts.http2).min(idle) / CHECKS_PER_TIMEOUT;
        let (mut stalled_for, mut idle_for) = (Duration::ZERO, Duration::ZERO);
        let mut written = self.written.load(Relaxed);
        let mut requests = self.requests.load(Relaxed);
        loop {
            sleep(tick).await;
            let written_now = self.written.load(Relaxed);
            let has_pending =
                self.running_responses.load(Relaxed) > 0 || self.is_blocked.load(Relaxed);
            if !has_pending || written_now - written >= MIN_PROGRESS_BYTES {
                (stalled_for, written) = (Duration::ZERO, written_now);
            } else {
                stalled_for += tick;
            }
            let requests_now = self.requests.load(Relaxed);
            let is_busy = has_pending || self.running.load(Relaxed) > 0;
            if is_busy || requests_now != requests {
                (idle_for, requests) = (Duration::ZERO, requests_now);
            } else {
                idle_for += tick;
            }
            let write_timeout = if self.is_http1.load(Relaxed) {
                timeouts.http1
            } else {
                timeouts.http2
            };
            if stalled_for >= write_timeout {
                return CloseReason::Stalled(write_timeout);
            }
            if idle_for >= idle {
                return CloseReason::Idle;
            }
        }
    }
}

impl RequestGuard {
    /// Records that the response is being sent.
    pub(super) fn begin_response(&mut self) {
        self.is_responding = true;
        self.activity.running_responses.fetch_add(1, Relaxed);
    }
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        if self.is_responding {
            self.activity.running_responses.fetch_sub(1, Relaxed);
        }
        self.activity.running.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    const HTTP2_TIMEOUT: Duration = Duration::from_secs(60);
    const WRITE_TIMEOUTS: WriteTimeouts = WriteTimeouts {
        http1: Duration::from_secs(3600),
        http2: HTTP2_TIMEOUT,
    };
    const IDLE_TIMEOUT: Duration = Duration::from_secs(75);

    async fn close_after(activity: &ConnectionActivity) -> (CloseReason, u64) {
        let start = Instant::now();
        let reason = activity
            .wait_for_timeout(WRITE_TIMEOUTS, IDLE_TIMEOUT)
            .await;
        (reason, start.elapsed().as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn a_stalled_client_is_closed_and_a_slow_one_is_not() {
        let activity = Arc::new(ConnectionActivity::default());
        let mut request = activity.begin_request(Version::HTTP_2);
        // A long request without a response so far.
        let waiting = tokio::time::timeout(
            10 * HTTP2_TIMEOUT,
            activity.wait_for_timeout(WRITE_TIMEOUTS, IDLE_TIMEOUT),
        );
        assert!(waiting.await.is_err());
        request.begin_response();
        assert_eq!(
            close_after(&activity).await.0,
            CloseReason::Stalled(HTTP2_TIMEOUT)
        );
        let slowly = async {
            for _ in 0..1000 {
                activity.record_written(100);
                sleep(Duration::from_secs(1)).await;
            }
        };
        tokio::select! {
            () = slowly => {}
            reason = activity.wait_for_timeout(WRITE_TIMEOUTS, IDLE_TIMEOUT) => panic!("{reason:?}"),
        }
        drop(request);
        assert_eq!(close_after(&activity).await.0, CloseReason::Idle);
        // The response is complete, but the client has not read the rest of it.
        let _other = activity.begin_request(Version::HTTP_2);
        activity.mark_blocked();
        assert_eq!(
            close_after(&activity).await,
            (CloseReason::Stalled(HTTP2_TIMEOUT), 60)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn http1_has_a_longer_write_timeout_even_for_the_rest_of_a_response() {
        let activity = Arc::new(ConnectionActivity::default());
        let mut request = activity.begin_request(Version::HTTP_11);
        request.begin_response();
        assert_eq!(
            close_after(&activity).await,
            (CloseReason::Stalled(WRITE_TIMEOUTS.http1), 3600)
        );
        drop(request);
        activity.mark_blocked();
        assert_eq!(
            close_after(&activity).await,
            (CloseReason::Stalled(WRITE_TIMEOUTS.http1), 3600)
        );
        activity.record_written(1000);
        assert_eq!(close_after(&activity).await.0, CloseReason::Idle);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_without_requests_is_closed() {
        let activity = Arc::new(ConnectionActivity::default());
        assert_eq!(close_after(&activity).await, (CloseReason::Idle, 78));
        let requesting = async {
            for _ in 0..100 {
                drop(activity.begin_request(Version::HTTP_2));
                sleep(IDLE_TIMEOUT / 2).await;
            }
        };
        tokio::select! {
            () = requesting => {}
            reason = activity.wait_for_timeout(WRITE_TIMEOUTS, IDLE_TIMEOUT) => panic!("{reason:?}"),
        }
    }
}
