//! Deltas between uncompressed layers (tar archives): what a client sends of a layer that was built
//! again, and how a registry builds the layer from it.
//!
//! A layer is cut into pieces ([`index`]): the headers of the tar, and the bodies of its files. A
//! delta lists which pieces of older layers, its bases, make up the new one, and has the bytes of the
//! others. [`encode()`] makes a delta, [`DeltaReader`] reads the new layer. Both see the bases as
//! [`DecodedBase`] or [`LayerIndex`]. This module does not send, store or decompress layers.
//!
//! `pieces` cuts a layer, `format` has the parts that indexes and deltas consist of, `patch` compresses
//! changed pieces against older ones; `index`, `encode` and `decode` are what callers use.
//!
//! Wrong bases, a damaged delta, and equal hashes of different pieces all lead to a layer with a
//! wrong diffID, which the caller must check. The format is specified in `docs/extension.md`.

mod decode;
mod encode;
mod error;
mod files;
mod format;
pub mod index;
mod patch;
mod pieces;
#[cfg(test)]
mod tests;

pub use decode::{DecodedBase, DeltaReader};
pub use encode::{DeltaSummary, EncodeBase, EncodeError, encode};
pub use error::DeltaError;
pub use files::{FileKind, IndexedFile};
pub use index::{IndexBuilder, LayerIndex, check_bases};

/// The name of the format of deltas.
pub const FORMAT_NAME: &str = "delta-1";
/// The most bases of a delta.
pub const MAX_BASES: usize = 3;
/// The most bytes of lifted headers, of the bases together or of a new layer: they are held in
/// memory. A layer with more files has no index and gets no delta.
pub const MAX_HEADER_BYTES: u64 = 32 * 1024 * 1024;
/// The most bytes of old layers that one patch frame may refer to: they are held in memory.
pub const MAX_PATCH_PREFIX_BYTES: u64 = 24 * 1024 * 1024;
/// The most bytes of a layer in one patch frame.
pub const MAX_PATCH_CONTENT_BYTES: u64 = 8 * 1024 * 1024;
/// The size in bytes of the largest index.
pub const MAX_INDEX_BYTES: usize = 64 * 1024 * 1024;
