//! Pushes one config and its layers, the shape of nearly every image.

use std::collections::{HashMap, HashSet};

use imgsync_oci::media::{self, Compression};
use imgsync_oci::{Descriptor, Digest, Manifest, Reference};

use super::context::{PushContext, PushedManifest, missing_content, total_size};
use super::packed_layers::{self, PackedLayers};
use super::{containerd_store, manifests, push_image};
use crate::cache::BlobRef;
use crate::evidence::probe::ParsedManifest;
use crate::evidence::{TargetState, layers_of_same_image};
use crate::exit::Failure;
use crate::image::{Image, ImageBlobs, ImageContent, Layer, ManifestOrigin, SingleImage, Slice};
use crate::plan::{BlobStep, PushPlan};
use crate::spool::SpooledLayer;
use crate::text;
use crate::transports::daemon::DaemonImage;
use crate::upload::{QueuedBlob, QueuedContent, upload_all};

/// Pushes an image from a daemon with Docker's classic store, and exports the image only if
/// something is missing.
pub(super) async fn push_from_daemon(
    context: &PushContext,
    found: &DaemonImage,
    image: &Image,
) -> Result<PushedManifest, Failure> {
    let ImageContent::Single(single) = &image.content else {
        return containerd_store::push(context, found).await;
    };
    let mut state = context.look_up(single).await?;
    state.config_size = verify_config_size(context, single, &state).await?;
    if state.is_complete() {
        let (blobs, packed) = (ImageBlobs::default(), PackedLayers::new());
        return push_single(context, single, state, blobs, packed).await;
    }
    let packed = packed_layers::find(context, single, &state.plan).await;
    let steps = state.plan.steps.iter();
    let is_skipped = |(layer, step): &&(Digest, BlobStep)| {
        matches!(step, BlobStep::AlreadyPresent(_)) || packed.contains_key(layer)
    };
    let skipped = steps.filter(is_skipped).map(|(layer, _)| layer.clone());
    let skipped: HashSet<Digest> = skipped.collect();
    let is_here = |layer: &Layer| skipped.contains(layer.source_digest());
    if state.config_size.is_some() && single.layers.iter().all(is_here) {
        return push_single(context, single, state, ImageBlobs::default(), packed).await;
    }
    let skip_layer = Box::new(move |digest: &Digest, _| skipped.contains(digest));
    let (image, blobs) = containerd_store::export(context, found, skip_layer).await?;
    match &image.content {
        ImageContent::Single(single) => push_single(context, single, state, blobs, packed).await,
        ImageContent::Graph(_) => push_image(context, &image, blobs).await,
    }
}

/// Returns the size of the config at the target. Where the bytes of the config are not at hand to
/// be compared, the size must be the one in the manifest of the same image; otherwise the registry's
/// bytes are fetched and verified.
async fn verify_config_size(
    context: &PushContext,
    single: &SingleImage,
    state: &TargetState,
) -> Result<Option<u64>, Failure> {
    let config = &single.config;
    if config.bytes.is_some() || state.config_size.is_none() {
        return Ok(state.config_size);
    }
    if let Some(tagged) = &state.tag_manifest
        && let Manifest::Image { config: stated, .. } = &tagged.manifest
        && stated.digest == config.digest
        && Some(stated.size) == state.config_size
    {
        return Ok(state.config_size);
    }
    let bytes = context.probe().config(&config.digest).await?;
    Ok(bytes.map(|bytes| bytes.len() as u64))
}

/// Uploads what the plan says, then puts the manifest.
pub(super) async fn push_single(
    context: &PushContext,
    single: &SingleImage,
    mut state: TargetState,
    mut blobs: ImageBlobs,
    packed: PackedLayers,
) -> Result<PushedManifest, Failure> {
    let plan = &mut state.plan;
    for (layer, step) in &mut plan.steps {
        // The target confirmed the layer while the image was read, so its bytes were skipped.
        if let (BlobStep::Send { .. }, Some(held)) = (&step, context.skipped.at_target.get(layer))
            && !packed.contains_key(layer)
            && blobs.get(layer).is_none()
        {
            *step = BlobStep::AlreadyPresent(held.clone());
        }
    }
    for (layer, spooled) in &packed {
        plan.mark_packed(layer, spooled.blob.size);
    }
    context.upload.report.show_plan(plan);
    let mut queue = queue_layers(context, single, plan, &mut blobs, packed)?;
    if state.config_size.is_none() {
        queue.push(queue_config(single)?);
    }
    let config = single.config.bytes.as_ref();
    let config_size = config.map(|bytes| bytes.len() as u64).or(state.config_size);
    let config_size = config_size.ok_or_else(|| damaged("the config"))?;
    let uploaded = upload_all(&context.upload, queue).await?;
    let layers = layer_blobs(single, &state.plan, &uploaded)?;
    let manifest = single.build_manifest(config_size, &layers)?;
    let is_complete = state.is_complete();
    let kept = state.tag_manifest.filter(|tagged| {
        // Keep the existing manifest: it lists the same layers, only its formatting differs.
        is_complete && is_equivalent(single, tagged, &layers)
    });
    let digest = match kept {
        Some(tagged) => tagged.fetched.digest,
        None => {
            let tag = Reference::Tag(context.target.tag.clone());
            manifests::put(context, &manifest, &tag).await?;
            manifest.digest
        }
    };
    let mut seen = HashSet::new();
    let blobs = layers.iter();
    let blobs = blobs.filter(|blob| !blob.is_foreign() && seen.insert(&blob.digest));
    Ok(PushedManifest {
        digest,
        blob_bytes: total_size(blobs).saturating_add(config_size),
    })
}

