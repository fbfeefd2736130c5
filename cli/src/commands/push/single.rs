//! One config and its layers: the shape of nearly every image.

use std::collections::HashSet;

use imgsync_oci::{Descriptor, Digest, Manifest, media};

use super::{Push, Pushed};
use crate::ask::{self, Held};
use crate::cache::{self, Known};
use crate::exit::{Failure, Kind};
use crate::plan::{Fact, Plan, Step};
use crate::source::{self, Blobs, Layer, Origin, Single, daemon};
use crate::transfer::{Item, Parcel, ship};
use crate::{compress, report};

/// What the target and this user's earlier runs say of an image.
pub(super) struct Facts {
    /// What the tag names now.
    tagged: Option<Held>,
    /// What happens to the layers.
    plan: Plan,
    /// The size of the config in bytes, if the target holds it.
    config: Option<u64>,
}

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
        let facts = self.single_facts(single).await?;
        if facts.is_complete() {
            return self.single(single, facts, &Blobs::default()).await;
        }
        let unneeded: HashSet<Digest> = single
            .layers
            .iter()
            .zip(&facts.plan.steps)
            .filter(|(_, step)| matches!(step, Step::Have(_)))
            .map(|(layer, _)| layer.stored().clone())
            .collect();
        self.means.report.note("exporting from the daemon");
        let unneeded = Box::new(move |digest: &Digest| unneeded.contains(digest));
        let (image, blobs) = found.export(&self.means.spool, unneeded).await?;
        match &image.content {
            source::Content::Single(single) => self.single(single, facts, &blobs).await,
            source::Content::Graph(graph) => self.graph(graph, &blobs).await,
        }
    }

    /// Asks the target about an image, and plans.
    pub(super) async fn single_facts(&self, single: &Single) -> Result<Facts, Failure> {
        let line = &self.means.line;
        let (client, repository) = (&line.client, &line.repository);
        let tagged = ask::manifest(client, repository, &self.tag()).await?;
        let facts = self.layer_facts(single, tagged.as_ref());
        let blobs = facts.iter().filter_map(|fact| fact.blob.as_ref());
        let (held, config) = tokio::try_join!(
            ask::held(client, repository, blobs.filter(|blob| !blob.is_foreign())),
            async { Ok(client.head_blob(repository, &single.config.digest).await?) },
        )?;
        let config = config.filter(|size| match &single.config.bytes {
            Some(bytes) => bytes.len() as u64 == *size,
            None => *size > 0,
        });
        Ok(Facts {
            tagged,
            plan: Plan::new(&facts, &held),
            config,
        })
    }

    /// Which blob every layer is, or becomes: by the image's own word, by the manifest that the
    /// tag names if it is one of this very image, or by what an earlier run found out.
    fn layer_facts(&self, single: &Single, tagged: Option<&Held>) -> Vec<Fact> {
        let tagged = tagged.and_then(|held| same_image(single, held));
        let folder = &self.means.folders.cache;
        let layers = single.layers.iter().enumerate();
        let blob = |(position, layer): (usize, &Layer)| match layer {
            Layer::Ready { descriptor, .. } => Some(descriptor.clone()),
            Layer::Raw { diff_id, .. } => match tagged {
                Some(layers) => Some(layers[position].clone()),
                None => cache::lookup(folder, compress::FORMAT, diff_id).map(packed),
            },
        };
        layers
            .map(|(position, layer)| Fact {
                layer: layer.stored().clone(),
                blob: blob((position, layer)),
            })
            .collect()
    }

    /// Sends what the plan says, then the manifest.
    pub(super) async fn single(
        &self,
        single: &Single,
        facts: Facts,
        blobs: &Blobs,
    ) -> Result<Pushed, Failure> {
        let mut parcels = Vec::new();
        let mut taken = HashSet::new();
        let of = single.layers.len();
        for (position, (layer, step)) in single.layers.iter().zip(&facts.plan.steps).enumerate() {
            let label = format!("layer {}/{of}", position + 1);
            match step {
                Step::Have(blob) => {
                    let size = report::bytes(blob.size);
                    self.means
                        .report
                        .note(&format!("{label}: already there ({size})"));
                }
                Step::Send if taken.insert(layer.stored()) => {
                    parcels.push(parcel(layer, blobs, label)?);
                }
                Step::Send => {}
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
            .map(|(layer, step)| match (step, layer) {
                (Step::Have(blob), _) => Ok(blob.clone()),
                (Step::Send, Layer::Ready { descriptor, .. }) => Ok(descriptor.clone()),
                (Step::Send, Layer::Raw { diff_id, .. }) => became
                    .get(diff_id)
                    .map(|known| packed(known.clone()))
                    .ok_or_else(|| lacking("a layer")),
            })
            .collect::<Result<Vec<Descriptor>, Failure>>()?;
        let manifest = single.manifest(config_size, &layers)?;
        let mut once = HashSet::new();
        let blobs = layers
            .iter()
            .filter(|blob| !blob.is_foreign() && once.insert(&blob.digest))
            .map(|blob| blob.size)
            .sum::<u64>()
            + config_size;
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

impl Facts {
    /// Whether nothing has to be read.
    fn is_complete(&self) -> bool {
        self.plan.is_complete() && self.config.is_some()
    }
}

/// The layers of a manifest of this very image, one for each of the image's.
fn same_image<'a>(single: &Single, held: &'a Held) -> Option<&'a [Descriptor]> {
    let Manifest::Image { config, layers, .. } = &held.manifest else {
        return None;
    };
    let pairs = config.digest == single.config.digest && layers.len() == single.layers.len();
    pairs.then_some(layers)
}

/// Whether the manifest at the target is as good as the one that would be put.
fn stands_for(single: &Single, held: &Held, layers: &[Descriptor]) -> bool {
    let same_layers = |theirs: &[Descriptor]| {
        let digests = |layers: &[Descriptor]| -> Vec<Digest> {
            layers.iter().map(|layer| layer.digest.clone()).collect()
        };
        digests(theirs) == digests(layers)
    };
    match &single.origin {
        Origin::Kept(manifest) => manifest.digest == held.fetched.digest,
        Origin::Edited(_) | Origin::Written => same_image(single, held).is_some_and(same_layers),
    }
}

fn packed(known: Known) -> Descriptor {
    Descriptor::new(media::DOCKER_LAYER_GZIP, known.digest, known.size)
}

fn parcel(layer: &Layer, blobs: &Blobs, label: String) -> Result<Parcel, Failure> {
    let bytes = blobs
        .get(layer.stored())
        .ok_or_else(|| lacking(&label))?
        .clone();
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
