//! The state that all requests share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use tokio_util::task::TaskTracker;

use super::connection_activity::WriteTimeouts;
use super::index_updater::IndexUpdater;
use super::receive::ReadTimeouts;
use super::walks::WalkPool;
use crate::auth::AccessController;
use crate::config::Config;
use crate::registry::Registry;
use crate::upstream::Upstreams;

/// The HTTP application: the registry with everything that its requests need.
pub(crate) struct App {
    pub(super) registry: Registry,
    pub(super) upstreams: Upstreams,
    pub(super) auth: Arc<AccessController>,
    /// The current configuration; a reload replaces it.
    pub(super) config: Arc<ArcSwap<Config>>,
    /// Requests that continue after their connection is closed.
    pub(super) tasks: TaskTracker,
    pub(super) read_timeouts: ReadTimeouts,
    pub(super) index_updater: IndexUpdater,
    pub(super) walks: WalkPool,
    /// Set when the server shuts down: request bodies end as if they were interrupted.
    pub(super) is_shutting_down: Arc<AtomicBool>,
    /// Whether the warning about a proxy that is not trusted has been logged.
    pub(super) has_warned_untrusted_proxy: AtomicBool,
}

impl App {
    /// Creates the application.
    pub(crate) fn new(
        registry: Registry,
        upstreams: Upstreams,
        auth: Arc<AccessController>,
        config: Arc<ArcSwap<Config>>,
    ) -> Arc<Self> {
        let read_timeouts = ReadTimeouts {
            idle: config.load().imgsync.read_timeout,
            ..ReadTimeouts::default()
        };
        Arc::new(Self {
            registry,
            upstreams,
            auth,
            config,
            tasks: TaskTracker::new(),
            read_timeouts,
            index_updater: IndexUpdater::default(),
            walks: WalkPool::default(),
            is_shutting_down: Arc::default(),
            has_warned_untrusted_proxy: AtomicBool::new(false),
        })
    }

    /// Returns how long a client may read nothing of its responses before its connection is
    /// closed.
    pub(crate) fn write_timeouts(&self) -> WriteTimeouts {
        let http1 = self.config.load().imgsync.write_timeout;
        WriteTimeouts {
            http1,
            http2: http1.min(self.read_timeouts.idle),
        }
    }

    /// Interrupts the bodies of all requests and all downloads, so that the bytes received so far
    /// are synced to disk before the server exits.
    pub(crate) fn interrupt_bodies(&self) {
        self.is_shutting_down.store(true, Ordering::Relaxed);
        self.upstreams.cancel_downloads();
    }

    /// Waits for requests whose connection is closed, and for downloads to sync the bytes received
    /// so far.
    pub(crate) async fn drain(&self) {
        self.tasks.close();
        self.tasks.wait().await;
        self.upstreams.drain().await;
    }
}