/// Returns the layers to upload, and notes those that the target or the spool has.
fn queue_layers(
    context: &PushContext,
    single: &SingleImage,
    plan: &PushPlan,
    blobs: &mut ImageBlobs,
    mut packed: PackedLayers,
) -> Result<Vec<QueuedBlob>, Failure> {
    let mut queue = Vec::new();
    let count = single.layers.len();
    for (position, (layer, (_, step))) in single.layers.iter().zip(&plan.steps).enumerate() {
        let label = format!("layer {}/{count}", position + 1);
        match step {
            BlobStep::AlreadyPresent(held) => {
                let (size, evidence) = (text::format_bytes(held.blob.size), &held.evidence);
                context.note(&format!("{label}: already there ({size}; {evidence})"));
            }
            BlobStep::Send { .. } | BlobStep::Mount { .. } => {
                let spooled = packed.remove(layer.source_digest());
                if spooled.is_some() {
                    context.note(&format!("{label}: compressed by an earlier push"));
                }
                queue.push(queue_layer(layer, spooled, blobs, label)?);
            }
            BlobStep::SentByAnother { .. } | BlobStep::Duplicate => {}
        }
    }
    Ok(queue)
}

/// Returns the blob of each layer, after the upload.
fn layer_blobs(
    single: &SingleImage,
    plan: &PushPlan,
    uploaded: &HashMap<Digest, BlobRef>,
) -> Result<Vec<Descriptor>, Failure> {
    let layers = single.layers.iter().zip(&plan.steps);
    layers
        .map(|(layer, (_, step))| match (step, layer) {
            (BlobStep::AlreadyPresent(held), _) => Ok(held.blob.clone()),
            (_, Layer::Blob { descriptor, .. }) => Ok(descriptor.clone()),
            (_, Layer::Raw { diff_id, .. }) => {
                let blob = uploaded.get(diff_id).ok_or_else(|| damaged("a layer"))?;
                let (digest, size) = (blob.digest.clone(), blob.size);
                Ok(Descriptor::new(media::DOCKER_LAYER_GZIP, digest, size))
            }
        })
        .collect()
}

/// Returns whether the manifest at the target is as good as the one that would be put.
fn is_equivalent(single: &SingleImage, tagged: &ParsedManifest, layers: &[Descriptor]) -> bool {
    match &single.origin {
        ManifestOrigin::Original(manifest) => manifest.digest == tagged.fetched.digest,
        ManifestOrigin::Edited(_) | ManifestOrigin::Generated => {
            layers_of_same_image(single, tagged).is_some_and(|theirs| {
                let mut pairs = theirs.iter().zip(layers);
                theirs.len() == layers.len()
                    && pairs.all(|(theirs, ours)| is_same_layer(theirs, ours))
            })
        }
    }
}

/// Returns whether two descriptors are for the same blob, compressed in the same way. Docker's and
/// OCI's media types are equivalent.
fn is_same_layer(one: &Descriptor, other: &Descriptor) -> bool {
    let compression = |layer: &Descriptor| Compression::of_media_type(&layer.media_type);
    one.digest == other.digest && one.size == other.size && compression(one) == compression(other)
}

/// Queues a layer as an earlier run compressed it, or as the source has it. Its bytes are taken from
/// `blobs`, so that the spool can free the space once the layer is compressed.
fn queue_layer(
    layer: &Layer,
    spooled: Option<SpooledLayer>,
    blobs: &mut ImageBlobs,
    label: String,
) -> Result<QueuedBlob, Failure> {
    if let Some(spooled) = spooled {
        return Ok(QueuedBlob {
            content: QueuedContent::Packed {
                diff_id: layer.source_digest().clone(),
                blob: spooled.blob,
            },
            bytes: spooled.bytes,
            label,
        });
    }
    let bytes = blobs.take(layer.source_digest());
    let bytes = bytes.ok_or_else(|| damaged(&label))?;
    let content = match layer.clone() {
        Layer::Raw { diff_id, .. } => QueuedContent::Raw { diff_id },
        Layer::Blob {
            descriptor,
            diff_id,
        } => QueuedContent::Ready {
            descriptor,
            diff_id,
        },
    };
    Ok(QueuedBlob {
        content,
        bytes,
        label,
    })
}

fn queue_config(single: &SingleImage) -> Result<QueuedBlob, Failure> {
    let config = &single.config;
    let bytes = config.bytes.clone().ok_or_else(|| damaged("the config"))?;
    let size = bytes.len() as u64;
    Ok(QueuedBlob {
        content: QueuedContent::Ready {
            descriptor: Descriptor::new(&config.media_type, config.digest.clone(), size),
            diff_id: None,
        },
        bytes: Slice::memory(bytes),
        label: "config".to_owned(),
    })
}

/// Returns the failure of a push whose source lacks content that no filter skipped.
fn damaged(what: &str) -> Failure {
    missing_content(what).with_hint("push again; if the error stays, the image is damaged")
}
