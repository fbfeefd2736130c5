//! The index of a layer: the headers of its tar and the hashes of its pieces, without the contents.

use super::DeltaError;

/// The index of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerIndex {
    raw_size: u64,
}

/// Builds the index of a layer from its bytes.
#[derive(Debug, Default)]
pub struct IndexBuilder {
    raw_size: u64,
}

impl IndexBuilder {
    /// Adds the next bytes of the uncompressed layer. Bytes in any form are accepted; those that are
    /// no tar become pieces of a fixed size.
    ///
    /// # Errors
    /// [`DeltaError::TooLarge`] if the layer has too many files. The builder is useless then.
    pub fn update(&mut self, bytes: &[u8]) -> Result<(), DeltaError> {
        self.raw_size += bytes.len() as u64;
        Ok(())
    }

    /// Returns the index, after the last bytes.
    ///
    /// # Errors
    /// As [`IndexBuilder::update`].
    pub fn finish(self) -> Result<LayerIndex, DeltaError> {
        Ok(LayerIndex {
            raw_size: self.raw_size,
        })
    }
}

impl LayerIndex {
    /// Returns the bytes of the index, as they are stored and sent.
    ///
    /// # Errors
    /// [`DeltaError::TooLarge`] for more than [`super::MAX_INDEX_BYTES`].
    pub fn to_bytes(&self) -> Result<Vec<u8>, DeltaError> {
        Err(DeltaError::Invalid("not implemented".to_owned()))
    }

    /// Parses the output of [`LayerIndex::to_bytes`], which may come from anybody.
    ///
    /// # Errors
    /// [`DeltaError::Invalid`]; [`DeltaError::TooLarge`].
    pub fn parse(bytes: &[u8]) -> Result<Self, DeltaError> {
        let _ = bytes;
        Err(DeltaError::Invalid("not implemented".to_owned()))
    }

    /// Returns the size of the uncompressed layer in bytes.
    pub fn raw_size(&self) -> u64 {
        self.raw_size
    }
}
