//! Reads patch frames: bytes that are compressed against pieces of the bases.

use std::io::{Read, Seek, SeekFrom};

use super::budget::PatchBudget;
use super::old_pieces::OldPieces;
use super::piece_ranges::{MAX_RANGES_BYTES, PieceRanges};
use crate::delta::format::table;
use crate::delta::{DeltaError, MAX_PATCH_CONTENT_BYTES};

/// The most bytes of the four numbers before a frame.
const MAX_START_BYTES: u64 = 40;

/// Reads one patch frame after the other.
#[derive(Debug)]
pub(in crate::delta) struct PatchReader {
    /// The place of the next frame in the delta, and the end of all.
    offset: u64,
    end: u64,
    /// The bytes of this frame, and how many of them were read.
    content: Vec<u8>,
    read: usize,
    /// The frame as it is stored, and the bytes that it refers to. The buffers are kept for the next
    /// frame.
    stored: Vec<u8>,
    old: Vec<u8>,
    budget: PatchBudget,
}

impl PatchReader {
    /// Returns a reader of the frames that are from `offset` to `end` in the delta.
    pub(in crate::delta) fn new(offset: u64, end: u64, budget: PatchBudget) -> Self {
        Self {
            offset,
            end,
            budget,
            content: Vec::new(),
            read: 0,
            stored: Vec::new(),
            old: Vec::new(),
        }
    }

    /// Fills a part of `buffer`, which is not empty, and returns the number of bytes, at least one.
    pub(in crate::delta) fn read<F: Read + Seek>(
        &mut self,
        delta: &mut (impl Read + Seek),
        bases: &mut OldPieces<'_, F>,
        buffer: &mut [u8],
    ) -> Result<usize, DeltaError> {
        if self.read == self.content.len() {
            self.read_frame(delta, bases)?;
            self.read = 0;
        }
        let unread = &self.content[self.read..];
        let len = unread.len().min(buffer.len());
        buffer[..len].copy_from_slice(&unread[..len]);
        self.read += len;
        Ok(len)
    }

    fn read_frame<F: Read + Seek>(
        &mut self,
        delta: &mut (impl Read + Seek),
        bases: &mut OldPieces<'_, F>,
    ) -> Result<(), DeltaError> {
        let left = self.end - self.offset;
        if left == 0 {
            return Err(invalid("there are too few of them"));
        }
        delta.seek(SeekFrom::Start(self.offset))?;
        let mut start = Vec::new();
        let mut frame = delta.take(left);
        (&mut frame).take(MAX_START_BYTES).read_to_end(&mut start)?;
        let mut rest = &*start;
        let ranges_size = table::take_sizes(&mut rest, MAX_RANGES_BYTES)?;
        let size = table::take_sizes(&mut rest, MAX_PATCH_CONTENT_BYTES as usize)?;
        let used = (start.len() - rest.len() + ranges_size.stored + size.stored) as u64;
        if size.content == 0 || used > left {
            return Err(invalid("one is empty or cut short"));
        }
        let mut frame = rest.chain(frame);
        let ranges = ranges_size.read(&mut frame, &[])?;
        let ranges = PieceRanges::parse(&ranges)?;
        let cost = bases.cost(&ranges)?;
        if !self.budget.spend(cost) {
            return Err(invalid("they refer to too many old bytes"));
        }
        bases.read(&ranges, cost.old_bytes, &mut self.old)?;
        let (old, stored) = (&*self.old, &mut self.stored);
        size.read_into(&mut frame, old, stored, &mut self.content)?;
        self.offset += used;
        Ok(())
    }

    /// Checks that everything was read.
    pub(in crate::delta) fn check_end(&self) -> Result<(), DeltaError> {
        if self.offset != self.end || self.read != self.content.len() {
            return Err(invalid("there are too many of them"));
        }
        Ok(())
    }
}

fn invalid(text: &str) -> DeltaError {
    DeltaError::Invalid(format!("the delta has wrong patch frames: {text}"))
}
