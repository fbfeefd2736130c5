//! Old uploads go, from time to time.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use tokio::time::{Instant, sleep};

use crate::config::Config;
use crate::registry::Registry;

/// How often one looks whether it is time, so that a reload counts soon.
const MAX_PURGE_CHECK_INTERVAL: Duration = Duration::from_secs(60);

/// Purges at the start and at every interval, for as long as it is told to. What another server
/// ended is forgotten in any case.
pub(super) async fn run_purge(registry: Registry, config: Arc<ArcSwap<Config>>) {
    let (mut last, mut was_enabled): (Option<Instant>, _) = (None, false);
    loop {
        let storage = config.load().storage.clone();
        let purging = storage.purging;
        if purging.is_enabled != std::mem::replace(&mut was_enabled, purging.is_enabled) {
            last = None;
        }
        let is_time = last.is_none_or(|last| last.elapsed() >= purging.interval);
        if is_time && !storage.is_read_only {
            last = Some(Instant::now());
            let registry = registry.clone();
            let before = SystemTime::now().checked_sub(purging.age);
            let before = before.unwrap_or(SystemTime::UNIX_EPOCH);
            let purge = move || {
                let count = match purging.is_enabled {
                    true => registry.purge_uploads(before, purging.is_dry_run)?,
                    false => 0,
                };
                registry
                    .delete_orphaned_upload_states(before)
                    .map(|()| count)
            };
            match tokio::task::spawn_blocking(purge).await {
                Ok(Ok(0)) => {}
                Ok(Ok(count)) => tracing::info!(count, "looked for old uploads"),
                Ok(Err(error)) => tracing::warn!(%error, "not all old uploads could be purged"),
                Err(error) => tracing::error!(%error, "old uploads were not purged"),
            }
        }
        let pause = purging
            .interval
            .clamp(Duration::from_secs(1), MAX_PURGE_CHECK_INTERVAL);
        sleep(pause).await;
    }
}
