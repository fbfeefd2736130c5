//! Decides which layers are sent as deltas, and against which layers that the target has.
//!
//! A layer that was built again is much the same as the one that the same instruction made before.
//! The layers of an older image are paired with those of the new one by the instruction, and without
//! one that both have by their position. Start reading at [`PushPlan::plan_deltas`].

use std::collections::{HashMap, HashSet};

use imgsync_oci::delta::MAX_BASES;
use imgsync_oci::media::Compression;
use imgsync_oci::{Descriptor, Digest, Tag};

use super::{BlobStep, PushPlan, TransferRates};

/// The smallest layer that a delta is made of, in bytes. Below, requests take longer than the bytes.
pub const MIN_DELTA_LAYER_BYTES: u64 = 1024 * 1024;
/// The smallest blob that a delta is based on, in bytes. A smaller one has too little to copy from.
const MIN_BASE_BYTES: u64 = 64 * 1024;
/// The rate in bytes per second from which on a whole layer is sent in less time than both sides need
/// to make a delta of it and to assemble it: about 13 seconds for 155 MB, which are 500 MB before
/// they are compressed.
const MAX_DELTA_RATE: u64 = 12_000_000;
/// The number of bytes of an uncompressed layer for each second that both sides need.
const RAW_BYTES_PER_SECOND: u64 = 40_000_000;
/// The rate in bytes per second that is assumed while it is unknown: 20 Mbit/s.
const ASSUMED_RATE: u64 = 2_500_000;
/// The largest uncompressed layer in bytes that is assembled, unless the registry is configured
/// otherwise.
pub const MAX_DELTA_RAW_BYTES: u64 = 4 << 30;

/// A layer of the image that is pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerHistory {
    /// The digest of the layer's bytes at the source, as in the steps of the plan.
    pub layer: Digest,
    /// The diffID.
    pub diff_id: Digest,
    /// The instruction that made the layer, as the config states it.
    pub created_by: Option<String>,
}

/// An image at the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OlderImage {
    /// A tag of the image.
    pub tag: Tag,
    /// The layers, lowest first.
    pub layers: Vec<OlderLayer>,
}

/// A layer at the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OlderLayer {
    /// The blob.
    pub blob: Descriptor,
    /// The diffID that the config of its image states.
    pub diff_id: Digest,
    /// The instruction that made the layer, as the config states it.
    pub created_by: Option<String>,
}

/// The layers that the delta of one layer is based on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeltaPlan {
    /// The diffID of the layer.
    pub diff_id: Digest,
    /// The tag whose image has the layers that the delta is based on.
    pub tag: Tag,
    /// The layers, at least one and at most [`MAX_BASES`].
    pub bases: Vec<DeltaBase>,
}

/// A layer that a delta is based on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeltaBase {
    /// The digest of the blob.
    pub blob: Digest,
    /// The size of the blob in bytes.
    pub size: u64,
    /// The diffID that its image states.
    pub diff_id: Digest,
}

/// Names the bases: `layer 3dce3ae6275d of v1`.
impl std::fmt::Display for DeltaPlan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> = self.bases.iter().map(|base| base.diff_id.short()).collect();
        let plural = if names.len() == 1 { "" } else { "s" };
        write!(f, "layer{plural} {} of {}", names.join(", "), self.tag)
    }
}

impl PushPlan {
    /// Returns those of the `layers` of which deltas may be made: they are sent, and large enough as
    /// far as their size is known.
    pub fn delta_candidates(&self, layers: &HashSet<Digest>) -> HashSet<Digest> {
        let steps = self.steps.iter();
        let steps = steps.filter(|(layer, step)| layers.contains(layer) && is_candidate(step));
        steps.map(|(layer, _)| layer.clone()).collect()
    }

    /// Records in the steps of the `candidates` against which layers of `older` deltas are made of
    /// them. `history` has all layers of the image, lowest first. A layer of which `older` has no
    /// earlier version is sent whole.
    pub fn plan_deltas(
        &mut self,
        candidates: &HashSet<Digest>,
        history: &[LayerHistory],
        older: &OlderImage,
    ) {
        let mut pairs = pair_layers(history, older, candidates);
        for (layer, step) in &mut self.steps {
            if let BlobStep::Send { delta, .. } = step
                && let Some((diff_id, bases)) = pairs.remove(layer)
            {
                let tag = older.tag.clone();
                *delta = Some(DeltaPlan {
                    diff_id,
                    tag,
                    bases,
                });
            }
        }
    }

    /// Returns the planned deltas, by layer.
    pub fn deltas(&self) -> HashMap<Digest, DeltaPlan> {
        let steps = self.steps.iter();
        let deltas = steps.filter_map(|(layer, step)| match step {
            BlobStep::Send {
                delta: Some(delta), ..
            } => Some((layer.clone(), delta.clone())),
            _ => None,
        });
        deltas.collect()
    }
}

