//! Finds the layers that earlier runs left compressed in the spool.

use std::collections::HashMap;

use futures::stream::{self, StreamExt};
use imgsync_oci::Digest;

use crate::image::{Layer, SingleImage};
use crate::plan::{BlobStep, PushPlan};
use crate::spool::SpooledLayer;
use crate::upload::UploadContext;

/// The layers that an earlier run compressed, by diffID.
pub(super) type PackedLayers = HashMap<Digest, SpooledLayer>;

/// Returns those of the layers to be sent that an earlier run compressed; `skipped` has those that
/// were found while the image was read. The digest of each was verified to the last byte.
pub(super) async fn find(
    context: &UploadContext,
    skipped: &PackedLayers,
    single: &SingleImage,
    plan: &PushPlan,
) -> PackedLayers {
    let mut packed = skipped.clone();
    let steps = single.layers.iter().zip(&plan.steps);
    let raw = steps.filter_map(|(layer, (_, step))| match (layer, step) {
        (Layer::Raw { diff_id, .. }, BlobStep::Send { .. }) => Some(diff_id.clone()),
        _ => None,
    });
    let raw: Vec<_> = raw
        .filter(|diff_id| !packed.contains_key(diff_id))
        .collect();
    let search = |diff_id: Digest| {
        let spool = context.spool.clone();
        tokio::task::spawn_blocking(move || {
            let layer = spool.find_compressed(&diff_id)?;
            Some((diff_id, layer))
        })
    };
    let searches = stream::iter(raw).map(search);
    let found = searches.buffer_unordered(context.threads.max(1));
    let found: Vec<_> = found.collect().await;
    // A thread that panicked found nothing.
    packed.extend(found.into_iter().flatten().flatten());
    packed
}
