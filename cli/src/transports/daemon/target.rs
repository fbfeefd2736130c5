//! A daemon as the target of a copy. It loads an archive of one platform and sends a classic store
//! only the layers that it lacks.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use imgsync_oci::{Descriptor, Digest, LocalName, MAX_MANIFEST_BYTES, Tag};

use super::archive_stream::{ArchiveSender, StreamError, archive_channel, archive_files};
use super::platform_image::PlatformImage;
use super::state::{DaemonTargetState, distinct_layers};
use super::{DaemonAddress, DaemonClient, DaemonInfo, DaemonKind, LoadOutcome, StoredImage};
use crate::exit::{Failure, FailureKind};
use crate::image::{Error, Platforms, config, name, platform};
use crate::report::{CopyChange, CopyOutcome, Report};
use crate::transports::fetch::BlobFetch;
use crate::transports::{CopyRequest, CopySource};
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
    image: &'a PlatformImage,
    config: Bytes,
    layers: Vec<PendingBlob>,
}

impl DaemonTarget {
    /// Connects to the daemon of the environment.
    ///
    /// # Errors
    /// Returns an error if the daemon is unreachable or refuses.
    pub async fn connect() -> Result<Self, Failure> {
        Self::connect_to(DaemonAddress::from_environment().map_err(target_failure)?).await
    }

    /// Connects to the daemon at `address`.
    ///
    /// # Errors
    /// Returns an error if the daemon is unreachable or refuses.
    pub async fn connect_to(address: DaemonAddress) -> Result<Self, Failure> {
        let engine = DaemonClient::new(address).map_err(target_failure)?;
        let about = engine.daemon_info().await.map_err(target_failure)?;
        Ok(Self {
            engine,
            info: about,
        })
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
    ) -> Result<CopyOutcome, Failure> {
        let state = self.gather_state(source, request, name).await?;
        let mut copied = state.initial_outcome();
        if copied.change == CopyChange::Nothing {
            return Ok(copied);
        }
        if let Some(id) = &state.existing_id {
            (request.before_tag)(&state.tag, &copied.digest, &copied.digest)?;
            let tagged = self
                .engine
                .tag(id, &state.repository_name, state.tag.as_str())
                .await;
            tagged.map_err(target_failure)?;
            return Ok(copied);
        }
        let config = self.fetch_config(source, &state.image).await?;
        copied
            .notes
            .extend(self.check_platform(source, request, &config)?);
        let prepared = PreparedImage {
            layers: pending_layers(source, &state.image).await?,
            image: &state.image,
            config,
        };
        (request.before_tag)(&state.tag, &copied.digest, &copied.digest)?;
        copied.sent = self.load(&prepared, &state, &**report).await?;
        self.verify_tag(&state).await?;
        let all: u64 = prepared.layers.iter().map(|layer| layer.size).sum();
        copied.saved = all.saturating_sub(copied.sent);
        Ok(copied)
    }

    /// Returns what [`DaemonTarget::copy_image`] would do. Whether a classic store shares layers
    /// with other images shows only when it loads, so the bytes are an upper bound.
    ///
    /// # Errors
    /// Those of [`DaemonTarget::copy_image`].
    pub async fn preview(
        &self,
        source: &dyn CopySource,
        request: &CopyRequest,
        name: &LocalName,
        _report: &Arc<dyn Report>,
    ) -> Result<CopyOutcome, Failure> {
        let state = self.gather_state(source, request, name).await?;
        let mut copied = state.initial_outcome();
        if copied.change != CopyChange::Image {
            return Ok(copied);
        }
        let config = self.fetch_config(source, &state.image).await?;
        copied
            .notes
            .extend(self.check_platform(source, request, &config)?);
        let diff_ids = diff_ids(source, &state.image, &config)?;
        let there = state
            .previous_image
            .map(|it| it.diff_ids)
            .unwrap_or_default();
        let same = diff_ids.iter().zip(&there);
        let same = same.take_while(|(one, other)| one == other).count();
        let keeps = self.info.kind == DaemonKind::Classic;
        let (had, wanted) = state.image.layers.split_at(if keeps { same } else { 0 });
        copied.sent = distinct_layers(wanted).map(|layer| layer.size).sum();
        if keeps && copied.sent > 0 {
            let note = "an upper bound: Docker shows only when it loads which layers it shares with other images";
            copied.notes.push(note.to_owned());
        }
        copied.saved = distinct_layers(had).map(|layer| layer.size).sum();
        Ok(copied)
    }

