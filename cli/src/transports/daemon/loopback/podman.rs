//! Reads layers from podman, which asks for each layer by its diffID before it sends it, and sends
//! the config as it is.

use std::sync::Arc;

use imgsync_oci::Digest;

use super::registry::LoopbackRegistry;
use super::server::LoopbackServer;
use super::{LoopbackError, LoopbackRead, wait_until_complete};
use crate::report::ProgressTask;
use crate::transports::daemon::DaemonImage;

/// Reads the blobs that the registry expects.
///
/// # Errors
/// Returns the reason why an export is needed.
pub(super) async fn read(
    image: &DaemonImage,
    config: &Digest,
    registry: &Arc<LoopbackRegistry>,
    begin: impl FnOnce() -> ProgressTask,
) -> Result<LoopbackRead, LoopbackError> {
    let _task = begin();
    let server = LoopbackServer::start(registry).await;
    let server = server.map_err(|error| {
        LoopbackError::new(format!(
            "no port on the loopback interface is free: {error}"
        ))
    })?;
    let destination = format!("127.0.0.1:{}/imgsync:push", server.port);
    let auth = registry.registry_auth();
    let pushing = image.engine.podman_push(config, &destination, &auth);
    let pushed = tokio::select! {
        complete = wait_until_complete(registry) => complete,
        pushed = pushing => match pushed {
            _ if registry.is_complete() => Ok(()),
            Ok(message) => Err(LoopbackError::new(message)),
            Err(error) => Err(LoopbackError::new(error.to_string())),
        },
    };
    registry.end();
    pushed.map_err(|error| registry.failure().map_or(error, LoopbackError::new))?;
    Ok(LoopbackRead {
        blobs: registry.received(),
        traces: None,
    })
}
