//! A daemon as the target of a copy. It loads an archive of one platform, with only the layers that
//! the daemon lacks where it tells which. Start at [`DaemonTarget`].

mod classic;
mod containerd;
mod prepared_image;
mod staged_image;

use std::sync::Arc;

use imgsync_oci::{LocalName, Tag};

use super::archive_stream::{StreamError, archive_channel, archive_files};
use super::attestations::fetch_attestations;
use super::platform_image::PlatformImage;
use super::responses::{DaemonInfo, DaemonKind, ImageInspect, LoadOutcome};
use super::state::{DaemonTargetState, distinct, image_id};
use super::{DaemonAddress, DaemonClient};
use crate::exit::{Failure, FailureKind};
use crate::image::{Error, Platforms, config, name, platform};
use crate::report::{CopyChange, CopyOutcome, Report};
use crate::transports::{CopyRequest, CopySource, Result};
use crate::upload::PendingBlob;
use prepared_image::{PreparedImage, diff_ids, fetch_config};

/// The most archives that are sent for one image. A layer that the daemon had may be removed in
/// between.
const MAX_LOAD_ATTEMPTS: usize = 3;

/// A daemon that images are loaded into.
#[derive(Debug, Clone)]
pub struct DaemonTarget {
    engine: DaemonClient,
    info: DaemonInfo,
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
        outcome.notes.extend(note);
        let prepared = PreparedImage::new(source, &state, config).await?;
        before_tag()?;
        outcome.sent = match self.info.kind {
            DaemonKind::Classic | DaemonKind::Podman => self.load(&prepared, &**report).await?,
            DaemonKind::Containerd => {
                let (sent, note) = self.load_missing(&prepared, &**report).await?;
                outcome.notes.extend(note);
                sent
            }
        };
        self.verify_tag(&state).await?;
        let total: u64 = prepared.blobs.iter().map(|blob| blob.size).sum();
        outcome.saved = total.saturating_sub(outcome.sent);
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
        let total: u64 = distinct(image.blobs()).map(|blob| blob.size).sum();
        outcome.sent = match self.info.kind {
            DaemonKind::Podman => total,
            DaemonKind::Containerd => {
                let (missing, note) = self.missing_blobs(image).await;
                outcome.notes.extend(note);
                missing.iter().map(|blob| blob.size).sum()
            }
            DaemonKind::Classic => {
                let mut shared = 0;
                if let Some(previous) = state.previous_image {
                    let diff_ids = diff_ids(source, image, &config)?;
                    let pairs = diff_ids.iter().zip(previous.diff_ids());
                    shared = pairs.take_while(|(own, other)| own == other).count();
                }
                let (_, missing) = image.layers.split_at(shared);
                let bytes = distinct(missing).map(|layer| layer.size).sum();
                if bytes > 0 {
                    let note = "this size is an upper bound: Docker may share more layers with other \
                                local images";
                    outcome.notes.push(note.to_owned());
                }
                bytes
            }
        };
        outcome.saved = total.saturating_sub(outcome.sent);
        Ok(outcome)
    }

    async fn gather_state(
        &self,
        source: &dyn CopySource,
        request: &CopyRequest,
        name: &LocalName,
    ) -> Result<DaemonTargetState> {
        let platforms = self.platforms(request)?;
        let mut image = PlatformImage::find(source, &request.from, &platforms).await?;
        let tag = name.tag.clone().unwrap_or_else(Tag::latest);
        let mut repository = name.clone();
        repository.tag = None;
        let repository_name = name::text(&repository);
        let previous_image = self.find_image(&format!("{repository_name}:{tag}")).await?;
        let kind = self.info.kind;
        let id = image_id(kind, &image);
        let is_previous = |previous: &&ImageInspect| previous.id == *id;
        let found = match previous_image.as_ref().filter(is_previous) {
            Some(_) => None,
            None => self.find_image(&id.to_string()).await?,
        };
        let existing = previous_image
            .as_ref()
            .filter(is_previous)
            .or(found.as_ref());
        let mut existing_id = existing.map(|existing| existing.id.clone());
        if kind == DaemonKind::Containerd {
            if let Some(existing) = existing
                && !self.has_platform(existing, &image).await
            {
                existing_id = None;
            }
            if existing_id.is_none() {
                image.attestations = fetch_attestations(source, &image).await?;
            }
        }
        Ok(DaemonTargetState {
            kind,
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

    /// Sends an archive of an image with some of its blobs, under a name. Returns the bytes of the
    /// blobs, and the daemon's response.
    async fn try_load(
        &self,
        prepared: &PreparedImage<'_>,
        blobs: &[PendingBlob],
        name: (&str, &Tag),
        report: &dyn Report,
    ) -> Result<(u64, LoadOutcome)> {
        let PreparedImage { state, config, .. } = prepared;
        let (sender, body) = archive_channel(self.info.reads_zstd);
        let files = archive_files(self.info.kind, &state.image, config, name);
        let sent = sender.send_archive(blobs, files, report);
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

    /// Returns the failure of an archive that the daemon rejected.
    fn rejected(&self, message: &str) -> Failure {
        let address = self.engine.address();
        let what = format!("target: the daemon at {address} rejected the image: {message}");
        Failure::new(FailureKind::Target, what)
            .with_hint("see the log of the daemon, often with journalctl -u docker")
    }

    /// Checks that the name refers to the image now.
    async fn verify_tag(&self, state: &DaemonTargetState) -> Result<()> {
        let name = format!("{}:{}", state.repository_name, state.tag);
        let id = state.id();
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

/// Converts a daemon's error to a failure of the target.
fn target_failure(error: Error) -> Failure {
    Failure {
        hint: error.hint_for_target(),
        ..Failure::new(FailureKind::Target, format!("target: {error}"))
    }
}
