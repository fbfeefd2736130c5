//! What goes on on one connection: enough to tell a slow client from one that is gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use hyper::Version;
use tokio::time::sleep;

/// Less than that, in bytes, is no progress of an answer: HTTP/2 answers pings with less while its
/// streams stand still.
const MIN_PROGRESS_BYTES: u64 = 512;
/// How often one looks, in a time that may pass.
const CHECKS_PER_TIMEOUT: u32 = 10;

/// One connection's counts.
#[derive(Default)]
pub(crate) struct ConnectionActivity {
    /// Bytes that the system took to send.
    written: AtomicU64,
    /// Whether the system takes no more for now.
    is_blocked: AtomicBool,
    /// Whether HTTP/1 is spoken here, as far as requests show.
    is_http1: AtomicBool,
    /// Requests, ever.
    requests: AtomicU64,
    /// Requests that are not done.
    running: AtomicUsize,
    /// Answers that are on their way out.
    running_responses: AtomicUsize,
}

/// A request that is not done; it is when this is dropped.
pub(super) struct RequestGuard {
    activity: Arc<ConnectionActivity>,
    is_responding: bool,
}

/// How long a client may take nothing while there is something for it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WriteTimeouts {
    /// Of HTTP/1: long, since a proxy that buffers reads much at once, and goes on when its own
    /// client has taken that. A peer that is gone shows by itself, through TCP.
    pub(crate) http1: Duration,
    /// Of HTTP/2, where each connection has many answers waiting.
    pub(crate) http2: Duration,
}

/// Why a connection is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CloseReason {
    /// Its client took nothing of what it asked for, for so long.
    Stalled(Duration),
    /// Its client asks for nothing.
    Idle,
}

impl ConnectionActivity {
    /// The system took bytes to send.
    pub(crate) fn record_written(&self, bytes: usize) {
        self.is_blocked.store(false, Relaxed);
        self.written.fetch_add(bytes as u64, Relaxed);
    }

    /// The system takes no more for now.
    pub(crate) fn mark_blocked(&self) {
        self.is_blocked.store(true, Relaxed);
    }

    /// A request came.
    pub(super) fn begin_request(self: &Arc<Self>, version: Version) -> RequestGuard {
        self.is_http1.store(version < Version::HTTP_2, Relaxed);
        self.requests.fetch_add(1, Relaxed);
        self.running.fetch_add(1, Relaxed);
        RequestGuard {
            activity: Arc::clone(self),
            is_responding: false,
        }
    }

    /// Becomes ready once the client has taken nothing for too long while there was something for
    /// it, or has asked for nothing for the time `idle`, everything taken.
    pub(crate) async fn wait_for_timeout(
        &self,
        stalls: WriteTimeouts,
        idle: Duration,
    ) -> CloseReason {
        let tick = stalls.http1.min(stalls.http2).min(idle) / CHECKS_PER_TIMEOUT;
        let (mut stalled_for, mut idle_for) = (Duration::ZERO, Duration::ZERO);
        let mut written = self.written.load(Relaxed);
        let mut requests = self.requests.load(Relaxed);
        loop {
            sleep(tick).await;
            let now = self.written.load(Relaxed);
            let has_more =
                self.running_responses.load(Relaxed) > 0 || self.is_blocked.load(Relaxed);
            if !has_more || now - written >= MIN_PROGRESS_BYTES {
                (stalled_for, written) = (Duration::ZERO, now);
            } else {
                stalled_for += tick;
            }
            let now = self.requests.load(Relaxed);
            let is_busy = has_more || self.running.load(Relaxed) > 0;
            if is_busy || now != requests {
                (idle_for, requests) = (Duration::ZERO, now);
            } else {
                idle_for += tick;
            }
            let stall = match self.is_http1.load(Relaxed) {
                true => stalls.http1,
                false => stalls.http2,
            };
            if stalled_for >= stall {
                return CloseReason::Stalled(stall);
            }
            if idle_for >= idle {
                return CloseReason::Idle;
            }
        }
    }
}

impl RequestGuard {
    /// The answer begins to go out.
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

    async fn seconds(flow: &ConnectionActivity) -> (CloseReason, u64) {
        let began = Instant::now();
        let why = flow.wait_for_timeout(WRITE_TIMEOUTS, IDLE_TIMEOUT).await;
        (why, began.elapsed().as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_is_given_up_and_who_is_slow_is_not() {
        let flow = Arc::new(ConnectionActivity::default());
        let mut running = flow.begin_request(Version::HTTP_2);
        // Nothing to take yet: a long request.
        let waiting = tokio::time::timeout(
            10 * HTTP2_TIMEOUT,
            flow.wait_for_timeout(WRITE_TIMEOUTS, IDLE_TIMEOUT),
        );
        assert!(waiting.await.is_err());
        running.begin_response();
        assert_eq!(seconds(&flow).await.0, CloseReason::Stalled(HTTP2_TIMEOUT));
        let slowly = async {
            for _ in 0..1000 {
                flow.record_written(100);
                sleep(Duration::from_secs(1)).await;
            }
        };
        tokio::select! {
            () = slowly => {}
            why = flow.wait_for_timeout(WRITE_TIMEOUTS, IDLE_TIMEOUT) => panic!("{why:?}"),
        }
        drop(running);
        assert_eq!(seconds(&flow).await.0, CloseReason::Idle);
        // The rest of an answer that is complete, but not taken.
        let _other = flow.begin_request(Version::HTTP_2);
        flow.mark_blocked();
        assert_eq!(
            seconds(&flow).await,
            (CloseReason::Stalled(HTTP2_TIMEOUT), 60)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn over_http1_nobody_is_hurried_also_with_the_rest_of_an_answer() {
        let flow = Arc::new(ConnectionActivity::default());
        let mut running = flow.begin_request(Version::HTTP_11);
        running.begin_response();
        assert_eq!(
            seconds(&flow).await,
            (CloseReason::Stalled(WRITE_TIMEOUTS.http1), 3600)
        );
        drop(running);
        flow.mark_blocked();
        assert_eq!(
            seconds(&flow).await,
            (CloseReason::Stalled(WRITE_TIMEOUTS.http1), 3600)
        );
        flow.record_written(1000);
        assert_eq!(seconds(&flow).await.0, CloseReason::Idle);
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_for_nothing_is_given_up() {
        let flow = Arc::new(ConnectionActivity::default());
        assert_eq!(seconds(&flow).await, (CloseReason::Idle, 78));
        let asking = async {
            for _ in 0..100 {
                drop(flow.begin_request(Version::HTTP_2));
                sleep(IDLE_TIMEOUT / 2).await;
            }
        };
        tokio::select! {
            () = asking => {}
            why = flow.wait_for_timeout(WRITE_TIMEOUTS, IDLE_TIMEOUT) => panic!("{why:?}"),
        }
    }
}
