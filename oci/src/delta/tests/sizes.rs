//! Deltas are small.

use super::*;

fn size(pair: &LayerPair, known: Known) -> f64 {
    let (summary, _) = round_trip(&[&pair.old], &pair.new, known);
    eprintln!("{}, {known:?}: {summary:?}", pair.name);
    summary.size as f64
}

#[test]
fn all_times_are_new() {
    let pair = LayerPair {
        name: "sources",
        old: layer_pairs::sources(false, 2_000, 4_096),
        new: layer_pairs::sources(true, 2_000, 4_096),
    };
    // One file of 4 KiB changed. The times compress well.
    assert!(size(&pair, Known::Index) < pair.new.len() as f64 * 0.001);
}

#[test]
fn only_the_heads_of_compiled_python_are_sent() {
    let pair = LayerPair {
        name: "compiled Python",
        old: layer_pairs::compiled_python(false, 500),
        new: layer_pairs::compiled_python(true, 500),
    };
    // One module of 4 KB that does not compress, and its source.
    assert!(size(&pair, Known::Index) < 10_000.0);
}

#[test]
fn members_of_zip_files_are_found() {
    let pair = LayerPair {
        name: "jars",
        old: layer_pairs::jars(false),
        new: layer_pairs::jars(true),
    };
    let total = pair.new.len() as f64;
    assert!(size(&pair, Known::Index) < total * 0.08, "of {total}");
}

#[test]
fn changed_files_are_patched() {
    let pairs = layer_pairs::all().into_iter();
    for pair in pairs.filter(|pair| pair.name.starts_with("binary")) {
        // The noise that was inserted, and a few bytes for each change.
        assert!(size(&pair, Known::Bytes) < 4_000.0);
        assert!(size(&pair, Known::Index) > 12_000_000.0);
    }
}

#[test]
fn zip_files_are_patched() {
    let pair = LayerPair {
        name: "jars",
        old: layer_pairs::jars(false),
        new: layer_pairs::jars(true),
    };
    assert!(size(&pair, Known::Bytes) < size(&pair, Known::Index) * 0.8);
}

#[test]
fn a_delta_that_is_not_worth_it_is_given_up() {
    let new = bytes::noise(1, 3_000_000);
    let mut delta = Vec::new();
    let open = || Ok(Box::new(Cursor::new(new.clone())) as Box<dyn Read>);
    let create_scratch = || Ok(Cursor::new(Vec::new()));
    let mut bases = [EncodeBase::Index(index(b"old"))];
    let result = encode(&open, &mut bases, &create_scratch, 1_000_000, &mut delta);
    assert!(matches!(result, Err(EncodeError::NotWorthwhile(1_000_000))));
    assert!(delta.is_empty());
}
