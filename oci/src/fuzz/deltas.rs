//! Deltas and indexes of layers.

#![allow(
    clippy::expect_used,
    reason = "a failure to make or to read a good delta violates a property"
)]

use std::io::{Cursor, Read};

use crate::delta::{DecodedBase, DeltaReader, EncodeBase, IndexBuilder, LayerIndex, encode};

/// The most bytes that are read of a layer: a delta can describe a large one with few bytes.
const MAX_READ_BYTES: u64 = 4 * 1024 * 1024;

/// An input is the length of a base, the size of a layer, the base and a delta. A layer that can be
/// read has that size.
pub fn deltas(data: &[u8]) {
    let Some((base_len, data)) = data.split_first_chunk() else {
        return;
    };
    let Some((raw_size, data)) = data.split_first_chunk() else {
        return;
    };
    let base_len = u32::from_le_bytes(*base_len) as usize;
    let raw_size = u64::from(u32::from_le_bytes(*raw_size));
    let (base, delta) = data.split_at(base_len.min(data.len()));
    let (size, bases) = (delta.len() as u64, vec![decode(base)]);
    let Ok(reader) = DeltaReader::open(Cursor::new(delta), size, bases, raw_size) else {
        return;
    };
    let mut layer = Vec::new();
    let result = reader.take(MAX_READ_BYTES).read_to_end(&mut layer);
    assert!(layer.len() as u64 <= raw_size);
    if result.is_ok() {
        assert_eq!(layer.len() as u64, raw_size.min(MAX_READ_BYTES));
    }
}

/// Any bytes as an old and a new layer: an input is the length of the old one, the old one and the
/// new one. The new layer is built from its delta, and an index does not depend on the slices that
/// it is built from.
pub fn layers(data: &[u8]) {
    let Some((old_len, data)) = data.split_first_chunk() else {
        return;
    };
    let old_len = u32::from_le_bytes(*old_len) as usize;
    let (old, new) = data.split_at(old_len.min(data.len()));
    let index = build_index(old, old.len().max(1));
    assert_eq!(index, build_index(old, 7));
    let bytes = index.to_bytes().expect("a small layer has an index");
    assert_eq!(LayerIndex::parse(&bytes).ok().as_ref(), Some(&index));
    for base in [EncodeBase::Index(index), EncodeBase::Decoded(decode(old))] {
        let delta = make_delta(new, base);
        let (size, raw_size) = (delta.len() as u64, new.len() as u64);
        let reader = DeltaReader::open(Cursor::new(delta), size, vec![decode(old)], raw_size);
        let mut built = Vec::new();
        let result = reader.expect("a good delta").read_to_end(&mut built);
        result.expect("a good delta");
        assert!(built == new, "another layer was built");
    }
}

/// Bytes that are accepted as an index are written and parsed again as the same index, and can be
/// the base of a delta.
pub fn layer_indexes(data: &[u8]) {
    let Ok(index) = LayerIndex::parse(data) else {
        return;
    };
    let Ok(bytes) = index.to_bytes() else {
        return;
    };
    assert_eq!(LayerIndex::parse(&bytes).ok().as_ref(), Some(&index));
    make_delta(&[b'x'; 2_000], EncodeBase::Index(index));
}

fn make_delta(new: &[u8], base: EncodeBase<Cursor<Vec<u8>>>) -> Vec<u8> {
    let new = new.to_vec();
    let open = || Ok(Box::new(Cursor::new(new.clone())) as Box<dyn Read>);
    let create_scratch = || Ok(Cursor::new(Vec::new()));
    let mut delta = Vec::new();
    let result = encode(&open, &mut [base], &create_scratch, u64::MAX, &mut delta);
    let summary = result.expect("a small layer has a delta");
    assert_eq!(summary.size, delta.len() as u64);
    delta
}

fn build_index(layer: &[u8], slice: usize) -> LayerIndex {
    let mut builder = IndexBuilder::default();
    for bytes in layer.chunks(slice) {
        builder.update(bytes).expect("a small layer has an index");
    }
    builder.finish().expect("a small layer has an index")
}

fn decode(layer: &[u8]) -> DecodedBase<Cursor<Vec<u8>>> {
    let base = DecodedBase::decode(layer, Cursor::new(Vec::new()));
    base.expect("a small layer can be a base")
}
