//! Decodes a compressed stream when no digest is needed.
//!
//! This module does not verify digests; see
//! [`compute_layer_digests`](super::compute_layer_digests). Start reading at [`decompress`].

use std::io::{self, Read};

use imgsync_oci::layer::Decoder;
use imgsync_oci::media::Compression;

use super::MAX_ZSTD_WINDOW_LOG;

/// Returns a reader of the decoded bytes of `reader`: all gzip members or zstd frames. The memory
/// is limited to buffers and a zstd window of at most 64 MiB.
///
/// # Errors
/// Fails if the decoder cannot be created. The returned reader passes on the errors of `reader`. It
/// fails with [`io::ErrorKind::UnexpectedEof`] if the stream is truncated, and with other errors if
/// the stream is damaged, is followed by other bytes, or needs a larger window.
pub(crate) fn decompress<'a>(
    reader: impl Read + 'a,
    compression: Compression,
) -> io::Result<Box<dyn Read + 'a>> {
    // An uncompressed stream is not buffered, so that no more is read than the caller takes.
    if compression == Compression::None {
        return Ok(Box::new(reader));
    }
    Ok(Box::new(decoder(reader, compression)?))
}

/// Returns a decoder of a compressed stream, which other threads can use if they can use `reader`.
///
/// # Errors
/// Fails as [`decompress`] does.
pub(crate) fn decoder<R: Read>(reader: R, compression: Compression) -> io::Result<Decoder<R>> {
    Decoder::new(reader, compression, MAX_ZSTD_WINDOW_LOG)
}
