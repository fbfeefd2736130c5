//! One config and its layers: the shape of nearly every image.

use std::collections::HashSet;

use imgsync_oci::media::{self, Compression};
use imgsync_oci::{Descriptor, Digest, Manifest};

use super::packed_layers::PackedLayers;
use super::{MAX_CONFIG_BYTES, PushedManifest, Pusher, total};
use crate::cache::BlobRef;
use crate::evidence::probe::ParsedManifest;
use crate::evidence::{self, TargetState, layers_of_same_image};
use crate::exit::{Failure, FailureKind};
use crate::image::{self, ImageBlobs, Layer, ManifestOrigin, SingleImage};
use crate::plan::LayerStep;
use crate::spool::SpooledLayer;
use crate::text;
use crate::transports::daemon;
use crate::upload::{QueuedBlob, QueuedContent, upload_all};

impl Pusher {
    /// An image that a daemon keeps unpacked: exported only if something is missing.
    pub(super) async fn push_unpacked(
        &self,
        found: &daemon::DaemonImage,
        image: &image::Image,
    ) -> Result<PushedManifest, Failure> {
        let image::ImageContent::Single(single) = &image.content else {
            return self.push_from_containerd_store(found).await;
        };
        let mut facts = self.look_up_single(single).await?;
        facts.config_size = self.verify_config_size(single, &facts).await?;
        if facts.is_complete() {
            let (blobs, earlier) = (ImageBlobs::default(), PackedLayers::new());
            return self.push_single(single, facts, blobs, earlier).await;
        }
        let earlier = self.find_packed_layers(single, &facts).await;
        let steps = facts.plan.steps.iter();
        let unneeded: HashSet<Digest> = steps
            .filter(|(layer, step)| {
                matches!(step, LayerStep::AlreadyPresent(_)) || earlier.contains_key(layer)
            })
            .map(|(layer, _)| layer.clone())
            .collect();
        let is_here = |layer: &Layer| unneeded.contains(layer.source_digest());
        if facts.config_size.is_some() && single.layers.iter().all(is_here) {
            let blobs = ImageBlobs::default();
            return self.push_single(single, facts, blobs, earlier).await;
        }
        let unneeded = Box::new(move |digest: &Digest, _| unneeded.contains(digest));
        let (image, blobs) = self.export_image(found, unneeded).await?;
        match &image.content {
            image::ImageContent::Single(single) => {
                self.push_single(single, facts, blobs, earlier).await
            }
            image::ImageContent::Graph(graph) => self.push_graph(graph, blobs).await,
        }
    }

    /// The size of the config at the target, where its bytes are not at hand to be compared: the
    /// manifest of this very image states it, or else the registry's bytes are looked at.
    async fn verify_config_size(
        &self,
        single: &SingleImage,
        facts: &TargetState,
    ) -> Result<Option<u64>, Failure> {
        let Some(size) = facts.config_size.filter(|_| single.config.bytes.is_none()) else {
            return Ok(facts.config_size);
        };
        let tagged = facts.tag_manifest.as_ref();
        let stated = tagged.and_then(|held| match &held.manifest {
            Manifest::Image { config, .. } if config.digest == single.config.digest => {
                Some(config.size)
            }
            Manifest::Image { .. } | Manifest::Index { .. } => None,
        });
        if stated == Some(size) {
            return Ok(Some(size));
        }
        let line = &self.context.writer;
        let digest = &single.config.digest;
        let bytes = line
            .client
            .fetch_small_blob(&line.repository, digest, MAX_CONFIG_BYTES)
            .await?;
        Ok(bytes.map(|bytes| bytes.len() as u64))
    }

    /// Asks the target about an image, and plans.
    pub(super) async fn look_up_single(
        &self,
        single: &SingleImage,
    ) -> Result<TargetState, Failure> {
        let keep = |session| self.context.writer.add_spare_session(session);
        evidence::gather(&self.lookup_request(&keep), single).await
    }

