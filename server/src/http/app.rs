//! The state that all requests share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio_util::task::TaskTracker;

use super::buffer_pool::BufferPool;
use super::buffered_body::BodyBuffers;
use super::connection_activity::ConnectionTimeouts;
use super::index_updater::IndexUpdater;
use super::page::PagePermits;
use super::receive::ReadTimeouts;
use super::walks::WalkPool;
use crate::auth::AccessController;
use crate::config::Config;
use crate::events::Events;
use crate::metrics::RequestMetrics;
use crate::registry::Registry;
use crate::status::ServerState;
use crate::upstream::Upstreams;

/// How long a connection may be without a request.
pub(crate) const IDLE_TIMEOUT: Duration = Duration::from_secs(75);

/// The buffers of all uploads at a time: 16 MiB. Each upload uses up to two. Without a free buffer,
/// an upload waits.
const MAX_UPLOAD_BUFFERS: usize = 64;
/// The buffers of all downloads at a time: 32 MiB. Each download uses up to three. Without a free
/// buffer, a download reads smaller pieces.
const MAX_DOWNLOAD_BUFFERS: usize = 128;

/// The HTTP application: the registry with everything that its requests need.
pub(crate) struct App {
    pub(super) registry: Registry,
    pub(super) upstreams: Upstreams,
    pub(super) events: Events,
    pub(super) auth: Arc<AccessController>,
    /// The current configuration; a reload replaces it.
    pub(super) config: Arc<ArcSwap<Config>>,
    /// Requests that continue after their connection is closed.
    pub(super) tasks: TaskTracker,
    pub(super) read_timeouts: ReadTimeouts,
    pub(super) body_buffers: BodyBuffers,
    /// The buffers of request bodies that are written to upload sessions.
    pub(super) upload_buffers: Arc<BufferPool>,
    /// The buffers of blobs that are sent.
    pub(super) download_buffers: Arc<BufferPool>,
    pub(super) index_updater: IndexUpdater,
    pub(super) walks: WalkPool,
    pub(super) page_permits: PagePermits,
    pub(super) metrics: Arc<RequestMetrics>,
    /// What the page tells of the server.
    pub(super) server: Arc<ServerState>,
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
        events: Events,
        auth: Arc<AccessController>,
        config: Arc<ArcSwap<Config>>,
        metrics: Arc<RequestMetrics>,
        server: Arc<ServerState>,
    ) -> Arc<Self> {
        let limits = config.load();
        let read_timeouts = ReadTimeouts {
            idle: limits.imgsync.read_timeout,
            ..ReadTimeouts::default()
        };
        let body_buffers = BodyBuffers::new(
            limits.imgsync.max_body_memory,
            read_timeouts,
            limits.imgsync.body_timeout,
        );
        drop(limits);
        Arc::new(Self {
            registry,
            upstreams,
            events,
            auth,
            config,
            tasks: TaskTracker::new(),
            read_timeouts,
            body_buffers,
            upload_buffers: BufferPool::new(MAX_UPLOAD_BUFFERS),
            download_buffers: BufferPool::new(MAX_DOWNLOAD_BUFFERS),
            index_updater: IndexUpdater::default(),
            walks: WalkPool::default(),
            page_permits: PagePermits::default(),
            metrics,
            server,
            is_shutting_down: Arc::default(),
            has_warned_untrusted_proxy: AtomicBool::new(false),
        })
    }

    /// Returns the timeouts of a new connection.
    pub(crate) fn connection_timeouts(&self) -> ConnectionTimeouts {
        let config = self.config.load();
        let http1_write = config.imgsync.write_timeout;
        ConnectionTimeouts {
            http1_write,
            http2_write: http1_write.min(self.read_timeouts.idle),
            head: config.imgsync.head_timeout,
            idle: IDLE_TIMEOUT,
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