    async fn gather_state(
        &self,
        source: &dyn CopySource,
        request: &CopyRequest,
        name: &LocalName,
    ) -> Result<DaemonTargetState, Failure> {
        let platforms = self.wanted_platforms(request)?;
        let image = PlatformImage::find(source, &request.from, &platforms).await?;
        let tag = name.tag.clone().unwrap_or_else(Tag::latest);
        let bare = LocalName {
            tag: None,
            ..name.clone()
        };
        let bare = name::text(&bare);
        let full = format!("{bare}:{tag}");
        let before = self
            .engine
            .find_image(&full)
            .await
            .map_err(target_failure)?;
        let ids = match self.info.kind {
            DaemonKind::Classic | DaemonKind::Podman => vec![&image.config.digest],
            DaemonKind::Containerd => vec![&image.manifest.digest, &image.root],
        };
        let has_name = |known: &StoredImage| ids.contains(&&known.id);
        let mut there = before.clone().filter(has_name).map(|known| known.id);
        for id in ids {
            if there.is_none() {
                let known = self.engine.find_image(&id.to_string()).await;
                there = known.map_err(target_failure)?.map(|known| known.id);
            }
        }
        Ok(DaemonTargetState {
            image,
            repository_name: bare,
            tag,
            previous_image: before,
            existing_id: there,
        })
    }

    /// Returns the daemon's own platform.
    fn platforms(&self) -> Result<Platforms, Failure> {
        let word = &self.info.platform;
        Platforms::parse(std::slice::from_ref(word)).map_err(|_| {
            let what = format!("target: the daemon reports the invalid platform {word:?}");
            Failure::new(FailureKind::Target, what).with_hint("name the platform with --platform")
        })
    }

    /// Returns the requested platforms, otherwise the daemon's own.
    fn wanted_platforms(&self, request: &CopyRequest) -> Result<Platforms, Failure> {
        if request.platforms.is_empty() {
            self.platforms()
        } else {
            Ok(request.platforms.clone())
        }
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
    ) -> Result<Option<String>, Failure> {
        let Some(own) = config::platform(config) else {
            return Ok(None);
        };
        let wanted = self.wanted_platforms(request)?;
        let is_right = wanted.choose("it", &[Some(own.clone())]).is_ok();
        let own = platform::text(&own);
        let what = format!("the image is for {own}, not for {wanted}");
        match (is_right, request.platforms.is_empty()) {
            (true, _) => Ok(None),
            (false, true) => Ok(Some(what)),
            (false, false) => {
                let what = format!("source: {}: {what}", source.name());
                let hint = "there is no other one under this name: leave --platform out to take it";
                Err(Failure::new(FailureKind::Source, what).with_hint(hint))
            }
        }
    }

    /// Returns the verified config of the image.
    async fn fetch_config(
        &self,
        source: &dyn CopySource,
        image: &PlatformImage,
    ) -> Result<Bytes, Failure> {
        let Descriptor { digest, size, .. } = &image.config;
        if *size > MAX_MANIFEST_BYTES as u64 {
            return Err(Error::TooLarge {
                from: source.name().to_owned(),
                what: "the image's config".to_owned(),
                limit: format!("{MAX_MANIFEST_BYTES} bytes"),
            }
            .into());
        }
        let blob = PendingBlob {
            digest: digest.clone(),
            size: *size,
            label: "config".to_owned(),
            source: source.locate_blob(&image.config).await?,
            mount: None,
        };
        let mut fetch = BlobFetch::new(&blob);
        let mut config = Vec::new();
        while let Some(chunk) = fetch.next_verified().await? {
            config.extend_from_slice(&chunk);
        }
        diff_ids(source, image, &config)?;
        Ok(config.into())
    }

    /// Loads the image and returns the bytes of the layers that were sent. A classic store is first
    /// sent an archive without any layer, and names the first layer that it lacks; the layers from
    /// there on are sent.
    async fn load(
        &self,
        prepared: &PreparedImage<'_>,
        state: &DaemonTargetState,
        report: &dyn Report,
    ) -> Result<u64, Failure> {
        let can_leave_out = self.info.kind == DaemonKind::Classic;
        let mut first = if can_leave_out {
            prepared.layers.len()
        } else {
            0
        };
        let mut sent = 0;
        for _ in 0..MAX_LOAD_ATTEMPTS {
            let (bytes, loaded) = self.try_load(prepared, first, state, report).await?;
            sent += bytes;
            let message = match loaded {
                LoadOutcome::Loaded => return Ok(sent),
                LoadOutcome::Rejected(message) => message,
            };
            let names = |layer: &PendingBlob| message.contains(layer.digest.hex());
            match prepared.layers[..first].iter().position(names) {
                Some(place) => first = place,
                // The daemon does not name the layer when all of them are left out.
                None if first == prepared.layers.len() && first > 0 => first = 0,
                None => {
                    let address = self.engine.address();
                    let what =
                        format!("target: the daemon at {address} rejected the image: {message}");
                    let what = Failure::new(FailureKind::Target, what);
                    return Err(what
                        .with_hint("see the log of the daemon, often with journalctl -u docker"));
                }
            }
        }
        let what = "target: the daemon removes layers while the image is loaded";
        Err(Failure::new(FailureKind::Target, what)
            .with_hint("try again when no images are being removed there"))
    }

