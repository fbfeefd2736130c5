//! The background job that purges abandoned upload sessions.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use tokio::time::{Instant, sleep};

use crate::config::{Config, PurgeConfig};
use crate::registry::{self, Registry};
use crate::wall_clock;

/// The longest time between two looks at the configuration, so that a reload takes effect soon.
const MAX_PURGE_CHECK_INTERVAL: Duration = Duration::from_secs(60);

/// Purges upload sessions at the start and at every interval, as long as the configuration enables
/// it. The state of sessions that another server has removed is deleted in any case. Runs until
/// aborted.
pub(super) async fn run_purge(registry: Registry, config: Arc<ArcSwap<Config>>) {
    let (mut last_run, mut was_enabled): (Option<Instant>, _) = (None, false);
    loop {
        let storage = config.load().storage.clone();
        let purging = storage.purging;
        if purging.is_enabled != std::mem::replace(&mut was_enabled, purging.is_enabled) {
            last_run = None;
        }
        let is_due = last_run.is_none_or(|last_run| last_run.elapsed() >= purging.interval);
        if is_due && !storage.is_read_only {
            last_run = Some(Instant::now());
            let (registry, settings) = (registry.clone(), purging.clone());
            match tokio::task::spawn_blocking(move || purge(&registry, &settings)).await {
                Ok(Ok(0)) => {}
                Ok(Ok(count)) => tracing::info!(count, "checked abandoned uploads"),
                Ok(Err(error)) => tracing::warn!(%error, "cannot purge all abandoned uploads"),
                Err(error) => tracing::error!(%error, "cannot purge abandoned uploads"),
            }
        }
        let pause = purging
            .interval
            .clamp(Duration::from_secs(1), MAX_PURGE_CHECK_INTERVAL);
        sleep(pause).await;
    }
}

/// Purges once, and returns the number of sessions that were old enough.
fn purge(registry: &Registry, settings: &PurgeConfig) -> Result<usize, registry::Error> {
    let before = wall_clock::now().checked_sub(settings.age);
    let before = before.unwrap_or(SystemTime::UNIX_EPOCH);
    let count = if settings.is_enabled {
        registry.purge_uploads(before, settings.is_dry_run)?
    } else {
        0
    };
    registry.delete_orphaned_upload_states(before)?;
    Ok(count)
}
