//! Computes the diffID of a blob as one stream: memory does not grow with the size of the blob.
//!
//! A blob counts as a layer only if all of these hold: it decodes to its last byte, with nothing
//! after the last gzip member or zstd frame; the decoded bytes begin as a tar does; and the blob
//! matches its digest. A blob that decodes to too many bytes, or takes too long, is not a layer.
//! The index for delta uploads is built from the same decoded bytes. Nothing is stored here; [`super::worker`] stores the result. Start reading at
//! [`compute_diff_id`].

use std::io::{self, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use imgsync_oci::Digest;
use imgsync_oci::layer::{DecodeLimits, HashingReader, LayerError, LayerReader};

use super::index_file::{IndexFileBuilder, write_no_index};
use super::record::ComputedLayer;

/// Number of bytes that are decoded at a time.
const DECODE_BUFFER_BYTES: usize = 64 * 1024;
/// The largest zstd window, as a power of two: 8 MiB, which every decoder supports (RFC 8878,
/// section 3.1.1.1.2), and which is the memory that decoding takes.
const MAX_ZSTD_WINDOW_LOG: u32 = 23;
/// The size of a block of a tar.
const TAR_BLOCK_BYTES: usize = 512;

/// Limits of one computation.
#[derive(Debug, Clone, Copy)]
pub(super) struct DiffIdLimits {
    /// The limits on the decoded bytes.
    pub(super) decode: DecodeLimits,
    /// The longest time that the computation may take.
    pub(super) max_time: Duration,
    /// The size in bytes of the largest tar that gets an index; 0 for none.
    pub(super) max_indexed_bytes: u64,
}

impl Default for DiffIdLimits {
    fn default() -> Self {
        Self {
            decode: DecodeLimits {
                max_window_log: MAX_ZSTD_WINDOW_LOG,
                max_decoded_bytes: 64 << 30,
                min_bytes_for_ratio: 64 << 20,
                max_ratio: 1000,
            },
            max_time: Duration::from_secs(2 * 60 * 60),
            max_indexed_bytes: 0,
        }
    }
}

/// The outcome of one computation.
#[derive(Debug)]
pub(super) enum DiffIdOutcome {
    /// The blob is a layer, with the content of its index file, unless no index was wanted.
    Layer(ComputedLayer, Option<Vec<u8>>),
    /// The blob is no layer, or none whose diffID can be computed, for this reason.
    NotALayer(String),
    /// The bytes do not match the digest of the blob.
    Damaged,
    /// The disk failed to read.
    Unreadable(io::Error),
    /// The caller stopped the computation.
    Stopped,
}

/// Calls [`compute_diff_id`] and catches panics. A blob at which a decoder panics is not a layer; one
/// at which building the index panics has no index.
pub(super) fn compute_catching_panics(
    blob: &Digest,
    mut read: impl FnMut(u64, usize) -> io::Result<Vec<u8>>,
    limits: DiffIdLimits,
    should_continue: &dyn Fn() -> bool,
) -> DiffIdOutcome {
    let mut compute = |limits| {
        let computed =
            AssertUnwindSafe(|| compute_diff_id(blob, &mut read, limits, should_continue));
        catch_unwind(computed).ok()
    };
    if let Some(outcome) = compute(limits) {
        return outcome;
    }
    tracing::error!(%blob, "a decoder panicked");
    let without_index = DiffIdLimits {
        max_indexed_bytes: 0,
        ..limits
    };
    let again = (limits.max_indexed_bytes > 0).then(|| compute(without_index));
    match again.flatten() {
        Some(DiffIdOutcome::Layer(layer, _)) => {
            // A larger limit would not help.
            DiffIdOutcome::Layer(layer, Some(write_no_index(u64::MAX)))
        }
        Some(outcome) => outcome,
        None => DiffIdOutcome::NotALayer("a decoder panicked".to_owned()),
    }
}

/// Computes the diffID of `blob`. `read` returns bytes of the blob by offset and length, fewer only
/// at the end. `should_continue` is called before each part of the blob and of the decoded bytes;
/// the computation stops when it returns false.
fn compute_diff_id(
    blob: &Digest,
    read: impl FnMut(u64, usize) -> io::Result<Vec<u8>>,
    limits: DiffIdLimits,
    should_continue: &dyn Fn() -> bool,
) -> DiffIdOutcome {
    let interruption = Interruption {
        started_at: Instant::now(),
        max_time: limits.max_time,
        should_continue,
    };
    let source = BlobReader {
        fetch: read,
        offset: 0,
        interruption: &interruption,
    };
    let mut index = IndexFileBuilder::new(limits.max_indexed_bytes);
    let computed = LayerReader::detect(source, blob.algorithm(), limits.decode)
        .map_err(|error| interruption.failure(error))
        .and_then(
            |mut layer| match decode(&mut layer, &mut index, &interruption) {
                Ok(()) => Ok(verify_digest(blob, layer, index)),
                Err(DecodeFailure::Undecodable(reason)) => {
                    verify_undecodable(blob, layer.into_compressed(), reason)
                        .map_err(|error| interruption.failure(LayerError::Read(error)))
                }
                Err(failure) => Err(failure),
            },
        );
    computed.unwrap_or_else(|failure| match failure {
        DecodeFailure::Rejected(reason) | DecodeFailure::Undecodable(reason) => {
            DiffIdOutcome::NotALayer(reason)
        }
        DecodeFailure::Unreadable(error) => DiffIdOutcome::Unreadable(error),
        DecodeFailure::Stopped => DiffIdOutcome::Stopped,
    })
}

/// Decides when a computation is interrupted: when the worker stops, or when it takes too long.
///
/// Asked also for each part that is read from the blob, because many empty gzip members or zstd
/// frames decode to nothing.
struct Interruption<'a> {
    started_at: Instant,
    max_time: Duration,
    should_continue: &'a dyn Fn() -> bool,
}

