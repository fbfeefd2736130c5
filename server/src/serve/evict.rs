//! The background job that evicts cached images.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::upstream::Upstreams;

/// The time between two evictions while the cache is below its size limit.
const EVICTION_INTERVAL: Duration = Duration::from_secs(60);
/// How often the size of the cache is compared with its limit.
const LIMIT_CHECK_INTERVAL: Duration = Duration::from_secs(2);

/// Evicts at every interval, and soon after the cache exceeds its size limit. Runs until aborted.
pub(super) async fn run_eviction(upstreams: Upstreams) {
    loop {
        let evicting = upstreams.clone();
        match tokio::task::spawn_blocking(move || evicting.evict()).await {
            Ok(Ok(Some(stats))) if stats.images > 0 => {
                tracing::info!(
                    images = stats.images,
                    bytes = stats.freed_bytes,
                    "evicted cached images"
                );
            }
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::warn!(%error, "eviction failed"),
            Err(error) => tracing::error!(%error, "eviction failed"),
        }
        let finished = Instant::now();
        sleep(LIMIT_CHECK_INTERVAL).await;
        while finished.elapsed() < EVICTION_INTERVAL && !upstreams.is_over_limit() {
            sleep(LIMIT_CHECK_INTERVAL).await;
        }
    }
}
