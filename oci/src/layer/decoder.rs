//! The decoders of the libraries behind one type.

use std::io::{self, BufReader, Read};

use flate2::bufread::MultiGzDecoder;

use crate::media::Compression;

/// The number of bytes that are read from the source at a time.
const READ_BUFFER_BYTES: usize = 256 * 1024;

/// Reads the decoded bytes of a layer: all gzip members, all zstd frames.
///
/// Holds no more than buffers and the zstd window in memory. Errors of the source are passed on as
/// they are; a stream that is cut short yields [`io::ErrorKind::UnexpectedEof`]; damage, further
/// bytes after the end and a larger window yield other errors.
pub struct Decoder<R: Read> {
    format: Format<R>,
}

enum Format<R: Read> {
    None(BufReader<R>),
    Gzip(Box<MultiGzDecoder<BufReader<R>>>),
    Zstd(zstd::stream::read::Decoder<'static, BufReader<R>>),
}

impl<R: Read> Decoder<R> {
    /// Returns a decoder of `reader`, whose zstd window is at most 2^`max_window_log` bytes.
    ///
    /// # Errors
    /// Fails if the zstd library cannot allocate a decoder, or does not support such a window.
    pub fn new(reader: R, compression: Compression, max_window_log: u32) -> io::Result<Self> {
        Self::buffered(buffer(reader), compression, max_window_log)
    }

    pub(super) fn buffered(
        reader: BufReader<R>,
        compression: Compression,
        max_window_log: u32,
    ) -> io::Result<Self> {
        let format = match compression {
            Compression::None => Format::None(reader),
            Compression::Gzip => Format::Gzip(Box::new(MultiGzDecoder::new(reader))),
            Compression::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(reader)?;
                decoder.window_log_max(max_window_log)?;
                Format::Zstd(decoder)
            }
        };
        Ok(Self { format })
    }

    pub(super) fn source(&self) -> &BufReader<R> {
        match &self.format {
            Format::None(source) => source,
            Format::Gzip(decoder) => decoder.get_ref(),
            Format::Zstd(decoder) => decoder.get_ref(),
        }
    }

    pub(super) fn source_mut(&mut self) -> &mut BufReader<R> {
        match &mut self.format {
            Format::None(source) => source,
            Format::Gzip(decoder) => decoder.get_mut(),
            Format::Zstd(decoder) => decoder.get_mut(),
        }
    }

    pub(super) fn into_source(self) -> BufReader<R> {
        match self.format {
            Format::None(source) => source,
            Format::Gzip(decoder) => decoder.into_inner(),
            Format::Zstd(decoder) => decoder.into_inner(),
        }
    }
}

/// Returns a buffer of the size that the decoders work well with.
pub(super) fn buffer<R: Read>(reader: R) -> BufReader<R> {
    BufReader::with_capacity(READ_BUFFER_BYTES, reader)
}

impl<R: Read> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.format {
            Format::None(source) => source.read(buffer),
            Format::Gzip(decoder) => decoder.read(buffer),
            Format::Zstd(decoder) => decoder.read(buffer),
        }
    }
}

impl<R: Read> std::fmt::Debug for Decoder<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decoder").finish_non_exhaustive()
    }
}
