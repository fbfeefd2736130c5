//! Decodes layers: from the bytes of a blob, gzip, zstd or uncompressed, to its tar, with both
//! digests in one pass and in bounded memory; and compresses a tar. Knows nothing about where the
//! bytes come from and does not look into the tar. Start at [`LayerReader`]; [`Decoder`] is for
//! callers that need no digests, and [`gzip()`] compresses.
//!
//! Every gzip member and every zstd frame is decoded. Both programs use this module, so it is not
//! behind a Cargo feature.

mod decoder;
mod fill;
mod gzip;
mod hashing;
mod reader;
#[cfg(test)]
#[path = "../../../tests/support/sample_bytes.rs"]
mod sample_bytes;
#[cfg(test)]
mod tests;

use crate::Digest;

pub use decoder::Decoder;
pub use fill::fill;
pub use gzip::{GzipError, gzip, has_own_first_member};
pub use hashing::HashingReader;
pub use reader::{LayerError, LayerReader, compute_digests, compute_digests_with};

/// The name of the format that [`gzip()`] writes: gzip members of exactly 1 MiB of tar
/// each (the last one is shorter, and an empty tar has one empty member), libdeflate level 6, header
/// time 0, OS 255, no file name. Any change of these bytes needs a new name.
pub const GZIP_FORMAT_NAME: &str = "imgsync-gzip-1";

/// The bounds within which a layer is decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodeLimits {
    /// The largest zstd window, as a power of two. The decoder holds the window in memory. Every
    /// decoder must support 2^23 bytes (RFC 8878, section 3.1.1.1.2).
    pub max_window_log: u32,
    /// The most decoded bytes.
    pub max_decoded_bytes: u64,
    /// The number of decoded bytes from which on `max_ratio` applies: small layers, such as an
    /// empty tar, may compress better.
    pub min_bytes_for_ratio: u64,
    /// The most decoded bytes for each byte of the blob that was read. The best that gzip can do
    /// is 1032.
    pub max_ratio: u64,
}

impl DecodeLimits {
    /// Returns limits that bound the zstd window alone.
    pub const fn with_window(max_window_log: u32) -> Self {
        Self {
            max_window_log,
            max_decoded_bytes: u64::MAX,
            min_bytes_for_ratio: u64::MAX,
            max_ratio: u64::MAX,
        }
    }
}

/// The two digests of a layer, each with the size of the content that it is computed from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerDigests {
    /// The digest of the tar.
    pub diff_id: Digest,
    /// The digest of the blob.
    pub digest: Digest,
    /// The size of the tar in bytes.
    pub raw_size: u64,
    /// The size of the blob in bytes.
    pub size: u64,
}
