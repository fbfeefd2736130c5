//! Reads patch frames: bytes that are compressed against parts of the bases.

use std::io::{Read, Seek};

use super::{DecodedBase, DeltaError};

/// Reads one patch frame after the other.
#[derive(Debug)]
pub(super) struct PatchReader {
    offset: u64,
    end: u64,
}

impl PatchReader {
    /// Returns a reader of the frames that are from `offset` to `end` in the delta.
    pub(super) fn new(offset: u64, end: u64) -> Self {
        Self { offset, end }
    }

    /// Fills a part of `buffer`, which is not empty.
    pub(super) fn read<F: Read + Seek>(
        &mut self,
        _delta: &mut (impl Read + Seek),
        _bases: &mut [DecodedBase<F>],
        _buffer: &mut [u8],
    ) -> Result<usize, DeltaError> {
        Err(DeltaError::Invalid(
            "the delta has no patch frames".to_owned(),
        ))
    }

    pub(super) fn check_end(&self) -> Result<(), DeltaError> {
        if self.offset != self.end {
            return Err(DeltaError::Invalid(
                "the delta has too many patch frames".to_owned(),
            ));
        }
        Ok(())
    }
}
