//! A daemon as the target of a copy. It loads an archive of one platform and sends a classic store
//! only the layers that it lacks.

use std::sync::Arc;

use bytes::Bytes;
use imgsync_oci::{Digest, LocalName, MAX_MANIFEST_BYTES, Tag};

use super::archive_stream::{StreamError, archive_channel, archive_files};
use super::platform_image::PlatformImage;
use super::responses::{DaemonInfo, DaemonKind, ImageInspect, LoadOutcome};
use super::state::{DaemonTargetState, distinct_layers};
use super::{DaemonAddress, DaemonClient};
use crate::exit::{Failure, FailureKind};
use crate::image::{Error, Platforms, config, name, platform};
use crate::report::{CopyChange, CopyOutcome, Report};
use crate::transports::fetch::{BlobFetch, pending_blob};
use crate::transports::{CopyRequest, CopySource, Result};
use crate::upload::PendingBlob;

/// The most archives that are sent for one image. A layer that the daemon had may be removed in
/// between.
const MAX_LOAD_ATTEMPTS: usize = 3;

/// A daemon that images are loaded into.
#[derive(Debug, Clone)]
pub struct DaemonTarget {
    engine: DaemonClient,
    info: DaemonInfo,
}

/// An image that is ready to be loaded.
struct PreparedImage<'a> {
    state: &'a DaemonTargetState,
    config: Bytes,
    layers: Vec<PendingBlob>,
}

impl DaemonTarget {
    /// Connects to the daemon of the environment.
    ///
    /// # Errors
    /// Returns an error if the daemon is unreachable or refuses.
    pub async fn connect() -> Result<Self> {
        let address = DaemonAddress::from_environment().map_err(target_failure)?;
        let engine = DaemonClient::new(address).map_err(target_failure)?;
        let info = engine.daemon_info().await.map_err(target_failure)?;
        Ok(Self { engine, info })
    }

    /// Copies the requested image, for the one platform of the request or else the daemon's own,
    /// and tags it `name`. Layers that the daemon has are not read.
    ///
    /// # Errors
    /// Returns the error of the source or the target; the daemon's images are unchanged then.
    pub async fn copy_image(
        &self,
        source: &dyn CopySource,
        request: &CopyRequest,
        name: &LocalName,
        report: &Arc<dyn Report>,
    ) -> Result<CopyOutcome> {
        let state = self.gather_state(source, request, name).await?;
        let mut outcome = state.initial_outcome();
        if outcome.change == CopyChange::Nothing {
            return Ok(outcome);
        }
        let before_tag = || (request.before_tag)(&state.tag, &outcome.digest, &outcome.digest);
        if let Some(id) = &state.existing_id {
            before_tag()?;
            let (repository, tag) = (&state.repository_name, state.tag.as_str());
            let tagged = self.engine.tag(id, repository, tag).await;
            tagged.map_err(target_failure)?;
            return Ok(outcome);
        }
        let config = fetch_config(source, &state.image).await?;
        let note = self.check_platform(source, request, &config)?;
        let prepared = PreparedImage {
            layers: pending_layers(source, &state.image).await?,
            state: &state,
            config,
        };
        before_tag()?;
        outcome.sent = self.load(&prepared, &**report).await?;
        self.verify_tag(&state).await?;
        let total: u64 = prepared.layers.iter().map(|layer| layer.size).sum();
        outcome.saved = total.saturating_sub(outcome.sent);
        outcome.notes.extend(note);
        Ok(outcome)
    }

    /// Returns what [`DaemonTarget::copy_image`] would do. Whether a classic store shares layers
    /// with other images shows only when it loads, so the bytes are an upper bound.
    ///
    /// # Errors
    /// Fails as [`DaemonTarget::copy_image`] does.
    pub async fn preview(
        &self,
        source: &dyn CopySource,
        request: &CopyRequest,
        name: &LocalName,
    ) -> Result<CopyOutcome> {
        let state = self.gather_state(source, request, name).await?;
        let mut outcome = state.initial_outcome();
        if outcome.change != CopyChange::Image {
            return Ok(outcome);
        }
        let image = &state.image;
        let config = fetch_config(source, image).await?;
        outcome
            .notes
            .extend(self.check_platform(source, request, &config)?);
        let keeps_layers = self.info.kind == DaemonKind::Classic;
        let mut shared = 0;
        if let Some(previous) = state.previous_image.filter(|_| keeps_layers) {
            let diff_ids = diff_ids(source, image, &config)?;
            let pairs = diff_ids.iter().zip(previous.diff_ids());
            shared = pairs.take_while(|(own, other)| own == other).count();
        }
        let (present, missing) = image.layers.split_at(shared);
        outcome.sent = distinct_layers(missing).map(|layer| layer.size).sum();
        if keeps_layers && outcome.sent > 0 {
            let note =
                "this size is an upper bound: Docker may share more layers with other local images";
            outcome.notes.push(note.to_owned());
        }
        outcome.saved = distinct_layers(present).map(|layer| layer.size).sum();
        Ok(outcome)
    }

