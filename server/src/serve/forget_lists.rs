//! The background job that gives back the memory of lists that nobody reads any more.

use std::time::Duration;

use tokio::time::sleep;

use crate::registry::Registry;

/// How often the lists are looked at.
const FORGET_INTERVAL: Duration = Duration::from_secs(30);

/// Gives back memory at every interval. Runs until aborted.
pub(super) async fn run_forgetting(registry: Registry) {
    loop {
        sleep(FORGET_INTERVAL).await;
        registry.forget_unused_lists();
    }
}
