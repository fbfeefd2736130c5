//! Archives that are compressed as a whole, as by `docker save app | gzip`. They are read as a
//! stream, because seeking is impossible.

use std::fs::File;
use std::io::{self, Cursor, Read};

use imgsync_oci::media::Compression;

use crate::compress::{self, fill};
use crate::disk;

/// The bytes that identify the compression.
const MAGIC_BYTES: usize = 4;

/// Returns whether a file has a supported compression. Its position stays as it was.
///
/// # Errors
/// Returns the error of reading.
pub(crate) fn is_compressed(file: &File) -> io::Result<bool> {
    let mut start = [0; MAGIC_BYTES];
    let len = disk::read_at(file, &mut start, 0)?;
    Ok(compression(&start[..len]) != Compression::None)
}

/// Returns the compression of a stream by its first bytes. A zstd stream may begin with a skippable
/// frame (RFC 8878, section 3.1.2), as pzstd writes it; no name of a tar entry looks like that.
fn compression(start: &[u8]) -> Compression {
    match start {
        [0x50..=0x5f, 0x2a, 0x4d, 0x18] => Compression::Zstd,
        start => Compression::of_bytes(start),
    }
}

/// The tar in a stream that may be compressed.
pub(crate) struct DecompressedStream<'a> {
    tar: Box<dyn Read + 'a>,
    compression: Compression,
}

impl<'a> DecompressedStream<'a> {
    /// Reads the first bytes of `input` to detect the compression.
    ///
    /// # Errors
    /// Returns the error of the input. Reading later also fails with
    /// [`io::ErrorKind::UnexpectedEof`] if the compressed stream is truncated, and with
    /// [`io::ErrorKind::InvalidData`] if it is damaged, needs too much memory, or is followed by
    /// other data.
    pub(in crate::transports) fn open(mut input: impl Read + 'a) -> io::Result<Self> {
        let mut start = vec![0; MAGIC_BYTES];
        let len = fill(&mut input, &mut start)?;
        start.truncate(len);
        let kind = compression(&start);
        let input = Cursor::new(start).chain(input);
        let tar = compress::decompress(InputErrorMarker(input), kind)?;
        Ok(Self {
            tar,
            compression: kind,
        })
    }
}

impl Read for DecompressedStream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.tar.read(buffer).map_err(|error| {
            let error = match error.downcast::<InputError>() {
                Ok(InputError(input)) => return input,
                Err(decoder) => decoder,
            };
            let (name, limit) = match self.compression {
                Compression::None => return error,
                Compression::Gzip => ("gzip", ""),
                Compression::Zstd => ("zstd", " (with a window of at most 64 MiB)"),
            };
            match error.kind() {
                io::ErrorKind::Interrupted | io::ErrorKind::UnexpectedEof => error,
                _ => {
                    let what = format!("it is not a complete {name} file{limit}: {error}");
                    io::Error::new(io::ErrorKind::InvalidData, what)
                }
            }
        })
    }
}

/// Marks the errors of the input, to tell them from the decoder's.
struct InputErrorMarker<R>(R);

#[derive(Debug, thiserror::Error)]
#[error(transparent)]
struct InputError(io::Error);

impl<R: Read> Read for InputErrorMarker<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer).map_err(|error| match error.kind() {
            io::ErrorKind::Interrupted => error,
            kind => io::Error::new(kind, InputError(error)),
        })
    }
}
