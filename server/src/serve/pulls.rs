//! The background job that writes when images were pulled.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::registry::Registry;

/// The time between two writes.
const WRITE_INTERVAL: Duration = Duration::from_secs(600);
/// How often the number of waiting pulls is looked at.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// Writes the pulls at every interval, and earlier if many wait. Runs until aborted.
pub(super) async fn run_pull_writer(registry: Registry) {
    let mut last_write = Instant::now();
    loop {
        sleep(CHECK_INTERVAL).await;
        if last_write.elapsed() >= WRITE_INTERVAL || registry.has_many_pulls() {
            last_write = Instant::now();
            let registry = registry.clone();
            if let Err(error) = tokio::task::spawn_blocking(move || registry.write_pulls()).await {
                tracing::error!(%error, "cannot record when images were pulled");
            }
        }
    }
}