impl Interruption<'_> {
    fn check(&self) -> Result<(), DecodeFailure> {
        if !(self.should_continue)() {
            return Err(DecodeFailure::Stopped);
        }
        if self.started_at.elapsed() > self.max_time {
            let reason = "decoding takes too long".to_owned();
            return Err(DecodeFailure::Rejected(reason));
        }
        Ok(())
    }

    /// Tells an interruption, which the decoder passes on as an error of the source, from other
    /// errors.
    fn failure(&self, error: LayerError) -> DecodeFailure {
        match error {
            LayerError::Read(error) => match self.check() {
                Ok(()) => DecodeFailure::Unreadable(error),
                Err(interrupted) => interrupted,
            },
            LayerError::Corrupt(error) => DecodeFailure::Undecodable(error.to_string()),
            LayerError::TooLarge { decoded } => {
                let reason = format!("the decoded size is {decoded} bytes or more");
                DecodeFailure::Rejected(reason)
            }
        }
    }
}

/// The reason why decoding ended early.
enum DecodeFailure {
    /// The content is not that of a layer, whether the blob is damaged or not.
    Rejected(String),
    /// The bytes do not decode to a tar, perhaps because they are damaged.
    Undecodable(String),
    Unreadable(io::Error),
    Stopped,
}

/// Decodes a layer to its end, indexes it, and checks that it begins as a tar does.
fn decode<R: Read>(
    layer: &mut LayerReader<R>,
    index: &mut IndexFileBuilder,
    interruption: &Interruption<'_>,
) -> Result<(), DecodeFailure> {
    let failure = |error| interruption.failure(error);
    let (mut part, mut start) = (vec![0; DECODE_BUFFER_BYTES], Vec::new());
    loop {
        interruption.check()?;
        let count = layer.read(&mut part).map_err(failure)?;
        if count == 0 {
            break;
        }
        index.update(&part[..count]);
        if start.len() < TAR_BLOCK_BYTES {
            let missing = (TAR_BLOCK_BYTES - start.len()).min(count);
            start.extend_from_slice(&part[..missing]);
            if start.len() == TAR_BLOCK_BYTES && !is_tar_start(&start) {
                return Err(DecodeFailure::Rejected("not a tar".to_owned()));
            }
        }
    }
    if start.len() < TAR_BLOCK_BYTES {
        let reason = "too short for a tar".to_owned();
        return Err(DecodeFailure::Undecodable(reason));
    }
    layer.check_end().map_err(failure)
}

/// Checks that the decoded bytes are those of the blob, and returns the layer.
fn verify_digest<R: Read>(
    blob: &Digest,
    layer: LayerReader<R>,
    index: IndexFileBuilder,
) -> DiffIdOutcome {
    let compression = layer.compression();
    let digests = layer.finish();
    if digests.digest != *blob {
        return DiffIdOutcome::Damaged;
    }
    let layer = ComputedLayer {
        diff_id: digests.diff_id,
        compression,
        size: digests.size,
        raw_size: Some(digests.raw_size),
    };
    DiffIdOutcome::Layer(layer, index.finish())
}

/// Reads the rest of a blob that does not decode, to tell a damaged blob from one that is not a
/// layer.
///
/// # Errors
/// Fails where reading fails.
fn verify_undecodable<R: Read>(
    blob: &Digest,
    mut source: HashingReader<R>,
    reason: String,
) -> io::Result<DiffIdOutcome> {
    let mut part = vec![0; DECODE_BUFFER_BYTES];
    while source.read(&mut part)? > 0 {}
    Ok(if source.finish() == *blob {
        DiffIdOutcome::NotALayer(reason)
    } else {
        DiffIdOutcome::Damaged
    })
}

/// Reports whether a block is a tar header, by its checksum, or the zero block of an empty tar
/// (POSIX, pax, "ustar Interchange Format").
fn is_tar_start(block: &[u8]) -> bool {
    const CHECKSUM_FIELD: std::ops::Range<usize> = 148..156;
    if block.iter().all(|byte| *byte == 0) {
        return true;
    }
    let field = block[CHECKSUM_FIELD].trim_ascii_start();
    let digits = field.iter().take_while(|byte| (b'0'..=b'7').contains(byte));
    let stated = digits.fold(0_i64, |sum, digit| sum * 8 + i64::from(digit - b'0'));
    let counted = |at: usize, byte: u8| {
        if CHECKSUM_FIELD.contains(&at) {
            b' '
        } else {
            byte
        }
    };
    let bytes = || {
        block
            .iter()
            .enumerate()
            .map(|(at, byte)| counted(at, *byte))
    };
    // Some old programs sum the bytes as signed.
    let unsigned: i64 = bytes().map(i64::from).sum();
    let signed: i64 = bytes().map(|byte| i64::from(byte.cast_signed())).sum();
    stated == unsigned || stated == signed
}

/// The bytes of a blob as one stream, which fails when the computation is interrupted.
struct BlobReader<'a, F> {
    fetch: F,
    offset: u64,
    interruption: &'a Interruption<'a>,
}

impl<F: FnMut(u64, usize) -> io::Result<Vec<u8>>> Read for BlobReader<'_, F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.interruption.check().is_err() {
            return Err(io::Error::other("interrupted"));
        }
        let bytes = (self.fetch)(self.offset, buffer.len())?;
        buffer[..bytes.len()].copy_from_slice(&bytes);
        self.offset += bytes.len() as u64;
        Ok(bytes.len())
    }
}

#[cfg(test)]
mod tests;
