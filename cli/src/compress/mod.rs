//! From the tar of a layer to the blob that a registry stores, in one pass and in bounded memory.
//!
//! [`gzip`] packs a raw layer; [`verify`] reads one that others have packed. Both yield what the
//! two digests of a layer are: the diffID, of the tar, and the blob's digest, of the packed bytes.

mod decompress;
mod gzip;
mod layer_digests;
#[cfg(test)]
pub(crate) mod testing;

use std::io;

use imgsync_oci::{Algorithm, Hasher};

pub(crate) use decompress::decompress;
pub use gzip::gzip;
pub use imgsync_oci::layer::LayerDigests;
pub use layer_digests::compute_layer_digests;

/// The name of what [`gzip`] writes: gzip members of exactly 1 MiB of tar each (the last one
/// shorter; one empty member for no bytes at all), libdeflate level 6, header time 0, OS 255, no
/// name. A change of these bytes is a change of this name.
pub const FORMAT: &str = "imgsync-gzip-1";

/// The largest zstd window that is accepted, as a power of two: 64 MiB, which the decoder holds in
/// memory. The tools that compress layers use 8 MiB at most, which every decoder must support (RFC
/// 8878, section 3.1.1.1.2). The server computes diffIDs with no more than 8 MiB: for a layer with
/// a larger window it has no answer to `layers/resolve`.
const MAX_ZSTD_WINDOW_LOG: u32 = 26;

/// Why a layer could not be packed or verified.
#[derive(Debug, thiserror::Error)]
pub enum CompressError {
    /// The layer's bytes could not be read. Whether another try helps depends on the source.
    #[error("cannot read the layer: {0}")]
    Read(#[source] io::Error),
    /// The packed bytes could not be put down; a full disk, as a rule.
    #[error("cannot write the compressed layer: {0}")]
    Write(#[source] io::Error),
    /// The layer's bytes are not what their type says: cut short, damaged, or followed by others.
    /// Another try reads the same.
    #[error("the layer is not a whole {kind} stream: {source}")]
    Damaged {
        /// `gzip` or `zstd`.
        kind: &'static str,
        /// What the decoder said.
        source: io::Error,
    },
    /// This machine has no room for another thread, or the compressor broke its promise.
    #[error("cannot compress: {0}")]
    Compressor(#[source] io::Error),
}

/// What both passes count and hash on each side of the compression.
struct CountingHasher {
    hasher: Hasher,
    size: u64,
}

impl CountingHasher {
    fn new() -> Self {
        Self {
            hasher: Hasher::new(Algorithm::Sha256),
            size: 0,
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
    }
}
