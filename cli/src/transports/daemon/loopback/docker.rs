//! Reads layers from Docker's classic store: a push that is held up at the topmost layer that is not
//! wanted, and cancelled once all wanted layers have arrived.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use imgsync_oci::{Digest, LocalName, Tag};
use serde::Deserialize;

use super::announcements::ShortId;
use super::registry::{LoopbackRegistry, Refusal};
use super::server::LoopbackServer;
use super::traces::EngineTraces;
use super::{LoopbackError, wait_until_complete};
use crate::image::{Slice, config};
use crate::spool::Spool;
use crate::transports::daemon::DaemonImage;
use crate::transports::daemon::buildkit;
use crate::transports::daemon::client::{DaemonClient, ProgressStream};

/// The share of an image, in percent, up to which a push is quicker than an export: Docker
/// compresses some 30 MB a second, and exports some 220 MB a second of the whole image.
const MAX_WANTED_PERCENT: u64 = 15;

/// A message of a push.
#[derive(Deserialize)]
struct PushMessage {
    id: Option<String>,
    status: Option<String>,
    error: Option<String>,
}

/// The content that is read from Docker.
#[derive(Debug)]
pub(super) struct DockerPlan {
    /// The config, which is read already, if it is wanted.
    config: Option<Bytes>,
    /// The diffIDs of the wanted layers.
    layers: HashSet<Digest>,
}

impl DockerPlan {
    /// Reads the config, if it is wanted, and checks that an export is not quicker.
    ///
    /// # Errors
    /// Returns the reason why an export is needed.
    pub(super) async fn new(
        image: &DaemonImage,
        wanted: &HashSet<Digest>,
    ) -> Result<Self, LoopbackError> {
        // BuildKit finds images only by their names.
        let name = image.name.as_ref().map(full_name);
        let name = name.ok_or_else(|| LoopbackError::new("it has no name"))?;
        let id = image.store.id();
        let mut config = None;
        if wanted.contains(id) {
            let bytes = buildkit::read_config(image.engine.connector(), &name, id).await;
            config = Some(bytes.map_err(LoopbackError::new)?);
        }
        let layers: HashSet<Digest> = wanted
            .iter()
            .filter(|wanted| *wanted != id)
            .cloned()
            .collect();
        if !layers.is_empty() {
            let steps = config.as_deref().map(config::steps_with_layer);
            check_share(image, id, &layers, &steps.unwrap_or_default()).await?;
        }
        Ok(Self { config, layers })
    }

    /// Checks that the daemon reaches a registry of this process, if one is needed.
    ///
    /// # Errors
    /// Returns the reason why an export is needed.
    pub(super) async fn check_registry(&self, engine: &DaemonClient) -> Result<(), LoopbackError> {
        if self.layers.is_empty() {
            return Ok(());
        }
        let refusal = Refusal::DuringUpload { held: None };
        let registry = LoopbackRegistry::new(HashSet::new(), &Spool::default(), refusal);
        let server = LoopbackServer::start(&registry).await?;
        let reached = check_reached(engine, &registry, &server).await;
        registry.end();
        reached
    }

    /// Reads the layers.
    ///
    /// # Errors
    /// Returns the reason why an export is needed.
    pub(super) async fn read(
        self,
        image: &DaemonImage,
        config: &Digest,
        spool: &Spool,
    ) -> Result<HashMap<Digest, Slice>, LoopbackError> {
        let mut read = HashMap::new();
        if !self.layers.is_empty() {
            read = read_layers(image, config, self.layers, spool).await?;
        }
        read.extend(
            self.config
                .map(|bytes| (config.clone(), Slice::memory(bytes))),
        );
        Ok(read)
    }
}

