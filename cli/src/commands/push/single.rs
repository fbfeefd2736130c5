//! One config and its layers: the shape of nearly every image.

use std::collections::HashSet;

use imgsync_oci::{Descriptor, Digest, media};

use super::{Push, Pushed};
use crate::ask::Held;
use crate::cache::Known;
use crate::exit::{Failure, Kind};
use crate::facts::{self, Facts, Question, same_image};
use crate::plan::Step;
use crate::report;
use crate::source::{self, Blobs, Layer, Origin, Single, daemon};
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
        let facts = self.single_facts(single).await?;
        if facts.is_complete() {
            return self.single(single, facts, &Blobs::default()).await;
        }
        let steps = facts.plan.steps.iter();
        let unneeded: HashSet<Digest> = steps
            .filter(|(_, step)| matches!(step, Step::Have(_)))
            .map(|(layer, _)| layer.clone())
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
        let question = Question {
            client: &line.client,
            repository: &line.repository,
            tag: &self.target.tag,
            mount: !self.is_dry,
            reuse: self.reuse,
            cache: &self.means.folders.cache,
        };
        facts::gather(&question, single).await
    }

    /// Sends what the plan says, then the manifest.
    pub(super) async fn single(
        &self,
        single: &Single,
        facts: Facts,
        blobs: &Blobs,
    ) -> Result<Pushed, Failure> {
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
                Step::Send { .. } => parcels.push(parcel(layer, blobs, label)?),
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
