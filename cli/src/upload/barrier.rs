//! A barrier that holds back the finishing of blobs until every blob has been packed, verified and
//! sent. A push that fails before that leaves nothing at the registry but open sessions.
//!
//! This module knows nothing of blobs or requests. Start reading at [`barrier`].

use tokio::sync::{mpsc, watch};

/// Opens the barrier once all passes have arrived.
pub(super) struct CommitBarrier {
    arrivals: mpsc::UnboundedReceiver<()>,
    opened: watch::Sender<bool>,
}

/// A participant of the barrier: the barrier waits for its arrival, and the participant can wait
/// until the barrier opens.
#[derive(Debug, Clone)]
pub(super) struct BarrierPass {
    /// Sends no message: dropping the sender signals the arrival.
    arrival: Option<mpsc::UnboundedSender<()>>,
    opened: watch::Receiver<bool>,
}

/// Creates a closed barrier, and the first pass, to be cloned for each participant.
pub(super) fn barrier() -> (CommitBarrier, BarrierPass) {
    let (arrival, arrivals) = mpsc::unbounded_channel();
    let (sender, opened) = watch::channel(false);
    let barrier = CommitBarrier {
        arrivals,
        opened: sender,
    };
    let pass = BarrierPass {
        arrival: Some(arrival),
        opened,
    };
    (barrier, pass)
}

/// Returns a pass that never waits.
pub(super) fn open_pass() -> BarrierPass {
    BarrierPass {
        arrival: None,
        opened: watch::channel(true).1,
    }
}

impl CommitBarrier {
    /// Opens the barrier once every pass has arrived or was dropped. If an upload fails, this
    /// future must be dropped, and the barrier then never opens.
    pub(super) async fn open_when_all_arrived(mut self) {
        while self.arrivals.recv().await.is_some() {}
        self.opened.send_replace(true);
    }
}

impl BarrierPass {
    /// Arrives without waiting: the barrier does not wait for this pass any more.
    pub(super) fn arrive(&mut self) {
        self.arrival = None;
    }

    /// Arrives, and waits for the other passes. Returns whether the barrier opened; `false` if it
    /// never will.
    pub(super) async fn wait(&mut self) -> bool {
        self.arrive();
        self.opened.wait_for(|open| *open).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn opens_when_the_last_pass_has_arrived() {
        let (commit_barrier, mut first) = barrier();
        let (second, mut third) = (first.clone(), first.clone());
        let mut opening = Box::pin(commit_barrier.open_when_all_arrived());
        first.arrive();
        drop(second);
        assert!(opening.as_mut().now_or_never().is_none());
        assert!(third.wait().now_or_never().is_none());
        opening.await;
        assert!(third.wait().await && first.wait().await);
    }

    #[tokio::test]
    async fn never_opens_when_the_barrier_is_dropped() {
        let (commit_barrier, mut pass) = barrier();
        drop(commit_barrier);
        assert!(!pass.wait().await);
    }
}
