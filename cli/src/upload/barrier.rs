//! The moment after which blobs may count: everything that is to be sent has been packed, has
//! proved sound, and lies at the registry, though unfinished. Before it a push that fails leaves
//! nothing behind but open sessions.

use tokio::sync::{mpsc, watch};

/// Opens the gate.
pub(super) struct CommitBarrier {
    arrivals: mpsc::UnboundedReceiver<()>,
    opened: watch::Sender<bool>,
}

/// What everyone holds who must have arrived before the gate opens, and who waits for it.
#[derive(Debug, Clone)]
pub(super) struct BarrierPass {
    /// Nothing is ever said over it: that it is gone is the message.
    arrival: Option<mpsc::UnboundedSender<()>>,
    opened: watch::Receiver<bool>,
}

/// A closed gate, and the first pass, which others are cloned from.
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

/// A pass for who need not wait for anybody.
pub(super) fn open_pass() -> BarrierPass {
    BarrierPass {
        arrival: None,
        opened: watch::channel(true).1,
    }
}

impl CommitBarrier {
    /// Opens the gate once every pass has arrived or is gone. To be dropped, and the gate with it,
    /// when one of them failed.
    pub(super) async fn open_when_all_arrived(mut self) {
        while self.arrivals.recv().await.is_some() {}
        self.opened.send_replace(true);
    }
}

impl BarrierPass {
    /// The gate need not wait for this one any more.
    pub(super) fn arrive(&mut self) {
        self.arrival = None;
    }

    /// Arrives, and waits for the others; yields whether the gate opened, or will never.
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
