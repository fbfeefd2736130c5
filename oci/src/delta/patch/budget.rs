//! Bounds for the work of reading patch frames.

use crate::delta::MAX_PATCH_PREFIX_BYTES;
use crate::delta::pieces::list::MAX_PIECES;

/// The most old bytes for all frames of a delta, as a multiple of the layer and its bases.
const MAX_RATIO: u64 = 4;
/// The number of old bytes that one read counts as, in addition to those that it reads.
const READ_BYTES: u64 = 4096;

/// The cost of patch frames, or of a part of one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::delta) struct PatchCost {
    pub(in crate::delta) frames: usize,
    pub(in crate::delta) old_bytes: u64,
    /// The number of runs of adjoining pieces: each is read with one call.
    pub(in crate::delta) reads: u64,
}

/// The cost that the patch frames of a delta may still have.
#[derive(Debug)]
pub(in crate::delta) struct PatchBudget {
    old_bytes: u64,
    frames: usize,
}

impl PatchBudget {
    /// Returns the budget for a layer and its bases.
    pub(in crate::delta) fn new(raw_size: u64, base_sizes: &[u64]) -> Self {
        let sizes = base_sizes.iter().copied();
        Self {
            old_bytes: sizes
                .fold(raw_size, u64::saturating_add)
                .saturating_mul(MAX_RATIO)
                .saturating_add(MAX_PATCH_PREFIX_BYTES),
            frames: MAX_PIECES,
        }
    }

    /// Subtracts a cost. Returns whether the budget allows it.
    pub(in crate::delta) fn spend(&mut self, cost: PatchCost) -> bool {
        let reads = cost.reads.saturating_mul(READ_BYTES);
        let left = self
            .old_bytes
            .checked_sub(cost.old_bytes.saturating_add(reads));
        let frames = self.frames.checked_sub(cost.frames);
        let (Some(left), Some(frames)) = (left, frames) else {
            return false;
        };
        (self.old_bytes, self.frames) = (left, frames);
        true
    }
}
