//! Reads layers from Docker's classic store: a push that is held up at the topmost layer that is not
//! wanted, and cancelled once all wanted layers have arrived.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use imgsync_oci::{Digest, Tag};
use serde::Deserialize;

use super::announcements::ShortId;
use super::registry::{LoopbackRegistry, Refusal};
use super::server::LoopbackServer;
use super::share::check_share;
use super::traces::EngineTraces;
use super::{LoopbackError, LoopbackRead, wait_until_complete};
use crate::image::{Slice, config};
use crate::report::ProgressTask;
use crate::spool::Spool;
use crate::transports::LayerPacking;
use crate::transports::daemon::DaemonImage;
use crate::transports::daemon::buildkit;
use crate::transports::daemon::client::{DaemonClient, ProgressStream};

/// A message of a push.
#[derive(Deserialize)]
struct PushMessage {
    id: Option<String>,
    status: Option<String>,
    error: Option<String>,
}

/// Checks that an export is not quicker, and that the daemon reaches a registry of this process if
/// one is needed. Changes nothing in the daemon.
///
/// # Errors
/// Returns the reason why an export is needed.
pub(super) async fn check(
    image: &DaemonImage,
    wanted: &HashSet<Digest>,
) -> Result<(), LoopbackError> {
    prepare(image, wanted).await?;
    let (layers, refusal) = expected_uploads(image, wanted);
    if layers.is_empty() {
        return Ok(());
    }
    let packing = LayerPacking {
        threads: 1,
        take_layer: Arc::new(|_, _| ()),
    };
    let registry = LoopbackRegistry::new(layers, &Spool::default(), &packing, refusal);
    let server = LoopbackServer::start(&registry).await?;
    let reached = check_reached(&image.engine, &registry, &server).await;
    registry.end();
    reached
}

/// Returns the diffIDs of the wanted layers, and how the others are refused.
pub(super) fn expected_uploads(
    image: &DaemonImage,
    wanted: &HashSet<Digest>,
) -> (HashSet<Digest>, Refusal) {
    let mut layers = wanted.clone();
    layers.remove(image.store.id());
    let held = held_layer(&image.diff_ids, &layers).map(ShortId::of);
    (layers, Refusal::DuringUpload { held })
}

/// Returns the topmost layer that is not wanted, if a wanted one is below it. Docker waits for the
/// uploads from the topmost layer to the lowest, and the first one that was refused ends the push.
fn held_layer<'a>(diff_ids: &'a [Digest], wanted: &HashSet<Digest>) -> Option<&'a Digest> {
    let mut topmost_first = diff_ids.iter().rev();
    let held = topmost_first.find(|id| !wanted.contains(*id))?;
    let is_needed = topmost_first.any(|id| wanted.contains(id));
    is_needed.then_some(held)
}

/// Reads the layers that the registry expects, and the config if it is wanted.
///
/// # Errors
/// Returns the reason why an export is needed.
pub(super) async fn read(
    image: &DaemonImage,
    wanted: &HashSet<Digest>,
    registry: &Arc<LoopbackRegistry>,
    spool: &Spool,
    begin: impl FnOnce() -> ProgressTask,
) -> Result<LoopbackRead, LoopbackError> {
    let (config, traces) = if registry.is_complete() {
        let config = prepare(image, wanted).await?;
        let _task = begin();
        (config, None)
    } else {
        full_name(image)?;
        let server = LoopbackServer::start(registry).await?;
        let leave_traces = async {
            check_reached(&image.engine, registry, &server).await?;
            EngineTraces::leave(&image.engine, image.store.id(), server.port, spool).await
        };
        // Both are waited for: while the daemon still creates a trace, it cannot be removed.
        let (prepared, traces) = futures::join!(prepare(image, wanted), leave_traces);
        let config = match prepared {
            Ok(config) => config,
            Err(error) => {
                if let Ok(traces) = traces {
                    traces.remove().await;
                }
                return Err(error);
            }
        };
        let traces = traces?;
        let _task = begin();
        let pushed = push(image, registry, &traces).await;
        registry.end();
        if let Err(error) = pushed {
            traces.remove().await;
            return Err(error);
        }
        (config, Some(traces))
    };
    let id = image.store.id().clone();
    let config = config.map(|bytes| (id, Slice::memory(bytes)));
    Ok(LoopbackRead {
        blobs: config.into_iter().collect(),
        traces,
    })
}

