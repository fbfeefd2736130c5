//! Loads images into Docker's classic store, which accepts an archive without the layers that it
//! has, and into podman, which is sent all layers.

use super::{DaemonTarget, MAX_LOAD_ATTEMPTS, PreparedImage};
use crate::exit::{Failure, FailureKind};
use crate::report::Report;
use crate::transports::Result;
use crate::transports::daemon::responses::{DaemonKind, LoadOutcome};
use crate::upload::PendingBlob;

impl DaemonTarget {
    /// Loads the image and returns the bytes of the layers that were sent. A classic store is first
    /// sent an archive without any layer, and names the first layer that it lacks; the layers from
    /// there on are sent.
    ///
    /// # Errors
    /// Returns the error of the source or the target.
    pub(super) async fn load(
        &self,
        prepared: &PreparedImage<'_>,
        report: &dyn Report,
    ) -> Result<u64> {
        let count = prepared.blobs.len();
        let mut first = match self.info.kind {
            DaemonKind::Classic => count,
            DaemonKind::Containerd | DaemonKind::Podman => 0,
        };
        let name = (&*prepared.state.repository_name, &prepared.state.tag);
        let mut sent = 0;
        for _ in 0..MAX_LOAD_ATTEMPTS {
            let blobs = &prepared.blobs[first..];
            let (bytes, outcome) = self.try_load(prepared, blobs, name, report).await?;
            sent += bytes;
            let LoadOutcome::Rejected(message) = outcome else {
                return Ok(sent);
            };
            let is_named = |layer: &PendingBlob| message.contains(layer.digest.hex());
            first = match prepared.blobs[..first].iter().position(is_named) {
                Some(position) => position,
                // The daemon does not name the layer when all of them are left out.
                None if first == count && first > 0 => 0,
                None => return Err(self.rejected(&message)),
            };
        }
        let what = "target: the daemon removes layers while the image is loaded";
        Err(Failure::new(FailureKind::Target, what).with_hint(
            "run the same command again when no images are being removed from the daemon",
        ))
    }
}
