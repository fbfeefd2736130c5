//! Tests of which blobs count as layers, and of their diffIDs.

use std::cell::Cell;
use std::io::Write as _;

use imgsync_oci::media::Compression;

use super::*;

/// Returns a tar of one file that compresses only moderately.
fn tar(seed: u32) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        b"etaoin shrdlu\n"[state as usize >> 24 & 7]
    };
    let content: Vec<u8> = std::iter::repeat_with(&mut next).take(700_000).collect();
    let mut header = [0; TAR_BLOCK_BYTES];
    header[..4].copy_from_slice(b"file");
    header[124..135].copy_from_slice(format!("{:011o}", content.len()).as_bytes());
    header[CHECKSUM_OFFSET..CHECKSUM_OFFSET + 8].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[CHECKSUM_OFFSET..CHECKSUM_OFFSET + 7].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    let padding = vec![0; content.len().next_multiple_of(TAR_BLOCK_BYTES) - content.len()];
    [&header[..], &content, &padding, &[0; 1024]].concat()
}

const CHECKSUM_OFFSET: usize = 148;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::stream::encode_all(bytes, 1).unwrap()
}

fn compute(blob: &[u8]) -> DiffIdOutcome {
    compute_with_limits(blob, DiffIdLimits::default())
}

fn compute_with_limits(blob: &[u8], limits: DiffIdLimits) -> DiffIdOutcome {
    let read = |offset: u64, len: usize| {
        let rest = &blob[offset as usize..];
        Ok(rest[..len.min(rest.len())].to_vec())
    };
    compute_diff_id(&Digest::of(blob), read, limits, &|| true)
}

fn assert_layer(blob: &[u8], tar: &[u8], compression: Compression) {
    match compute(blob) {
        DiffIdOutcome::Layer(layer, None) => {
            let expected = ComputedLayer {
                diff_id: Digest::of(tar),
                compression,
                size: blob.len() as u64,
                raw_size: Some(tar.len() as u64),
            };
            assert_eq!(layer, expected);
        }
        other => panic!("{other:?}"),
    }
}

fn assert_not_a_layer(blob: &[u8], description: &str) {
    let outcome = compute(blob);
    assert!(
        matches!(outcome, DiffIdOutcome::NotALayer(_)),
        "{description}: {outcome:?}"
    );
}

#[test]
fn a_truncated_blob_is_damaged_and_a_panic_is_not_a_layer() {
    let blob = gzip(&tar(1));
    for bytes in [&blob[..10], &blob[..blob.len() / 2], &tar(1)[..10]] {
        let read = |offset: u64, len: usize| {
            let rest = &bytes[offset as usize..];
            Ok(rest[..len.min(rest.len())].to_vec())
        };
        let outcome = compute_diff_id(&Digest::of(&blob), read, DiffIdLimits::default(), &|| true);
        assert!(matches!(outcome, DiffIdOutcome::Damaged), "{outcome:?}");
    }
    let read = |_, _| panic!("a panic of a decoder");
    let outcome =
        compute_catching_panics(&Digest::of(&blob), read, DiffIdLimits::default(), &|| true);
    assert!(
        matches!(outcome, DiffIdOutcome::NotALayer(_)),
        "{outcome:?}"
    );
}

