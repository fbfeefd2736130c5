//! Pushes one config and its layers, the shape of nearly every image.

use std::collections::{HashMap, HashSet};

use futures::channel::mpsc;
use futures::stream;
use imgsync_oci::{Descriptor, Digest, Manifest, Reference, media};

use super::blob_names::BlobNames;
use super::context::{PushContext, PushedManifest, missing_content, total_size};
use super::packed_layers::{self, PackedLayers};
use super::queue::{EarlyLayers, queue_config, queue_layers};
use super::{containerd_store, deltas, push_image};
use crate::cache::{BlobRef, pushed_manifests};
use crate::evidence::probe::ParsedManifest;
use crate::evidence::{self, TargetState};
use crate::exit::Failure;
use crate::image::{
    ImageBlobs, ImageContent, Layer, ManifestOrigin, SingleImage, VerifiedManifest,
};
use crate::plan::{BlobStep, PushPlan};
use crate::transports::SkipLayer;
use crate::transports::daemon::DaemonImage;
use crate::upload::{QueuedBlob, upload_all};

/// Pushes an image from a daemon with Docker's classic store, and exports the image only if
/// something is missing.
pub(super) async fn push_from_daemon(
    context: &PushContext,
    found: &DaemonImage,
    single: &SingleImage,
) -> Result<PushedManifest, Failure> {
    let mut state = evidence::gather(&context.lookup, single).await?;
    state.config_size = verify_config_size(context, single, &state).await?;
    let packed = packed_layers::find(
        &context.upload,
        &context.skipped.packed,
        single,
        &state.plan,
    )
    .await;
    let steps = state.plan.steps.iter();
    let skipped = steps.filter(|(layer, step)| {
        matches!(step, BlobStep::AlreadyPresent(_)) || packed.contains_key(layer)
    });
    let skipped: HashSet<Digest> = skipped.map(|(layer, _)| layer.clone()).collect();
    let is_skipped = |layer: &Layer| skipped.contains(layer.source_digest());
    if state.config_size.is_some() && single.layers.iter().all(is_skipped) {
        return push_single(context, single, state, ImageBlobs::default(), packed).await;
    }
    complete_plan(context, single, &ImageBlobs::default(), &mut state, &packed).await;
    let (queue, queued) = mpsc::unbounded();
    let early = EarlyLayers::default();
    let take_layer = early.take_layer(single, &state.plan, queue.clone());
    let skip_layer = Box::new(move |digest: &Digest, _| skipped.contains(digest));
    let reading = async {
        let layers = (skip_layer as SkipLayer, take_layer);
        let mut read = containerd_store::export(context, found, layers, None).await?;
        if let ImageContent::Single(single) = &read.image.content {
            for blob in queue_image(context, single, &state, &mut read.blobs, packed, &early)? {
                // There is no receiver any more if an upload has failed, and that is returned.
                let _ = queue.unbounded_send(blob);
            }
        }
        queue.close_channel();
        // Beside the uploads. If one fails, dropping the image removes them.
        read.remove_traces().await;
        Ok::<_, Failure>(read)
    };
    let (read, uploaded) = tokio::try_join!(reading, upload_all(&context.upload, queued))?;
    match &read.image.content {
        ImageContent::Single(single) => finish_image(context, single, state, &uploaded).await,
        ImageContent::Graph(_) => push_image(context, &read.image, read.blobs).await,
    }
}

/// Returns the size of the config at the target. Where the bytes of the config are not at hand to
/// be compared, the size must be the one in the manifest of the same image; otherwise the bytes at
/// the registry are fetched and verified.
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
        && let Manifest::Image { config: tagged, .. } = &tagged.manifest
        && tagged.digest == config.digest
        && Some(tagged.size) == state.config_size
    {
        return Ok(state.config_size);
    }
    let bytes = context.lookup.probe.config(&config.digest).await?;
    Ok(bytes.map(|bytes| bytes.len() as u64))
}

/// Uploads the blobs that the plan sends, then puts the manifest.
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
        if let (BlobStep::Send { .. }, Some(blob)) = (&step, context.skipped.at_target.get(layer))
            && !packed.contains_key(layer)
            && blobs.get(layer).is_none()
        {
            *step = BlobStep::AlreadyPresent(blob.clone());
        }
    }
    complete_plan(context, single, &blobs, &mut state, &packed).await;
    let early = EarlyLayers::default();
    let queue = queue_image(context, single, &state, &mut blobs, packed, &early)?;
    let uploaded = upload_all(&context.upload, stream::iter(queue)).await?;
    finish_image(context, single, state, &uploaded).await
}

