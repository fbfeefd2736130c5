//! Computes the digests of a layer that another tool has compressed.
//!
//! This module does not store or decide anything. Start reading at [`compute_layer_digests`].

use std::io::{self, Read};

use imgsync_oci::Algorithm;
use imgsync_oci::layer::{self, DecodeLimits, LayerDigests, LayerError};
use imgsync_oci::media::Compression;

use super::{CompressError, MAX_ZSTD_WINDOW_LOG};

/// The most bytes that a layer of unknown size may decode to.
const MAX_UNKNOWN_LAYER_BYTES: u64 = 64 * 1024 * 1024 * 1024;
/// The largest compression ratio of a layer that others claim, as at the server.
const MAX_RATIO: u64 = 1000;
/// The number of decoded bytes from which on [`MAX_RATIO`] applies.
const MIN_BYTES_FOR_RATIO: u64 = 64 * 1024 * 1024;

/// Reads a compressed layer to its end, and returns its digests and sizes. Only buffers are kept in
/// memory. Both digests of an uncompressed layer are the same.
///
/// # Errors
/// Returns [`CompressError::Read`] if reading fails, and [`CompressError::Damaged`] if the bytes
/// are truncated, do not match `compression`, are followed by other bytes, or need a zstd window of
/// more than 64 MiB.
pub fn compute_layer_digests(
    reader: impl Read,
    compression: Compression,
) -> Result<LayerDigests, CompressError> {
    compute_layer_digests_with(Algorithm::Sha256, reader, compression)
}

/// Reads a compressed layer to its end, and returns its digests and sizes, the blob's digest with
/// `algorithm`.
///
/// # Errors
/// As [`compute_layer_digests`].
pub fn compute_layer_digests_with(
    algorithm: Algorithm,
    reader: impl Read,
    compression: Compression,
) -> Result<LayerDigests, CompressError> {
    let limits = DecodeLimits::with_window(MAX_ZSTD_WINDOW_LOG);
    compute_within(algorithm, reader, compression, limits)
}

/// Computes the digests of a layer that somebody else says is one of `layer_size` bytes. Decodes no
/// more than that, or if the size is not known, no more than a layer may reasonably have: a blob of
/// a few megabytes can be made to decode to any size.
///
/// # Errors
/// As [`compute_layer_digests`], on more decoded bytes, and if the first bytes are not those of
/// `compression`.
pub(crate) fn verify_layer(
    mut reader: impl Read,
    compression: Compression,
    layer_size: Option<u64>,
) -> Result<LayerDigests, CompressError> {
    let start = read_start(&mut reader).map_err(CompressError::Read)?;
    if !is_detected(&start[..], compression).unwrap_or(false) {
        return Err(CompressError::Damaged {
            kind: kind(compression),
            source: io::Error::other("other programs detect another compression"),
        });
    }
    let limits = DecodeLimits {
        max_window_log: MAX_ZSTD_WINDOW_LOG,
        max_decoded_bytes: layer_size.unwrap_or(MAX_UNKNOWN_LAYER_BYTES),
        min_bytes_for_ratio: MIN_BYTES_FOR_RATIO,
        max_ratio: MAX_RATIO,
    };
    let reader = start.as_slice().chain(reader);
    compute_within(Algorithm::Sha256, reader, compression, limits)
}

/// Returns whether programs that look at the first bytes of a layer detect this compression. Most
/// ignore the media type, and not all of them know that zstd may begin with a frame to skip: they
/// read such a blob as a tar.
///
/// # Errors
/// The bytes cannot be read.
pub(crate) fn is_detected(mut reader: impl Read, compression: Compression) -> io::Result<bool> {
    Ok(Compression::of_bytes(&read_start(&mut reader)?) == compression)
}

/// Reads the bytes by which the compression is detected.
fn read_start(reader: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut start = Vec::new();
    reader.take(4).read_to_end(&mut start)?;
    Ok(start)
}

fn kind(compression: Compression) -> &'static str {
    match compression {
        Compression::None => "tar",
        Compression::Gzip => "gzip",
        Compression::Zstd => "zstd",
    }
}

