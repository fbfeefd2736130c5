//! Decides which new pieces are patched, and against which pieces of the bases. Pure data: no bytes
//! of a layer are read.

use std::collections::HashMap;
use std::ops::Range;

use super::budget::{PatchBudget, PatchCost};
use super::piece_ranges::{MAX_RANGES, PieceRanges};
use crate::delta::pieces::layout::LayerLayout;
use crate::delta::pieces::list::MIN_HASHED_BYTES;
use crate::delta::{MAX_PATCH_CONTENT_BYTES, MAX_PATCH_PREFIX_BYTES};

/// The largest old file that is looked at as a whole.
const MAX_WHOLE_BYTES: u64 = 16 * 1024 * 1024;
/// The number of bytes before and behind the expected place in a larger file.
const WINDOW_BYTES: u64 = 8 * 1024 * 1024;

/// Where the bytes of a new piece come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::delta) enum PieceSource {
    /// A piece of the bases, counted through all of them.
    Copy(u32),
    Literal,
    /// The next patch frame that is not full.
    Patch,
}

/// A patch frame to be made: new pieces, compressed against old ones.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::delta) struct PatchFrame {
    pub(in crate::delta) old: PieceRanges,
    pub(in crate::delta) old_len: u64,
    /// The number of bytes of the new pieces.
    pub(in crate::delta) len: u64,
}

impl PatchFrame {
    /// Adds `len` bytes for these old pieces, of which `old_len` bytes are new in the frame.
    fn insert(&mut self, range: Range<u32>, old_len: u64, len: u64) {
        self.old.insert(range);
        self.old_len += old_len;
        self.len += len;
    }
}

/// The files of the bases whose bytes are known.
#[derive(Debug, Default)]
pub(in crate::delta) struct OldFiles {
    /// The files by their path. A number counts through the pieces of all bases.
    files: HashMap<u64, Range<u32>>,
    /// The number of bytes of all pieces before each piece, and of all pieces.
    offsets: Vec<u64>,
    /// For each piece, how many up to it do not adjoin the piece before.
    breaks: Vec<u64>,
}

/// A file of the new layer, and what is known of it in the bases.
#[derive(Debug)]
struct ChangedFile {
    old: Range<u32>,
    new: Range<usize>,
    new_len: u64,
    /// Only pieces without hashes changed, such as the head of compiled Python.
    has_small_changes: bool,
}