impl TransferRates {
    /// Returns whether uploads are known to be so fast that a delta takes longer than the whole
    /// layer.
    pub fn favour_whole_layers(&self) -> bool {
        self.sent.is_some_and(|rate| rate > MAX_DELTA_RATE)
    }

    /// Returns whether a layer of `size` bytes, of `raw_size` bytes before it was compressed, is
    /// expected to be sent whole in less time than as a delta. One that compresses very well is.
    pub fn favour_whole_layer(&self, size: u64, raw_size: u64) -> bool {
        let rate = self.sent.unwrap_or(ASSUMED_RATE);
        let whole = u128::from(size) * u128::from(RAW_BYTES_PER_SECOND);
        let delta = u128::from(raw_size) * u128::from(rate);
        raw_size > MAX_DELTA_RAW_BYTES || whole < delta
    }
}

/// Returns whether a layer is sent and large enough, as far as its size is known.
fn is_candidate(step: &BlobStep) -> bool {
    match step {
        BlobStep::Send {
            read,
            send,
            is_packed,
            ..
        } => {
            let size = if *is_packed { send } else { read };
            size.is_none_or(|size| size >= MIN_DELTA_LAYER_BYTES)
        }
        _ => false,
    }
}

/// Returns the diffID and the bases of each of the `wanted` layers, by the digest at the source. Only
/// layers that the other image does not have are paired: a layer that both have was not replaced.
fn pair_layers(
    history: &[LayerHistory],
    older: &OlderImage,
    wanted: &HashSet<Digest>,
) -> HashMap<Digest, (Digest, Vec<DeltaBase>)> {
    let new_ids: HashSet<&Digest> = history.iter().map(|layer| &layer.diff_id).collect();
    let old_ids: HashSet<&Digest> = older.layers.iter().map(|layer| &layer.diff_id).collect();
    // Both from the top, where the layers of an image are that are not those of its base image.
    let replaced = older.layers.iter().rev();
    let replaced = replaced.filter(|layer| !new_ids.contains(&layer.diff_id));
    let mut replaced: Vec<&OlderLayer> = replaced.collect();
    let mut seen = HashSet::new();
    let unpaired = history.iter().rev();
    let unpaired = unpaired.filter(|layer| !old_ids.contains(&layer.diff_id));
    let mut unpaired: Vec<&LayerHistory> = unpaired
        .filter(|layer| seen.insert(&layer.diff_id))
        .collect();
    let mut pairs = HashMap::new();
    let mut pair = |layer: &LayerHistory, bases| {
        pairs.insert(layer.layer.clone(), (layer.diff_id.clone(), bases));
    };
    unpaired.retain(|layer| {
        let is_same = |older: &&OlderLayer| {
            layer.created_by.is_some() && older.created_by == layer.created_by
        };
        let Some(position) = replaced.iter().position(is_same) else {
            return true;
        };
        let first = replaced.remove(position);
        // An instruction that occurs several times may have changed its place.
        let others = replaced.iter().copied().filter(is_same);
        pair(layer, bases([first].into_iter().chain(others)));
        false
    });
    // If layers were added or removed, the position may be off by one or two.
    let count = if unpaired.len() == replaced.len() {
        1
    } else {
        MAX_BASES
    };
    for (position, layer) in unpaired.into_iter().enumerate() {
        let mut near: Vec<(usize, &OlderLayer)> = replaced.iter().copied().enumerate().collect();
        near.sort_by_key(|(other, _)| other.abs_diff(position));
        let near = near.into_iter().take(count).map(|(_, older)| older);
        pair(layer, bases(near));
    }
    pairs.retain(|layer, (_, bases)| wanted.contains(layer) && !bases.is_empty());
    pairs
}

fn bases<'a>(layers: impl Iterator<Item = &'a OlderLayer>) -> Vec<DeltaBase> {
    let mut seen = HashSet::new();
    let usable = layers.filter(|layer| is_usable(&layer.blob));
    let distinct = usable.filter(|layer| seen.insert(&layer.blob.digest));
    let bases = distinct.take(MAX_BASES).map(|layer| DeltaBase {
        blob: layer.blob.digest.clone(),
        size: layer.blob.size,
        diff_id: layer.diff_id.clone(),
    });
    bases.collect()
}

/// Returns whether a delta can be based on a blob.
fn is_usable(blob: &Descriptor) -> bool {
    let is_tar = Compression::of_media_type(&blob.media_type).is_some();
    is_tar && !blob.is_foreign() && blob.size >= MIN_BASE_BYTES
}

#[cfg(test)]
mod tests;
