//! Tests of compressing layers.

use super::super::sample_bytes::{Xorshift, sample};
use super::*;
use crate::Digest;
use flate2::read::MultiGzDecoder;

const MIB: usize = RAW_BYTES_PER_MEMBER;

fn compressed(input: &[u8], threads: usize) -> (Vec<u8>, LayerDigests) {
    let mut blob = Vec::new();
    let digests = gzip(input, &mut blob, threads).unwrap();
    (blob, digests)
}

/// A reader that returns at most a given number of bytes at a time.
struct ChunkedReader<'a> {
    rest: &'a [u8],
    piece: Option<usize>,
    numbers: Xorshift,
}

impl<'a> ChunkedReader<'a> {
    /// Creates a reader of pieces of at most `piece` bytes.
    fn each(rest: &'a [u8], piece: usize) -> Self {
        Self {
            rest,
            piece: Some(piece),
            numbers: Xorshift(1),
        }
    }

    /// Creates a reader of pieces of 1 to 100,000 bytes.
    fn random(rest: &'a [u8]) -> Self {
        Self {
            rest,
            piece: None,
            numbers: Xorshift(1),
        }
    }
}

impl Read for ChunkedReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let piece = match self.piece {
            Some(piece) => piece,
            None => 1 + (self.numbers.next() % 100_000) as usize,
        };
        let len = piece.min(buffer.len()).min(self.rest.len());
        let (now, later) = self.rest.split_at(len);
        buffer[..len].copy_from_slice(now);
        self.rest = later;
        Ok(len)
    }
}

/// The bytes of the format must never change: a change is a new format with a new name.
#[test]
fn golden_vectors() {
    for (len, digest) in [
        (
            0,
            "30e6fa98fb48c2b132824d1ac5e2243c0be9e9082ff32598d34d7687ca7f6c7f",
        ),
        (
            1,
            "c5444d2b132a1c74e6e13919b3725f2841afc4b1a87ef26f4a292914d912ba8f",
        ),
        (
            MIB,
            "dba0985ca748179f098f776a4a1f59d9427418ae7d8c3b6333787dce991b5389",
        ),
        (
            MIB + 1,
            "5b134cf7975cc811dc13930610724a9cc3675791e5b1d141bd6d03a5cb84406e",
        ),
        (
            5 * MIB,
            "447da4b4ac973b292e5f0db6f5aae456ed02d911aee3cf2ab68d428da42b2b48",
        ),
    ] {
        let input = sample(len);
        let (blob, digests) = compressed(&input, 2);
        assert_eq!(digests.digest.hex(), digest, "{len} bytes");
        assert_eq!(digests.digest, Digest::of(&blob));
        assert_eq!(digests.diff_id, Digest::of(&input));
        assert_eq!(digests.raw_size, len as u64);
        assert_eq!(digests.size, blob.len() as u64);
    }
}

#[test]
fn neither_threads_nor_reads_change_the_bytes() {
    let input = sample(5 * MIB + 12_345);
    let (expected, _) = compressed(&input, 1);
    for threads in [0, 2, 3, 8] {
        assert!(
            compressed(&input, threads).0 == expected,
            "{threads} threads"
        );
    }
    for reader in [
        ChunkedReader::each(&input, 1),
        ChunkedReader::each(&input, 1000),
        ChunkedReader::random(&input),
    ] {
        let mut blob = Vec::new();
        gzip(reader, &mut blob, 4).unwrap();
        assert!(blob == expected);
    }
}

#[test]
fn every_member_has_one_mebibyte_and_a_minimal_header() {
    let input = sample(2 * MIB + 10);
    let (blob, _) = compressed(&input, 2);
    let mut rest = &blob[..];
    let mut sizes = Vec::new();
    while !rest.is_empty() {
        // Magic number, deflate, no flags, time 0, no extra flags, OS 255 (RFC 1952, section
        // 2.3).
        assert_eq!(rest[..10], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255]);
        let mut decoder = flate2::bufread::GzDecoder::new(rest);
        sizes.push(io::copy(&mut decoder, &mut io::sink()).unwrap());
        rest = decoder.into_inner();
    }
    assert_eq!(sizes, [MIB as u64, MIB as u64, 10]);
}

#[test]
fn other_tools_decompress_the_blob() {
    for len in [0, 1, MIB, 3 * MIB + 7] {
        let input = sample(len);
        let (blob, _) = compressed(&input, 3);
        let mut decoded = Vec::new();
        MultiGzDecoder::new(&blob[..])
            .read_to_end(&mut decoded)
            .unwrap();
        assert!(decoded == input);
        let mut gunzip = std::process::Command::new("gzip")
            .arg("-t")
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        gunzip.stdin.take().unwrap().write_all(&blob).unwrap();
        assert!(gunzip.wait().unwrap().success(), "gzip -t, {len} bytes");
    }
}

/// Yields the given number of bytes, and then fails.
struct FailingReader(usize);

impl Read for FailingReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = buffer.len().min(self.0);
        self.0 -= len;
        match len {
            0 => Err(io::Error::other("failed")),
            len => {
                buffer[..len].fill(7);
                Ok(len)
            }
        }
    }
}

#[test]
fn a_failed_read_differs_from_a_failed_write() {
    let error = gzip(FailingReader(3 * MIB + 5), &mut io::sink(), 2).unwrap_err();
    assert!(matches!(error, GzipError::Read(_)), "{error}");
    struct FullWriter(usize);
    impl Write for FullWriter {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 = self
                .0
                .checked_sub(bytes.len())
                .ok_or(io::ErrorKind::StorageFull)?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let input = sample(40 * MIB);
    let error = gzip(&input[..], &mut FullWriter(MIB), 2).unwrap_err();
    assert!(matches!(error, GzipError::Write(_)), "{error}");
}