impl OldFiles {
    /// Adds the pieces of a base. The files are added only with a layout, which has their places.
    pub(in crate::delta) fn add(&mut self, lens: &[u32], layout: Option<&LayerLayout>) {
        if self.offsets.is_empty() {
            self.offsets.push(0);
        }
        let first = self.offsets.len() as u32 - 1;
        let mut offset = self.offsets.last().copied().unwrap_or_default();
        let mut breaks = self.breaks.last().copied().unwrap_or_default();
        for (piece, len) in lens.iter().enumerate() {
            offset += u64::from(*len);
            self.offsets.push(offset);
            let adjoins = layout.is_some_and(|layout| layout.adjoins(piece));
            breaks += u64::from(!adjoins);
            self.breaks.push(breaks);
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

    /// Returns how many reads these pieces need, at least one.
    fn reads(&self, pieces: &Range<u32>) -> u64 {
        let last = pieces.end as usize - 1;
        1 + self.breaks[last] - self.breaks[pieces.start as usize]
    }

    /// Returns as many of the first pieces as a patch frame may refer to.
    fn shorten(&self, pieces: Range<u32>) -> Range<u32> {
        let offsets = &self.offsets[pieces.start as usize..=pieces.end as usize];
        let most = offsets[0] + MAX_PATCH_PREFIX_BYTES;
        let count = offsets[1..].partition_point(|offset| *offset <= most);
        pieces.start..pieces.start + count as u32
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
pub(in crate::delta) fn plan_patches(
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
        let lens = &new.index.pieces.lens;
        let pieces = pieces.start as usize..pieces.end as usize;
        let mut large = pieces
            .clone()
            .filter(|piece| lens[*piece] >= MIN_HASHED_BYTES);
        let file = ChangedFile {
            old: file.clone(),
            new_len: sum(&lens[pieces.clone()]),
            has_small_changes: large.all(|piece| matches!(sources[piece], PieceSource::Copy(_))),
            new: pieces.clone(),
        };
        let mut end = 0;
        for piece in pieces {
            let (offset, len) = (end, u64::from(lens[piece]));
            end += len;
            if sources[piece] != PieceSource::Literal {
                continue;
            }
            let Some(range) = choose(&file, piece, offset..end, old) else {
                continue;
            };
            if add(&mut frames, old, range, len, &mut budget) {
                sources[piece] = PieceSource::Patch;
            }
        }
    }
    frames
}

/// Returns the old pieces for a new piece of a file, which has these bytes of it.
fn choose(
    file: &ChangedFile,
    piece: usize,
    bytes: Range<u64>,
    old: &OldFiles,
) -> Option<Range<u32>> {
    let len = bytes.end - bytes.start;
    if len < u64::from(MIN_HASHED_BYTES) && file.has_small_changes {
        let same = file.old.start + (piece - file.new.start) as u32;
        let same = same..same + 1;
        let is_same = same.end <= file.old.end && old.len(&same) == len;
        return is_same.then_some(same);
    }
    let old_len = old.len(&file.old);
    if old_len <= MAX_WHOLE_BYTES {
        return Some(file.old.clone());
    }
    let before = u128::from(bytes.start);
    let expected = before * u128::from(old_len) / u128::from(file.new_len.max(1));
    let start = (expected as u64).saturating_sub(WINDOW_BYTES);
    let end = expected as u64 + len + WINDOW_BYTES;
    let range = old.shorten(old.window(&file.old, start..end.min(old_len)));
    (!range.is_empty()).then_some(range)
}

fn sum(lens: &[u32]) -> u64 {
    lens.iter().copied().map(u64::from).sum()
}

/// Adds a piece to the last frame, or to a new one if that is full. Returns whether the budget allows
/// it. The old bytes of a frame are taken from the budget when it begins, as if it were full.
fn add(
    frames: &mut Vec<PatchFrame>,
    old: &OldFiles,
    range: Range<u32>,
    len: u64,
    budget: &mut PatchBudget,
) -> bool {
    let has_room = |frame: &PatchFrame, old_len: u64| {
        frame.len + len <= MAX_PATCH_CONTENT_BYTES
            && frame.old_len + old_len <= MAX_PATCH_PREFIX_BYTES
            && frame.old.len() < MAX_RANGES
    };
    if let Some(frame) = frames.last_mut() {
        let missing = frame.old.missing(&range);
        let old_len = missing.iter().map(|range| old.len(range)).sum();
        if has_room(frame, old_len) {
            let cost = PatchCost {
                reads: missing.iter().map(|range| old.reads(range)).sum(),
                ..PatchCost::default()
            };
            let is_allowed = budget.spend(cost);
            if is_allowed {
                frame.insert(range, old_len, len);
            }
            return is_allowed;
        }
    }
    let cost = PatchCost {
        frames: 1,
        old_bytes: MAX_PATCH_PREFIX_BYTES,
        reads: old.reads(&range),
    };
    let is_allowed = budget.spend(cost);
    if is_allowed {
        let (mut frame, old_len) = (PatchFrame::default(), old.len(&range));
        frame.insert(range, old_len, len);
        frames.push(frame);
    }
    is_allowed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delta::pieces::layout::LayoutBuilder;
    use crate::delta::tests::layer_pairs::TarWriter;

    /// Returns a layer with a zip file of many stored members.
    fn zip_layer(members: u32, body: u8) -> LayerLayout {
        let mut zip = Vec::new();
        for _ in 0..members {
            let mut header = [0; 31];
            header[..4].copy_from_slice(b"PK\x03\x04");
            header[18] = MIN_HASHED_BYTES as u8;
            header[22] = MIN_HASHED_BYTES as u8;
            header[26] = 1;
            zip.extend(header);
            zip.extend([body; MIN_HASHED_BYTES as usize]);
        }
        let mut tar = TarWriter::new(false);
        tar.file("app.jar", &zip);
        let mut layout = LayoutBuilder::default();
        layout.update(&tar.finish()).unwrap();
        layout.finish().unwrap()
    }

    /// Takes minutes if each piece is compared with all of its file.
    #[test]
    fn a_zip_file_of_many_changed_members() {
        let (base, new) = (zip_layer(50_000, 1), zip_layer(50_000, 2));
        let mut old = OldFiles::default();
        old.add(&base.index.pieces.lens, Some(&base));
        let count = new.starts.len();
        assert!(count >= 100_000, "{count} pieces");
        let mut sources = vec![PieceSource::Literal; count];
        let budget = PatchBudget::new(0, &[]);
        let frames = plan_patches(&new, &mut sources, &old, budget);
        // The budget is for one frame, and has nothing for reads.
        assert_eq!(frames, []);
        let budget = PatchBudget::new(1024, &[]);
        let frames = plan_patches(&new, &mut sources, &old, budget);
        let patches = sources
            .iter()
            .filter(|source| **source == PieceSource::Patch);
        assert_eq!((frames.len(), frames[0].old.len()), (1, 1));
        assert_eq!(patches.count(), 100_000);
    }
}
