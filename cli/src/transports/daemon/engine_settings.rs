//! Asks the local engine for settings that matter without an image.

use std::time::Duration;

use futures::future::BoxFuture;
use tokio::time::timeout;

use super::{DaemonAddress, DaemonClient};

/// The time that the engine has to answer. Every command can do without the answer.
const ENGINE_TIMEOUT: Duration = Duration::from_secs(1);

/// Returns the registries that the engine on this machine uses without TLS verification: names, and
/// networks such as `10.0.0.0/8`. Returns `None` if there is no engine on this machine, or if it does
/// not answer within a second.
pub fn ask_insecure_registries() -> BoxFuture<'static, Option<Vec<String>>> {
    Box::pin(async { timeout(ENGINE_TIMEOUT, ask()).await.ok().flatten() })
}

async fn ask() -> Option<Vec<String>> {
    // Opening a socket blocks while the engine does not accept connections.
    let address = tokio::task::spawn_blocking(DaemonAddress::from_environment);
    let address = address.await.ok()?.ok()?;
    if !address.is_local() {
        return None;
    }
    let info = DaemonClient::new(address).ok()?.info().await.ok()?;
    Some(info.insecure_registries())
}
