//! One pass over a layer, with both digests.

use std::io::{self, BufRead, Read};

use super::decoder::{Decoder, buffer};
use super::{DecodeLimits, HashingReader, LayerDigests};
use crate::media::Compression;
use crate::{Algorithm, Hasher};

/// The number of bytes that are decoded at a time.
const DECODE_BUFFER_BYTES: usize = 128 * 1024;

/// The reason why a layer could not be decoded.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// The source of the bytes failed. Whether a retry helps depends on the source.
    #[error("cannot read the layer: {0}")]
    Read(#[source] io::Error),
    /// The bytes are not a complete stream of their format. Reading the bytes again does not help.
    #[error("{0}")]
    Corrupt(#[source] io::Error),
    /// The layer exceeds its limits.
    #[error("the layer decodes to more than {decoded} bytes")]
    TooLarge {
        /// The number of bytes that were decoded so far.
        decoded: u64,
    },
}

/// Reads the tar of a layer, and computes both digests on the way.
///
/// Read until [`LayerReader::read`] returns 0, call [`LayerReader::check_end`], then
/// [`LayerReader::finish`]; [`compute_digests`] does all of it.
#[derive(Debug)]
pub struct LayerReader<R: Read> {
    decoder: Decoder<HashingReader<R>>,
    compression: Compression,
    limits: DecodeLimits,
    diff_id: Hasher,
    decoded: u64,
}

impl<R: Read> LayerReader<R> {
    /// Returns a reader of a layer in this compression. The blob's digest is computed with
    /// `algorithm`, the diffID always with SHA-256.
    ///
    /// # Errors
    /// Fails with [`LayerError::Corrupt`] if no decoder can be made.
    pub fn new(
        reader: R,
        compression: Compression,
        algorithm: Algorithm,
        limits: DecodeLimits,
    ) -> Result<Self, LayerError> {
        let source = buffer(HashingReader::new(reader, algorithm));
        Self::buffered(source, compression, limits)
    }

    /// Returns a reader of a layer, whose compression is detected from its first bytes.
    ///
    /// # Errors
    /// As [`LayerReader::new`]; also [`LayerError::Read`].
    pub fn detect(
        reader: R,
        algorithm: Algorithm,
        limits: DecodeLimits,
    ) -> Result<Self, LayerError> {
        let mut source = buffer(HashingReader::new(reader, algorithm));
        let start = match source.fill_buf() {
            Ok(start) => Compression::of_bytes(start),
            Err(error) => {
                let original = source.get_mut().take_error();
                return Err(LayerError::Read(original.unwrap_or(error)));
            }
        };
        Self::buffered(source, start, limits)
    }

    fn buffered(
        source: io::BufReader<HashingReader<R>>,
        compression: Compression,
        limits: DecodeLimits,
    ) -> Result<Self, LayerError> {
        let decoder = Decoder::buffered(source, compression, limits.max_window_log);
        Ok(Self {
            decoder: decoder.map_err(LayerError::Corrupt)?,
            compression,
            limits,
            diff_id: Hasher::new(Algorithm::Sha256),
            decoded: 0,
        })
    }

    /// Returns the compression of the layer.
    pub fn compression(&self) -> Compression {
        self.compression
    }

    /// Reads decoded bytes into `buffer` and returns their number; 0 at the end.
    ///
    /// # Errors
    /// Fails where the source fails, where the bytes are damaged or cut short, and where the layer
    /// exceeds its limits.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize, LayerError> {
        let count = loop {
            match self.decoder.read(buffer) {
                Ok(count) => break count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.error(error)),
            }
        };
        self.diff_id.update(&buffer[..count]);
        self.decoded += count as u64;
        self.check_limits()?;
        Ok(count)
    }

    fn check_limits(&self) -> Result<(), LayerError> {
        let (limits, decoded) = (self.limits, self.decoded);
        let read = self.decoder.source().get_ref().len();
        let is_over_ratio =
            decoded > limits.min_bytes_for_ratio && decoded > read.saturating_mul(limits.max_ratio);
        if decoded > limits.max_decoded_bytes || is_over_ratio {
            return Err(LayerError::TooLarge { decoded });
        }
        Ok(())
    }

    /// Checks, after the last decoded byte, that the blob ends here as well.
    ///
    /// # Errors
    /// Fails with [`LayerError::Corrupt`] where bytes follow the compressed data, or where a
    /// compressed layer has no bytes at all; with [`LayerError::Read`] where the source fails.
    pub fn check_end(&mut self) -> Result<(), LayerError> {
        let is_at_end = match self.decoder.source_mut().fill_buf() {
            Ok(rest) => rest.is_empty(),
            Err(error) => return Err(self.error(error)),
        };
        if !is_at_end {
            let what = "something follows the compressed data";
            return Err(LayerError::Corrupt(io::Error::other(what)));
        }
        let is_empty = self.decoder.source().get_ref().len() == 0;
        if is_empty && self.compression != Compression::None {
            let error = io::ErrorKind::UnexpectedEof.into();
            return Err(LayerError::Corrupt(error));
        }
        Ok(())
    }

    /// Returns the digests of everything that was read.
    pub fn finish(self) -> LayerDigests {
        let (diff_id, raw_size) = (self.diff_id.clone(), self.decoded);
        let source = self.into_compressed();
        LayerDigests {
            diff_id: diff_id.finish(),
            raw_size,
            size: source.len(),
            digest: source.finish(),
        }
    }

    /// Returns the source, to compute the digest of a blob that does not decode: read the source
    /// to its end and call [`HashingReader::finish`].
    pub fn into_compressed(self) -> HashingReader<R> {
        // Whatever is left in the buffer was hashed when the buffer was filled.
        self.decoder.into_source().into_inner()
    }

    /// Tells an error of the source from one of the decoder.
    fn error(&mut self, error: io::Error) -> LayerError {
        match self.decoder.source_mut().get_mut().take_error() {
            Some(error) => LayerError::Read(error),
            None => LayerError::Corrupt(error),
        }
    }
}

/// Reads a layer to its end and returns its digests, the blob's with SHA-256. An uncompressed layer
/// has the same digest twice.
///
/// # Errors
/// Fails where reading fails, where the bytes are not a complete stream of that compression with
/// nothing after it, and where the layer exceeds its limits.
pub fn compute_digests(
    reader: impl Read,
    compression: Compression,
    limits: DecodeLimits,
) -> Result<LayerDigests, LayerError> {
    compute_digests_with(Algorithm::Sha256, reader, compression, limits)
}

/// Reads a layer to its end and returns its digests, the blob's with `algorithm`.
///
/// # Errors
/// As [`compute_digests`].
pub fn compute_digests_with(
    algorithm: Algorithm,
    reader: impl Read,
    compression: Compression,
    limits: DecodeLimits,
) -> Result<LayerDigests, LayerError> {
    let mut layer = LayerReader::new(reader, compression, algorithm, limits)?;
    let mut buffer = vec![0; DECODE_BUFFER_BYTES];
    while layer.read(&mut buffer)? > 0 {}
    layer.check_end()?;
    Ok(layer.finish())
}
