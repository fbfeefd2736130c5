//! Recognizes layers that are probably in the format `imgsync-gzip-1`, by their first member alone.
//!
//! Only compressing the whole layer again proves it. Start reading at [`has_own_first_member`].

use std::io::{self, Read};

use flate2::read::GzDecoder;
use libdeflater::{CompressionLvl, Compressor};

use super::{GZIP_LEVEL, GzipBlock, RAW_BYTES_PER_MEMBER, compress};

/// Returns whether a compressed layer of `len` bytes begins with the gzip member that
/// [`gzip()`](super::gzip) makes of the same tar. `reader` reads the layer from its start; at most
/// a little more than 1 MiB of it is read and kept in memory. A layer that cannot be read has no such
/// member.
pub fn has_own_first_member(reader: impl Read, len: u64) -> bool {
    recompress_first(reader, len).unwrap_or(false)
}

fn recompress_first(reader: impl Read, len: u64) -> io::Result<bool> {
    let level = CompressionLvl::new(GZIP_LEVEL).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut compressor = Compressor::new(level);
    let most = compressor.gzip_compress_bound(RAW_BYTES_PER_MEMBER) as u64;
    let mut stored = RecordingReader {
        reader: reader.take(most),
        bytes: Vec::new(),
    };
    let mut raw = Vec::new();
    let member = GzDecoder::new(&mut stored);
    member
        .take(RAW_BYTES_PER_MEMBER as u64 + 1)
        .read_to_end(&mut raw)?;
    if raw.len() > RAW_BYTES_PER_MEMBER {
        return Ok(false);
    }
    let mut block = GzipBlock {
        raw_len: raw.len(),
        raw,
        ..GzipBlock::default()
    };
    compress(&mut compressor, &mut block).map_err(io::Error::other)?;
    // Only the last member is shorter.
    let is_last = block.raw_len < RAW_BYTES_PER_MEMBER;
    let is_whole = block.member_len as u64 == len;
    Ok(stored.bytes.starts_with(block.member()) && (is_whole || !is_last))
}

/// Keeps the bytes that are read.
struct RecordingReader<R> {
    reader: R,
    bytes: Vec<u8>,
}

impl<R: Read> Read for RecordingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.reader.read(buffer)?;
        self.bytes.extend_from_slice(&buffer[..len]);
        Ok(len)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::write::GzEncoder;

    use super::super::super::sample_bytes::sample;
    use super::*;
    use crate::layer::gzip;

    fn own(input: &[u8]) -> Vec<u8> {
        let mut blob = Vec::new();
        gzip(input, &mut blob, 1).unwrap();
        blob
    }

    fn zlib(input: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(input).unwrap();
        encoder.finish().unwrap()
    }

    fn is_own(blob: &[u8]) -> bool {
        has_own_first_member(blob, blob.len() as u64)
    }

    #[test]
    fn own_layers_of_all_sizes() {
        let mib = RAW_BYTES_PER_MEMBER;
        let input = sample(3 * mib);
        for len in [0, 1, 3000, mib - 1, mib, mib + 1, 3 * mib] {
            assert!(is_own(&own(&input[..len])), "{len}");
        }
    }

    #[test]
    fn foreign_and_damaged_layers() {
        let mib = RAW_BYTES_PER_MEMBER;
        let input = sample(2 * mib);
        let one = own(&input[..mib]);
        let mut damaged = one.clone();
        damaged[mib / 4] ^= 1;
        for (what, blob) in [
            ("one member of zlib", zlib(&input)),
            ("members of 1 MiB of zlib", zlib(&input[..mib])),
            (
                "shorter members",
                [own(&input[..3000]), own(&input)].concat(),
            ),
            ("a tar", input.clone()),
            ("damaged", damaged),
            ("cut short", one[..one.len() - 9].to_vec()),
            ("nothing", Vec::new()),
        ] {
            assert!(!is_own(&blob), "{what}");
        }
    }

    #[test]
    fn of_a_large_layer_little_is_read() {
        for blob in [zlib(&sample(8_000_000)), own(&sample(8_000_000))] {
            let mut rest = &blob[..];
            has_own_first_member(&mut rest, blob.len() as u64);
            let read = blob.len() - rest.len();
            assert!(read < 1_200_000, "{read} of {}", blob.len());
        }
    }
}
