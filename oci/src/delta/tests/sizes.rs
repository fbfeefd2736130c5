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