    /// Sends an archive with the layers from `first` on.
    async fn try_load(
        &self,
        prepared: &PreparedImage<'_>,
        first: usize,
        state: &DaemonTargetState,
        report: &dyn Report,
    ) -> Result<(u64, LoadOutcome), Failure> {
        let (sender, body) = archive_channel();
        let name = (&*state.repository_name, &state.tag);
        let small = archive_files(self.info.kind, prepared.image, &prepared.config, name);
        let written = write(sender, &prepared.layers[first..], small, report);
        let (written, loaded) = futures::join!(written, self.engine.load(body));
        match written {
            Ok(bytes) => Ok((bytes, loaded.map_err(target_failure)?)),
            // The daemon rejects an incomplete archive, but the cause is the source.
            Err(StreamError::SourceFailed(failure)) => Err(failure),
            Err(StreamError::ReceiverClosed) => match loaded.map_err(target_failure)? {
                LoadOutcome::Rejected(message) => Ok((0, LoadOutcome::Rejected(message))),
                LoadOutcome::Loaded => {
                    let message = "the daemon reports success before it has read the whole archive";
                    Ok((0, LoadOutcome::Rejected(message.to_owned())))
                }
            },
        }
    }

    /// Checks that the name refers to the image now.
    async fn verify_tag(&self, state: &DaemonTargetState) -> Result<(), Failure> {
        let full = format!("{}:{}", state.repository_name, state.tag);
        let known = self
            .engine
            .find_image(&full)
            .await
            .map_err(target_failure)?;
        let id = match self.info.kind {
            DaemonKind::Classic | DaemonKind::Podman => &state.image.config.digest,
            DaemonKind::Containerd => &state.image.manifest.digest,
        };
        match known {
            Some(known) if known.id == *id => Ok(()),
            Some(known) => {
                let is = known.id;
                let what = format!(
                    "target: the daemon loaded the image, but {full} is {is} instead of {id}"
                );
                Err(Failure::new(FailureKind::Target, what)
                    .with_hint("another process may have moved the tag meanwhile"))
            }
            None => {
                let what = format!("target: the daemon loaded the image, but has no {full}");
                Err(Failure::new(FailureKind::Target, what))
            }
        }
    }
}

async fn write(
    sender: ArchiveSender,
    layers: &[PendingBlob],
    small: Vec<(String, Vec<u8>)>,
    report: &dyn Report,
) -> Result<u64, StreamError> {
    let mut bytes = 0;
    let mut seen = HashSet::new();
    for layer in layers {
        if !seen.insert(&layer.digest) {
            continue;
        }
        match sender.send_blob(layer, report).await {
            Ok(size) => bytes += size,
            Err(ended) => {
                sender.abort().await;
                return Err(ended);
            }
        }
    }
    sender.end(small).await?;
    Ok(bytes)
}

async fn pending_layers(
    source: &dyn CopySource,
    image: &PlatformImage,
) -> Result<Vec<PendingBlob>, Failure> {
    let mut all = Vec::new();
    for (place, layer) in image.layers.iter().enumerate() {
        all.push(PendingBlob {
            digest: layer.digest.clone(),
            size: layer.size,
            label: format!("layer {}/{}", place + 1, image.layers.len()),
            source: source.locate_blob(layer).await?,
            mount: None,
        });
    }
    Ok(all)
}

/// Returns the diffIDs of the config: as many as the manifest has layers.
fn diff_ids(
    source: &dyn CopySource,
    image: &PlatformImage,
    config: &[u8],
) -> Result<Vec<Digest>, Failure> {
    let diff_ids = config::diff_ids(config).and_then(|ids| {
        let (layers, diff_ids) = (image.layers.len(), ids.len());
        if layers == diff_ids {
            Ok(ids)
        } else {
            let reason = format!("the manifest has {layers} layers, the config {diff_ids}");
            Err(reason)
        }
    });
    diff_ids.map_err(|reason| {
        let from = source.name().to_owned();
        Error::Malformed { from, reason }.into()
    })
}

/// Converts a daemon's error to a failure of the target.
fn target_failure(error: Error) -> Failure {
    let failure = Failure::new(FailureKind::Target, format!("target: {error}"));
    if let Error::DaemonUnreachable {
        is_forbidden: false,
        ..
    } = error
    {
        return failure.with_hint(
            "is Docker running, or podman's socket (systemctl --user start podman.socket)? Where it \
             listens elsewhere, set DOCKER_HOST; without one, imgsync mirror into oci-archive:<path>",
        );
    }
    match error.hint() {
        Some(hint) => failure.with_hint(hint),
        None => failure,
    }
}
