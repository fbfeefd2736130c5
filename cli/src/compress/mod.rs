//! Compresses and verifies layers in one pass and in bounded memory.
//!
//! [`gzip()`] compresses a raw layer; [`compute_layer_digests`] reads one that another tool has
//! compressed. Both return the two digests of a layer: the diffID of the uncompressed tar, and the
//! digest of the blob. This module does not store the blobs. Start reading at [`gzip()`].

mod decompress;
mod layer_digests;
#[cfg(test)]
#[path = "../../../tests/support/sample_bytes.rs"]
pub(crate) mod testing;

use std::io;

use imgsync_oci::layer::GzipError;

pub(crate) use decompress::{decoder, decompress};
pub(crate) use imgsync_oci::layer::fill;
pub use imgsync_oci::layer::{LayerDigests, gzip};
pub use layer_digests::{compute_layer_digests, compute_layer_digests_with};
pub(crate) use layer_digests::{is_detected, verify_layer};

/// The name of the format that [`gzip()`] writes.
pub const FORMAT_NAME: &str = imgsync_oci::layer::GZIP_FORMAT_NAME;

/// The largest zstd window that is accepted, as a power of two: 64 MiB, which the decoder holds in
/// memory. The tools that compress layers use 8 MiB at most, which every decoder must support (RFC
/// 8878, section 3.1.1.1.2). The server computes diffIDs with no more than 8 MiB: for a layer with
/// a larger window it has no answer to `layers/resolve`.
const MAX_ZSTD_WINDOW_LOG: u32 = 26;

/// Why a layer could not be compressed or verified.
#[derive(Debug, thiserror::Error)]
pub enum CompressError {
    /// The bytes of the layer could not be read. Whether a retry helps depends on the source.
    #[error("cannot read the layer: {0}")]
    Read(#[source] io::Error),
    /// The compressed bytes could not be written, usually because the disk is full.
    #[error("cannot write the compressed layer: {0}")]
    Write(#[source] io::Error),
    /// The bytes of the layer are not what their media type says: truncated, damaged, or followed
    /// by other bytes. A retry reads the same bytes.
    #[error("the layer is not a complete {kind} stream: {source}")]
    Damaged {
        /// The format: `tar`, `gzip` or `zstd`.
        kind: &'static str,
        /// The error of the decoder.
        source: io::Error,
    },
    /// No thread could be started, or the compressor failed.
    #[error("cannot compress: {0}")]
    Compressor(#[source] io::Error),
}

impl From<GzipError> for CompressError {
    fn from(error: GzipError) -> Self {
        match error {
            GzipError::Read(error) => Self::Read(error),
            GzipError::Write(error) => Self::Write(error),
            GzipError::Compressor(error) => Self::Compressor(error),
        }
    }
}
