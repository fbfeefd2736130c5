//! The pieces of bases whose bytes are known.

use std::io::{Read, Seek};
use std::ops::Range;

use super::piece_ranges::PieceRanges;
use super::{DecodedBase, DeltaError, MAX_PATCH_PREFIX_BYTES};

/// Decoded bases, each with the number of its first piece.
#[derive(Debug)]
pub(super) struct OldPieces<'a, F>(Vec<(u32, &'a mut DecodedBase<F>)>);

impl<'a, F: Read + Seek> OldPieces<'a, F> {
    pub(super) fn new(bases: Vec<(u32, &'a mut DecodedBase<F>)>) -> Self {
        Self(bases)
    }

    /// Returns the number of bytes of all pieces.
    ///
    /// # Errors
    /// [`DeltaError::Invalid`] for pieces that do not exist, or with more bytes than a patch frame
    /// may refer to.
    pub(super) fn len(&mut self, ranges: &PieceRanges) -> Result<u64, DeltaError> {
        let mut sum = 0;
        for range in ranges.iter() {
            self.visit(range, |base, pieces| {
                let lens = &base.layout.index.pieces.lens[pieces];
                sum += lens.iter().copied().map(u64::from).sum::<u64>();
                Ok(())
            })?;
            if sum > MAX_PATCH_PREFIX_BYTES {
                return Err(invalid("too large"));
            }
        }
        Ok(sum)
    }

    /// Returns the bytes of the pieces, which are `len`.
    pub(super) fn read(&mut self, ranges: &PieceRanges, len: u64) -> Result<Vec<u8>, DeltaError> {
        let mut bytes = vec![0; len as usize];
        let mut free = &mut *bytes;
        for range in ranges.iter() {
            self.visit(range, |base, pieces| {
                for piece in pieces {
                    let len = base.layout.index.pieces.lens[piece] as usize;
                    let (now, rest) = std::mem::take(&mut free).split_at_mut(len);
                    base.read_at(base.layout.starts[piece], now)?;
                    free = rest;
                }
                Ok(())
            })?;
        }
        Ok(bytes)
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
