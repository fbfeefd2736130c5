//! Reads single layers from an engine that offers no such request, in a fraction of the time of an
//! export: the engine pushes the image to a registry of this process on the loopback interface,
//! which takes the wanted layers and refuses the others before they are read.
//!
//! Nothing stays behind in the engine. Every failure is a reason to export the image instead. Start
//! reading at [`read_layers`].

mod announcements;
mod docker;
mod identification;
mod podman;
mod receive;
mod registry;
mod responses;
mod server;
mod share;
mod traces;

pub(super) use traces::{EngineTraces, remove_leftovers};

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use imgsync_oci::Digest;

use super::{DaemonAddress, DaemonImage, ReadMethod};
use crate::image::Slice;
use crate::report::ProgressTask;
use crate::spool::Spool;
use crate::transports::LayerPacking;
use registry::{LoopbackRegistry, Refusal};

/// The time without any request or byte from the engine after which it is given up.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);

/// The reason why layers cannot be read in this way.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct LoopbackError(String);

impl LoopbackError {
    fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }
}

/// The content that was read from an engine.
pub(super) struct LoopbackRead {
    /// The bytes of what is no layer. Layers are given to [`LayerPacking`].
    pub(super) blobs: HashMap<Digest, Slice>,
    /// The traces that the push has left in the engine and that are still to be removed.
    pub(super) traces: Option<EngineTraces>,
}

/// Returns how the layers with the wanted diffIDs, and the config, would be read. Changes nothing in
/// the engine.
///
/// # Errors
/// Returns the reason why an export is needed.
pub(super) async fn check(
    image: &DaemonImage,
    wanted: &HashSet<Digest>,
) -> Result<ReadMethod, LoopbackError> {
    check_wanted(image, wanted)?;
    if !image.is_podman {
        docker::check(image, wanted).await?;
    }
    Ok(read_method(image, wanted))
}

/// Reads the wanted layers, by diffID, and the config if it is wanted. The layers are verified,
/// compressed, and given to `packing`; `wanted` lacks them then. Calls `begin` before the first request
/// that costs something.
///
/// # Errors
/// Returns an error if an export is expected to be quicker, and if the engine fails. A layer that was
/// given to `packing` before is not lost.
pub(super) async fn read_layers(
    image: &DaemonImage,
    config: &Digest,
    wanted: &mut HashSet<Digest>,
    (spool, packing): (&Spool, &LayerPacking),
    begin: &mut impl FnMut(ReadMethod) -> ProgressTask,
) -> Result<LoopbackRead, LoopbackError> {
    check_wanted(image, wanted)?;
    let begin = || begin(read_method(image, wanted));
    // podman sends the config, too.
    let (blobs, refusal) = if image.is_podman {
        (wanted.clone(), Refusal::BeforeUpload)
    } else {
        docker::expected_uploads(image, wanted)
    };
    let registry = LoopbackRegistry::new(blobs, spool, packing, refusal);
    let read = if image.is_podman {
        podman::read(image, config, &registry, begin).await
    } else {
        docker::read(image, wanted, &registry, spool, begin).await
    };
    let taken = registry.taken();
    wanted.retain(|digest| !taken.contains(digest));
    read
}

/// Checks that an export is not the better or the only way.
fn check_wanted(image: &DaemonImage, wanted: &HashSet<Digest>) -> Result<(), LoopbackError> {
    if let DaemonAddress::Ssh(_) = image.engine.address() {
        return Err(LoopbackError::new("the daemon runs on another machine"));
    }
    // The engine compresses what it sends, which an export saves.
    let is_all = image.diff_ids.iter().all(|layer| wanted.contains(layer));
    if is_all && (image.is_podman || !image.diff_ids.is_empty()) {
        return Err(LoopbackError::new("no layer was found in the registry"));
    }
    Ok(())
}

/// Describes how the wanted layers are read.
fn read_method(image: &DaemonImage, wanted: &HashSet<Digest>) -> ReadMethod {
    ReadMethod::SingleLayers {
        engine: image.engine_kind(),
        read: wanted
            .iter()
            .filter(|id| image.diff_ids.contains(id))
            .count(),
        all: image.diff_ids.len(),
    }
}

/// Waits until the registry has everything that is wanted.
///
/// # Errors
/// Returns an error if the engine sends nothing for [`IDLE_TIMEOUT`].
async fn wait_until_complete(registry: &LoopbackRegistry) -> Result<(), LoopbackError> {
    let mut activity = registry.activity();
    while !registry.is_complete() {
        let changed = tokio::time::timeout(IDLE_TIMEOUT, activity.changed()).await;
        if changed.is_err() {
            let seconds = IDLE_TIMEOUT.as_secs();
            return Err(LoopbackError::new(format!(
                "the daemon sent nothing for {seconds} s"
            )));
        }
    }
    Ok(())
}
