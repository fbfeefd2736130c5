//! Writes patch frames.

use std::io::{self, Read, Seek, Write};

use super::old_pieces::OldPieces;
use super::plan::PatchFrame;
use crate::delta::DeltaError;
use crate::delta::format::section::Storage;
use crate::delta::format::table;

/// The most bytes of old and new pieces, of all frames, that are compressed well: this takes about a
/// second for 8 MiB.
const MAX_WELL_COMPRESSED_BYTES: usize = 16 * 1024 * 1024;

/// Collects the new bytes of one planned frame after the other, and writes each when it is complete.
#[derive(Debug)]
pub(in crate::delta) struct PatchWriter<W> {
    frames: std::vec::IntoIter<PatchFrame>,
    frame: Option<PatchFrame>,
    content: Vec<u8>,
    target: W,
    /// The number of bytes that are still compressed well.
    well_compressed_left: usize,
    /// The number of bytes that were written.
    pub(in crate::delta) size: u64,
}

impl<W: Write> PatchWriter<W> {
    pub(in crate::delta) fn new(frames: Vec<PatchFrame>, target: W) -> Self {
        let mut frames = frames.into_iter();
        Self {
            frame: frames.next(),
            frames,
            content: Vec::new(),
            target,
            well_compressed_left: MAX_WELL_COMPRESSED_BYTES,
            size: 0,
        }
    }

    /// Adds the next bytes of the piece whose turn it is.
    pub(in crate::delta) fn add(&mut self, bytes: &[u8]) {
        self.content.extend_from_slice(bytes);
    }

    /// Writes the frame if it is complete.
    pub(in crate::delta) fn end_piece<F: Read + Seek>(
        &mut self,
        old: &mut OldPieces<'_, F>,
    ) -> Result<(), DeltaError> {
        let is_complete = |frame: &mut PatchFrame| frame.len == self.content.len() as u64;
        let Some(frame) = self.frame.take_if(is_complete) else {
            return Ok(());
        };
        let (mut prefix, mut bytes) = (Vec::new(), Vec::new());
        old.read(&frame.old, frame.old_len, &mut prefix)?;
        let ranges = frame.old.to_bytes();
        let cost = prefix.len() + self.content.len();
        let storage = match self.well_compressed_left.checked_sub(cost) {
            Some(left) => {
                self.well_compressed_left = left;
                Storage::CompressedWell(&prefix)
            }
            None => Storage::Compressed(&prefix),
        };
        let sections = [
            (&*ranges, Storage::Compressed(&[])),
            (&*self.content, storage),
        ];
        table::write(&mut bytes, &sections)?;
        self.target.write_all(&bytes)?;
        self.size += bytes.len() as u64;
        self.content.clear();
        self.frame = self.frames.next();
        Ok(())
    }

    /// Returns the target after the last frame.
    pub(in crate::delta) fn finish(mut self) -> io::Result<W> {
        self.target.flush()?;
        Ok(self.target)
    }
}
