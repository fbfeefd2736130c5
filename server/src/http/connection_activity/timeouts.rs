//! Decides when a connection must be closed because its client is too slow.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{ConnectionActivity, MIN_PROGRESS_BYTES};

/// The number of checks in each timeout.
const CHECKS_PER_TIMEOUT: u32 = 10;

/// The timeouts of a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConnectionTimeouts {
    /// How long an HTTP/1 client may accept no bytes while a response is pending. It is long,
    /// because a buffering proxy reads much at once and then pauses until its own client has read
    /// that. TCP detects a disconnected peer.
    pub(crate) http1_write: Duration,
    /// This timeout for HTTP/2, where many responses can wait on each connection.
    pub(crate) http2_write: Duration,
    /// How long a client may take to send the head of a request, and to begin the first one.
    pub(crate) head: Duration,
    /// How long a connection may be without a request.
    pub(crate) idle: Duration,
}

/// Why a connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CloseReason {
    /// The client accepted no bytes of a pending response for this long.
    Stalled(Duration),
    /// The client did not send the head of a request in this time.
    SlowHead(Duration),
    /// The client sent no request for too long.
    Idle,
}

impl ConnectionActivity {
    /// Waits until the connection should be closed.
    pub(crate) async fn wait_for_timeout(&self, timeouts: ConnectionTimeouts) -> CloseReason {
        let ConnectionTimeouts {
            http1_write,
            http2_write,
            head,
            idle,
        } = timeouts;
        let tick = http1_write.min(http2_write).min(head).min(idle) / CHECKS_PER_TIMEOUT;
        let began = Instant::now();
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
                http1_write
            } else {
                http2_write
            };
            if stalled_for >= write_timeout {
                return CloseReason::Stalled(write_timeout);
            }
            let waits_for_head = if requests_now == 0 {
                Some(began.elapsed())
            } else {
                self.head_began_before()
            };
            if waits_for_head.is_some_and(|time| time >= head) {
                return CloseReason::SlowHead(head);
            }
            if idle_for >= idle {
                return CloseReason::Idle;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use hyper::Version;

    use super::*;

    const HTTP2_TIMEOUT: Duration = Duration::from_secs(60);
    const IDLE_TIMEOUT: Duration = Duration::from_secs(75);
    const TIMEOUTS: ConnectionTimeouts = ConnectionTimeouts {
        http1_write: Duration::from_secs(3600),
        http2_write: HTTP2_TIMEOUT,
        head: Duration::from_secs(10),
        idle: IDLE_TIMEOUT,
    };

    async fn close_after(activity: &ConnectionActivity) -> (CloseReason, u64) {
        let start = Instant::now();
        let reason = activity.wait_for_timeout(TIMEOUTS).await;
        (reason, start.elapsed().as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn a_stalled_client_is_closed_and_a_slow_one_is_not() {
        let activity = Arc::new(ConnectionActivity::default());
        let mut request = activity.begin_request(Version::HTTP_2);
        // A long request without a response so far.
        let waiting = tokio::time::timeout(10 * HTTP2_TIMEOUT, activity.wait_for_timeout(TIMEOUTS));
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
            reason = activity.wait_for_timeout(TIMEOUTS) => panic!("{reason:?}"),
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
            (CloseReason::Stalled(TIMEOUTS.http1_write), 3600)
        );
        drop(request);
        activity.mark_blocked();
        assert_eq!(
            close_after(&activity).await,
            (CloseReason::Stalled(TIMEOUTS.http1_write), 3600)
        );
        activity.record_written(1000);
        assert_eq!(close_after(&activity).await.0, CloseReason::Idle);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_without_requests_is_closed() {
        let activity = Arc::new(ConnectionActivity::default());
        drop(activity.begin_request(Version::HTTP_2));
        assert_eq!(close_after(&activity).await, (CloseReason::Idle, 75));
        let requesting = async {
            for _ in 0..100 {
                drop(activity.begin_request(Version::HTTP_2));
                sleep(IDLE_TIMEOUT / 2).await;
            }
        };
        tokio::select! {
            () = requesting => {}
            reason = activity.wait_for_timeout(TIMEOUTS) => panic!("{reason:?}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_head_must_be_complete_in_time() {
        let activity = Arc::new(ConnectionActivity::default());
        let drip = async || loop {
            activity.record_received(1);
            sleep(Duration::from_secs(1)).await;
        };
        // The first request, also while its bytes drip.
        tokio::select! {
            () = drip() => {}
            closed = close_after(&activity) => {
                assert_eq!(closed, (CloseReason::SlowHead(TIMEOUTS.head), 10));
            }
        }
        // A later request: the time counts from its first byte.
        drop(activity.begin_request(Version::HTTP_11));
        let dripping = async {
            sleep(Duration::from_secs(30)).await;
            drip().await
        };
        tokio::select! {
            () = dripping => {}
            closed = close_after(&activity) => {
                assert_eq!(closed, (CloseReason::SlowHead(TIMEOUTS.head), 40));
            }
        }
        // The rest of a body is no head.
        let request = activity.begin_request(Version::HTTP_11);
        let draining = request.activity().drain();
        drop(request);
        activity.record_received(1);
        assert_eq!(close_after(&activity).await, (CloseReason::Idle, 75));
        drop(draining);
    }
}
