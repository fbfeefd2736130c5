//! The pieces of a layer: their lengths, and the hashes by which equal ones are found.

use sha2::{Digest as _, Sha256};

use crate::delta::DeltaError;

/// The most pieces of a layer.
pub(in crate::delta) const MAX_PIECES: usize = 400_000;
/// Shorter pieces have no hash: their bytes are hardly longer than what would name them.
pub(in crate::delta) const MIN_HASHED_BYTES: u32 = 64;

/// The pieces of a layer in their order. Together they are its contents.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::delta) struct PieceList {
    pub(in crate::delta) lens: Vec<u32>,
    /// The first eight bytes of the SHA-256 hash of each piece; 0 for short ones.
    pub(in crate::delta) hashes: Vec<u64>,
}

impl PieceList {
    pub(in crate::delta) fn push(&mut self, len: u32, hash: u64) -> Result<(), DeltaError> {
        if self.lens.len() >= MAX_PIECES {
            let text = format!("the layer has more than {MAX_PIECES} files and parts of files");
            return Err(DeltaError::TooLarge(text));
        }
        self.lens.push(len);
        self.hashes.push(hash);
        Ok(())
    }
}

/// Hashes the bytes of one piece after the other.
#[derive(Debug, Default)]
pub(in crate::delta) struct PieceHasher {
    hasher: Sha256,
    len: u32,
}

impl PieceHasher {
    /// Adds bytes. The caller ends pieces in time, so that their lengths fit.
    pub(in crate::delta) fn update(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.len += bytes.len() as u32;
    }

    /// Returns length and hash of the piece, and begins the next one; `None` for no bytes.
    pub(in crate::delta) fn cut(&mut self) -> Option<(u32, u64)> {
        let len = std::mem::take(&mut self.len);
        let hash = self.hasher.finalize_reset();
        let mut first = [0; 8];
        first.copy_from_slice(&hash[..8]);
        let is_hashed = len >= MIN_HASHED_BYTES;
        let hash = if is_hashed {
            u64::from_be_bytes(first)
        } else {
            0
        };
        (len > 0).then_some((len, hash))
    }
}
