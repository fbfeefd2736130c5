//! From a blob's bytes to its diffID, as one stream: nothing grows with the size of the blob.
//!
//! A blob counts only if it decodes to its last byte, all gzip members and zstd frames, with
//! nothing behind them, into something that begins as a tar does, and if its bytes are what its
//! digest says. What decodes into far too much, or takes far too long, does not count.

use std::io::{self, BufRead, BufReader, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use imgsync_oci::media::Compression;
use imgsync_oci::{Algorithm, Digest, Hasher};

use super::record::ComputedLayer;

/// How much of a blob is read at a time.
const READ_BUFFER_BYTES: usize = 256 * 1024;
/// How much is decoded at a time.
const DECODE_BUFFER_BYTES: usize = 64 * 1024;
/// How far back zstd may refer: 8 MiB, which every decoder supports (RFC 8878, 3.1.1.1.2), and
/// which is the memory that it takes.
const ZSTD_WINDOW_LOG: u32 = 23;
/// A tar's block.
const TAR_BLOCK_BYTES: usize = 512;

/// When a blob is given up.
#[derive(Debug, Clone, Copy)]
pub(super) struct DecodeLimits {
    /// More decoded bytes than that.
    pub(super) max_decoded_bytes: u64,
    /// From so many decoded bytes on…
    pub(super) min_bytes_for_ratio: u64,
    /// …so many of them for each byte of the blob; gzip's best is 1032.
    pub(super) max_ratio: u64,
    /// More time than that.
    pub(super) max_time: Duration,
}

impl Default for DecodeLimits {
    fn default() -> Self {
        Self {
            max_decoded_bytes: 64 << 30,
            min_bytes_for_ratio: 64 << 20,
            max_ratio: 1000,
            max_time: Duration::from_secs(2 * 60 * 60),
        }
    }
}

/// What came of it.
#[derive(Debug)]
pub(super) enum DiffIdOutcome {
    /// A layer.
    Layer(ComputedLayer),
    /// Not a layer, or none that can be computed; why.
    NotALayer(String),
    /// The bytes are not those that the digest names.
    Damaged,
    /// The disk would not read.
    Unreadable(io::Error),
    /// The caller said to stop.
    Stopped,
}

/// As [`compute`]; where that panics, which a decoder may, the blob counts as none that can be
/// computed.
pub(super) fn compute_catching_panics(
    blob: &Digest,
    read: impl FnMut(u64, usize) -> io::Result<Vec<u8>>,
    limits: DecodeLimits,
    goes_on: &dyn Fn() -> bool,
) -> DiffIdOutcome {
    let computed = catch_unwind(AssertUnwindSafe(|| {
        compute_diff_id(blob, read, limits, goes_on)
    }));
    computed.unwrap_or_else(|_| {
        tracing::error!(%blob, "a decoder panicked");
        DiffIdOutcome::NotALayer("a decoder panicked".to_owned())
    })
}

/// Computes the diffID of `blob`, whose bytes `read` yields by offset and length; fewer only at
/// the end. `goes_on` is asked again and again.
fn compute_diff_id(
    blob: &Digest,
    read: impl FnMut(u64, usize) -> io::Result<Vec<u8>>,
    limits: DecodeLimits,
    goes_on: &dyn Fn() -> bool,
) -> DiffIdOutcome {
    let mut source = BufReader::with_capacity(
        READ_BUFFER_BYTES,
        HashingSource::new(blob.algorithm(), read),
    );
    let compression = match source.fill_buf() {
        Ok(start) => Compression::of_bytes(start),
        Err(error) => return DiffIdOutcome::Unreadable(error),
    };
    let (decoded, source) = match compression {
        Compression::None => {
            let decoded = decode(&mut source, |it| it.get_ref().bytes_read, limits, goes_on);
            (decoded, source)
        }
        Compression::Gzip => {
            let mut decoder = flate2::bufread::MultiGzDecoder::new(source);
            let consumed = |it: &flate2::bufread::MultiGzDecoder<_>| consumed_bytes(it.get_ref());
            (
                decode(&mut decoder, consumed, limits, goes_on),
                decoder.into_inner(),
            )
        }
        Compression::Zstd => {
            let mut decoder = match zstd::stream::read::Decoder::with_buffer(source) {
                Ok(decoder) => decoder,
                Err(error) => return DiffIdOutcome::NotALayer(error.to_string()),
            };
            if let Err(error) = decoder.window_log_max(ZSTD_WINDOW_LOG) {
                return DiffIdOutcome::NotALayer(error.to_string());
            }
            let consumed =
                |it: &zstd::stream::read::Decoder<'_, BufReader<_>>| consumed_bytes(it.get_ref());
            (
                decode(&mut decoder, consumed, limits, goes_on),
                decoder.into_inner(),
            )
        }
    };
    verify_decoded(blob, compression, decoded, source, goes_on)
}

/// Looks whether all of the blob was decoded, and whether it is the blob.
fn verify_decoded<F: FnMut(u64, usize) -> io::Result<Vec<u8>>>(
    blob: &Digest,
    compression: Compression,
    decoded: DecodeOutcome,
    mut source: BufReader<HashingSource<F>>,
    goes_on: &dyn Fn() -> bool,
) -> DiffIdOutcome {
    let diff_id = match decoded {
        DecodeOutcome::Complete(diff_id) => diff_id,
        DecodeOutcome::Rejected(why) => return DiffIdOutcome::NotALayer(why),
        DecodeOutcome::TooShort => {
            return verify_undecodable(blob, source, "too short for a tar", goes_on);
        }
        DecodeOutcome::Stopped => return DiffIdOutcome::Stopped,
        DecodeOutcome::Failed(error) => {
            return match source.get_mut().error.take() {
                Some(error) => DiffIdOutcome::Unreadable(error),
                None => verify_undecodable(blob, source, &error.to_string(), goes_on),
            };
        }
    };
    match source.fill_buf() {
        Ok([]) => {}
        Ok(_) => {
            return verify_undecodable(
                blob,
                source,
                "something follows the compressed data",
                goes_on,
            );
        }
        Err(error) => return DiffIdOutcome::Unreadable(error),
    }
    let HashingSource {
        bytes_read: read,
        hasher,
        ..
    } = source.into_inner();
    if hasher.finish() != *blob {
        return DiffIdOutcome::Damaged;
    }
    DiffIdOutcome::Layer(ComputedLayer {
        diff_id,
        compression,
        size: read,
    })
}

/// Reads what is left of a blob that does not decode: is it damaged, or no layer?
fn verify_undecodable<F: FnMut(u64, usize) -> io::Result<Vec<u8>>>(
    blob: &Digest,
    source: BufReader<HashingSource<F>>,
    why: &str,
    goes_on: &dyn Fn() -> bool,
) -> DiffIdOutcome {
    let (mut source, mut part) = (source.into_inner(), vec![0; DECODE_BUFFER_BYTES]);
    loop {
        if !goes_on() {
            return DiffIdOutcome::Stopped;
        }
        match source.read(&mut part) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) => return DiffIdOutcome::Unreadable(error),
        }
    }
    match source.hasher.finish() == *blob {
        true => DiffIdOutcome::NotALayer(why.to_owned()),
        false => DiffIdOutcome::Damaged,
    }
}

