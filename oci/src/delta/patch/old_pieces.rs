//! The pieces of bases whose bytes are known.

use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;

use super::budget::PatchCost;
use super::piece_ranges::PieceRanges;
use crate::delta::format::large_buffer;
use crate::delta::{DecodedBase, DeltaError, MAX_PATCH_PREFIX_BYTES};

/// Decoded bases, each with the number of its first piece.
#[derive(Debug)]
pub(in crate::delta) struct OldPieces<'a, F>(Vec<(u32, &'a mut DecodedBase<F>)>);

impl<'a, F: Read + Seek> OldPieces<'a, F> {
    pub(in crate::delta) fn new(bases: Vec<(u32, &'a mut DecodedBase<F>)>) -> Self {
        Self(bases)
    }

    /// Returns what it costs to read all pieces for one frame.
    ///
    /// # Errors
    /// [`DeltaError::Invalid`] for pieces that do not exist, or with more bytes than a patch frame
    /// may refer to.
    pub(in crate::delta) fn cost(&mut self, ranges: &PieceRanges) -> Result<PatchCost, DeltaError> {
        let mut cost = PatchCost {
            frames: 1,
            ..PatchCost::default()
        };
        for range in ranges.iter() {
            self.visit(range, |base, pieces| {
                for run in base.layout.runs(pieces) {
                    let bytes = base.layout.bytes_of(&run);
                    cost.old_bytes += bytes.end - bytes.start;
                    cost.reads += 1;
                }
                Ok(())
            })?;
            if cost.old_bytes > MAX_PATCH_PREFIX_BYTES {
                return Err(invalid("too large"));
            }
        }
        Ok(cost)
    }

    /// Replaces `bytes` by those of the pieces, which are `len`. Adjoining pieces are read at once.
    pub(in crate::delta) fn read(
        &mut self,
        ranges: &PieceRanges,
        len: u64,
        bytes: &mut Vec<u8>,
    ) -> Result<(), DeltaError> {
        large_buffer::reserve(bytes, len as usize);
        bytes.resize(len as usize, 0);
        let mut free = &mut **bytes;
        for range in ranges.iter() {
            self.visit(range, |base, pieces| {
                let DecodedBase { file, layout } = base;
                for run in layout.runs(pieces) {
                    let Range { start, end } = layout.bytes_of(&run);
                    let (now, rest) =
                        std::mem::take(&mut free).split_at_mut((end - start) as usize);
                    file.seek(SeekFrom::Start(start))?;
                    file.read_exact(now)?;
                    free = rest;
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Calls `visit` for the bases that a range is in, with the pieces counted from their first.
    fn visit(
        &mut self,
        range: Range<u32>,
        mut visit: impl FnMut(&mut DecodedBase<F>, Range<usize>) -> Result<(), DeltaError>,
    ) -> Result<(), DeltaError> {
        let mut next = range.start;
        for (first, base) in &mut self.0 {
            let end = *first + base.layout.starts.len() as u32;
            if (*first..end).contains(&next) {
                let until = range.end.min(end);
                visit(base, (next - *first) as usize..(until - *first) as usize)?;
                next = until;
            }
        }
        if next < range.end {
            return Err(invalid("out of the bases"));
        }
        Ok(())
    }
}

fn invalid(text: &str) -> DeltaError {
    DeltaError::Invalid(format!("the old pieces of a patch frame are {text}"))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use crate::delta::tests::{bytes, layer_pairs};

    fn cost_of(layer: &[u8], pieces: Range<u32>) -> PatchCost {
        let mut base = DecodedBase::decode(layer, Cursor::new(Vec::new())).unwrap();
        let mut ranges = PieceRanges::default();
        ranges.insert(pieces);
        let mut old = OldPieces::new(vec![(0, &mut base)]);
        let cost = old.cost(&ranges).unwrap();
        let mut bytes = Vec::new();
        old.read(&ranges, cost.old_bytes, &mut bytes).unwrap();
        assert_eq!(bytes.len() as u64, cost.old_bytes);
        cost
    }

    #[test]
    fn adjoining_pieces_are_read_at_once() {
        let mebibyte = 1024 * 1024;
        let cost = cost_of(&bytes::noise(1, 4 * mebibyte), 1..4);
        assert_eq!((cost.old_bytes, cost.reads), (3 * mebibyte as u64, 1));
        // Two files with the headers between them.
        let cost = cost_of(&layer_pairs::sources(false, 3, 100), 0..2);
        assert_eq!(cost.reads, 2);
    }
}
