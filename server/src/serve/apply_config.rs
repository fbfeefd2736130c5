//! Applies new configurations to the running server.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio::task::spawn_blocking;

use super::exposure::Exposure;
use crate::auth::AccessController;
use crate::config::Config;
use crate::events::Events;
use crate::listen::ReloadableTls;
use crate::registry::Registry;
use crate::upstream::Upstreams;

/// The parts of the server that a reload replaces.
pub(super) struct ReloadableParts {
    pub(super) auth: Arc<AccessController>,
    pub(super) registry: Registry,
    pub(super) upstreams: Upstreams,
    pub(super) events: Events,
    pub(super) tls: Option<Arc<ReloadableTls>>,
    /// The current configuration, shared with everything that reads it per request.
    pub(super) config: Arc<ArcSwap<Config>>,
}

/// Applies each configuration that `configs` yields. A part whose files cannot be read keeps its
/// old state, and the log says so.
pub(super) async fn apply_configs(
    mut configs: watch::Receiver<Arc<Config>>,
    parts: Arc<ReloadableParts>,
    exposure: Exposure,
) {
    while configs.changed().await.is_ok() {
        let config = Arc::clone(&configs.borrow_and_update());
        let reloading = Arc::clone(&parts);
        let applied = spawn_blocking(move || reloading.apply(config)).await;
        if let Err(error) = applied {
            tracing::error!(%error, "reload failed");
        }
        exposure.warn(&parts.auth, &parts.config.load());
    }
}

impl ReloadableParts {
    fn apply(&self, config: Arc<Config>) {
        if let Err(error) = self.auth.reload(&config.as_ref().into()) {
            tracing::error!("{error}; keeping the old users");
        }
        if let (Some(tls), Some(settings)) = (&self.tls, &config.http.tls)
            && let Err(error) = tls.reload(settings, config.http.is_http2_enabled)
        {
            tracing::error!("{error}; keeping the old certificate");
        }
        if let Err(error) = self.upstreams.reload(&config) {
            tracing::error!("{error}; keeping the old upstreams");
        }
        if let Err(error) = self.events.reload(&config) {
            tracing::error!("{error}; keeping the old receivers of events");
        }
        let limits = self.upstreams.cache_limits();
        self.registry
            .set_space_limits(&config.imgsync.space, limits);
        self.registry
            .set_delta_config(config.imgsync.delta, config.storage.is_read_only);
        self.config.store(config);
    }
}