/// How decoding ended.
enum DecodeOutcome {
    /// Less than a tar can have.
    TooShort,
    Complete(Digest),
    Rejected(String),
    Failed(io::Error),
    Stopped,
}

/// Decodes to the end; `consumed` says how many bytes of the blob went in so far.
fn decode<D: Read>(
    decoder: &mut D,
    consumed: impl Fn(&D) -> u64,
    limits: DecodeLimits,
    goes_on: &dyn Fn() -> bool,
) -> DecodeOutcome {
    let (began, mut hasher) = (Instant::now(), Hasher::new(Algorithm::Sha256));
    let (mut part, mut start, mut total) = (vec![0; DECODE_BUFFER_BYTES], Vec::new(), 0_u64);
    loop {
        if !goes_on() {
            return DecodeOutcome::Stopped;
        }
        let count = match decoder.read(&mut part) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return DecodeOutcome::Failed(error),
        };
        let bytes = &part[..count];
        if start.len() < TAR_BLOCK_BYTES {
            let wanted = (TAR_BLOCK_BYTES - start.len()).min(count);
            start.extend_from_slice(&bytes[..wanted]);
            if start.len() == TAR_BLOCK_BYTES && !is_tar_start(&start) {
                return DecodeOutcome::Rejected("not a tar".to_owned());
            }
        }
        hasher.update(bytes);
        total += count as u64;
        let most = consumed(decoder).saturating_mul(limits.max_ratio);
        if total > limits.max_decoded_bytes || (total > limits.min_bytes_for_ratio && total > most)
        {
            return DecodeOutcome::Rejected(format!("it decodes into {total} bytes and more"));
        }
        if began.elapsed() > limits.max_time {
            return DecodeOutcome::Rejected("it takes too long".to_owned());
        }
    }
    if start.len() < TAR_BLOCK_BYTES {
        return DecodeOutcome::TooShort;
    }
    DecodeOutcome::Complete(hasher.finish())
}

/// Whether a block is a tar's header, by its checksum, or the zeros of an empty one
/// (POSIX, pax, "ustar Interchange Format").
fn is_tar_start(block: &[u8]) -> bool {
    const CHECKSUM_FIELD: std::ops::Range<usize> = 148..156;
    if block.iter().all(|byte| *byte == 0) {
        return true;
    }
    let field = block[CHECKSUM_FIELD].trim_ascii_start();
    let digits = field.iter().take_while(|byte| (b'0'..=b'7').contains(byte));
    let said = digits.fold(0_i64, |sum, digit| sum * 8 + i64::from(digit - b'0'));
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
    // Some old programs counted bytes as signed.
    let unsigned: i64 = bytes().map(i64::from).sum();
    let signed: i64 = bytes().map(|byte| i64::from(byte.cast_signed())).sum();
    said == unsigned || said == signed
}

/// A blob's bytes, counted and hashed on the way.
struct HashingSource<F> {
    fetch: F,
    hasher: Hasher,
    /// How many were read.
    bytes_read: u64,
    /// Why it would not read.
    error: Option<io::Error>,
}

impl<F> HashingSource<F> {
    fn new(algorithm: Algorithm, fetch: F) -> Self {
        Self {
            fetch,
            hasher: Hasher::new(algorithm),
            bytes_read: 0,
            error: None,
        }
    }
}

fn consumed_bytes<F>(source: &BufReader<HashingSource<F>>) -> u64
where
    HashingSource<F>: Read,
{
    source.get_ref().bytes_read
}

impl<F: FnMut(u64, usize) -> io::Result<Vec<u8>>> Read for HashingSource<F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = (self.fetch)(self.bytes_read, buffer.len()).map_err(|error| {
            let kind = error.kind();
            self.error = Some(error);
            io::Error::from(kind)
        })?;
        buffer[..bytes.len()].copy_from_slice(&bytes);
        self.hasher.update(&bytes);
        self.bytes_read += bytes.len() as u64;
        Ok(bytes.len())
    }
}

#[cfg(test)]
mod tests;
