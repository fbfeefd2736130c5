//! A daemon as a target.

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
use crate::transports::fetch::{BlobFetch, FetchEvent};
use crate::transports::{CopyRequest, CopySource};
use crate::upload::PendingBlob;

/// How often an archive is made anew, because a layer that the daemon had is gone by then.
const MAX_LOAD_ATTEMPTS: usize = 3;

/// A daemon that images go into.
#[derive(Debug, Clone)]
pub struct DaemonTarget {
    engine: DaemonClient,
    info: DaemonInfo,
}

/// An image and what of it is at hand.
struct PreparedImage<'a> {
    image: &'a PlatformImage,
    config: Bytes,
    layers: Vec<PendingBlob>,
}

impl DaemonTarget {
    /// Asks the daemon that the environment names what it is.
    ///
    /// # Errors
    /// It is not reached, or refuses.
    pub async fn connect() -> Result<Self, Failure> {
        Self::connect_to(DaemonAddress::from_environment().map_err(target_failure)?).await
    }

    /// Asks the daemon at `address` what it is.
    ///
    /// # Errors
    /// It is not reached, or refuses.
    pub async fn connect_to(address: DaemonAddress) -> Result<Self, Failure> {
        let engine = DaemonClient::new(address).map_err(target_failure)?;
        let about = engine.daemon_info().await.map_err(target_failure)?;
        Ok(Self {
            engine,
            info: about,
        })
    }

    /// Brings the image that `wish` means, for the one platform that it names or else the daemon's
    /// own, and gives it `name`. Layers that the daemon has are not read. When this yields, the
    /// daemon has the image under its name.
    ///
    /// # Errors
    /// Either end's; then the daemon has what it had.
    pub async fn copy_image(
        &self,
        source: &dyn CopySource,
        wish: &CopyRequest,
        name: &LocalName,
        report: &Arc<dyn Report>,
    ) -> Result<CopyOutcome, Failure> {
        let facts = self.gather_state(source, wish, name).await?;
        let mut copied = facts.initial_outcome();
        if copied.change == CopyChange::Nothing {
            return Ok(copied);
        }
        if let Some(id) = &facts.existing_id {
            (wish.before_tag)(&facts.tag, &copied.digest, &copied.digest)?;
            let tagged = self
                .engine
                .tag(id, &facts.repository_name, facts.tag.as_str())
                .await;
            tagged.map_err(target_failure)?;
            return Ok(copied);
        }
        let config = self.fetch_config(source, &facts.image).await?;
        copied
            .notes
            .extend(self.check_platform(source, wish, &config)?);
        let parts = PreparedImage {
            layers: pending_layers(source, &facts.image).await?,
            image: &facts.image,
            config,
        };
        (wish.before_tag)(&facts.tag, &copied.digest, &copied.digest)?;
        copied.sent = self.load(&parts, &facts, &**report).await?;
        self.verify_tag(&facts).await?;
        let all: u64 = parts.layers.iter().map(|layer| layer.size).sum();
        copied.saved = all.saturating_sub(copied.sent);
        Ok(copied)
    }

    /// What [`Daemon::bring`] would do; which layers of other images the daemon would use only
    /// loading tells, so the bytes are the most that would be sent.
    ///
    /// # Errors
    /// As [`Daemon::bring`].
    pub async fn preview(
        &self,
        source: &dyn CopySource,
        wish: &CopyRequest,
        name: &LocalName,
        _report: &Arc<dyn Report>,
    ) -> Result<CopyOutcome, Failure> {
        let facts = self.gather_state(source, wish, name).await?;
        let mut copied = facts.initial_outcome();
        if copied.change != CopyChange::Image {
            return Ok(copied);
        }
        let config = self.fetch_config(source, &facts.image).await?;
        copied
            .notes
            .extend(self.check_platform(source, wish, &config)?);
        let diff_ids = diff_ids(source, &facts.image, &config)?;
        let there = facts
            .previous_image
            .map(|it| it.diff_ids)
            .unwrap_or_default();
        let same = diff_ids.iter().zip(&there);
        let same = same.take_while(|(one, other)| one == other).count();
        let keeps = self.info.kind == DaemonKind::Classic;
        let (had, wanted) = facts.image.layers.split_at(if keeps { same } else { 0 });
        copied.sent = distinct_layers(wanted).map(|layer| layer.size).sum();
        if keeps && copied.sent > 0 {
            let note = "at most so much: of which other images it takes layers, Docker tells when it loads";
            copied.notes.push(note.to_owned());
        }
        copied.saved = distinct_layers(had).map(|layer| layer.size).sum();
        Ok(copied)
    }