fn compute_within(
    algorithm: Algorithm,
    reader: impl Read,
    compression: Compression,
    limits: DecodeLimits,
) -> Result<LayerDigests, CompressError> {
    layer::compute_digests_with(algorithm, reader, compression, limits).map_err(|error| {
        let source = match error {
            LayerError::Read(error) => return CompressError::Read(error),
            LayerError::Corrupt(error) => error,
            error @ LayerError::TooLarge { .. } => io::Error::other(error),
        };
        let kind = kind(compression);
        CompressError::Damaged { kind, source }
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::sample;
    use super::*;
    use crate::compress::gzip;
    use imgsync_oci::Digest;

    fn gzipped(input: &[u8]) -> Vec<u8> {
        let mut blob = Vec::new();
        gzip(input, &mut blob, 2).unwrap();
        blob
    }

    fn zstandard(input: &[u8]) -> Vec<u8> {
        zstd::stream::encode_all(input, 3).unwrap()
    }

    #[test]
    fn both_digests_of_each_kind() {
        let input = sample(2_500_000);
        // Two frames, as parallel and seekable zstd writers produce them.
        let frames = [zstandard(&input[..1000]), zstandard(&input[1000..])].concat();
        for (compression, blob) in [
            (Compression::None, input.clone()),
            (Compression::Gzip, gzipped(&input)),
            (Compression::Zstd, zstandard(&input)),
            (Compression::Zstd, frames),
        ] {
            let digests = compute_layer_digests(&blob[..], compression).unwrap();
            assert_eq!(digests.diff_id, Digest::of(&input), "{compression:?}");
            assert_eq!(digests.digest, Digest::of(&blob), "{compression:?}");
            assert_eq!(digests.raw_size, input.len() as u64);
            assert_eq!(digests.size, blob.len() as u64);
        }
    }

    #[test]
    fn truncated_layers_are_refused() {
        // Members of 1 MiB, so that some cuts are before, at and after the end of a member. A cut
        // exactly at the end of a member leaves a valid gzip file that only its digest shows to be
        // incomplete.
        let input = sample(1024 * 1024 + 300);
        let blob = gzipped(&input);
        let boundary = gzipped(&input[..1024 * 1024]).len();
        for cut in (0..40)
            .chain(boundary - 30..blob.len())
            .chain([boundary / 2])
        {
            let result = compute_layer_digests(&blob[..cut], Compression::Gzip);
            if cut == boundary {
                assert_ne!(result.unwrap().diff_id, Digest::of(&input));
            } else {
                assert!(
                    matches!(result, Err(CompressError::Damaged { .. })),
                    "gzip cut at {cut}"
                );
            }
        }
        let blob = zstandard(&input[..5000]);
        for cut in 0..blob.len() {
            let result = compute_layer_digests(&blob[..cut], Compression::Zstd);
            assert!(
                matches!(result, Err(CompressError::Damaged { .. })),
                "zstd cut at {cut}"
            );
        }
    }

    #[test]
    fn trailing_bytes_are_refused() {
        let input = sample(3000);
        for tail in [
            &b"x"[..],
            b"more than ten bytes of it",
            &[0; 512],
            b"\x1f\x8b",
        ] {
            for (compression, blob) in [
                (Compression::Gzip, gzipped(&input)),
                (Compression::Zstd, zstandard(&input)),
            ] {
                let result = compute_layer_digests(&[&blob[..], tail].concat()[..], compression);
                assert!(
                    matches!(result, Err(CompressError::Damaged { .. })),
                    "{compression:?} then {tail:?}"
                );
            }
        }
    }

    #[test]
    fn a_claimed_layer_must_be_detected_as_what_it_is() {
        let input = sample(3000);
        let skipped = [&b"\x50\x2a\x4d\x18\x04\0\0\0evil"[..], &zstandard(&input)].concat();
        let verify = |blob: &[u8], compression| verify_layer(blob, compression, Some(3000));
        for (compression, blob) in [
            (Compression::None, input.clone()),
            (Compression::Gzip, gzipped(&input)),
            (Compression::Zstd, zstandard(&input)),
        ] {
            let digests = verify(&blob, compression).unwrap();
            assert_eq!(digests.diff_id, Digest::of(&input), "{compression:?}");
            assert_eq!(digests.digest, Digest::of(&blob), "{compression:?}");
        }
        let own = compute_layer_digests(&skipped[..], Compression::Zstd).unwrap();
        assert_eq!(own.diff_id, Digest::of(&input));
        for (compression, blob) in [
            (Compression::Zstd, &skipped),
            (Compression::None, &gzipped(&input)),
        ] {
            let error = verify(blob, compression).unwrap_err();
            assert!(matches!(error, CompressError::Damaged { .. }), "{error:?}");
        }
    }

    #[test]
    fn a_flipped_bit_is_refused() {
        let input = sample(200_000);
        let mut blob = gzipped(&input);
        let middle = blob.len() / 2;
        blob[middle] ^= 1;
        let result = compute_layer_digests(&blob[..], Compression::Gzip);
        assert!(matches!(
            result,
            Err(CompressError::Damaged { kind: "gzip", .. })
        ));
    }

    #[test]
    fn a_giant_window_is_refused() {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(27).unwrap();
        io::Write::write_all(&mut encoder, &sample(1000)).unwrap();
        let blob = encoder.finish().unwrap();
        let result = compute_layer_digests(&blob[..], Compression::Zstd);
        assert!(matches!(
            result,
            Err(CompressError::Damaged { kind: "zstd", .. })
        ));
    }

    #[test]
    fn a_failed_read_differs_from_damage() {
        struct FailingReader;
        impl Read for FailingReader {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("failed"))
            }
        }
        let input = sample(3000);
        for (compression, blob) in [
            (Compression::None, input.clone()),
            (Compression::Gzip, gzipped(&input)),
            (Compression::Zstd, zstandard(&input)),
        ] {
            let result = compute_layer_digests(blob[..50].chain(FailingReader), compression);
            assert!(
                matches!(result, Err(CompressError::Read(_))),
                "{compression:?}"
            );
        }
    }
}