    async fn gather_state(
        &self,
        source: &dyn CopySource,
        request: &CopyRequest,
        name: &LocalName,
    ) -> Result<DaemonTargetState> {
        let platforms = self.platforms(request)?;
        let image = PlatformImage::find(source, &request.from, &platforms).await?;
        let tag = name.tag.clone().unwrap_or_else(Tag::latest);
        let mut repository = name.clone();
        repository.tag = None;
        let repository_name = name::text(&repository);
        let previous_image = self.find_image(&format!("{repository_name}:{tag}")).await?;
        let ids = match self.info.kind {
            DaemonKind::Classic | DaemonKind::Podman => vec![&image.config.digest],
            DaemonKind::Containerd => vec![&image.manifest.digest, &image.root],
        };
        let previous_id = previous_image.as_ref().map(|previous| &previous.id);
        let mut existing_id = previous_id.filter(|id| ids.contains(id)).cloned();
        for id in ids {
            if existing_id.is_none() {
                let existing = self.find_image(&id.to_string()).await?;
                existing_id = existing.map(|existing| existing.id);
            }
        }
        Ok(DaemonTargetState {
            image,
            repository_name,
            tag,
            previous_image,
            existing_id,
        })
    }

    async fn find_image(&self, name: &str) -> Result<Option<ImageInspect>> {
        self.engine.find_image(name).await.map_err(target_failure)
    }

    /// Returns the requested platforms, otherwise the daemon's own.
    fn platforms(&self, request: &CopyRequest) -> Result<Platforms> {
        if !request.platforms.is_empty() {
            return Ok(request.platforms.clone());
        }
        let own = &self.info.platform;
        Platforms::parse(std::slice::from_ref(own)).map_err(|_| {
            let what = format!("target: the daemon reports the invalid platform {own:?}");
            Failure::new(FailureKind::Target, what).with_hint("name the platform with --platform")
        })
    }

    /// Returns a note if the image is for another platform than the daemon.
    ///
    /// # Errors
    /// Returns an error if the image is for another platform than requested.
    fn check_platform(
        &self,
        source: &dyn CopySource,
        request: &CopyRequest,
        config: &[u8],
    ) -> Result<Option<String>> {
        let Some(own) = config::platform(config) else {
            return Ok(None);
        };
        let requested = self.platforms(request)?;
        let what = format!(
            "the image is for {}, not for {requested}",
            platform::text(&own)
        );
        if requested.check(source.name(), Some(own)).is_ok() {
            return Ok(None);
        }
        if request.platforms.is_empty() {
            return Ok(Some(what));
        }
        let what = format!("source: {}: {what}", source.name());
        let hint = "the name has no other image: omit --platform to load this one";
        Err(Failure::new(FailureKind::Source, what).with_hint(hint))
    }

    /// Loads the image and returns the bytes of the layers that were sent. A classic store is first
    /// sent an archive without any layer, and names the first layer that it lacks; the layers from
    /// there on are sent.
    async fn load(&self, prepared: &PreparedImage<'_>, report: &dyn Report) -> Result<u64> {
        let count = prepared.layers.len();
        let mut first = match self.info.kind {
            DaemonKind::Classic => count,
            DaemonKind::Containerd | DaemonKind::Podman => 0,
        };
        let mut sent = 0;
        for _ in 0..MAX_LOAD_ATTEMPTS {
            let (bytes, outcome) = self.try_load(prepared, first, report).await?;
            sent += bytes;
            let LoadOutcome::Rejected(message) = outcome else {
                return Ok(sent);
            };
            let is_named = |layer: &PendingBlob| message.contains(layer.digest.hex());
            first = match prepared.layers[..first].iter().position(is_named) {
                Some(position) => position,
                // The daemon does not name the layer when all of them are left out.
                None if first == count && first > 0 => 0,
                None => {
                    let address = self.engine.address();
                    let what = format!("the daemon at {address} rejected the image: {message}");
                    return Err(Failure::new(FailureKind::Target, format!("target: {what}"))
                        .with_hint("see the log of the daemon, often with journalctl -u docker"));
                }
            };
        }
        let what = "target: the daemon removes layers while the image is loaded";
        Err(Failure::new(FailureKind::Target, what).with_hint(
            "run the same command again when no images are being removed from the daemon",
        ))
    }

