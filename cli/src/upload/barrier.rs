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
    let (sender, expected) = mpsc::unbounded_channel();
    let (open, opened) = watch::channel(false);
    let keeper = CommitBarrier {
        arrivals: expected,
        opened: open,
    };
    let pass = BarrierPass {
        arrival: Some(sender),
        opened,
    };
    (keeper, pass)
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
    async fn opens_when_the_last_one_has_arrived() {
        let (keeper, mut first) = barrier();
        let (second, mut third) = (first.clone(), first.clone());
        let mut kept = Box::pin(keeper.open_when_all_arrived());
        first.arrive();
        drop(second);
        assert!(kept.as_mut().now_or_never().is_none());
        assert!(third.wait().now_or_never().is_none());
        kept.await;
        assert!(third.wait().await && first.wait().await);
    }

    #[tokio::test]
    async fn never_opens_when_the_barrier_is_dropped() {
        let (keeper, mut pass) = barrier();
        drop(keeper);
        assert!(!pass.wait().await);
    }
}