/// Empty members decode to nothing, so only the reads of the blob can be interrupted.
#[test]
fn a_blob_of_empty_members_is_interrupted() {
    for (start, empty) in [(gzip(&[0; 1024]), gzip(b"")), (zstd(&[0; 1024]), zstd(b""))] {
        let blob = [start, empty.repeat(4_000_000 / empty.len())].concat();
        let digest = Digest::of(&blob);
        let reads = Cell::new(0);
        let read = |offset: u64, len: usize| {
            reads.set(reads.get() + 1);
            let rest = &blob[offset as usize..];
            Ok(rest[..len.min(rest.len())].to_vec())
        };
        let limits = DiffIdLimits::default();
        let stopped = compute_diff_id(&digest, read, limits, &|| reads.get() < 3);
        assert!(matches!(stopped, DiffIdOutcome::Stopped), "{stopped:?}");
        assert_eq!(reads.get(), 3);
        let limits = DiffIdLimits {
            max_time: Duration::ZERO,
            ..limits
        };
        match compute_diff_id(&digest, read, limits, &|| true) {
            DiffIdOutcome::NotALayer(reason) => assert_eq!(reason, "decoding takes too long"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn layers_of_every_kind() {
    let tar = tar(1);
    assert_layer(&tar, &tar, Compression::None);
    assert_layer(&gzip(&tar), &tar, Compression::Gzip);
    assert_layer(&zstd(&tar), &tar, Compression::Zstd);
    let empty = vec![0; 1024];
    assert_layer(&gzip(&empty), &empty, Compression::Gzip);
    // All gzip members or zstd frames form one stream, including empty ones.
    let (first, second) = tar.split_at(300_001);
    let members = [gzip(first), gzip(b""), gzip(second)].concat();
    assert_layer(&members, &tar, Compression::Gzip);
    // zstd:chunked adds skippable frames.
    let skipped = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
    let frames = [zstd(first), zstd(second), skipped].concat();
    assert_layer(&frames, &tar, Compression::Zstd);
}

#[test]
fn a_blob_with_a_wrong_end_is_not_a_layer() {
    let tar = tar(2);
    for (kind, blob) in [("gzip", gzip(&tar)), ("zstd", zstd(&tar))] {
        for cut in [1, 4, 8, 9, blob.len() / 2, blob.len() - 20] {
            assert_not_a_layer(
                &blob[..blob.len() - cut],
                &format!("{kind} without its last {cut} bytes"),
            );
        }
        for suffix in [
            &b"\0"[..],
            b"\0\0\0\0\0\0\0\0\0\0\0\0",
            b"\x1f",
            b"\x1f\x8b",
            b"\x1f\x8b\x08\0\0\0\0\0\0",
            b"\x28\xb5\x2f",
            b"garbage",
            &blob[..blob.len() - 1],
        ] {
            let blob = [&blob[..], suffix].concat();
            assert_not_a_layer(&blob, &format!("{kind} with {suffix:x?} appended"));
        }
    }
}

#[test]
fn content_other_than_a_tar_is_not_a_layer() {
    let json = br#"{"architecture":"amd64"}"#;
    let long = vec![b'x'; 5000];
    for content in [&json[..], &long, b"", &[0; 511]] {
        assert_not_a_layer(content, "plain");
        assert_not_a_layer(&gzip(content), "gzip");
        assert_not_a_layer(&zstd(content), "zstd");
    }
    // A bzip2 blob must not count as an uncompressed tar.
    assert_not_a_layer(&[b"BZh91AY&SY", &long[..]].concat(), "bzip2");
    // A window above the limit would take too much memory.
    let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(MAX_ZSTD_WINDOW_LOG + 1).unwrap();
    encoder.write_all(&vec![0; 40 << 20]).unwrap();
    assert_not_a_layer(&encoder.finish().unwrap(), "a window too large");
}

#[test]
fn decompression_bombs_are_not_layers() {
    let mut limits = DiffIdLimits::default();
    limits.decode.min_bytes_for_ratio = 1 << 20;
    let zeros = vec![0; 64 << 20];
    let bomb = zstd(&zeros);
    assert!(bomb.len() < zeros.len() / 1000, "the bomb is too large");
    assert!(matches!(
        compute_with_limits(&bomb, limits),
        DiffIdOutcome::NotALayer(_)
    ));
    assert!(matches!(compute(&bomb), DiffIdOutcome::Layer(..)));
    let mut limits = DiffIdLimits::default();
    limits.decode.max_decoded_bytes = 1 << 20;
    let large = [tar(3), tar(4)].concat();
    assert!(matches!(
        compute_with_limits(&gzip(&large), limits),
        DiffIdOutcome::NotALayer(_)
    ));
    let limits = DiffIdLimits {
        max_time: Duration::ZERO,
        ..DiffIdLimits::default()
    };
    assert!(matches!(
        compute_with_limits(&gzip(&tar(5)), limits),
        DiffIdOutcome::NotALayer(_)
    ));
}

#[test]
fn damage_read_errors_and_stops_are_distinguished() {
    let tar = tar(6);
    let read = |offset: u64, len: usize| {
        let rest = &tar[offset as usize..];
        Ok(rest[..len.min(rest.len())].to_vec())
    };
    let (limits, other) = (DiffIdLimits::default(), Digest::of(b"other"));
    let outcome = compute_diff_id(&other, read, limits, &|| true);
    assert!(matches!(outcome, DiffIdOutcome::Damaged));
    let outcome = compute_diff_id(&Digest::of(&tar), read, limits, &|| false);
    assert!(matches!(outcome, DiffIdOutcome::Stopped));
    for blob in [tar.clone(), gzip(&tar), zstd(&tar)] {
        let breaks = |offset: u64, len: usize| match offset {
            0 => Ok(blob[..len.min(1000)].to_vec()),
            _ => Err(io::Error::other("the disk is broken")),
        };
        let outcome = compute_diff_id(&Digest::of(&blob), breaks, limits, &|| true);
        match outcome {
            DiffIdOutcome::Unreadable(error) => assert_eq!(error.to_string(), "the disk is broken"),
            other => panic!("{other:?}"),
        }
    }
}
