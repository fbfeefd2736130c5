//! What earlier runs put aside of this image's layers, and what of it counts now.

use std::collections::HashMap;

use futures::stream::{self, StreamExt};
use imgsync_oci::Digest;

use super::Pusher;
use crate::evidence::TargetState;
use crate::image::{Layer, SingleImage};
use crate::plan::LayerStep;
use crate::spool::{Spool, SpooledLayer};

/// The packed layers that need neither be read nor compressed again, by their diffIDs.
pub(super) type PackedLayers = HashMap<Digest, SpooledLayer>;

impl Pusher {
    /// Of the layers that are to be sent those that an earlier run has packed. Every one was read
    /// to its end, and is what it should be.
    pub(super) async fn find_packed_layers(
        &self,
        single: &SingleImage,
        facts: &TargetState,
    ) -> PackedLayers {
        let steps = single.layers.iter().zip(&facts.plan.steps);
        let raw = steps.filter_map(|(layer, (_, step))| match (layer, step) {
            (Layer::Raw { diff_id, .. }, LayerStep::Send { .. }) => Some(diff_id.clone()),
            (Layer::Raw { .. } | Layer::Blob { .. }, _) => None,
        });
        let mut earlier = self.skipped.packed.clone();
        let new: Vec<_> = raw.filter(|it| !earlier.contains_key(it)).collect();
        let spool = &self.context.spool;
        let found: Vec<_> = stream::iter(new)
            .map(|diff_id| find_packed_layer(spool.clone(), diff_id))
            .buffer_unordered(self.context.threads.max(1))
            .collect()
            .await;
        earlier.extend(found.into_iter().flatten());
        earlier
    }
}

async fn find_packed_layer(spool: Spool, diff_id: Digest) -> Option<(Digest, SpooledLayer)> {
    let reading = tokio::task::spawn_blocking(move || {
        let kept = spool.find_compressed(&diff_id)?;
        Some((diff_id, kept))
    });
    // A thread that died has found nothing.
    reading.await.ok().flatten()
}
