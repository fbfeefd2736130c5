//! Decides which new pieces are patched, and against which pieces of the bases. Pure data: no bytes
//! of a layer are read.

use std::collections::HashMap;
use std::ops::Range;

use super::layout::LayerLayout;
use super::patch_budget::PatchBudget;
use super::piece_ranges::{MAX_RANGES, PieceRanges};
use super::pieces::MIN_HASHED_BYTES;
use super::{MAX_PATCH_CONTENT_BYTES, MAX_PATCH_PREFIX_BYTES};

/// The largest old file that is looked at as a whole.
const MAX_WHOLE_BYTES: u64 = 16 * 1024 * 1024;
/// The number of bytes before and behind the expected place in a larger file.
const WINDOW_BYTES: u64 = 8 * 1024 * 1024;

/// Where the bytes of a new piece come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PieceSource {
    /// A piece of the bases, counted through all of them.
    Copy(u32),
    Literal,
    /// The next patch frame that is not full.
    Patch,
}

/// A patch frame to be made: new pieces, compressed against old ones.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct PatchFrame {
    pub(super) old: PieceRanges,
    pub(super) old_len: u64,
    /// The number of bytes of the new pieces.
    pub(super) len: u64,
}

/// The files of the bases whose bytes are known.
#[derive(Debug, Default)]
pub(super) struct OldFiles {
    /// The files by their path. A number counts through the pieces of all bases.
    files: HashMap<u64, Range<u32>>,
    /// The number of bytes of all pieces before each piece, and of all pieces.
    offsets: Vec<u64>,
}

impl OldFiles {
    /// Adds the pieces of a base. The files are added only with a layout, which has their places.
    pub(super) fn add(&mut self, lens: &[u32], layout: Option<&LayerLayout>) {
        if self.offsets.is_empty() {
            self.offsets.push(0);
        }
        let first = self.offsets.len() as u32 - 1;
        let mut offset = self.offsets.last().copied().unwrap_or_default();
        for len in lens {
            offset += u64::from(*len);
            self.offsets.push(offset);
        }
        for (path, pieces) in layout.into_iter().flat_map(LayerLayout::files) {
            let pieces = first + pieces.start..first + pieces.end;
            if !pieces.is_empty() {
                self.files.entry(path).or_insert(pieces);
            }
        }
    }

    fn len(&self, pieces: &Range<u32>) -> u64 {
        self.offsets[pieces.end as usize] - self.offsets[pieces.start as usize]
    }

    /// Returns the pieces of `file` that overlap with these bytes of it.
    fn window(&self, file: &Range<u32>, bytes: Range<u64>) -> Range<u32> {
        let offsets = &self.offsets[file.start as usize..=file.end as usize];
        let start = offsets.partition_point(|offset| *offset <= offsets[0] + bytes.start);
        let end = offsets.partition_point(|offset| *offset < offsets[0] + bytes.end);
        let start = file.start + start.saturating_sub(1) as u32;
        start.min(file.end)..(file.start + end as u32).min(file.end)
    }
}

/// Turns literals into patches where an old version of the file is known. Returns the frames in the
/// order of the pieces.
pub(super) fn plan_patches(
    new: &LayerLayout,
    sources: &mut [PieceSource],
    old: &OldFiles,
    mut budget: PatchBudget,
) -> Vec<PatchFrame> {
    let mut frames: Vec<PatchFrame> = Vec::new();
    for (path, pieces) in new.files() {
        let Some(file) = old.files.get(&path) else {
            continue;
        };
        let pieces = pieces.start as usize..pieces.end as usize;
        for piece in pieces.clone() {
            if sources[piece] != PieceSource::Literal {
                continue;
            }
            let Some(range) = choose(new, &pieces, piece, sources, old, file) else {
                continue;
            };
            let len = u64::from(new.index.pieces.lens[piece]);
            if add(&mut frames, old, range, len, &mut budget) {
                sources[piece] = PieceSource::Patch;
            }
        }
    }
    frames
}

/// Returns the old pieces for a new piece of a file.
fn choose(
    new: &LayerLayout,
    pieces: &Range<usize>,
    piece: usize,
    sources: &[PieceSource],
    old: &OldFiles,
    file: &Range<u32>,
) -> Option<Range<u32>> {
    let lens = &new.index.pieces.lens;
    let is_small = |piece: usize| lens[piece] < MIN_HASHED_BYTES;
    let is_alone = pieces
        .clone()
        .all(|other| is_small(other) || matches!(sources[other], PieceSource::Copy(_)));
    if is_small(piece) && is_alone {
        // Only small parts of the file changed, such as the head of compiled Python.
        let same = file.start + (piece - pieces.start) as u32;
        let same = same..same + 1;
        let is_same = same.end <= file.end && old.len(&same) == u64::from(lens[piece]);
        return is_same.then_some(same);
    }
    let (old_len, new_len) = (old.len(file), sum(&lens[pieces.clone()]));
    if old_len <= MAX_WHOLE_BYTES {
        return Some(file.clone());
    }
    let before = u128::from(sum(&lens[pieces.start..piece]));
    let expected = before * u128::from(old_len) / u128::from(new_len.max(1));
    let start = (expected as u64).saturating_sub(WINDOW_BYTES);
    let end = expected as u64 + u64::from(lens[piece]) + WINDOW_BYTES;
    let mut range = old.window(file, start..end.min(old_len));
    while old.len(&range) > MAX_PATCH_PREFIX_BYTES {
        range.end -= 1;
    }
    (!range.is_empty()).then_some(range)
}

fn sum(lens: &[u32]) -> u64 {
    lens.iter().copied().map(u64::from).sum()
}

/// Adds a piece to the last frame, or to a new one if that is full. Returns whether the budget, from
/// which each frame is taken when it begins, allows it.
fn add(
    frames: &mut Vec<PatchFrame>,
    old: &OldFiles,
    range: Range<u32>,
    len: u64,
    budget: &mut PatchBudget,
) -> bool {
    let missing = |frame: &PatchFrame| -> u64 {
        let missing = frame.old.missing(&range);
        missing.iter().map(|range| old.len(range)).sum()
    };
    let has_room = |frame: &PatchFrame| {
        frame.len + len <= MAX_PATCH_CONTENT_BYTES
            && frame.old_len + missing(frame) <= MAX_PATCH_PREFIX_BYTES
            && frame.old.len() < MAX_RANGES
    };
    if !frames.last().is_some_and(has_room) {
        if !budget.spend(MAX_PATCH_PREFIX_BYTES) {
            return false;
        }
        frames.push(PatchFrame::default());
    }
    if let Some(frame) = frames.last_mut() {
        frame.old_len += missing(frame);
        frame.old.insert(range);
        frame.len += len;
    }
    true
}