/// Returns the name of an image with its tag.
fn full_name(name: &LocalName) -> String {
    let registry = name.registry.iter().map(|registry| format!("{registry}/"));
    let registry: String = registry.collect();
    let tag = name.tag.clone().unwrap_or_else(Tag::latest);
    format!("{registry}{}:{tag}", name.repository)
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

/// Lets the daemon push the wanted layers to this process.
async fn read_layers(
    image: &DaemonImage,
    config: &Digest,
    wanted: HashSet<Digest>,
    spool: &Spool,
) -> Result<HashMap<Digest, Slice>, LoopbackError> {
    let mut topmost_first = image.diff_ids.iter().rev();
    let held = topmost_first
        .find(|id| !wanted.contains(*id))
        .map(ShortId::of);
    let registry = LoopbackRegistry::new(wanted, spool, Refusal::DuringUpload { held });
    let server = LoopbackServer::start(&registry).await?;
    check_reached(&image.engine, &registry, &server).await?;
    let traces = EngineTraces::leave(&image.engine, config, server.port, spool).await?;
    let pushed = push(image, &registry, &traces).await;
    registry.end();
    traces.remove().await;
    pushed.map(|()| registry.received())
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

/// Checks that the wanted layers are not so large a part of the image that an export is quicker.
/// `steps` tells for each step of the build, the first one first, whether it made a layer.
async fn check_share(
    image: &DaemonImage,
    config: &Digest,
    wanted: &HashSet<Digest>,
    steps: &[bool],
) -> Result<(), LoopbackError> {
    let history = image.engine.history_sizes(config).await;
    let mut sizes = history.map_err(|error| LoopbackError::new(error.to_string()))?;
    sizes.reverse();
    let (wanted, total) = wanted_bytes(&image.diff_ids, wanted, steps, &sizes);
    if wanted.saturating_mul(100) > total.saturating_mul(MAX_WANTED_PERCENT) {
        return Err(LoopbackError::new("most of it is needed"));
    }
    Ok(())
}

/// Returns the bytes of the wanted layers and those of all layers. `sizes` has the bytes of each
/// step of the build. If the sizes cannot be assigned to layers, the wanted ones count as the
/// largest.
fn wanted_bytes(
    diff_ids: &[Digest],
    wanted: &HashSet<Digest>,
    steps: &[bool],
    sizes: &[u64],
) -> (u64, u64) {
    let sum = |sizes: &[u64]| sizes.iter().copied().fold(0, u64::saturating_add);
    let is_known = steps.len() == sizes.len();
    let has_layer = |position: usize| is_known && steps[position];
    let layers = sizes.iter().enumerate();
    let layers = layers.filter(|(position, size)| has_layer(*position) || !is_known && **size > 0);
    let mut layers: Vec<u64> = layers.map(|(_, size)| *size).collect();
    let wanted: Vec<u64> = if layers.len() == diff_ids.len() {
        let pairs = diff_ids.iter().zip(&layers);
        let wanted = pairs.filter(|(diff_id, _)| wanted.contains(*diff_id));
        wanted.map(|(_, size)| *size).collect()
    } else {
        layers.sort_unstable_by(|one, other| other.cmp(one));
        layers.iter().copied().take(wanted.len()).collect()
    };
    (sum(&wanted), sum(&layers))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_of_the_wanted_layers() {
        let diff_ids: Vec<Digest> = (0..3u8).map(|n| Digest::of(&[n])).collect();
        let top = HashSet::from([diff_ids[2].clone()]);
        let bytes = |steps: &[bool], sizes: &[u64]| wanted_bytes(&diff_ids, &top, steps, sizes);
        // The config tells which steps made a layer. An empty layer has no bytes either.
        let steps = [true, false, true, true, false];
        assert_eq!(bytes(&steps, &[100, 0, 0, 5, 0]), (5, 105));
        // Without it, the steps with bytes did.
        assert_eq!(bytes(&[], &[100, 0, 20, 5, 0]), (5, 125));
        // One of the layers is empty, so nobody knows which size is whose.
        assert_eq!(bytes(&[], &[100, 0, 20, 0]), (100, 120));
        assert_eq!(bytes(&[], &[]), (0, 0));
        let all = diff_ids.iter().cloned().collect();
        let largest = wanted_bytes(&diff_ids, &all, &[], &[u64::MAX, 1]);
        assert_eq!(largest, (u64::MAX, u64::MAX));
    }
}
