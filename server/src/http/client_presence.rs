//! Tells work that was started for a client whether that client is still connected.
//!
//! Start reading at [`ClientGuard`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Belongs to the task that answers a client. The HTTP server drops this task when the connection
/// is closed.
#[derive(Default)]
pub(super) struct ClientGuard(ClientPresence);

/// Whether a client is still connected. Clones tell of the same client.
#[derive(Clone, Default)]
pub(super) struct ClientPresence(Arc<AtomicBool>);

impl ClientGuard {
    pub(super) fn presence(&self) -> ClientPresence {
        self.0.clone()
    }
}

impl Drop for ClientGuard {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}

impl ClientPresence {
    /// Returns whether the response could reach nobody.
    pub(super) fn is_gone(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
