//! What goes on on one connection: enough to tell a slow client from one that is gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use hyper::Version;
use tokio::time::sleep;

/// Less than that, in bytes, is no progress of an answer: HTTP/2 answers pings with less while its
/// streams stand still.
const LEAST_PROGRESS: u64 = 512;
/// How often one looks, in a time that may pass.
const LOOKS: u32 = 10;

/// One connection's counts.
#[derive(Default)]
pub(crate) struct Flow {
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
    answers: AtomicUsize,
}

/// A request that is not done; it is when this is dropped.
pub(super) struct Running {
    flow: Arc<Flow>,
    is_answering: bool,
}

/// How long a client may take nothing while there is something for it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stalls {
    /// Of HTTP/1: long, since a proxy that buffers reads much at once, and goes on when its own
    /// client has taken that. A peer that is gone shows by itself, through TCP.
    pub(crate) http1: Duration,
    /// Of HTTP/2, where each connection has many answers waiting.
    pub(crate) http2: Duration,
}

/// Why a connection is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GivenUp {
    /// Its client took nothing of what it asked for, for so long.
    Stalled(Duration),
    /// Its client asks for nothing.
    Idle,
}

impl Flow {
    /// The system took bytes to send.
    pub(crate) fn wrote(&self, bytes: usize) {
        self.is_blocked.store(false, Relaxed);
        self.written.fetch_add(bytes as u64, Relaxed);
    }

    /// The system takes no more for now.
    pub(crate) fn is_blocked(&self) {
        self.is_blocked.store(true, Relaxed);
    }

    /// A request came.
    pub(super) fn request(self: &Arc<Self>, version: Version) -> Running {
        self.is_http1.store(version < Version::HTTP_2, Relaxed);
        self.requests.fetch_add(1, Relaxed);
        self.running.fetch_add(1, Relaxed);
        Running {
            flow: Arc::clone(self),
            is_answering: false,
        }
    }

    /// Becomes ready once the client has taken nothing for too long while there was something for
    /// it, or has asked for nothing for the time `idle`, everything taken.
    pub(crate) async fn given_up(&self, stalls: Stalls, idle: Duration) -> GivenUp {
        let tick = stalls.http1.min(stalls.http2).min(idle) / LOOKS;
        let (mut stalled_for, mut idle_for) = (Duration::ZERO, Duration::ZERO);
        let mut written = self.written.load(Relaxed);
        let mut requests = self.requests.load(Relaxed);
        loop {
            sleep(tick).await;
            let now = self.written.load(Relaxed);
            let has_more = self.answers.load(Relaxed) > 0 || self.is_blocked.load(Relaxed);
            if !has_more || now - written >= LEAST_PROGRESS {
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
                return GivenUp::Stalled(stall);
            }
            if idle_for >= idle {
                return GivenUp::Idle;
            }
        }
    }
}

impl Running {
    /// The answer begins to go out.
    pub(super) fn answer(&mut self) {
        self.is_answering = true;
        self.flow.answers.fetch_add(1, Relaxed);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.is_answering {
            self.flow.answers.fetch_sub(1, Relaxed);
        }
        self.flow.running.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    const STALL: Duration = Duration::from_secs(60);
    const STALLS: Stalls = Stalls {
        http1: Duration::from_secs(3600),
        http2: STALL,
    };
    const IDLE: Duration = Duration::from_secs(75);

    async fn seconds(flow: &Flow) -> (GivenUp, u64) {
        let began = Instant::now();
        let why = flow.given_up(STALLS, IDLE).await;
        (why, began.elapsed().as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_is_given_up_and_who_is_slow_is_not() {
        let flow = Arc::new(Flow::default());
        let mut running = flow.request(Version::HTTP_2);
        // Nothing to take yet: a long request.
        let waiting = tokio::time::timeout(10 * STALL, flow.given_up(STALLS, IDLE));
        assert!(waiting.await.is_err());
        running.answer();
        assert_eq!(seconds(&flow).await.0, GivenUp::Stalled(STALL));
        let slowly = async {
            for _ in 0..1000 {
                flow.wrote(100);
                sleep(Duration::from_secs(1)).await;
            }
        };
        tokio::select! {
            () = slowly => {}
            why = flow.given_up(STALLS, IDLE) => panic!("{why:?}"),
        }
        drop(running);
        assert_eq!(seconds(&flow).await.0, GivenUp::Idle);
        // The rest of an answer that is complete, but not taken.
        let _other = flow.request(Version::HTTP_2);
        flow.is_blocked();
        assert_eq!(seconds(&flow).await, (GivenUp::Stalled(STALL), 60));
    }

    #[tokio::test(start_paused = true)]
    async fn over_http1_nobody_is_hurried_also_with_the_rest_of_an_answer() {
        let flow = Arc::new(Flow::default());
        let mut running = flow.request(Version::HTTP_11);
        running.answer();
        assert_eq!(seconds(&flow).await, (GivenUp::Stalled(STALLS.http1), 3600));
        drop(running);
        flow.is_blocked();
        assert_eq!(seconds(&flow).await, (GivenUp::Stalled(STALLS.http1), 3600));
        flow.wrote(1000);
        assert_eq!(seconds(&flow).await.0, GivenUp::Idle);
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_for_nothing_is_given_up() {
        let flow = Arc::new(Flow::default());
        assert_eq!(seconds(&flow).await, (GivenUp::Idle, 78));
        let asking = async {
            for _ in 0..100 {
                drop(flow.request(Version::HTTP_2));
                sleep(IDLE / 2).await;
            }
        };
        tokio::select! {
            () = asking => {}
            why = flow.given_up(STALLS, IDLE) => panic!("{why:?}"),
        }
    }
}
