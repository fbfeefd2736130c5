//! Plans deltas: finds an older image at the target, and records in the plan against which of its
//! layers deltas are made.

use std::collections::HashSet;

use imgsync_oci::Digest;
use imgsync_oci::ext::assemble::CALL_NAME;

use super::blob_names::BlobNames;
use super::context::PushContext;
use crate::evidence::{self, TargetState};
use crate::exit::Failure;
use crate::image::instructions::whole_instructions;
use crate::image::{Layer, SingleImage};
use crate::plan::{LayerHistory, OlderImage};

/// Plans deltas of the raw layers that the plan sends, if the registry assembles layers and the
/// connection is slow enough. A failed request only means that layers are sent whole.
pub(super) async fn plan(context: &PushContext, single: &SingleImage, state: &mut TargetState) {
    if !context.uses_deltas || !state.has_extension {
        return;
    }
    let raw = single.layers.iter().filter_map(|layer| match layer {
        Layer::Raw { diff_id, .. } => Some(diff_id.clone()),
        Layer::Blob { .. } => None,
    });
    let raw: HashSet<Digest> = raw.collect();
    let candidates = state.plan.delta_candidates(&raw);
    let (writer, report) = (&context.upload.writer, &context.upload.report);
    if candidates.is_empty() || !writer.sends_chunks() {
        return;
    }
    if writer.transfer_rates().favour_whole_layers() {
        report.detail("no deltas are made, because the connection is fast");
        return;
    }
    let older = match find_older_image(context, state).await {
        Ok(Some(older)) => older,
        Ok(None) => return,
        Err(failure) => {
            report.detail(&format!("no deltas are made: {}", failure.what));
            return;
        }
    };
    let history = history(single);
    state.plan.plan_deltas(&candidates, &history, &older);
    let names = BlobNames::of_image(single);
    let deltas = state.plan.deltas();
    for (layer, _) in &state.plan.steps {
        if let Some(delta) = deltas.get(layer) {
            let name = names.name(layer);
            report.detail(&format!("{name}: delta against {delta}"));
        } else if candidates.contains(layer) {
            let (name, tag) = (names.name(layer), &older.tag);
            report.detail(&format!(
                "{name}: no delta, {tag} has no earlier version of it"
            ));
        }
    }
}

async fn find_older_image(
    context: &PushContext,
    state: &TargetState,
) -> Result<Option<OlderImage>, Failure> {
    let tagged = state.tag_manifest.as_ref();
    let Some(older) = evidence::find_older_image(&context.lookup, tagged).await? else {
        return Ok(None);
    };
    let client = &context.upload.writer.client;
    let can_assemble = client.has_extension_call(CALL_NAME).await?;
    Ok(can_assemble.then_some(older))
}

/// Returns the layers of an image with the instructions that made them. Those of an image in
/// Docker's classic store are known only after an export.
fn history(single: &SingleImage) -> Vec<LayerHistory> {
    let config = single.config.bytes.as_deref().unwrap_or_default();
    let mut instructions = whole_instructions(config, single.layers.len()).into_iter();
    let layers = single.layers.iter().map(|layer| LayerHistory {
        diff_id: layer.diff_id().unwrap_or(layer.source_digest()).clone(),
        created_by: instructions.next().filter(|text| !text.is_empty()),
    });
    layers.collect()
}
