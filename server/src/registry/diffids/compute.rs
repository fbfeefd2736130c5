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

use super::record::Layer;

/// How much of a blob is read at a time.
const READ_BYTES: usize = 256 * 1024;
/// How much is decoded at a time.
const PART_BYTES: usize = 64 * 1024;
/// How far back zstd may refer: 8 MiB, which every decoder supports (RFC 8878, 3.1.1.1.2), and
/// which is the memory that it takes.
const ZSTD_WINDOW_LOG: u32 = 23;
/// A tar's block.
const BLOCK_BYTES: usize = 512;

/// When a blob is given up.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// More decoded bytes than that.
    pub(super) decoded: u64,
    /// From so many decoded bytes on…
    pub(super) ratio_from: u64,
    /// …so many of them for each byte of the blob; gzip's best is 1032.
    pub(super) ratio: u64,
    /// More time than that.
    pub(super) time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            decoded: 64 << 30,
            ratio_from: 64 << 20,
            ratio: 1000,
            time: Duration::from_secs(2 * 60 * 60),
        }
    }
}

/// What came of it.
#[derive(Debug)]
pub(super) enum Outcome {
    /// A layer.
    Layer(Layer),
    /// Not a layer, or none that can be computed; why.
    Nothing(String),
    /// The bytes are not those that the digest names.
    Damaged,
    /// The disk would not read.
    Unreadable(io::Error),
    /// The caller said to stop.
    Stopped,
}

/// As [`compute`]; where that panics, which a decoder may, the blob counts as none that can be
/// computed.
pub(super) fn compute_apart(
    blob: &Digest,
    read: impl FnMut(u64, usize) -> io::Result<Vec<u8>>,
    limits: Limits,
    goes_on: &dyn Fn() -> bool,
) -> Outcome {
    let computed = catch_unwind(AssertUnwindSafe(|| compute(blob, read, limits, goes_on)));
    computed.unwrap_or_else(|_| {
        tracing::error!(%blob, "a decoder panicked");
        Outcome::Nothing("a decoder panicked".to_owned())
    })
}

/// Computes the diffID of `blob`, whose bytes `read` yields by offset and length; fewer only at
/// the end. `goes_on` is asked again and again.
fn compute(
    blob: &Digest,
    read: impl FnMut(u64, usize) -> io::Result<Vec<u8>>,
    limits: Limits,
    goes_on: &dyn Fn() -> bool,
) -> Outcome {
    let mut source = BufReader::with_capacity(READ_BYTES, Source::new(blob.algorithm(), read));
    let compression = match source.fill_buf() {
        Ok(start) => Compression::of_bytes(start),
        Err(error) => return Outcome::Unreadable(error),
    };
    let (decoded, source) = match compression {
        Compression::None => {
            let decoded = decode(&mut source, |it| it.get_ref().read, limits, goes_on);
            (decoded, source)
        }
        Compression::Gzip => {
            let mut decoder = flate2::bufread::MultiGzDecoder::new(source);
            let consumed = |it: &flate2::bufread::MultiGzDecoder<_>| consumed(it.get_ref());
            (
                decode(&mut decoder, consumed, limits, goes_on),
                decoder.into_inner(),
            )
        }
        Compression::Zstd => {
            let mut decoder = match zstd::stream::read::Decoder::with_buffer(source) {
                Ok(decoder) => decoder,
                Err(error) => return Outcome::Nothing(error.to_string()),
            };
            if let Err(error) = decoder.window_log_max(ZSTD_WINDOW_LOG) {
                return Outcome::Nothing(error.to_string());
            }
            let consumed =
                |it: &zstd::stream::read::Decoder<'_, BufReader<_>>| consumed(it.get_ref());
            (
                decode(&mut decoder, consumed, limits, goes_on),
                decoder.into_inner(),
            )
        }
    };
    finish(blob, compression, decoded, source, goes_on)
}

/// Looks whether all of the blob was decoded, and whether it is the blob.
fn finish<F: FnMut(u64, usize) -> io::Result<Vec<u8>>>(
    blob: &Digest,
    compression: Compression,
    decoded: Decoded,
    mut source: BufReader<Source<F>>,
    goes_on: &dyn Fn() -> bool,
) -> Outcome {
    let diff_id = match decoded {
        Decoded::Whole(diff_id) => diff_id,
        Decoded::Nothing(why) => return Outcome::Nothing(why),
        Decoded::TooShort => return rest(blob, source, "too short for a tar", goes_on),
        Decoded::Stopped => return Outcome::Stopped,
        Decoded::Broken(error) => {
            return match source.get_mut().failed.take() {
                Some(error) => Outcome::Unreadable(error),
                None => rest(blob, source, &error.to_string(), goes_on),
            };
        }
    };
    match source.fill_buf() {
        Ok([]) => {}
        Ok(_) => {
            return rest(
                blob,
                source,
                "something follows the compressed data",
                goes_on,
            );
        }
        Err(error) => return Outcome::Unreadable(error),
    }
    let Source { read, hasher, .. } = source.into_inner();
    if hasher.finish() != *blob {
        return Outcome::Damaged;
    }
    Outcome::Layer(Layer {
        diff_id,
        compression,
        size: read,
    })
}

