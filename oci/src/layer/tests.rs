//! Tests of decoding layers.

use std::io::{self, Read, Write};

use super::*;
use crate::media::Compression;
use crate::{Algorithm, Digest};

const LIMITS: DecodeLimits = DecodeLimits::with_window(23);

/// Returns text that compresses moderately.
fn sample(len: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        b"etaoin shrdlu\n"[state as usize >> 24 & 7]
    };
    std::iter::repeat_with(&mut next).take(len).collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::stream::encode_all(bytes, 1).unwrap()
}

#[test]
fn both_digests_of_every_compression() {
    let tar = sample(700_000);
    let (first, second) = tar.split_at(300_001);
    for (compression, blob) in [
        (Compression::None, tar.clone()),
        (Compression::None, Vec::new()),
        (Compression::Gzip, gzip(&tar)),
        (
            Compression::Gzip,
            [gzip(first), gzip(b""), gzip(second)].concat(),
        ),
        (Compression::Zstd, zstd(&tar)),
        (Compression::Zstd, [zstd(first), zstd(second)].concat()),
    ] {
        let digests = compute_digests(&blob[..], compression, LIMITS).unwrap();
        let raw: &[u8] = if blob.is_empty() { &[] } else { &tar };
        let expected = LayerDigests {
            diff_id: Digest::of(raw),
            digest: Digest::of(&blob),
            raw_size: raw.len() as u64,
            size: blob.len() as u64,
        };
        assert_eq!(digests, expected, "{compression:?}");
        let mut layer = LayerReader::detect(&blob[..], Algorithm::Sha512, LIMITS).unwrap();
        assert_eq!(layer.compression(), compression);
        while layer.read(&mut [0; 5000]).unwrap() > 0 {}
        layer.check_end().unwrap();
        let digests = layer.finish();
        assert_eq!(digests.diff_id, Digest::of(raw));
        assert_eq!(digests.digest, Digest::of_with(Algorithm::Sha512, &blob));
    }
}

#[test]
fn incomplete_and_damaged_layers_are_corrupt() {
    let tar = sample(5000);
    for (compression, blob) in [
        (Compression::Gzip, gzip(&tar)),
        (Compression::Zstd, zstd(&tar)),
    ] {
        // A gzip member has a checksum; a zstd frame need not have one.
        let mut flipped = blob.clone();
        let byte = match compression {
            Compression::Zstd => 0,
            Compression::None | Compression::Gzip => blob.len() / 2,
        };
        flipped[byte] ^= 1;
        let longer = [&blob[..], b"more than ten bytes of it"].concat();
        let cuts = [0, 1, blob.len() / 2, blob.len() - 1].map(|len| blob[..len].to_vec());
        for bytes in cuts.into_iter().chain([flipped, longer, tar.clone()]) {
            let result = compute_digests(&bytes[..], compression, LIMITS);
            assert!(
                matches!(result, Err(LayerError::Corrupt(_))),
                "{compression:?}: {result:?}"
            );
        }
    }
}

#[test]
fn the_digest_of_a_layer_that_does_not_decode_can_still_be_computed() {
    let mut blob = gzip(&sample(700_000));
    let middle = blob.len() / 2;
    blob[middle] ^= 1;
    let mut layer = LayerReader::detect(&blob[..], Algorithm::Sha256, LIMITS).unwrap();
    let error = loop {
        match layer.read(&mut [0; 5000]) {
            Ok(0) => {
                break layer.check_end().unwrap_err();
            }
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert!(matches!(error, LayerError::Corrupt(_)), "{error:?}");
    let mut rest = layer.into_compressed();
    io::copy(&mut rest, &mut io::sink()).unwrap();
    assert_eq!(rest.len(), blob.len() as u64);
    assert_eq!(rest.finish(), Digest::of(&blob));
}

#[test]
fn limits_are_kept() {
    let compute = |blob: &[u8], limits| compute_digests(blob, Compression::Zstd, limits);
    let zeros = vec![0; 4 << 20];
    let bomb = zstd(&zeros);
    assert!(compute(&bomb, LIMITS).is_ok());
    let ratio = DecodeLimits {
        min_bytes_for_ratio: 1 << 20,
        max_ratio: 1000,
        ..LIMITS
    };
    let too_large = compute(&bomb, ratio);
    assert!(matches!(too_large, Err(LayerError::TooLarge { decoded }) if decoded > 1 << 20));
    let size = DecodeLimits {
        max_decoded_bytes: 1 << 20,
        ..LIMITS
    };
    assert!(matches!(
        compute(&bomb, size),
        Err(LayerError::TooLarge { .. })
    ));
    assert!(compute(&zstd(&zeros[..1 << 20]), size).is_ok());
    let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(24).unwrap();
    encoder.write_all(&vec![0; 40 << 20]).unwrap();
    let wide = encoder.finish().unwrap();
    assert!(matches!(
        compute(&wide, LIMITS),
        Err(LayerError::Corrupt(_))
    ));
    assert!(compute(&wide, DecodeLimits::with_window(24)).is_ok());
}

#[test]
fn errors_of_the_source_differ_from_damage() {
    struct FailingReader;
    impl Read for FailingReader {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("the disk is broken"))
        }
    }
    let tar = sample(700_000);
    for (compression, blob) in [
        (Compression::None, tar.clone()),
        (Compression::Gzip, gzip(&tar)),
        (Compression::Zstd, zstd(&tar)),
    ] {
        for len in [0, 50, blob.len() - 1] {
            let source = blob[..len].chain(FailingReader);
            match compute_digests(source, compression, LIMITS) {
                Err(LayerError::Read(error)) => {
                    assert_eq!(error.to_string(), "the disk is broken");
                }
                other => panic!("{compression:?}: {other:?}"),
            }
        }
    }
    let detected = LayerReader::detect(FailingReader, Algorithm::Sha256, LIMITS);
    assert!(matches!(detected, Err(LayerError::Read(_))));
}
