//! An older layer, decoded to a file.

use std::io::{Read, Seek, Write};

use super::{DeltaError, LayerIndex};

/// The bytes of an uncompressed layer in a file, with the index that was built on the way.
#[derive(Debug)]
pub struct DecodedBase<F> {
    file: F,
    index: LayerIndex,
}

impl<F: Read + Write + Seek> DecodedBase<F> {
    /// Writes an uncompressed layer from `reader` into `file`, which is empty, and indexes it.
    /// `reader` bounds the number of bytes. Blocks the thread.
    ///
    /// # Errors
    /// [`DeltaError`].
    pub fn decode(reader: impl Read, file: F) -> Result<Self, DeltaError> {
        let _ = (reader, file);
        Err(DeltaError::Invalid("not implemented".to_owned()))
    }

    /// Returns the index.
    pub fn index(&self) -> &LayerIndex {
        let _ = &self.file;
        &self.index
    }
}
