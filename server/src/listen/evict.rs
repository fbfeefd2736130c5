//! What nobody uses any more makes room for what is fetched.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::upstream::Upstreams;

/// How often one looks whether something is due.
const EVICTION_INTERVAL: Duration = Duration::from_secs(60);
/// How often one looks whether there is too much.
const LIMIT_CHECK_INTERVAL: Duration = Duration::from_secs(2);

/// Makes room for as long as the server runs.
pub(super) async fn run_eviction(upstreams: Upstreams) {
    loop {
        let evicting = upstreams.clone();
        match tokio::task::spawn_blocking(move || evicting.evict()).await {
            Ok(Ok(Some(evicted))) if evicted.images > 0 => {
                tracing::info!(
                    images = evicted.images,
                    bytes = evicted.freed_bytes,
                    "made room"
                );
            }
            Ok(Ok(Some(_) | None)) => {}
            Ok(Err(error)) => tracing::warn!(%error, "not all room could be made"),
            Err(error) => tracing::error!(%error, "no room was made"),
        }
        let done = Instant::now();
        sleep(LIMIT_CHECK_INTERVAL).await;
        while done.elapsed() < EVICTION_INTERVAL && !upstreams.is_over_limit() {
            sleep(LIMIT_CHECK_INTERVAL).await;
        }
    }
}
