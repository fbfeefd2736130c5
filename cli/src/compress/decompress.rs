//! Decodes a compressed stream where no digest is needed.

use std::io::{self, Read};

use imgsync_oci::layer::Decoder;
use imgsync_oci::media::Compression;

use super::MAX_ZSTD_WINDOW_LOG;

/// Returns the decoded bytes of `reader`: all gzip members, all zstd frames. Holds no more than
/// buffers and a zstd window of at most 64 MiB in memory.
///
/// # Errors
/// The decoder cannot be made. Later, the returned reader passes on the errors of `reader` as they
/// are; it yields [`io::ErrorKind::UnexpectedEof`] where the stream is cut short, and other errors
/// where the stream is damaged, has further bytes after its end, or needs a larger window.
pub(crate) fn decompress<'a>(
    reader: impl Read + 'a,
    compression: Compression,
) -> io::Result<Box<dyn Read + 'a>> {
    // An uncompressed stream is not buffered, so that no more is read than the caller takes.
    if compression == Compression::None {
        return Ok(Box::new(reader));
    }
    let decoder = Decoder::new(reader, compression, MAX_ZSTD_WINDOW_LOG)?;
    Ok(Box::new(decoder))
}