/// Reads what is left of a blob that does not decode: is it damaged, or no layer?
fn rest<F: FnMut(u64, usize) -> io::Result<Vec<u8>>>(
    blob: &Digest,
    source: BufReader<Source<F>>,
    why: &str,
    goes_on: &dyn Fn() -> bool,
) -> Outcome {
    let (mut source, mut part) = (source.into_inner(), vec![0; PART_BYTES]);
    loop {
        if !goes_on() {
            return Outcome::Stopped;
        }
        match source.read(&mut part) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) => return Outcome::Unreadable(error),
        }
    }
    match source.hasher.finish() == *blob {
        true => Outcome::Nothing(why.to_owned()),
        false => Outcome::Damaged,
    }
}

/// How decoding ended.
enum Decoded {
    /// Less than a tar can have.
    TooShort,
    Whole(Digest),
    Nothing(String),
    Broken(io::Error),
    Stopped,
}

/// Decodes to the end; `consumed` says how many bytes of the blob went in so far.
fn decode<D: Read>(
    decoder: &mut D,
    consumed: impl Fn(&D) -> u64,
    limits: Limits,
    goes_on: &dyn Fn() -> bool,
) -> Decoded {
    let (began, mut hasher) = (Instant::now(), Hasher::new(Algorithm::Sha256));
    let (mut part, mut start, mut total) = (vec![0; PART_BYTES], Vec::new(), 0_u64);
    loop {
        if !goes_on() {
            return Decoded::Stopped;
        }
        let count = match decoder.read(&mut part) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Decoded::Broken(error),
        };
        let bytes = &part[..count];
        if start.len() < BLOCK_BYTES {
            let wanted = (BLOCK_BYTES - start.len()).min(count);
            start.extend_from_slice(&bytes[..wanted]);
            if start.len() == BLOCK_BYTES && !begins_a_tar(&start) {
                return Decoded::Nothing("not a tar".to_owned());
            }
        }
        hasher.update(bytes);
        total += count as u64;
        let most = consumed(decoder).saturating_mul(limits.ratio);
        if total > limits.decoded || (total > limits.ratio_from && total > most) {
            return Decoded::Nothing(format!("it decodes into {total} bytes and more"));
        }
        if began.elapsed() > limits.time {
            return Decoded::Nothing("it takes too long".to_owned());
        }
    }
    if start.len() < BLOCK_BYTES {
        return Decoded::TooShort;
    }
    Decoded::Whole(hasher.finish())
}

/// Whether a block is a tar's header, by its checksum, or the zeros of an empty one
/// (POSIX, pax, "ustar Interchange Format").
fn begins_a_tar(block: &[u8]) -> bool {
    const CHECKSUM: std::ops::Range<usize> = 148..156;
    if block.iter().all(|byte| *byte == 0) {
        return true;
    }
    let field = block[CHECKSUM].trim_ascii_start();
    let digits = field.iter().take_while(|byte| (b'0'..=b'7').contains(byte));
    let said = digits.fold(0_i64, |sum, digit| sum * 8 + i64::from(digit - b'0'));
    let counted = |at: usize, byte: u8| if CHECKSUM.contains(&at) { b' ' } else { byte };
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
struct Source<F> {
    fetch: F,
    hasher: Hasher,
    /// How many were read.
    read: u64,
    /// Why it would not read.
    failed: Option<io::Error>,
}

impl<F> Source<F> {
    fn new(algorithm: Algorithm, fetch: F) -> Self {
        Self {
            fetch,
            hasher: Hasher::new(algorithm),
            read: 0,
            failed: None,
        }
    }
}

fn consumed<F>(source: &BufReader<Source<F>>) -> u64
where
    Source<F>: Read,
{
    source.get_ref().read
}

impl<F: FnMut(u64, usize) -> io::Result<Vec<u8>>> Read for Source<F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = (self.fetch)(self.read, buffer.len()).map_err(|error| {
            let kind = error.kind();
            self.failed = Some(error);
            io::Error::from(kind)
        })?;
        buffer[..bytes.len()].copy_from_slice(&bytes);
        self.hasher.update(&bytes);
        self.read += bytes.len() as u64;
        Ok(bytes.len())
    }
}

#[cfg(test)]
mod tests;
