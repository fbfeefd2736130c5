//! Plans deltas: finds an older image at the target, and records in the plan against which of its
//! layers deltas are made.

use std::collections::HashSet;

use imgsync_oci::Digest;
use imgsync_oci::ext::assemble::CALL_NAME;
use imgsync_oci::layer::has_own_first_member;
use imgsync_oci::media::Compression;

use super::blob_names::BlobNames;
use super::context::PushContext;
use crate::evidence::{self, TargetState};
use crate::exit::Failure;
use crate::image::config::diff_ids;
use crate::image::instructions::whole_instructions;
use crate::image::{ImageBlobs, Layer, SingleImage};
use crate::plan::{LayerHistory, OlderImage};

/// Plans deltas of the layers that the plan sends, if the registry assembles layers and the
/// connection is slow enough. `blobs` has the bytes of the compressed layers of which deltas may be
/// planned: their start is read. A failed request only means that layers are sent whole. Returns the
/// reasons why layers that could be sent as deltas are not.
pub(super) async fn plan(
    context: &PushContext,
    single: &SingleImage,
    blobs: &ImageBlobs,
    state: &mut TargetState,
) -> Vec<String> {
    let (writer, report) = (&context.upload.writer, &context.upload.report);
    if !context.uses_deltas || !writer.sends_chunks() {
        return Vec::new();
    }
    let candidates = find_candidates(single, blobs, state).await;
    if candidates.is_empty() {
        return Vec::new();
    }
    if writer.transfer_rates().favour_whole_layers() {
        return vec!["no deltas are made, because the connection is fast".to_owned()];
    }
    let older = match find_older_image(context, state).await {
        Ok(Some(older)) => older,
        Ok(None) => return Vec::new(),
        Err(failure) => return vec![format!("no deltas are made: {}", failure.what)],
    };
    let history = history(single);
    state.plan.plan_deltas(&candidates, &history, &older);
    let names = BlobNames::of_image(single);
    let deltas = state.plan.deltas();
    let mut reasons = Vec::new();
    for (layer, _) in &state.plan.steps {
        if let Some(delta) = deltas.get(layer) {
            let name = names.name(layer);
            report.detail(&format!("{name}: delta against {delta}"));
        } else if candidates.contains(layer) {
            let (name, tag) = (names.name(layer), &older.tag);
            reasons.push(format!(
                "{name}: no delta, because {tag} has no earlier version of it"
            ));
        }
    }
    reasons
}

/// Returns the layers of which deltas may be made: raw ones, and compressed ones that are probably in
/// the format in which the registry compresses what it assembles.
async fn find_candidates(
    single: &SingleImage,
    blobs: &ImageBlobs,
    state: &TargetState,
) -> HashSet<Digest> {
    let is_raw = |layer: &&Layer| matches!(layer, Layer::Raw { .. });
    let (raw, compressed): (Vec<&Layer>, Vec<_>) = single.layers.iter().partition(is_raw);
    // The registry was asked about raw layers, and did not answer.
    if !raw.is_empty() && !state.has_extension {
        return HashSet::new();
    }
    let digests = |layers: Vec<&Layer>| -> HashSet<Digest> {
        let layers = layers.into_iter();
        layers.map(|layer| layer.source_digest().clone()).collect()
    };
    let mut candidates = state.plan.delta_candidates(&digests(raw));
    let gzip = compressed.into_iter().filter(|layer| is_gzip(layer));
    for digest in state.plan.delta_candidates(&digests(gzip.collect())) {
        let Some(bytes) = blobs.get(&digest).cloned() else {
            continue;
        };
        let check = tokio::task::spawn_blocking(move || {
            let reader = bytes.reader();
            reader.is_ok_and(|reader| has_own_first_member(reader, bytes.len()))
        });
        // A thread that panicked found nothing.
        if check.await.unwrap_or_default() {
            candidates.insert(digest);
        }
    }
    candidates
}

/// Returns whether a blob is a layer in gzip.
fn is_gzip(layer: &Layer) -> bool {
    match layer {
        Layer::Blob { descriptor, .. } => {
            Compression::of_media_type(&descriptor.media_type) == Some(Compression::Gzip)
        }
        Layer::Raw { .. } => false,
    }
}

/// Finds an older image at a registry that assembles layers.
async fn find_older_image(
    context: &PushContext,
    state: &mut TargetState,
) -> Result<Option<OlderImage>, Failure> {
    let client = &context.upload.writer.client;
    // An image without raw layers is looked up without the extension.
    if !state.has_extension {
        state.has_extension = client.has_extension_call(CALL_NAME).await?;
        if !state.has_extension {
            return Ok(None);
        }
        return evidence::find_older_image(&context.lookup, state.tag_manifest.as_ref()).await;
    }
    let tagged = state.tag_manifest.as_ref();
    let Some(older) = evidence::find_older_image(&context.lookup, tagged).await? else {
        return Ok(None);
    };
    let can_assemble = client.has_extension_call(CALL_NAME).await?;
    Ok(can_assemble.then_some(older))
}

/// Returns the layers of an image with the instructions that made them, as far as the config is known:
/// that of an image in Docker's classic store only after an export. A compressed layer without a diffID
/// is left out.
fn history(single: &SingleImage) -> Vec<LayerHistory> {
    let config = single.config.bytes.as_deref().unwrap_or_default();
    let mut instructions = whole_instructions(config, single.layers.len()).into_iter();
    // A layer whose diffID an engine has verified does not state it.
    let mut diff_ids = diff_ids(config).unwrap_or_default().into_iter();
    let layers = single.layers.iter().filter_map(|layer| {
        let created_by = instructions.next().filter(|text| !text.is_empty());
        let (stated, diff_id) = (diff_ids.next(), layer.diff_id());
        Some(LayerHistory {
            layer: layer.source_digest().clone(),
            diff_id: diff_id.cloned().or(stated)?,
            created_by,
        })
    });
    layers.collect()
}
