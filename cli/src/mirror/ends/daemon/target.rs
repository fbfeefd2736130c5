//! A daemon as a target.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use imgsync_oci::{Descriptor, Digest, LocalName, MAX_MANIFEST_BYTES, Tag};

use super::facts::{Facts, distinct};
use super::image::Image;
use super::stream::{Ended, Sender, files, stream};
use crate::exit::{Failure, Kind};
use crate::mirror::ends::Source;
use crate::mirror::ends::fetch::{Fetch, Next};
use crate::mirror::{Change, Copied, Wish};
use crate::report::Report;
use crate::source::daemon::{self, About, Address, Engine, Known, Loaded};
use crate::source::{Error, Platforms, config, name, platform};
use crate::transfer::Outgoing;

/// How often an archive is made anew, because a layer that the daemon had is gone by then.
const ATTEMPTS: usize = 3;

/// A daemon that images go into.
#[derive(Debug, Clone)]
pub struct Daemon {
    engine: Engine,
    about: About,
}

/// An image and what of it is at hand.
struct Parts<'a> {
    image: &'a Image,
    config: Bytes,
    layers: Vec<Outgoing>,
}

impl Daemon {
    /// Asks the daemon that the environment names what it is.
    ///
    /// # Errors
    /// It is not reached, or refuses.
    pub async fn connect() -> Result<Self, Failure> {
        Self::at(Address::from_environment().map_err(at_target)?).await
    }

    /// Asks the daemon at `address` what it is.
    ///
    /// # Errors
    /// It is not reached, or refuses.
    pub async fn at(address: Address) -> Result<Self, Failure> {
        let engine = Engine::new(address).map_err(at_target)?;
        let about = engine.about().await.map_err(at_target)?;
        Ok(Self { engine, about })
    }

    /// Brings the image that `wish` means, for the one platform that it names or else the daemon's
    /// own, and gives it `name`. Layers that the daemon has are not read. When this yields, the
    /// daemon has the image under its name.
    ///
    /// # Errors
    /// Either end's; then the daemon has what it had.
    pub async fn bring(
        &self,
        source: &dyn Source,
        wish: &Wish,
        name: &LocalName,
        report: &Arc<dyn Report>,
    ) -> Result<Copied, Failure> {
        let facts = self.facts(source, wish, name).await?;
        let mut copied = facts.copied();
        if copied.change == Change::Nothing {
            return Ok(copied);
        }
        if let Some(id) = &facts.there {
            (wish.before_tag)(&facts.tag, &copied.digest, &copied.digest)?;
            let tagged = self.engine.tag(id, &facts.name, facts.tag.as_str()).await;
            tagged.map_err(at_target)?;
            return Ok(copied);
        }
        let config = self.config(source, &facts.image).await?;
        copied.notes.extend(self.remark(source, wish, &config)?);
        let parts = Parts {
            layers: outgoing(source, &facts.image).await?,
            image: &facts.image,
            config,
        };
        (wish.before_tag)(&facts.tag, &copied.digest, &copied.digest)?;
        copied.sent = self.load(&parts, &facts, &**report).await?;
        self.confirm(&facts).await?;
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
        source: &dyn Source,
        wish: &Wish,
        name: &LocalName,
        _report: &Arc<dyn Report>,
    ) -> Result<Copied, Failure> {
        let facts = self.facts(source, wish, name).await?;
        let mut copied = facts.copied();
        if copied.change != Change::Image {
            return Ok(copied);
        }
        let config = self.config(source, &facts.image).await?;
        copied.notes.extend(self.remark(source, wish, &config)?);
        let diff_ids = diff_ids(source, &facts.image, &config)?;
        let there = facts.before.map(|it| it.diff_ids).unwrap_or_default();
        let same = diff_ids.iter().zip(&there);
        let same = same.take_while(|(one, other)| one == other).count();
        let keeps = self.about.kind == daemon::Kind::Classic;
        let (had, wanted) = facts.image.layers.split_at(if keeps { same } else { 0 });
        copied.sent = distinct(wanted).map(|layer| layer.size).sum();
        if keeps && copied.sent > 0 {
            let note = "at most so much: of which other images it takes layers, Docker tells when it loads";
            copied.notes.push(note.to_owned());
        }
        copied.saved = distinct(had).map(|layer| layer.size).sum();
        Ok(copied)
    }

