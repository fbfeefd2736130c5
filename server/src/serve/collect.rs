//! The background job that collects garbage.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use imgsync_oci::units::format_bytes;
use tokio::time::{Instant, sleep};

use crate::config::{Config, ImgsyncConfig, RetentionRule};
use crate::registry::{self, CollectOptions, Registry, TagVerdict, UntaggedPolicy};
use crate::status::CollectionSchedule;
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
        let (imgsync, is_read_only) = {
            let config = config.load();
            (config.imgsync.clone(), config.storage.is_read_only)
        };
        let gc = &imgsync.gc;
        let is_enabled = gc.is_enabled && !is_read_only;
        if is_enabled {
            registry.start_leases(unix_now(), gc.grace);
            // Nothing is old enough at the start.
            let started = *last_run.get_or_insert_with(Instant::now);
            if started.elapsed() >= gc.interval {
                last_run = Some(Instant::now());
                run_blocking(&registry, &imgsync, collect).await;
            }
        } else {
            last_run = None;
        }
        schedule.set(last_run.map(|last_run| gc.interval.saturating_sub(last_run.elapsed())));
        if !is_read_only {
            run_blocking(&registry, &imgsync, expire).await;
        }
        sleep(gc.interval.min(MAX_CHECK_INTERVAL)).await;
    }
}

/// Runs a part of the job on a thread where blocking is allowed, and logs its failure.
async fn run_blocking(
    registry: &Registry,
    imgsync: &ImgsyncConfig,
    work: fn(&Registry, &ImgsyncConfig) -> Result<(), registry::Error>,
) {
    let (registry, imgsync) = (registry.clone(), imgsync.clone());
    match tokio::task::spawn_blocking(move || work(&registry, &imgsync)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "the garbage collection did not finish"),
        Err(error) => tracing::error!(%error, "the garbage collection failed"),
    }
}

/// Applies the rules of retention, and collects garbage. New rules are only reported.
fn collect(registry: &Registry, imgsync: &ImgsyncConfig) -> Result<(), registry::Error> {
    let (now, started) = (unix_now(), Instant::now());
    let is_report_only = retain(registry, &imgsync.retention, now)?;
    let options = CollectOptions {
        grace: imgsync.gc.grace,
        untagged: UntaggedPolicy::Rules {
            rules: imgsync.retention.clone(),
            is_report_only,
        },
        is_dry_run: false,
    };
    let Some(stats) = registry.collect_garbage(&options, now, &mut |_| {})? else {
        return Ok(());
    };
    tracing::info!(
        blobs = stats.blobs,
        bytes = stats.bytes,
        links = stats.links,
        untagged_manifests = stats.manifests,
        damaged_manifests = stats.damaged,
        milliseconds = started.elapsed().as_millis(),
        "collected garbage"
    );
    if stats.untagged_bytes > 0 {
        tracing::info!(
            "images without a tag hold {}; \"untagged: 168h\" in imgsync.retention removes them",
            format_bytes(stats.untagged_bytes)
        );
    }
    if is_report_only {
        tracing::warn!(
            "imgsync.retention is new, so nothing was removed: it would have removed {} images \
             without a tag, and the tags above; the next collection applies it",
            stats.expired
        );
        registry.set_rules_reported(&imgsync.retention)?;
    }
    Ok(())
}

/// Removes the tags that no rule keeps; returns true if the rules are new and nothing was removed.
fn retain(registry: &Registry, rules: &[RetentionRule], now: u64) -> Result<bool, registry::Error> {
    let is_report_only = !registry.are_rules_reported(rules)?;
    let removed = if is_report_only {
        "retention would remove a tag"
    } else {
        "retention removed a tag"
    };
    registry.apply_retention(
        rules,
        is_report_only,
        now,
        &mut |repository, facts, verdict| {
            if let TagVerdict::Remove(why) = verdict {
                tracing::info!(%repository, tag = %facts.tag, %why, "{removed}");
            }
        },
    )?;
    Ok(is_report_only)
}

fn expire(registry: &Registry, imgsync: &ImgsyncConfig) -> Result<(), registry::Error> {
    let now = unix_now();
    registry.expire_trash(imgsync.gc.undo, now)?;
    registry.update_quota_usage()
}
