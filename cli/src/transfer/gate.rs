//! The moment after which blobs may count: everything that is to be sent has been packed, has
//! proved sound, and lies at the registry, though unfinished. Before it a push that fails leaves
//! nothing behind but open sessions.

use tokio::sync::{mpsc, watch};

/// Opens the gate.
pub(super) struct Keeper {
    expected: mpsc::UnboundedReceiver<()>,
    opened: watch::Sender<bool>,
}

/// What everyone holds who must have arrived before the gate opens, and who waits for it.
#[derive(Debug, Clone)]
pub(super) struct Pass {
    /// Nothing is ever said over it: that it is gone is the message.
    expected: Option<mpsc::UnboundedSender<()>>,
    opened: watch::Receiver<bool>,
}

/// A closed gate, and the first pass, which others are cloned from.
pub(super) fn gate() -> (Keeper, Pass) {
    let (sender, expected) = mpsc::unbounded_channel();
    let (open, opened) = watch::channel(false);
    let keeper = Keeper {
        expected,
        opened: open,
    };
    let pass = Pass {
        expected: Some(sender),
        opened,
    };
    (keeper, pass)
}

/// A pass for who need not wait for anybody.
pub(super) fn open() -> Pass {
    Pass {
        expected: None,
        opened: watch::channel(true).1,
    }
}

impl Keeper {
    /// Opens the gate once every pass has arrived or is gone. To be dropped, and the gate with it,
    /// when one of them failed.
    pub(super) async fn keep(mut self) {
        while self.expected.recv().await.is_some() {}
        self.opened.send_replace(true);
    }
}

impl Pass {
    /// The gate need not wait for this one any more.
    pub(super) fn arrive(&mut self) {
        self.expected = None;
    }

    /// Arrives, and waits for the others; yields whether the gate opened, or will never.
    pub(super) async fn through(&mut self) -> bool {
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
        let (keeper, mut first) = gate();
        let (second, mut third) = (first.clone(), first.clone());
        let mut kept = Box::pin(keeper.keep());
        first.arrive();
        drop(second);
        assert!(kept.as_mut().now_or_never().is_none());
        assert!(third.through().now_or_never().is_none());
        kept.await;
        assert!(third.through().await && first.through().await);
    }

    #[tokio::test]
    async fn never_opens_when_its_keeper_is_gone() {
        let (keeper, mut pass) = gate();
        drop(keeper);
        assert!(!pass.through().await);
    }
}
