//! Sets of pieces of the bases: the old bytes that a patch frame refers to.

use std::ops::Range;

use crate::delta::format::varint;
use crate::delta::pieces::list::MAX_PIECES;
use crate::delta::{DeltaError, MAX_BASES};

/// The most bytes of a list of ranges in a patch frame.
pub(in crate::delta) const MAX_RANGES_BYTES: usize = 256 * 1024;
/// The number after that of the last possible piece.
const MAX_PIECE: u64 = (MAX_BASES * MAX_PIECES) as u64;
/// The most ranges that the encoder puts into one list. Each has at most six bytes.
pub(in crate::delta) const MAX_RANGES: usize = MAX_RANGES_BYTES / 6;

/// Ranges of pieces, in ascending order: none is empty, and there are pieces between them. Numbers
/// count through the pieces of all bases.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::delta) struct PieceRanges(Vec<Range<u32>>);

impl PieceRanges {
    /// Adds a range, which is not empty, and joins it with the ones that it touches.
    pub(in crate::delta) fn insert(&mut self, range: Range<u32>) {
        let touched = self.touched(&range);
        let mut joined = range;
        for other in &self.0[touched.clone()] {
            joined = joined.start.min(other.start)..joined.end.max(other.end);
        }
        self.0.splice(touched, [joined]);
    }

    /// Returns the parts of a range that are not in the set.
    pub(in crate::delta) fn missing(&self, range: &Range<u32>) -> Vec<Range<u32>> {
        let mut missing = Vec::new();
        let mut start = range.start;
        for other in &self.0[self.touched(range)] {
            missing.push(start..other.start.min(range.end));
            start = start.max(other.end);
        }
        missing.push(start..range.end);
        missing.retain(|part| part.start < part.end);
        missing
    }

    /// Returns the places of the ranges that overlap with a range, or are next to it.
    fn touched(&self, range: &Range<u32>) -> Range<usize> {
        let start = self.0.partition_point(|other| other.end < range.start);
        let end = self.0.partition_point(|other| other.start <= range.end);
        start..end.max(start)
    }

    pub(in crate::delta) fn len(&self) -> usize {
        self.0.len()
    }

    pub(in crate::delta) fn iter(&self) -> impl Iterator<Item = Range<u32>> + '_ {
        self.0.iter().cloned()
    }

    /// Returns the list as bytes: for each range the number of pieces that are passed over before it,
    /// and the number of its pieces.
    pub(in crate::delta) fn to_bytes(&self) -> Vec<u8> {
        let (mut bytes, mut end) = (Vec::new(), 0);
        for range in &self.0 {
            varint::put(&mut bytes, u64::from(range.start - end));
            varint::put(&mut bytes, u64::from(range.end - range.start));
            end = range.end;
        }
        bytes
    }

    /// Parses the output of [`PieceRanges::to_bytes`].
    ///
    /// # Errors
    /// [`DeltaError::Invalid`], also for empty ranges and for those without pieces between them: a list
    /// would have more ranges than pieces.
    pub(in crate::delta) fn parse(mut bytes: &[u8]) -> Result<Self, DeltaError> {
        let mut ranges = Vec::new();
        let mut end = 0_u64;
        while !bytes.is_empty() {
            let gap = varint::take(&mut bytes)?;
            let start = end.saturating_add(gap);
            let count = varint::take(&mut bytes)?;
            end = start.saturating_add(count);
            if end > MAX_PIECE {
                return Err(invalid("pieces that do not exist"));
            }
            if count == 0 || gap == 0 && !ranges.is_empty() {
                return Err(invalid("ranges of pieces that are empty or not joined"));
            }
            ranges.push(start as u32..end as u32);
        }
        Ok(Self(ranges))
    }
}

fn invalid(text: &str) -> DeltaError {
    DeltaError::Invalid(format!("a patch frame has {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn touching_ranges_are_joined() {
        let mut set = PieceRanges::default();
        for range in [5..7, 20..21, 1..2, 7..9, 10..12] {
            set.insert(range);
        }
        assert_eq!(set.0, [1..2, 5..9, 10..12, 20..21]);
        assert_eq!(set.missing(&(6..8)), []);
        assert_eq!(set.missing(&(4..13)), [4..5, 9..10, 12..13]);
        assert_eq!(set.missing(&(30..32)).len(), 1);
        set.insert(2..10);
        assert_eq!(set.0, [1..12, 20..21]);
        set.insert(0..30);
        assert_eq!((set.len(), set.0[0].clone()), (1, 0..30));
    }

    #[test]
    fn lists_round_trip_and_are_checked() {
        let mut set = PieceRanges::default();
        set.insert(3..4);
        set.insert(1_000..400_000);
        let bytes = set.to_bytes();
        assert_eq!(PieceRanges::parse(&bytes).unwrap(), set);
        assert!(PieceRanges::parse(&bytes[..bytes.len() - 1]).is_err());
        set.insert(1_200_000..1_200_001);
        assert!(PieceRanges::parse(&set.to_bytes()).is_err());
        let mut huge = Vec::new();
        varint::put(&mut huge, u64::MAX);
        varint::put(&mut huge, u64::MAX);
        assert!(PieceRanges::parse(&huge).is_err());
    }

    #[test]
    fn a_set_has_only_one_list() {
        assert_eq!(PieceRanges::parse(&[0, 3, 1, 2]).unwrap().0, [0..3, 4..6]);
        assert_eq!(PieceRanges::parse(&[]).unwrap().len(), 0);
        for list in [&[0, 0][..], &[1, 0], &[0, 3, 1, 0], &[0, 3, 0, 2]] {
            assert!(PieceRanges::parse(list).is_err(), "{list:?}");
        }
    }
}
