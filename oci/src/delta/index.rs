//! The index of a layer: the headers of its tar and the hashes of its pieces, without the contents.

use super::entries::TarEntries;
use super::layout::LayoutBuilder;
use super::pieces::PieceList;
use super::{DeltaError, index_bytes};

/// The index of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerIndex {
    pub(super) raw_size: u64,
    pub(super) entries: TarEntries,
    pub(super) pieces: PieceList,
}

/// Builds the index of a layer from its bytes.
#[derive(Debug, Default)]
pub struct IndexBuilder {
    layout: LayoutBuilder,
}

impl IndexBuilder {
    /// Adds the next bytes of the uncompressed layer. Bytes in any form are accepted; those that are
    /// no tar become pieces of a fixed size.
    ///
    /// # Errors
    /// [`DeltaError::TooLarge`] if the layer has too many files. The builder is useless then.
    pub fn update(&mut self, bytes: &[u8]) -> Result<(), DeltaError> {
        self.layout.update(bytes)
    }

    /// Returns the index, after the last bytes.
    ///
    /// # Errors
    /// As [`IndexBuilder::update`].
    pub fn finish(self) -> Result<LayerIndex, DeltaError> {
        Ok(self.layout.finish()?.index)
    }
}

impl LayerIndex {
    /// Returns the bytes of the index, as they are stored and sent.
    ///
    /// # Errors
    /// [`DeltaError::TooLarge`] for more than [`super::MAX_INDEX_BYTES`].
    pub fn to_bytes(&self) -> Result<Vec<u8>, DeltaError> {
        index_bytes::write(self)
    }

    /// Parses the output of [`LayerIndex::to_bytes`], which may come from anybody.
    ///
    /// # Errors
    /// [`DeltaError::Invalid`]; [`DeltaError::TooLarge`].
    pub fn parse(bytes: &[u8]) -> Result<Self, DeltaError> {
        index_bytes::parse(bytes)
    }

    /// Returns the number of bytes of lifted headers. Those of all bases of a delta are together at
    /// most [`super::MAX_HEADER_BYTES`].
    pub fn header_bytes(&self) -> u64 {
        self.entries.headers.len() as u64
    }

    /// Returns the size of the uncompressed layer in bytes.
    pub fn raw_size(&self) -> u64 {
        self.raw_size
    }
}
