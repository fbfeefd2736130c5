//! The background job that collects garbage.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::time::{Instant, sleep};

use super::server_state::CollectionSchedule;
use crate::config::{Config, GarbageCollectionConfig};
use crate::registry::{self, CollectOptions, Registry};
use crate::wall_clock::unix_now;

/// The longest time between two looks at the configuration and at the trash.
const MAX_CHECK_INTERVAL: Duration = Duration::from_secs(60);

/// Collects garbage at every interval, as long as the configuration enables it, deletes what has been
/// in the trash for long enough, and counts what quotas count. Runs until aborted.
pub(super) async fn run_collection(
    registry: Registry,
    config: Arc<ArcSwap<Config>>,
    schedule: Arc<CollectionSchedule>,
) {
    let mut last_run: Option<Instant> = None;
    loop {
        let (gc, is_read_only) = {
            let config = config.load();
            (config.imgsync.gc.clone(), config.storage.is_read_only)
        };
        let is_enabled = gc.is_enabled && !is_read_only;
        if is_enabled {
            registry.start_leases(unix_now(), gc.grace);
            // Nothing is old enough at the start.
            let started = *last_run.get_or_insert_with(Instant::now);
            if started.elapsed() >= gc.interval {
                last_run = Some(Instant::now());
                run_blocking(&registry, &gc, collect).await;
            }
        } else {
            last_run = None;
        }
        schedule.set(last_run.map(|last_run| gc.interval.saturating_sub(last_run.elapsed())));
        if !is_read_only {
            run_blocking(&registry, &gc, expire).await;
        }
        sleep(gc.interval.min(MAX_CHECK_INTERVAL)).await;
    }
}

/// Runs a part of the job on a thread where blocking is allowed, and logs its failure.
async fn run_blocking(
    registry: &Registry,
    gc: &GarbageCollectionConfig,
    work: fn(&Registry, &GarbageCollectionConfig) -> Result<(), registry::Error>,
) {
    let (registry, gc) = (registry.clone(), gc.clone());
    match tokio::task::spawn_blocking(move || work(&registry, &gc)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "the garbage collection did not finish"),
        Err(error) => tracing::error!(%error, "the garbage collection failed"),
    }
}

fn collect(registry: &Registry, gc: &GarbageCollectionConfig) -> Result<(), registry::Error> {
    let options = CollectOptions {
        grace: gc.grace,
        min_untagged_age: None,
        is_dry_run: false,
    };
    let now = unix_now();
    let started = Instant::now();
    let stats = registry.collect_garbage(&options, now, &mut |_| {})?;
    if let Some(stats) = stats {
        tracing::info!(
            blobs = stats.blobs,
            bytes = stats.bytes,
            links = stats.links,
            damaged_manifests = stats.damaged,
            milliseconds = started.elapsed().as_millis(),
            "collected garbage"
        );
    }
    Ok(())
}

fn expire(registry: &Registry, gc: &GarbageCollectionConfig) -> Result<(), registry::Error> {
    let now = unix_now();
    registry.expire_trash(gc.undo, now)?;
    registry.update_quota_usage()
}
