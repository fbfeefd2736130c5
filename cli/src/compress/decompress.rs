//! What is in a packed stream, for whoever reads one.

use std::io::{self, BufReader, Read};

use flate2::bufread::MultiGzDecoder;
use imgsync_oci::media::Compression;

const GZIP_BUFFER_BYTES: usize = 128 * 1024;
/// The largest zstd window taken, as a power of two: 64 MiB. The decoder holds the window in
/// memory; the tools that pack layers use 8 MiB at most, and 8 MiB is what a decoder must take
/// (RFC 8878, section 3.1.1.1.2).
const MAX_ZSTD_WINDOW_LOG: u32 = 26;

/// What `reader` holds in packed form: all gzip members, all zstd frames. No more of it than
/// buffers and a window of at most 64 MiB is in memory.
///
/// # Errors
/// The decoder cannot be made. Later, from the reader that this yields: those of `reader` as they
/// are; [`io::ErrorKind::UnexpectedEof`] where the stream is cut short; others where it is
/// damaged, goes on with something else after its end, or wants a larger window.
pub(crate) fn decompress<'a>(
    reader: impl Read + 'a,
    compression: Compression,
) -> io::Result<Box<dyn Read + 'a>> {
    Ok(match compression {
        Compression::None => Box::new(reader),
        Compression::Gzip => {
            let buffered = BufReader::with_capacity(GZIP_BUFFER_BYTES, reader);
            Box::new(MultiGzDecoder::new(buffered))
        }
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::new(reader)?;
            decoder.window_log_max(MAX_ZSTD_WINDOW_LOG)?;
            Box::new(decoder)
        }
    })
}
