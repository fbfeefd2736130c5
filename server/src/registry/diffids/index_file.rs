//! Builds the file with the index of a layer, for delta uploads.
//!
//! Start reading at [`IndexFileBuilder`].

use imgsync_oci::delta::{DeltaError, IndexBuilder};

/// The content of the file for a layer that gets no index, because it is too large.
pub(super) const NO_INDEX: &[u8] = b"imgsync-no-index-1\n";

/// Builds the content of an index file while a layer is decoded.
pub(super) struct IndexFileBuilder {
    state: BuilderState,
    /// How many more bytes the layer may have.
    remaining: u64,
}

enum BuilderState {
    /// No index is wanted.
    Off,
    Building(Box<IndexBuilder>),
    /// The layer is too large for an index.
    TooLarge,
}

impl IndexFileBuilder {
    /// Creates a builder for a layer that has an index if it has at most `max_bytes` bytes. With 0, no
    /// file is built.
    pub(super) fn new(max_bytes: u64) -> Self {
        let state = match max_bytes {
            0 => BuilderState::Off,
            _ => BuilderState::Building(Box::default()),
        };
        Self {
            state,
            remaining: max_bytes,
        }
    }

    /// Adds the next bytes of the layer.
    pub(super) fn update(&mut self, bytes: &[u8]) {
        let BuilderState::Building(builder) = &mut self.state else {
            return;
        };
        let remaining = self.remaining.checked_sub(bytes.len() as u64);
        let is_indexed = remaining.is_some() && builder.update(bytes).is_ok();
        self.remaining = remaining.unwrap_or_default();
        if !is_indexed {
            self.state = BuilderState::TooLarge;
        }
    }

    /// Returns the content of the file, after the last bytes; `None` if no index is wanted.
    pub(super) fn finish(self) -> Option<Vec<u8>> {
        let built = match self.state {
            BuilderState::Off => return None,
            BuilderState::Building(builder) => builder.finish().and_then(|index| index.to_bytes()),
            BuilderState::TooLarge => Err(DeltaError::TooLarge(String::new())),
        };
        Some(built.unwrap_or_else(|_| NO_INDEX.to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_that_is_too_large_gets_no_index() {
        let build = |max_bytes| {
            let mut builder = IndexFileBuilder::new(max_bytes);
            builder.update(&[0; 512]);
            builder.update(&[0; 512]);
            builder.finish()
        };
        assert_eq!(build(0), None);
        assert_eq!(build(1023).as_deref(), Some(NO_INDEX));
        assert_ne!(build(1024), None);
    }
}
