//! Deltas that are damaged, or made to do harm, end with an error.

use super::*;
use crate::delta::format::ops::{DeltaOp, OpWriter};
use crate::delta::format::section::{self, Storage};
use crate::delta::format::start::{self, DeltaNumbers};
use crate::delta::format::{table, varint};
use crate::delta::pieces::entries::TarEntries;
use crate::delta::pieces::list::MAX_PIECES;

const MEBIBYTE: usize = 1024 * 1024;

/// Returns a delta for a tail of `raw_size` bytes.
fn delta_of(
    raw_size: u64,
    base: &[u8],
    ops: &[DeltaOp],
    patches: &[u8],
    literals: &[u8],
) -> Vec<u8> {
    let mut writer = OpWriter::default();
    ops.iter().for_each(|op| writer.push(*op));
    let mut delta = start::write_numbers(&DeltaNumbers {
        raw_size,
        base_sizes: vec![base.len() as u64],
        patch_size: patches.len() as u64,
    });
    let (entries, old) = (TarEntries::default(), index(base).entries);
    let sections = start::write_sections(&entries, &writer.finish(), &old);
    delta.extend(sections.unwrap());
    delta.extend_from_slice(patches);
    let no_literals = zstd::bulk::compress(&[], 1).unwrap();
    delta.extend(if literals.is_empty() {
        &*no_literals
    } else {
        literals
    });
    delta
}

fn error_of(delta: &[u8], base: &[u8], raw_size: u64) -> String {
    let error = read_delta(delta, &[base], raw_size).expect_err("a hostile delta");
    error.to_string()
}

#[test]
fn a_delta_that_is_cut_short_or_too_long() {
    let (old, new) = (layer_pairs::jars(false), layer_pairs::jars(true));
    for known in [Known::Index, Known::Bytes] {
        let (_, mut delta) = make_delta(&[&old], &new, known).unwrap();
        for len in (0..delta.len()).filter(|len| *len < 200 || len % 701 == 0) {
            let result = read_delta(&delta[..len], &[&old], new.len() as u64);
            assert!(result.is_err(), "{len} of {} bytes", delta.len());
        }
        delta.push(0);
        assert!(read_delta(&delta, &[&old], new.len() as u64).is_err());
    }
}

#[test]
fn the_end_of_the_literals() {
    let base = bytes::noise(1, 1_000);
    let copy = DeltaOp::Copy { first: 0, count: 1 };
    let read = |ops: &[DeltaOp], literals: &[u8]| {
        let size = ops.len() as u64 * 1_000;
        let delta = delta_of(size, &base, ops, b"", literals);
        read_delta(&delta, &[&base], size)
    };
    for (ops, content) in [(&[copy][..], &[][..]), (&[DeltaOp::Literal(1_000)], &base)] {
        let frame = zstd::bulk::compress(content, 1).unwrap();
        assert_eq!(read(ops, &frame).unwrap(), base);
        for len in 1..frame.len() {
            assert!(read(ops, &frame[..len]).is_err(), "{len} bytes");
        }
        for byte in 0..=u8::MAX {
            assert!(read(ops, &[&*frame, &[byte]].concat()).is_err(), "{byte}");
        }
        let more = zstd::bulk::compress(&[], 1).unwrap();
        assert!(read(ops, &[&*frame, &more].concat()).is_err());
    }
    // A frame of one block, and a block without bytes at its end.
    let two = [DeltaOp::Literal(1_000), copy];
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    std::io::Write::write_all(&mut encoder, &base).unwrap();
    std::io::Write::flush(&mut encoder).unwrap();
    let frame = encoder.finish().unwrap();
    assert!(read(&two, &frame).is_ok());
    assert!(read(&two, &frame[..frame.len() - 1]).is_err());
    assert!(read(&two, &frame[..frame.len() - 3]).is_err());
}

#[test]
fn a_bit_that_has_no_meaning_in_zstd() {
    let (old, new) = (bytes::noise(1, 1_000), bytes::noise(2, 1_000));
    let (_, delta) = make_delta(&[&old], &new, Known::Bytes).unwrap();
    let flips = (0..delta.len() * 8).filter(|bit| {
        let mut other = delta.clone();
        other[bit / 8] ^= 1 << (bit % 8);
        read_delta(&other, &[&old], 1_000).is_ok_and(|built| built == new)
    });
    let frame = delta
        .windows(4)
        .position(|four| four == zstd::zstd_safe::MAGICNUMBER.to_le_bytes());
    assert_eq!(flips.collect::<Vec<_>>(), [(frame.unwrap() + 4) * 8 + 4]);
}

#[test]
fn wrong_bases_and_sizes() {
    let (old, new) = (layer_pairs::jars(false), layer_pairs::jars(true));
    let (_, delta) = make_delta(&[&old], &new, Known::Bytes).unwrap();
    let size = new.len() as u64;
    for size in [0, size - 1, size + 1, u64::MAX] {
        assert!(error_of(&delta, &old, size).contains("another size"));
    }
    assert!(error_of(&delta, &old[1..], size).contains("other bases"));
    assert!(read_delta(&delta, &[], size).is_err());
    assert!(read_delta(&delta, &[&old, &old], size).is_err());
    // A wrong base of the right size leads to another diffID, which the caller checks.
    if let Ok(built) = read_delta(&delta, &[&bytes::noise(1, old.len())], size) {
        assert!(built.len() == new.len() && built != new);
    }
}

