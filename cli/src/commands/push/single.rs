//! One config and its layers: the shape of nearly every image.

use std::collections::HashSet;

use imgsync_oci::media::{self, Compression};
use imgsync_oci::{Descriptor, Digest, Manifest};

use super::earlier::Earlier;
use super::{LONGEST_CONFIG, Push, Pushed, total};
use crate::ask::Held;
use crate::cache::Known;
use crate::exit::{Failure, Kind};
use crate::facts::{self, Facts, same_image};
use crate::plan::Step;
use crate::report;
use crate::source::{self, Blobs, Layer, Origin, Single, daemon};
use crate::spool::Kept;
use crate::transfer::{Item, Parcel, ship};

impl Push {
    /// An image that a daemon keeps unpacked: exported only if something is missing.
    pub(super) async fn unpacked(
        &self,
        found: &daemon::Found,
        image: &source::Image,
    ) -> Result<Pushed, Failure> {
        let source::Content::Single(single) = &image.content else {
            return self.in_store(found).await;
        };
        let mut facts = self.single_facts(single).await?;
        facts.config = self.sound_config(single, &facts).await?;
        if facts.is_complete() {
            let (blobs, earlier) = (Blobs::default(), Earlier::new());
            return self.single(single, facts, blobs, earlier).await;
        }
        let earlier = self.earlier(single, &facts).await;
        let steps = facts.plan.steps.iter();
        let unneeded: HashSet<Digest> = steps
            .filter(|(layer, step)| matches!(step, Step::Have(_)) || earlier.contains_key(layer))
            .map(|(layer, _)| layer.clone())
            .collect();
        let is_here = |layer: &Layer| unneeded.contains(layer.stored());
        if facts.config.is_some() && single.layers.iter().all(is_here) {
            let blobs = Blobs::default();
            return self.single(single, facts, blobs, earlier).await;
        }
        let unneeded = Box::new(move |digest: &Digest, _| unneeded.contains(digest));
        let (image, blobs) = self.exported(found, unneeded).await?;
        match &image.content {
            source::Content::Single(single) => self.single(single, facts, blobs, earlier).await,
            source::Content::Graph(graph) => self.graph(graph, blobs).await,
        }
    }

    /// The size of the config at the target, where its bytes are not at hand to be compared: the
    /// manifest of this very image states it, or else the registry's bytes are looked at.
    async fn sound_config(&self, single: &Single, facts: &Facts) -> Result<Option<u64>, Failure> {
        let Some(size) = facts.config.filter(|_| single.config.bytes.is_none()) else {
            return Ok(facts.config);
        };
        let tagged = facts.tagged.as_ref();
        let stated = tagged.and_then(|held| match &held.manifest {
            Manifest::Image { config, .. } if config.digest == single.config.digest => {
                Some(config.size)
            }
            Manifest::Image { .. } | Manifest::Index { .. } => None,
        });
        if stated == Some(size) {
            return Ok(Some(size));
        }
        let line = &self.means.line;
        let digest = &single.config.digest;
        let bytes = line
            .client
            .small_blob(&line.repository, digest, LONGEST_CONFIG)
            .await?;
        Ok(bytes.map(|bytes| bytes.len() as u64))
    }

    /// Asks the target about an image, and plans.
    pub(super) async fn single_facts(&self, single: &Single) -> Result<Facts, Failure> {
        let keep = |session| self.means.line.keep_session(session);
        facts::gather(&self.question(&keep), single).await
    }