    async fn gather_state(
        &self,
        source: &dyn CopySource,
        wish: &CopyRequest,
        name: &LocalName,
    ) -> Result<DaemonTargetState, Failure> {
        let platforms = match wish.platforms.is_empty() {
            true => self.platforms()?,
            false => wish.platforms.clone(),
        };
        let image = PlatformImage::find(source, &wish.from, &platforms).await?;
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

    /// The daemon's own platform.
    fn platforms(&self) -> Result<Platforms, Failure> {
        let word = &self.info.platform;
        Platforms::parse(std::slice::from_ref(word)).map_err(|_| {
            let what = format!("target: the daemon says that it runs on {word:?}");
            Failure::new(FailureKind::Target, what).with_hint("name the platform with --platform")
        })
    }

    /// What to say of an image that is for something else than the daemon runs.
    ///
    /// # Errors
    /// It is for something else than was asked for.
    fn check_platform(
        &self,
        source: &dyn CopySource,
        wish: &CopyRequest,
        config: &[u8],
    ) -> Result<Option<String>, Failure> {
        let Some(own) = config::platform(config) else {
            return Ok(None);
        };
        let wanted = match wish.platforms.is_empty() {
            true => self.platforms()?,
            false => wish.platforms.clone(),
        };
        let is_right = wanted.choose("it", &[Some(own.clone())]).is_ok();
        let own = platform::text(&own);
        let what = format!("the image is for {own}, not for {wanted}");
        match (is_right, wish.platforms.is_empty()) {
            (true, _) => Ok(None),
            (false, true) => Ok(Some(what)),
            (false, false) => {
                let what = format!("source: {}: {what}", source.name());
                let hint = "there is no other one under this name: leave --platform out to take it";
                Err(Failure::new(FailureKind::Source, what).with_hint(hint))
            }
        }
    }

    /// The image's config, verified; it says which layers the image has, unpacked.
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
        loop {
            match fetch.next_chunk().await? {
                FetchEvent::Chunk(piece) => config.extend_from_slice(&piece),
                FetchEvent::Complete => break,
                FetchEvent::Corrupt(failure) => return Err(failure),
            }
        }
        diff_ids(source, image, &config)?;
        Ok(config.into())
    }

    /// Hands the image to the daemon. A classic store is first offered it without any layer, and
    /// names the first that it lacks; those from there on are sent. Yields the bytes that were.
    async fn load(
        &self,
        parts: &PreparedImage<'_>,
        facts: &DaemonTargetState,
        report: &dyn Report,
    ) -> Result<u64, Failure> {
        let can_leave_out = self.info.kind == DaemonKind::Classic;
        let mut first = if can_leave_out { parts.layers.len() } else { 0 };
        let mut sent = 0;
        for _ in 0..MAX_LOAD_ATTEMPTS {
            let (bytes, loaded) = self.try_load(parts, first, facts, report).await?;
            sent += bytes;
            let words = match loaded {
                LoadOutcome::Loaded => return Ok(sent),
                LoadOutcome::Rejected(words) => words,
            };
            let names = |layer: &PendingBlob| words.contains(layer.digest.hex());
            match parts.layers[..first].iter().position(names) {
                Some(place) => first = place,
                // It does not say what is wrong with an archive without layers.
                None if first == parts.layers.len() && first > 0 => first = 0,
                None => {
                    let address = self.engine.address();
                    let what = format!("target: the daemon at {address} did not take it: {words}");
                    let what = Failure::new(FailureKind::Target, what);
                    return Err(
                        what.with_hint("the daemon's log says more, often journalctl -u docker")
                    );
                }
            }
        }
        let what = "target: the daemon's layers go while the image is loaded";
        Err(Failure::new(FailureKind::Target, what)
            .with_hint("try again when nobody removes images there"))
    }

    /// Offers the daemon an archive with the layers from `first` on.
    async fn try_load(
        &self,
        parts: &PreparedImage<'_>,
        first: usize,
        facts: &DaemonTargetState,
        report: &dyn Report,
    ) -> Result<(u64, LoadOutcome), Failure> {
        let (sender, body) = archive_channel();
        let name = (&*facts.repository_name, &facts.tag);
        let small = archive_files(self.info.kind, parts.image, &parts.config, name);
        let written = write(sender, &parts.layers[first..], small, report);
        let (written, loaded) = futures::join!(written, self.engine.load(body));
        match written {
            Ok(bytes) => Ok((bytes, loaded.map_err(target_failure)?)),
            // Whatever the daemon says of half an archive, the source is to blame.
            Err(StreamError::SourceFailed(failure)) => Err(failure),
            Err(StreamError::ReceiverClosed) => match loaded.map_err(target_failure)? {
                LoadOutcome::Rejected(words) => Ok((0, LoadOutcome::Rejected(words))),
                LoadOutcome::Loaded => {
                    let words = "it says that it has loaded what it has not read to its end";
                    Ok((0, LoadOutcome::Rejected(words.to_owned())))
                }
            },
        }
    }

    /// Sees that the name names the image now.
    async fn verify_tag(&self, facts: &DaemonTargetState) -> Result<(), Failure> {
        let full = format!("{}:{}", facts.repository_name, facts.tag);
        let known = self
            .engine
            .find_image(&full)
            .await
            .map_err(target_failure)?;
        let id = match self.info.kind {
            DaemonKind::Classic | DaemonKind::Podman => &facts.image.config.digest,
            DaemonKind::Containerd => &facts.image.manifest.digest,
        };
        match known {
            Some(known) if known.id == *id => Ok(()),
            Some(known) => {
                let is = known.id;
                let what = format!("target: the daemon took it, but {full} is {is} and not {id}");
                Err(Failure::new(FailureKind::Target, what)
                    .with_hint("was it tagged anew meanwhile?"))
            }
            None => {
                let what = format!("target: the daemon took it, but knows no {full}");
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

/// The digests of the layers' tars: as many as the manifest has layers.
fn diff_ids(
    source: &dyn CopySource,
    image: &PlatformImage,
    config: &[u8],
) -> Result<Vec<Digest>, Failure> {
    let diff_ids = config::diff_ids(config).and_then(|ids| {
        let (layers, diff_ids) = (image.layers.len(), ids.len());
        match layers == diff_ids {
            true => Ok(ids),
            false => Err(format!(
                "the manifest has {layers} layers, the config {diff_ids}"
            )),
        }
    });
    diff_ids.map_err(|reason| {
        let from = source.name().to_owned();
        Error::Malformed { from, reason }.into()
    })
}

/// A daemon's errors, where it is the target.
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