/// Adds the layers that an earlier push compressed and the deltas to the plan, and shows it.
async fn complete_plan(
    context: &PushContext,
    single: &SingleImage,
    blobs: &ImageBlobs,
    state: &mut TargetState,
    packed: &PackedLayers,
) {
    for (layer, spooled) in packed {
        state.plan.mark_packed(layer, spooled.blob.size);
    }
    for reason in deltas::plan(context, single, blobs, state).await {
        context.upload.report.detail(&reason);
    }
    context.upload.report.show_plan(&state.plan);
}

/// Returns the blobs that the plan sends, except `early` ones.
fn queue_image(
    context: &PushContext,
    single: &SingleImage,
    state: &TargetState,
    blobs: &mut ImageBlobs,
    packed: PackedLayers,
    early: &EarlyLayers,
) -> Result<Vec<QueuedBlob>, Failure> {
    let (layers, plan) = (&single.layers, &state.plan);
    let names = BlobNames::of_image(single);
    let mut queue = queue_layers(context, &names, layers, plan, blobs, packed, early)?;
    if state.config_size.is_none() {
        queue.push(queue_config(&single.config)?);
    }
    Ok(queue)
}

/// Puts the manifest of an image whose blobs are at the target.
async fn finish_image(
    context: &PushContext,
    single: &SingleImage,
    state: TargetState,
    uploaded: &HashMap<Digest, BlobRef>,
) -> Result<PushedManifest, Failure> {
    let config_bytes = single.config.bytes.as_ref();
    let config_size = config_bytes
        .map(|bytes| bytes.len() as u64)
        .or(state.config_size);
    let config_size = config_size.ok_or_else(|| missing_content("the config"))?;
    let layers = layer_blobs(single, &state.plan, uploaded)?;
    let manifest = single.build_manifest(config_size, &layers)?;
    let (is_complete, has_extension) = (state.is_complete(), state.has_extension);
    let equivalent = state.tag_manifest.filter(|tagged| {
        // Keep the existing manifest: it says nothing else, only its formatting differs.
        is_complete && is_equivalent(single, tagged, &manifest)
    });
    let manifest = match equivalent {
        Some(tagged) => tagged.verified,
        None => {
            // A manifest that was recorded earlier: two tags of an image get the same digest.
            let mut recorded = state.recorded.into_iter();
            let recorded = recorded.find(|recorded| is_equivalent(single, recorded, &manifest));
            let manifest = recorded.map_or(manifest, |recorded| recorded.verified);
            let tag = Reference::Tag(context.lookup.tag.clone());
            context.upload.writer.put_manifest(&manifest, &tag).await?;
            manifest
        }
    };
    let probe = &context.lookup.probe;
    pushed_manifests::remember(
        &probe.cache,
        probe.client.registry(),
        &probe.repository,
        &single.config.digest,
        &manifest.digest,
    );
    let mut seen = HashSet::new();
    let blobs = layers.iter();
    let blobs = blobs.filter(|blob| !blob.is_foreign() && seen.insert(&blob.digest));
    Ok(PushedManifest {
        manifest,
        blob_bytes: total_size(blobs).saturating_add(config_size),
        keeps_layers: context.uses_deltas && has_extension,
    })
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
            (BlobStep::AlreadyPresent(candidate), _) => Ok(candidate.blob.clone()),
            (_, Layer::Blob { descriptor, .. }) => Ok(descriptor.clone()),
            (_, Layer::Raw { diff_id, .. }) => {
                let blob = uploaded.get(diff_id);
                let blob = blob.ok_or_else(|| missing_content("a layer"))?;
                let (digest, size) = (blob.digest.clone(), blob.size);
                Ok(Descriptor::new(media::DOCKER_LAYER_GZIP, digest, size))
            }
        })
        .collect()
}

/// Returns whether the manifest at the target is as good as the one that would be put.
fn is_equivalent(single: &SingleImage, tagged: &ParsedManifest, own: &VerifiedManifest) -> bool {
    let tagged = &tagged.verified;
    match &single.origin {
        ManifestOrigin::Original(_) => own.digest == tagged.digest,
        ManifestOrigin::Edited(_) | ManifestOrigin::Generated => own.is_equivalent(tagged),
    }
}
