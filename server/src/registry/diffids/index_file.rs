//! Builds the file with the index of a layer, for delta uploads.
//!
//! Start reading at [`IndexFileBuilder`].

use imgsync_oci::delta::{DeltaError, IndexBuilder};

/// The first line of the file for a layer that gets no index, because it is too large. The second one
/// is the limit of the size; an earlier version did not write it.
const NO_INDEX: &str = "imgsync-no-index-1\n";
/// The longest content of such a file.
pub(super) const MAX_NO_INDEX_BYTES: usize = 64;

/// Returns the content of the file for a layer that gets no index while layers may have `max_bytes`
/// bytes.
pub(super) fn write_no_index(max_bytes: u64) -> Vec<u8> {
    format!("{NO_INDEX}{max_bytes}\n").into_bytes()
}

/// Returns the limit of the size with which a layer got no index, 0 if it is unknown; `None` if the
/// content of the file is not that of a layer without an index.
pub(super) fn parse_no_index(bytes: &[u8]) -> Option<u64> {
    let limit = std::str::from_utf8(bytes).ok()?.strip_prefix(NO_INDEX)?;
    Some(limit.trim_end().parse().unwrap_or(0))
}

/// Builds the content of an index file while a layer is decoded.
pub(super) struct IndexFileBuilder {
    state: BuilderState,
    /// How many bytes the layer may have.
    max_bytes: u64,
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
            max_bytes,
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
        Some(built.unwrap_or_else(|_| write_no_index(self.max_bytes)))
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
        let limit = |max_bytes| parse_no_index(&build(max_bytes).unwrap());
        assert_eq!(limit(1023), Some(1023));
        assert_eq!(limit(1024), None);
        assert!(write_no_index(u64::MAX).len() <= MAX_NO_INDEX_BYTES);
        assert_eq!(parse_no_index(b"imgsync-no-index-1\n"), Some(0));
    }
}
