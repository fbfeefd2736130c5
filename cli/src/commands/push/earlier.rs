//! What earlier runs put aside of this image's layers, and what of it counts now.

use std::collections::HashMap;

use futures::stream::{self, StreamExt};
use imgsync_oci::Digest;

use super::Push;
use crate::facts::Facts;
use crate::plan::Step;
use crate::source::{Layer, Single};
use crate::spool::{Kept, Spool};

/// The packed layers that need neither be read nor compressed again, by their diffIDs.
pub(super) type Earlier = HashMap<Digest, Kept>;

impl Push {
    /// Of the layers that are to be sent those that an earlier run has packed. Every one was read
    /// to its end, and is what it should be.
    pub(super) async fn earlier(&self, single: &Single, facts: &Facts) -> Earlier {
        let steps = single.layers.iter().zip(&facts.plan.steps);
        let raw = steps.filter_map(|(layer, (_, step))| match (layer, step) {
            (Layer::Raw { diff_id, .. }, Step::Send { .. }) => Some(diff_id.clone()),
            (Layer::Raw { .. } | Layer::Ready { .. }, _) => None,
        });
        let mut earlier = self.seen.packed.clone();
        let new: Vec<_> = raw.filter(|it| !earlier.contains_key(it)).collect();
        let spool = &self.means.spool;
        let found: Vec<_> = stream::iter(new)
            .map(|diff_id| packed(spool.clone(), diff_id))
            .buffer_unordered(self.means.threads.max(1))
            .collect()
            .await;
        earlier.extend(found.into_iter().flatten());
        earlier
    }
}

async fn packed(spool: Spool, diff_id: Digest) -> Option<(Digest, Kept)> {
    let reading = tokio::task::spawn_blocking(move || {
        let kept = spool.packed(&diff_id)?;
        Some((diff_id, kept))
    });
    // A thread that died has found nothing.
    reading.await.ok().flatten()
}
