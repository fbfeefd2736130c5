//! The background job that measures the storage: when somebody looks at the result, and for the
//! history of the disk.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use crate::registry::{DiskSample, Registry};
use crate::status::{
    SAMPLE_INTERVAL, ServerState, StorageMeasurement, add_sample, until_next_sample,
};
use crate::wall_clock::unix_now;

/// The shortest time to the next measurement that nobody asked for, so that it is none of those
/// things that slow down a start.
const MIN_SAMPLE_WAIT: Duration = Duration::from_secs(60);

/// Measures the storage on request and for the history. Runs until aborted.
pub(super) async fn run_measurement(registry: Registry, server: Arc<ServerState>) {
    let mut wait = first_wait(registry.clone()).await;
    loop {
        // An error means that the next sample is due.
        let _ = timeout(wait, server.storage_meter.wait_for_request()).await;
        let (registry, server) = (registry.clone(), Arc::clone(&server));
        let measured = tokio::task::spawn_blocking(move || measure(&registry, &server)).await;
        wait = match measured {
            Ok(Ok(next)) => next,
            Ok(Err(error)) => {
                tracing::warn!(error, "cannot measure the storage");
                SAMPLE_INTERVAL
            }
            Err(error) => {
                tracing::error!(%error, "the measurement of the storage failed");
                SAMPLE_INTERVAL
            }
        };
    }
}

async fn first_wait(registry: Registry) -> Duration {
    let read = tokio::task::spawn_blocking(move || read_history(&registry)).await;
    let samples = read.unwrap_or_default();
    until_next_sample(&samples, unix_now()).max(MIN_SAMPLE_WAIT)
}

/// Measures the storage, and adds a sample to the history if one is due. Returns the time until the
/// next one.
fn measure(registry: &Registry, server: &ServerState) -> Result<Duration, String> {
    let measurement = server.storage_meter.refresh(registry)?;
    let mut samples = read_history(registry);
    if until_next_sample(&samples, measurement.sample.time).is_zero() {
        add_sample(&mut samples, measurement.sample);
        if let Err(error) = registry.put_disk_history(&samples) {
            tracing::warn!(%error, "cannot store how much of the disk is used");
        }
    }
    Ok(wait_after(&measurement, &samples))
}

fn wait_after(measurement: &StorageMeasurement, samples: &[DiskSample]) -> Duration {
    let wait = until_next_sample(samples, unix_now());
    wait.max(measurement.refresh_age()).max(MIN_SAMPLE_WAIT)
}

fn read_history(registry: &Registry) -> Vec<DiskSample> {
    registry.disk_history().unwrap_or_else(|error| {
        tracing::warn!(%error, "cannot read how much of the disk was used");
        Vec::new()
    })
}