/// Reads the config, if it is wanted, and checks that an export is not quicker.
///
/// # Errors
/// Returns the reason why an export is needed.
async fn prepare(
    image: &DaemonImage,
    wanted: &HashSet<Digest>,
) -> Result<Option<Bytes>, LoopbackError> {
    let name = full_name(image)?;
    let id = image.store.id();
    let (layers, _) = expected_uploads(image, wanted);
    let config = async {
        if !wanted.contains(id) {
            return Ok(None);
        }
        let bytes = buildkit::read_config(image.engine.connector(), &name, id).await;
        bytes.map(Some).map_err(LoopbackError::new)
    };
    let sizes = async {
        if layers.is_empty() {
            return Ok(Vec::new());
        }
        let sizes = image.engine.history_sizes(id).await;
        sizes.map_err(|error| LoopbackError::new(error.to_string()))
    };
    let (config, mut sizes) = futures::try_join!(config, sizes)?;
    sizes.reverse();
    let steps = config.as_deref().map(config::steps_with_layer);
    check_share(&image.diff_ids, &layers, &steps.unwrap_or_default(), &sizes)?;
    Ok(config)
}

/// Returns the name of the image with its tag: BuildKit finds images only by their names.
///
/// # Errors
/// Returns an error if the image has no name.
fn full_name(image: &DaemonImage) -> Result<String, LoopbackError> {
    let name = image.name.as_ref();
    let name = name.ok_or_else(|| LoopbackError::new("it has no name"))?;
    let registry = name.registry.iter().map(|registry| format!("{registry}/"));
    let registry: String = registry.collect();
    let tag = name.tag.clone().unwrap_or_else(Tag::latest);
    Ok(format!("{registry}{}:{tag}", name.repository))
}

/// Checks that the daemon's loopback interface is the one of this process.
async fn check_reached(
    engine: &DaemonClient,
    registry: &LoopbackRegistry,
    server: &LoopbackServer,
) -> Result<(), LoopbackError> {
    let image = format!("127.0.0.1:{}/imgsync/probe", server.port);
    engine.probe_registry(&image).await;
    if !registry.was_reached() {
        return Err(LoopbackError::new(
            "the daemon has another loopback interface than this program",
        ));
    }
    Ok(())
}

/// Pushes the image until the registry has all that is wanted. Dropping the response of the engine
/// cancels the rest.
async fn push(
    image: &DaemonImage,
    registry: &LoopbackRegistry,
    traces: &EngineTraces,
) -> Result<(), LoopbackError> {
    let failed = |error: crate::image::Error| LoopbackError::new(error.to_string());
    let auth = registry.registry_auth();
    let (repository, tag) = traces.repository_and_tag();
    let progress = image.engine.push(repository, tag, &auth);
    let progress = progress.await.map_err(failed)?;
    let ended = tokio::select! {
        complete = wait_until_complete(registry) => complete,
        reason = follow(progress, registry) => Err(LoopbackError::new(reason)),
    };
    if registry.is_complete() {
        return Ok(());
    }
    ended.map_err(|error| registry.failure().map_or(error, LoopbackError::new))
}

/// Reads the messages of a push to their end. Returns the reason why it ended.
async fn follow(mut progress: ProgressStream, registry: &LoopbackRegistry) -> String {
    loop {
        match progress.next::<PushMessage>().await {
            Ok(Some(PushMessage {
                error: Some(error), ..
            })) => return error,
            Ok(Some(PushMessage {
                id: Some(id),
                status: Some(status),
                ..
            })) => {
                if status == "Pushing" {
                    registry.announcements.announce(&id);
                }
            }
            Ok(Some(_)) => {}
            Ok(None) => return "the daemon ended its push".to_owned(),
            Err(error) => return error.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_is_held_only_above_a_wanted_one() {
        let diff_ids: Vec<Digest> = (0..4u8).map(|n| Digest::of(&[n])).collect();
        let held = |wanted: &[usize]| {
            let wanted = wanted.iter().map(|position| diff_ids[*position].clone());
            let held = held_layer(&diff_ids, &wanted.collect());
            held.and_then(|held| diff_ids.iter().position(|id| id == held))
        };
        assert_eq!(held(&[3]), None);
        assert_eq!(held(&[2, 3]), None);
        assert_eq!(held(&[0, 3]), Some(2));
        assert_eq!(held(&[1]), Some(3));
        assert_eq!(held(&[0, 1, 2, 3]), None);
    }
}
