//! Tests of deltas: pairs of layers, and what is built from the delta of each.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::expect_used,
    reason = "the generators are shared with the tests of the programs, which use more of them"
)]

#[path = "../../../../tests/support/bytes.rs"]
pub(super) mod bytes;
#[path = "../../../../tests/support/layer_pairs.rs"]
pub(super) mod layer_pairs;
#[path = "../../../../tests/support/zip.rs"]
mod zip;

mod hostile;
mod round_trips;
mod sizes;

use std::io::{Cursor, Read};

use super::*;
use layer_pairs::LayerPair;

/// Which part of the old layer the encoder has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    Index,
    Bytes,
}

/// Makes the delta of a layer, and builds the layer from it.
fn round_trip(old: &[&[u8]], new: &[u8], known: Known) -> (DeltaSummary, Vec<u8>) {
    let (summary, delta) = make_delta(old, new, known).expect("a delta");
    assert_eq!(summary.size, delta.len() as u64);
    assert_eq!(summary.raw_size, new.len() as u64);
    let built = read_delta(&delta, old, new.len() as u64).expect("a good delta");
    assert!(built == new, "another layer was built");
    (summary, delta)
}

fn make_delta(
    old: &[&[u8]],
    new: &[u8],
    known: Known,
) -> Result<(DeltaSummary, Vec<u8>), EncodeError> {
    let bases = old.iter().map(|old| match known {
        Known::Index => EncodeBase::Index(index(old)),
        Known::Bytes => EncodeBase::Decoded(base(old)),
    });
    let new = new.to_vec();
    let open = || Ok(Box::new(Cursor::new(new.clone())) as Box<dyn Read>);
    let create_scratch = || Ok(Cursor::new(Vec::new()));
    let mut delta = Vec::new();
    let mut bases: Vec<_> = bases.collect();
    let summary = encode(&open, &mut bases, &create_scratch, u64::MAX, &mut delta)?;
    Ok((summary, delta))
}

fn read_delta(delta: &[u8], old: &[&[u8]], raw_size: u64) -> std::io::Result<Vec<u8>> {
    let bases = old.iter().map(|old| base(old)).collect();
    let (len, delta) = (delta.len() as u64, Cursor::new(delta));
    let mut reader =
        DeltaReader::open(delta, len, bases, raw_size).map_err(std::io::Error::other)?;
    let mut layer = Vec::new();
    reader.read_to_end(&mut layer)?;
    Ok(layer)
}

fn base(layer: &[u8]) -> DecodedBase<Cursor<Vec<u8>>> {
    DecodedBase::decode(layer, Cursor::new(Vec::new())).expect("a layer with few files")
}

/// Returns the index after a passage through its bytes.
fn index(layer: &[u8]) -> LayerIndex {
    let mut builder = IndexBuilder::default();
    builder.update(layer).expect("a layer with few files");
    let index = builder.finish().expect("a layer with few files");
    let bytes = index.to_bytes().expect("a small index");
    let parsed = LayerIndex::parse(&bytes).expect("a good index");
    assert_eq!(parsed, index);
    index
}