    /// Sends an archive with the layers from `first` on. Returns the bytes of the layers, and the
    /// daemon's response.
    async fn try_load(
        &self,
        prepared: &PreparedImage<'_>,
        first: usize,
        report: &dyn Report,
    ) -> Result<(u64, LoadOutcome)> {
        let PreparedImage { state, config, .. } = prepared;
        let (sender, body) = archive_channel();
        let name = (&*state.repository_name, &state.tag);
        let files = archive_files(self.info.kind, &state.image, config, name);
        let sent = sender.send_archive(&prepared.layers[first..], files, report);
        let (sent, loaded) = futures::join!(sent, self.engine.load(body));
        match sent {
            Ok(bytes) => Ok((bytes, loaded.map_err(target_failure)?)),
            // The daemon rejects an incomplete archive, but the cause is the source.
            Err(StreamError::SourceFailed(failure)) => Err(failure),
            Err(StreamError::ReceiverClosed) => {
                let mut outcome = loaded.map_err(target_failure)?;
                if outcome == LoadOutcome::Loaded {
                    let message = "the daemon reports success before it has read the whole archive";
                    outcome = LoadOutcome::Rejected(message.to_owned());
                }
                Ok((0, outcome))
            }
        }
    }

    /// Checks that the name refers to the image now.
    async fn verify_tag(&self, state: &DaemonTargetState) -> Result<()> {
        let name = format!("{}:{}", state.repository_name, state.tag);
        let id = match self.info.kind {
            DaemonKind::Classic | DaemonKind::Podman => &state.image.config.digest,
            DaemonKind::Containerd => &state.image.manifest.digest,
        };
        let loaded = "target: the daemon loaded the image, but";
        match self.find_image(&name).await? {
            Some(found) if found.id == *id => Ok(()),
            Some(found) => {
                let what = format!("{loaded} {name} is {} instead of {id}", found.id);
                Err(Failure::new(FailureKind::Target, what).with_hint(
                    "another process may have changed the tag; run the same command again",
                ))
            }
            None => {
                let what = format!("{loaded} has no {name}");
                Err(Failure::new(FailureKind::Target, what))
            }
        }
    }
}

/// Returns the verified config of the image.
async fn fetch_config(source: &dyn CopySource, image: &PlatformImage) -> Result<Bytes> {
    if image.config.size > MAX_MANIFEST_BYTES as u64 {
        let limit = format!("{MAX_MANIFEST_BYTES} bytes");
        return Err(Error::too_large(source.name(), "the image's config", limit).into());
    }
    let bytes = source.locate_blob(&image.config).await?;
    let blob = pending_blob(&image.config, "config".to_owned(), bytes);
    let mut fetch = BlobFetch::new(&blob);
    let mut config = Vec::new();
    while let Some(chunk) = fetch.next_chunk().await? {
        config.extend_from_slice(&chunk);
    }
    diff_ids(source, image, &config)?;
    Ok(config.into())
}

async fn pending_layers(
    source: &dyn CopySource,
    image: &PlatformImage,
) -> Result<Vec<PendingBlob>> {
    let count = image.layers.len();
    let mut layers = Vec::with_capacity(count);
    for (position, layer) in image.layers.iter().enumerate() {
        let label = format!("layer {}/{count}", position + 1);
        layers.push(pending_blob(layer, label, source.locate_blob(layer).await?));
    }
    Ok(layers)
}

/// Returns the diffIDs of the config: as many as the manifest has layers.
fn diff_ids(source: &dyn CopySource, image: &PlatformImage, config: &[u8]) -> Result<Vec<Digest>> {
    let malformed = |reason| Error::malformed(source.name(), reason);
    let diff_ids = config::diff_ids(config).map_err(malformed)?;
    if diff_ids.len() != image.layers.len() {
        let (layers, diff_ids) = (image.layers.len(), diff_ids.len());
        let reason = format!("the manifest has {layers} layers, but the config has {diff_ids}");
        return Err(malformed(reason).into());
    }
    Ok(diff_ids)
}

/// Converts a daemon's error to a failure of the target.
fn target_failure(error: Error) -> Failure {
    let hint = match error {
        Error::DaemonUnreachable {
            is_forbidden: false,
            ..
        } => Some(
            "start Docker, or podman's socket (systemctl --user start podman.socket). Set DOCKER_HOST \
             for another socket. Without a daemon, use imgsync mirror with oci-archive:PATH"
                .to_owned(),
        ),
        _ => error.hint(),
    };
    Failure {
        hint,
        ..Failure::new(FailureKind::Target, format!("target: {error}"))
    }
}
