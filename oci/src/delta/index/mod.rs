//! The index of a layer: the headers of its tar and the hashes of its pieces, without the contents.

mod bytes;

use crate::delta::pieces::entries::TarEntries;
use crate::delta::pieces::layout::LayoutBuilder;
use crate::delta::pieces::list::PieceList;
use crate::delta::{DeltaError, MAX_BASES, MAX_HEADER_BYTES};

/// The index of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerIndex {
    pub(in crate::delta) raw_size: u64,
    pub(in crate::delta) entries: TarEntries,
    pub(in crate::delta) pieces: PieceList,
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
    /// [`DeltaError::TooLarge`] for more than [`crate::delta::MAX_INDEX_BYTES`].
    pub fn to_bytes(&self) -> Result<Vec<u8>, DeltaError> {
        bytes::write(self)
    }

    /// Parses the output of [`LayerIndex::to_bytes`], which may come from anybody.
    ///
    /// # Errors
    /// [`DeltaError::Invalid`]; [`DeltaError::TooLarge`].
    pub fn parse(bytes: &[u8]) -> Result<Self, DeltaError> {
        bytes::parse(bytes)
    }

    /// Returns the size of the uncompressed layer in bytes.
    pub fn raw_size(&self) -> u64 {
        self.raw_size
    }
}

/// Checks that layers can be bases of the same delta. The headers of all are held in memory, so call
/// this after each base.
///
/// # Errors
/// [`DeltaError::TooLarge`] if there are too many, or if their headers have more than
/// [`MAX_HEADER_BYTES`] together.
pub fn check_bases<'a>(bases: impl IntoIterator<Item = &'a LayerIndex>) -> Result<(), DeltaError> {
    let mut left = MAX_HEADER_BYTES;
    for (number, base) in bases.into_iter().enumerate() {
        if number >= MAX_BASES {
            let text = format!("a delta has at most {MAX_BASES} bases");
            return Err(DeltaError::TooLarge(text));
        }
        let rest = left.checked_sub(base.entries.headers.len() as u64);
        left = rest.ok_or_else(|| {
            let text = "the layers that the delta is based on have too many files together";
            DeltaError::TooLarge(text.to_owned())
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_headers_of_all_bases_are_bounded() {
        let with_headers = |len| LayerIndex {
            raw_size: 0,
            entries: TarEntries {
                headers: vec![0; len],
                ..TarEntries::default()
            },
            pieces: PieceList::default(),
        };
        let half = with_headers(MAX_HEADER_BYTES as usize / 2);
        let one = with_headers(1);
        assert!(check_bases([&half, &half]).is_ok());
        assert!(check_bases([&half, &half, &one]).is_err());
        assert!(check_bases([&one; MAX_BASES]).is_ok());
        assert!(check_bases([&one; MAX_BASES + 1]).is_err());
    }
}