    /// Sends what the plan says, then the manifest.
    pub(super) async fn single(
        &self,
        single: &Single,
        mut facts: Facts,
        mut blobs: Blobs,
        mut earlier: Earlier,
    ) -> Result<Pushed, Failure> {
        for (layer, step) in &mut facts.plan.steps {
            // Not put aside, for the target confirmed it then.
            if let (Step::Send { .. }, Some(held)) = (&step, self.seen.held.get(layer))
                && !earlier.contains_key(layer)
                && blobs.get(layer).is_none()
            {
                *step = Step::Have(held.clone());
            }
        }
        for (layer, kept) in &earlier {
            facts.plan.keep(layer, kept.blob.size);
        }
        self.means.report.plan(&facts.plan);
        let mut parcels = Vec::new();
        let of = single.layers.len();
        let layers = single.layers.iter().zip(&facts.plan.steps);
        for (position, (layer, (_, step))) in layers.enumerate() {
            let label = format!("layer {}/{of}", position + 1);
            match step {
                Step::Have(held) => {
                    let (size, why) = (report::bytes(held.blob.size), &held.why);
                    let text = format!("{label}: already there ({size}; {why})");
                    self.means.report.note(&text);
                }
                Step::Send { .. } => match earlier.remove(layer.stored()) {
                    Some(kept) => {
                        let text = format!("{label}: packed by an earlier push");
                        self.means.report.note(&text);
                        parcels.push(kept_parcel(layer, kept, label));
                    }
                    None => parcels.push(parcel(layer, &mut blobs, label)?),
                },
                Step::Again => {}
            }
        }
        if facts.config.is_none() {
            parcels.push(config(single)?);
        }
        let config_size = match (&single.config.bytes, facts.config) {
            (Some(bytes), _) => bytes.len() as u64,
            (None, Some(size)) => size,
            (None, None) => return Err(lacking("the config")),
        };
        let became = ship(&self.means, parcels).await?;
        let layers = single
            .layers
            .iter()
            .zip(&facts.plan.steps)
            .map(|(layer, (_, step))| match (step, layer) {
                (Step::Have(held), _) => Ok(held.blob.clone()),
                (Step::Send { .. } | Step::Again, Layer::Ready { descriptor, .. }) => {
                    Ok(descriptor.clone())
                }
                (Step::Send { .. } | Step::Again, Layer::Raw { diff_id, .. }) => became
                    .get(diff_id)
                    .map(|known| packed(known.clone()))
                    .ok_or_else(|| lacking("a layer")),
            })
            .collect::<Result<Vec<Descriptor>, Failure>>()?;
        let manifest = single.manifest(config_size, &layers)?;
        let mut once = HashSet::new();
        let blobs = layers
            .iter()
            .filter(|blob| !blob.is_foreign() && once.insert(&blob.digest));
        let blobs = total(blobs).saturating_add(config_size);
        let complete = facts.is_complete();
        let digest = match facts.tagged {
            // The tag names this image with these very blobs; how its manifest is written is
            // whoever pushed it's own business.
            Some(held) if complete && stands_for(single, &held, &layers) => held.fetched.digest,
            Some(_) | None => {
                self.put(&manifest, &self.tag()).await?;
                manifest.digest
            }
        };
        Ok(Pushed { digest, blobs })
    }
}

/// Whether the manifest at the target is as good as the one that would be put.
fn stands_for(single: &Single, held: &Held, layers: &[Descriptor]) -> bool {
    let same_layers = |theirs: &[Descriptor]| {
        // Docker's media types and OCI's say the same; how a layer is unpacked must be right.
        let alike = |theirs: &Descriptor, ours: &Descriptor| {
            let unpacked = |it: &Descriptor| Compression::of_media_type(&it.media_type);
            theirs.digest == ours.digest
                && theirs.size == ours.size
                && unpacked(theirs) == unpacked(ours)
        };
        let mut pairs = theirs.iter().zip(layers);
        theirs.len() == layers.len() && pairs.all(|(theirs, ours)| alike(theirs, ours))
    };
    match &single.origin {
        Origin::Kept(manifest) => manifest.digest == held.fetched.digest,
        Origin::Edited(_) | Origin::Written => same_image(single, held).is_some_and(same_layers),
    }
}

fn packed(known: Known) -> Descriptor {
    Descriptor::new(media::DOCKER_LAYER_GZIP, known.digest, known.size)
}

fn kept_parcel(layer: &Layer, kept: Kept, label: String) -> Parcel {
    let item = Item::Packed {
        diff_id: layer.stored().clone(),
        blob: kept.blob,
    };
    let bytes = kept.bytes;
    Parcel { item, bytes, label }
}

/// Its bytes are taken: what lies in the spool gives its room back once it is packed.
fn parcel(layer: &Layer, blobs: &mut Blobs, label: String) -> Result<Parcel, Failure> {
    let bytes = blobs.take(layer.stored()).ok_or_else(|| lacking(&label))?;
    let item = match layer {
        Layer::Raw { diff_id, .. } => Item::Raw {
            diff_id: diff_id.clone(),
        },
        Layer::Ready {
            descriptor,
            diff_id,
        } => Item::Ready {
            descriptor: descriptor.clone(),
            diff_id: diff_id.clone(),
        },
    };
    Ok(Parcel { item, bytes, label })
}

fn config(single: &Single) -> Result<Parcel, Failure> {
    let config = &single.config;
    let bytes = config.bytes.clone().ok_or_else(|| lacking("the config"))?;
    let size = bytes.len() as u64;
    Ok(Parcel {
        item: Item::Ready {
            descriptor: Descriptor::new(&config.media_type, config.digest.clone(), size),
            diff_id: None,
        },
        bytes: source::Slice::memory(bytes),
        label: "config".to_owned(),
    })
}

fn lacking(what: &str) -> Failure {
    let what = format!("source: {what} is missing although the image needs it");
    Failure::new(Kind::Source, what).hint("push again; if it stays so, the image is damaged")
}