    /// Sends what the plan says, then the manifest.
    pub(super) async fn push_single(
        &self,
        single: &SingleImage,
        mut facts: TargetState,
        mut blobs: ImageBlobs,
        mut earlier: PackedLayers,
    ) -> Result<PushedManifest, Failure> {
        for (layer, step) in &mut facts.plan.steps {
            // Not put aside, for the target confirmed it then.
            if let (LayerStep::Send { .. }, Some(held)) = (&step, self.skipped.at_target.get(layer))
                && !earlier.contains_key(layer)
                && blobs.get(layer).is_none()
            {
                *step = LayerStep::AlreadyPresent(held.clone());
            }
        }
        for (layer, kept) in &earlier {
            facts.plan.mark_packed(layer, kept.blob.size);
        }
        self.context.report.show_plan(&facts.plan);
        let mut parcels = Vec::new();
        let of = single.layers.len();
        let layers = single.layers.iter().zip(&facts.plan.steps);
        for (position, (layer, (_, step))) in layers.enumerate() {
            let label = format!("layer {}/{of}", position + 1);
            match step {
                LayerStep::AlreadyPresent(held) => {
                    let (size, why) = (text::format_bytes(held.blob.size), &held.evidence);
                    let text = format!("{label}: already there ({size}; {why})");
                    self.context.report.note(&text);
                }
                LayerStep::Send { .. } => match earlier.remove(layer.source_digest()) {
                    Some(kept) => {
                        let text = format!("{label}: packed by an earlier push");
                        self.context.report.note(&text);
                        parcels.push(queue_packed_layer(layer, kept, label));
                    }
                    None => parcels.push(queue_layer(layer, &mut blobs, label)?),
                },
                LayerStep::Duplicate => {}
            }
        }
        if facts.config_size.is_none() {
            parcels.push(queue_config(single)?);
        }
        let config_size = match (&single.config.bytes, facts.config_size) {
            (Some(bytes), _) => bytes.len() as u64,
            (None, Some(size)) => size,
            (None, None) => return Err(missing_content("the config")),
        };
        let became = upload_all(&self.context, parcels).await?;
        let layers = single
            .layers
            .iter()
            .zip(&facts.plan.steps)
            .map(|(layer, (_, step))| match (step, layer) {
                (LayerStep::AlreadyPresent(held), _) => Ok(held.blob.clone()),
                (LayerStep::Send { .. } | LayerStep::Duplicate, Layer::Blob { descriptor, .. }) => {
                    Ok(descriptor.clone())
                }
                (LayerStep::Send { .. } | LayerStep::Duplicate, Layer::Raw { diff_id, .. }) => {
                    became
                        .get(diff_id)
                        .map(|known| packed(known.clone()))
                        .ok_or_else(|| missing_content("a layer"))
                }
            })
            .collect::<Result<Vec<Descriptor>, Failure>>()?;
        let manifest = single.build_manifest(config_size, &layers)?;
        let mut once = HashSet::new();
        let blobs = layers
            .iter()
            .filter(|blob| !blob.is_foreign() && once.insert(&blob.digest));
        let blobs = total(blobs).saturating_add(config_size);
        let complete = facts.is_complete();
        let digest = match facts.tag_manifest {
            // The tag names this image with these very blobs; how its manifest is written is
            // whoever pushed it's own business.
            Some(held) if complete && is_equivalent(single, &held, &layers) => held.fetched.digest,
            Some(_) | None => {
                self.put(&manifest, &self.tag_reference()).await?;
                manifest.digest
            }
        };
        Ok(PushedManifest {
            digest,
            blob_bytes: blobs,
        })
    }
}

/// Whether the manifest at the target is as good as the one that would be put.
fn is_equivalent(single: &SingleImage, held: &ParsedManifest, layers: &[Descriptor]) -> bool {
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
        ManifestOrigin::Original(manifest) => manifest.digest == held.fetched.digest,
        ManifestOrigin::Edited(_) | ManifestOrigin::Generated => {
            layers_of_same_image(single, held).is_some_and(same_layers)
        }
    }
}

fn packed(known: BlobRef) -> Descriptor {
    Descriptor::new(media::DOCKER_LAYER_GZIP, known.digest, known.size)
}

fn queue_packed_layer(layer: &Layer, kept: SpooledLayer, label: String) -> QueuedBlob {
    let item = QueuedContent::Packed {
        diff_id: layer.source_digest().clone(),
        blob: kept.blob,
    };
    let bytes = kept.bytes;
    QueuedBlob {
        content: item,
        bytes,
        label,
    }
}

/// Its bytes are taken: what lies in the spool gives its room back once it is packed.
fn queue_layer(
    layer: &Layer,
    blobs: &mut ImageBlobs,
    label: String,
) -> Result<QueuedBlob, Failure> {
    let bytes = blobs
        .take(layer.source_digest())
        .ok_or_else(|| missing_content(&label))?;
    let item = match layer {
        Layer::Raw { diff_id, .. } => QueuedContent::Raw {
            diff_id: diff_id.clone(),
        },
        Layer::Blob {
            descriptor,
            diff_id,
        } => QueuedContent::Ready {
            descriptor: descriptor.clone(),
            diff_id: diff_id.clone(),
        },
    };
    Ok(QueuedBlob {
        content: item,
        bytes,
        label,
    })
}

fn queue_config(single: &SingleImage) -> Result<QueuedBlob, Failure> {
    let config = &single.config;
    let bytes = config
        .bytes
        .clone()
        .ok_or_else(|| missing_content("the config"))?;
    let size = bytes.len() as u64;
    Ok(QueuedBlob {
        content: QueuedContent::Ready {
            descriptor: Descriptor::new(&config.media_type, config.digest.clone(), size),
            diff_id: None,
        },
        bytes: image::Slice::memory(bytes),
        label: "config".to_owned(),
    })
}

fn missing_content(what: &str) -> Failure {
    let what = format!("source: {what} is missing although the image needs it");
    Failure::new(FailureKind::Source, what)
        .with_hint("push again; if it stays so, the image is damaged")
}