    async fn facts(
        &self,
        source: &dyn Source,
        wish: &Wish,
        name: &LocalName,
    ) -> Result<Facts, Failure> {
        let platforms = match wish.platforms.is_empty() {
            true => self.platforms()?,
            false => wish.platforms.clone(),
        };
        let image = Image::find(source, &wish.from, &platforms).await?;
        let tag = name.tag.clone().unwrap_or_else(Tag::latest);
        let bare = LocalName {
            tag: None,
            ..name.clone()
        };
        let bare = name::text(&bare);
        let full = format!("{bare}:{tag}");
        let before = self.engine.known(&full).await.map_err(at_target)?;
        let ids = match self.about.kind {
            daemon::Kind::Classic | daemon::Kind::Podman => vec![&image.config.digest],
            daemon::Kind::Containerd => vec![&image.manifest.digest, &image.root],
        };
        let has_name = |known: &Known| ids.contains(&&known.id);
        let mut there = before.clone().filter(has_name).map(|known| known.id);
        for id in ids {
            if there.is_none() {
                let known = self.engine.known(&id.to_string()).await;
                there = known.map_err(at_target)?.map(|known| known.id);
            }
        }
        Ok(Facts {
            image,
            name: bare,
            tag,
            before,
            there,
        })
    }

    /// The daemon's own platform.
    fn platforms(&self) -> Result<Platforms, Failure> {
        let word = &self.about.platform;
        Platforms::parse(std::slice::from_ref(word)).map_err(|_| {
            let what = format!("target: the daemon says that it runs on {word:?}");
            Failure::new(Kind::Target, what).hint("name the platform with --platform")
        })
    }

