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
mod tests {
    use std::io::Write as _;

    use super::*;

    /// A tar of one file that does not compress too well.
    fn tar(seed: u32) -> Vec<u8> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            b"etaoin shrdlu\n"[state as usize >> 24 & 7]
        };
        let content: Vec<u8> = std::iter::repeat_with(&mut next).take(700_000).collect();
        let mut header = [0; BLOCK_BYTES];
        header[..4].copy_from_slice(b"file");
        header[124..135].copy_from_slice(format!("{:011o}", content.len()).as_bytes());
        header[CHECKSUM_AT..CHECKSUM_AT + 8].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[CHECKSUM_AT..CHECKSUM_AT + 7].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        let padding = vec![0; content.len().next_multiple_of(BLOCK_BYTES) - content.len()];
        [&header[..], &content, &padding, &[0; 1024]].concat()
    }

    const CHECKSUM_AT: usize = 148;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        zstd::stream::encode_all(bytes, 1).unwrap()
    }

    fn found(blob: &[u8]) -> Outcome {
        found_within(blob, Limits::default())
    }

    fn found_within(blob: &[u8], limits: Limits) -> Outcome {
        let read = |offset: u64, len: usize| {
            let rest = &blob[offset as usize..];
            Ok(rest[..len.min(rest.len())].to_vec())
        };
        compute(&Digest::of(blob), read, limits, &|| true)
    }

    fn assert_layer(blob: &[u8], tar: &[u8], compression: Compression) {
        match found(blob) {
            Outcome::Layer(layer) => {
                let expected = Layer {
                    diff_id: Digest::of(tar),
                    compression,
                    size: blob.len() as u64,
                };
                assert_eq!(layer, expected);
            }
            other => panic!("{other:?}"),
        }
    }

    fn assert_nothing(blob: &[u8], what: &str) {
        let outcome = found(blob);
        assert!(
            matches!(outcome, Outcome::Nothing(_)),
            "{what}: {outcome:?}"
        );
    }

    #[test]
    fn what_is_cut_off_is_damaged_and_what_panics_is_no_layer() {
        let blob = gzip(&tar(1));
        for bytes in [&blob[..10], &blob[..blob.len() / 2], &tar(1)[..10]] {
            let read = |offset: u64, len: usize| {
                let rest = &bytes[offset as usize..];
                Ok(rest[..len.min(rest.len())].to_vec())
            };
            let outcome = compute(&Digest::of(&blob), read, Limits::default(), &|| true);
            assert!(matches!(outcome, Outcome::Damaged), "{outcome:?}");
        }
        let read = |_, _| panic!("as a decoder might");
        let outcome = compute_apart(&Digest::of(&blob), read, Limits::default(), &|| true);
        assert!(matches!(outcome, Outcome::Nothing(_)), "{outcome:?}");
    }

    #[test]
    fn layers_of_every_kind() {
        let tar = tar(1);
        assert_layer(&tar, &tar, Compression::None);
        assert_layer(&gzip(&tar), &tar, Compression::Gzip);
        assert_layer(&zstd(&tar), &tar, Compression::Zstd);
        let empty = vec![0; 1024];
        assert_layer(&gzip(&empty), &empty, Compression::Gzip);
        // Members and frames are one stream, also those with nothing in them.
        let (first, second) = tar.split_at(300_001);
        let members = [gzip(first), gzip(b""), gzip(second)].concat();
        assert_layer(&members, &tar, Compression::Gzip);
        // zstd:chunked has frames that are skipped.
        let skipped = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
        let frames = [zstd(first), zstd(second), skipped].concat();
        assert_layer(&frames, &tar, Compression::Zstd);
    }

    #[test]
    fn what_does_not_end_where_it_should_never_counts() {
        let tar = tar(2);
        for (kind, blob) in [("gzip", gzip(&tar)), ("zstd", zstd(&tar))] {
            for cut in [1, 4, 8, 9, blob.len() / 2, blob.len() - 20] {
                assert_nothing(&blob[..blob.len() - cut], &format!("{kind} less {cut}"));
            }
            for behind in [
                &b"\0"[..],
                b"\0\0\0\0\0\0\0\0\0\0\0\0",
                b"\x1f",
                b"\x1f\x8b",
                b"\x1f\x8b\x08\0\0\0\0\0\0",
                b"\x28\xb5\x2f",
                b"garbage",
                &blob[..blob.len() - 1],
            ] {
                let blob = [&blob[..], behind].concat();
                assert_nothing(&blob, &format!("{kind} and {behind:x?}"));
            }
        }
    }

    #[test]
    fn what_is_no_tar_never_counts() {
        let json = br#"{"architecture":"amd64"}"#;
        let long = vec![b'x'; 5000];
        for content in [&json[..], &long, b"", &[0; 511]] {
            assert_nothing(content, "plain");
            assert_nothing(&gzip(content), "gzip");
            assert_nothing(&zstd(content), "zstd");
        }
        // A tar in bzip2 would be taken for its own tar.
        assert_nothing(&[b"BZh91AY&SY", &long[..]].concat(), "bzip2");
        // Long distances take memory that is not given.
        let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(ZSTD_WINDOW_LOG + 1).unwrap();
        encoder.write_all(&vec![0; 40 << 20]).unwrap();
        assert_nothing(&encoder.finish().unwrap(), "a window too large");
    }

    #[test]
    fn bombs_are_given_up() {
        let limits = Limits {
            ratio_from: 1 << 20,
            ..Limits::default()
        };
        let zeros = vec![0; 64 << 20];
        let bomb = zstd(&zeros);
        assert!(bomb.len() < zeros.len() / 1000, "not much of a bomb");
        assert!(matches!(found_within(&bomb, limits), Outcome::Nothing(_)));
        assert!(matches!(found(&bomb), Outcome::Layer(_)));
        let limits = Limits {
            decoded: 1 << 20,
            ..Limits::default()
        };
        let large = [tar(3), tar(4)].concat();
        assert!(matches!(
            found_within(&gzip(&large), limits),
            Outcome::Nothing(_)
        ));
        let limits = Limits {
            time: Duration::ZERO,
            ..Limits::default()
        };
        assert!(matches!(
            found_within(&gzip(&tar(5)), limits),
            Outcome::Nothing(_)
        ));
    }

    #[test]
    fn damage_failure_and_stop_are_told_apart() {
        let tar = tar(6);
        let read = |offset: u64, len: usize| {
            let rest = &tar[offset as usize..];
            Ok(rest[..len.min(rest.len())].to_vec())
        };
        let (limits, other) = (Limits::default(), Digest::of(b"other"));
        let outcome = compute(&other, read, limits, &|| true);
        assert!(matches!(outcome, Outcome::Damaged));
        let outcome = compute(&Digest::of(&tar), read, limits, &|| false);
        assert!(matches!(outcome, Outcome::Stopped));
        for blob in [tar.clone(), gzip(&tar), zstd(&tar)] {
            let breaks = |offset: u64, len: usize| match offset {
                0 => Ok(blob[..len.min(1000)].to_vec()),
                _ => Err(io::Error::other("the disk is broken")),
            };
            let outcome = compute(&Digest::of(&blob), breaks, limits, &|| true);
            match outcome {
                Outcome::Unreadable(error) => assert_eq!(error.to_string(), "the disk is broken"),
                other => panic!("{other:?}"),
            }
        }
    }
}