#[test]
fn operations_that_give_too_much_or_too_little() {
    let base = bytes::noise(1, 1_000);
    let copy = DeltaOp::Copy { first: 0, count: 1 };
    let read = |raw_size, ops: &[DeltaOp]| {
        let delta = delta_of(raw_size, &base, ops, b"", b"");
        read_delta(&delta, &[&base], raw_size)
    };
    assert_eq!(read(1_000, &[copy]).unwrap(), base);
    assert!(read(1_001, &[copy]).is_err());
    assert!(read(999, &[copy]).is_err());
    assert!(read(1_000, &[copy, copy]).is_err());
    assert!(read(0, &[copy]).is_err());
    for op in [DeltaOp::Literal, DeltaOp::Patch] {
        assert!(read(1_000, &[op(1_000)]).is_err());
        assert!(read(u64::MAX, &[op(u64::MAX >> 3)]).is_err());
    }
}

#[test]
fn each_piece_of_a_layer_is_copied_at_most_once() {
    let base = [b'x'];
    let copies = vec![DeltaOp::Copy { first: 0, count: 1 }; MAX_PIECES + 1];
    let size = copies.len() as u64;
    let delta = delta_of(size, &base, &copies, b"", b"");
    assert!(error_of(&delta, &base, size).contains("too many copies"));
}

#[test]
fn sections_that_are_too_large() {
    for (content, stored) in [
        (u64::MAX, 10),
        (1 << 32, 10),
        (33 << 20, 10),
        (1 << 20, 9 << 20),
    ] {
        let mut delta = b"imgsync-delta-1\n".to_vec();
        for number in [1, 1, 1, 0, content, stored] {
            varint::put(&mut delta, number);
        }
        delta.extend([0; 100]);
        let error = error_of(&delta, b"x", 1);
        assert!(error.contains("too large"), "{error}");
    }
    let zeros = vec![0; 30 * MEBIBYTE];
    let mut delta = b"imgsync-delta-1\n".to_vec();
    for number in [1, 1, 1, 0] {
        varint::put(&mut delta, number);
    }
    let frame = section::compress(&zeros, Storage::Compressed(&[])).unwrap();
    // The frame holds more than the table says.
    for number in [20 * MEBIBYTE, frame.len(), 0, 0, 0, 0, 0, 0, 0, 0] {
        varint::put(&mut delta, number as u64);
    }
    delta.extend(&*frame);
    assert!(error_of(&delta, b"x", 1).contains("zstd"));
}

#[test]
fn literals_with_a_large_window() {
    let content = bytes::noise(1, 5 * MEBIBYTE);
    let read = |window_log| {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(window_log).unwrap();
        std::io::Write::write_all(&mut encoder, &content).unwrap();
        let literals = encoder.finish().unwrap();
        let size = content.len() as u64;
        let delta = delta_of(size, b"x", &[DeltaOp::Literal(size)], b"", &literals);
        read_delta(&delta, &[b"x"], size)
    };
    assert!(read(22).unwrap() == content);
    assert!(read(23).is_err());
}

#[test]
fn patch_frames_that_refer_to_too_much() {
    let base = bytes::noise(1, 26 * MEBIBYTE);
    let frame = |first: u64, count: u64, content: &[u8]| {
        let (mut ranges, mut frame) = (Vec::new(), Vec::new());
        varint::put(&mut ranges, first);
        varint::put(&mut ranges, count);
        let sections = [(&*ranges, Storage::Raw), (content, Storage::Raw)];
        table::write(&mut frame, &sections).unwrap();
        frame
    };
    let read = |patches: &[u8], len: usize| {
        let size = len as u64;
        let delta = delta_of(size, &base, &[DeltaOp::Patch(size)], patches, b"");
        read_delta(&delta, &[&base], size)
    };
    // The tail is cut every MiB.
    assert_eq!(read(&frame(0, 24, b"new"), 3).unwrap(), b"new");
    assert!(read(&frame(0, 25, b"new"), 3).is_err());
    assert!(read(&frame(2, 24, b"new"), 3).is_ok());
    assert!(read(&frame(3, 24, b"new"), 3).is_err());
    assert!(read(&frame(u64::MAX, u64::MAX, b"new"), 3).is_err());
    assert!(read(&frame(0, 0, b"new"), 4).is_err());
    assert!(read(&frame(0, 0, b"new"), 2).is_err());
    assert!(read(&frame(0, 0, b""), 1).is_err());
    // All frames together refer to more than four times the bytes that there are.
    let many = frame(0, 24, b"x").repeat(6);
    assert!(
        read(&many, 6)
            .unwrap_err()
            .to_string()
            .contains("too many old bytes")
    );
}

#[test]
fn patch_frames_that_need_many_reads() {
    // Each header separates the contents before and after it.
    let base = layer_pairs::sources(false, 2_000, 1);
    let mut frame = Vec::new();
    let mut ranges = Vec::new();
    varint::put(&mut ranges, 0);
    varint::put(&mut ranges, 2_000);
    let sections = [(&*ranges, Storage::Raw), (&b"x"[..], Storage::Raw)];
    table::write(&mut frame, &sections).unwrap();
    let read = |count: usize| {
        let (size, patches) = (count as u64, frame.repeat(count));
        let delta = delta_of(size, &base, &[DeltaOp::Patch(size)], &patches, b"");
        read_delta(&delta, &[&base], size)
    };
    assert_eq!(read(2).unwrap(), b"xx");
    assert!(
        read(100)
            .unwrap_err()
            .to_string()
            .contains("too many old bytes")
    );
}