    /// What to say of an image that is for something else than the daemon runs.
    ///
    /// # Errors
    /// It is for something else than was asked for.
    fn remark(
        &self,
        source: &dyn Source,
        wish: &Wish,
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
                Err(Failure::new(Kind::Source, what).hint(hint))
            }
        }
    }

    /// The image's config, verified; it says which layers the image has, unpacked.
    async fn config(&self, source: &dyn Source, image: &Image) -> Result<Bytes, Failure> {
        let Descriptor { digest, size, .. } = &image.config;
        if *size > MAX_MANIFEST_BYTES as u64 {
            return Err(Error::TooLarge {
                from: source.name().to_owned(),
                what: "the image's config".to_owned(),
                limit: format!("{MAX_MANIFEST_BYTES} bytes"),
            }
            .into());
        }
        let blob = Outgoing {
            digest: digest.clone(),
            size: *size,
            label: "config".to_owned(),
            body: source.blob(&image.config).await?,
            mount: None,
        };
        let mut fetch = Fetch::new(&blob);
        let mut config = Vec::new();
        loop {
            match fetch.next().await? {
                Next::Piece(piece) => config.extend_from_slice(&piece),
                Next::Whole => break,
                Next::Wrong(failure) => return Err(failure),
            }
        }
        diff_ids(source, image, &config)?;
        Ok(config.into())
    }

    /// Hands the image to the daemon. A classic store is first offered it without any layer, and
    /// names the first that it lacks; those from there on are sent. Yields the bytes that were.
    async fn load(
        &self,
        parts: &Parts<'_>,
        facts: &Facts,
        report: &dyn Report,
    ) -> Result<u64, Failure> {
        let can_leave_out = self.about.kind == daemon::Kind::Classic;
        let mut first = if can_leave_out { parts.layers.len() } else { 0 };
        let mut sent = 0;
        for _ in 0..ATTEMPTS {
            let (bytes, loaded) = self.offer(parts, first, facts, report).await?;
            sent += bytes;
            let words = match loaded {
                Loaded::Whole => return Ok(sent),
                Loaded::Refused(words) => words,
            };
            let names = |layer: &Outgoing| words.contains(layer.digest.hex());
            match parts.layers[..first].iter().position(names) {
                Some(place) => first = place,
                // It does not say what is wrong with an archive without layers.
                None if first == parts.layers.len() && first > 0 => first = 0,
                None => {
                    let address = self.engine.address();
                    let what = format!("target: the daemon at {address} did not take it: {words}");
                    let what = Failure::new(Kind::Target, what);
                    return Err(what.hint("the daemon's log says more, often journalctl -u docker"));
                }
            }
        }
        let what = "target: the daemon's layers go while the image is loaded";
        Err(Failure::new(Kind::Target, what).hint("try again when nobody removes images there"))
    }

    /// Offers the daemon an archive with the layers from `first` on.
    async fn offer(
        &self,
        parts: &Parts<'_>,
        first: usize,
        facts: &Facts,
        report: &dyn Report,
    ) -> Result<(u64, Loaded), Failure> {
        let (sender, body) = stream();
        let name = (&*facts.name, &facts.tag);
        let small = files(self.about.kind, parts.image, &parts.config, name);
        let written = write(sender, &parts.layers[first..], small, report);
        let (written, loaded) = futures::join!(written, self.engine.load(body));
        match written {
            Ok(bytes) => Ok((bytes, loaded.map_err(at_target)?)),
            // Whatever the daemon says of half an archive, the source is to blame.
            Err(Ended::Failed(failure)) => Err(failure),
            Err(Ended::Unread) => match loaded.map_err(at_target)? {
                Loaded::Refused(words) => Ok((0, Loaded::Refused(words))),
                Loaded::Whole => {
                    let words = "it says that it has loaded what it has not read to its end";
                    Ok((0, Loaded::Refused(words.to_owned())))
                }
            },
        }
    }

    /// Sees that the name names the image now.
    async fn confirm(&self, facts: &Facts) -> Result<(), Failure> {
        let full = format!("{}:{}", facts.name, facts.tag);
        let known = self.engine.known(&full).await.map_err(at_target)?;
        let id = match self.about.kind {
            daemon::Kind::Classic | daemon::Kind::Podman => &facts.image.config.digest,
            daemon::Kind::Containerd => &facts.image.manifest.digest,
        };
        match known {
            Some(known) if known.id == *id => Ok(()),
            Some(known) => {
                let is = known.id;
                let what = format!("target: the daemon took it, but {full} is {is} and not {id}");
                Err(Failure::new(Kind::Target, what).hint("was it tagged anew meanwhile?"))
            }
            None => {
                let what = format!("target: the daemon took it, but knows no {full}");
                Err(Failure::new(Kind::Target, what))
            }
        }
    }
}

async fn write(
    sender: Sender,
    layers: &[Outgoing],
    small: Vec<(String, Vec<u8>)>,
    report: &dyn Report,
) -> Result<u64, Ended> {
    let mut bytes = 0;
    let mut seen = HashSet::new();
    for layer in layers {
        if !seen.insert(&layer.digest) {
            continue;
        }
        match sender.blob(layer, report).await {
            Ok(size) => bytes += size,
            Err(ended) => {
                sender.spoil().await;
                return Err(ended);
            }
        }
    }
    sender.end(small).await?;
    Ok(bytes)
}

async fn outgoing(source: &dyn Source, image: &Image) -> Result<Vec<Outgoing>, Failure> {
    let mut all = Vec::new();
    for (place, layer) in image.layers.iter().enumerate() {
        all.push(Outgoing {
            digest: layer.digest.clone(),
            size: layer.size,
            label: format!("layer {}/{}", place + 1, image.layers.len()),
            body: source.blob(layer).await?,
            mount: None,
        });
    }
    Ok(all)
}

/// The digests of the layers' tars: as many as the manifest has layers.
fn diff_ids(source: &dyn Source, image: &Image, config: &[u8]) -> Result<Vec<Digest>, Failure> {
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
fn at_target(error: Error) -> Failure {
    let failure = Failure::new(Kind::Target, format!("target: {error}"));
    if let Error::Unreachable {
        forbidden: false, ..
    } = error
    {
        return failure.hint(
            "is Docker running, or podman's socket (systemctl --user start podman.socket)? Where it \
             listens elsewhere, set DOCKER_HOST; without one, imgsync mirror into oci-archive:<path>",
        );
    }
    match error.hint() {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}
