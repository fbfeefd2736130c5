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
mod traces;

pub(super) use traces::remove_leftovers;

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use imgsync_oci::Digest;

use super::{DaemonAddress, DaemonImage, ReadMethod};
use crate::image::Slice;
use crate::report::ProgressTask;
use crate::spool::Spool;
use docker::DockerPlan;
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

/// How an engine is made to send single layers.
#[derive(Debug)]
enum LoopbackPlan {
    /// podman asks which layers it must send.
    Podman,
    /// Docker is stopped once it has sent them.
    Docker(DockerPlan),
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
    if let LoopbackPlan::Docker(plan) = plan(image, wanted).await? {
        plan.check_registry(&image.engine).await?;
    }
    Ok(read_method(image, wanted))
}

/// Reads the wanted layers, by diffID, and the config if it is wanted. The layers are verified, and
/// put into the spool uncompressed. Calls `begin` before the first request that costs something.
///
/// # Errors
/// Returns an error if an export is expected to be quicker, and if the engine fails. No layer is
/// lost then that the spool has already.
pub(super) async fn read_layers(
    image: &DaemonImage,
    config: &Digest,
    wanted: &HashSet<Digest>,
    spool: &Spool,
    begin: &mut impl FnMut(ReadMethod) -> ProgressTask,
) -> Result<HashMap<Digest, Slice>, LoopbackError> {
    check_address(image)?;
    let plan = plan(image, wanted).await?;
    let _task = begin(read_method(image, wanted));
    match plan {
        LoopbackPlan::Podman => {
            let registry = LoopbackRegistry::new(wanted.clone(), spool, Refusal::BeforeUpload);
            podman::push(image, config, registry).await
        }
        LoopbackPlan::Docker(plan) => plan.read(image, config, spool).await,
    }
}

async fn plan(
    image: &DaemonImage,
    wanted: &HashSet<Digest>,
) -> Result<LoopbackPlan, LoopbackError> {
    check_address(image)?;
    if image.is_podman {
        // podman compresses what it sends, which an export saves.
        if image.diff_ids.iter().all(|layer| wanted.contains(layer)) {
            return Err(LoopbackError::new("all of it is needed"));
        }
        return Ok(LoopbackPlan::Podman);
    }
    let plan = DockerPlan::new(image, wanted).await?;
    Ok(LoopbackPlan::Docker(plan))
}

fn check_address(image: &DaemonImage) -> Result<(), LoopbackError> {
    match image.engine.address() {
        DaemonAddress::Ssh(_) => Err(LoopbackError::new("the daemon runs on another machine")),
        _ => Ok(()),
    }
}

/// Describes the plan.
fn read_method(image: &DaemonImage, wanted: &HashSet<Digest>) -> ReadMethod {
    ReadMethod::SingleLayers {
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
