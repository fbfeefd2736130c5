//! Tests that a delta makes the new layer, whatever its bytes are.

use super::*;

const ALL_KNOWN: [Known; 2] = [Known::Index, Known::Bytes];

#[test]
fn pairs_of_all_kinds() {
    for LayerPair { name, old, new } in layer_pairs::all() {
        for known in ALL_KNOWN {
            let (summary, _) = round_trip(&[&old], &new, known);
            eprintln!("{name}, {known:?}: {summary:?}");
        }
        // A base that has nothing in common.
        round_trip(&[b"old"], &new, Known::Bytes);
        round_trip(&[&old], &[], Known::Bytes);
    }
}

#[test]
fn no_bases_and_several_bases() {
    let parts = [1, 2, 3].map(|seed| {
        let mut tar = layer_pairs::TarWriter::new(false);
        tar.file(&format!("file{seed}"), &bytes::noise(seed, 100_000));
        tar.finish()
    });
    let mut tar = layer_pairs::TarWriter::new(true);
    for seed in [3, 1, 4, 2] {
        tar.file(&format!("file{seed}"), &bytes::noise(seed, 100_000));
    }
    let new = tar.finish();
    for known in ALL_KNOWN {
        let (summary, _) = round_trip(&[&parts[0], &parts[1], &parts[2]], &new, known);
        assert_eq!(summary.copied, 300_000 + 1024);
        assert!(summary.size < 101_000, "{summary:?}");
        round_trip(&[], &new, known);
    }
}

#[test]
fn layers_that_are_cut_at_any_byte() {
    let old = layer_pairs::odd_entries(false);
    let new = layer_pairs::odd_entries(true);
    // The borders of blocks and of numbers, and bytes in between.
    let lens = (0..new.len()).filter(|len| len % 512 < 2 || len % 512 > 510 || len % 199 == 0);
    for len in lens {
        round_trip(&[&old], &new[..len], Known::Index);
        round_trip(&[&new[..len]], &new, Known::Bytes);
    }
}

#[test]
fn layers_that_are_no_tars() {
    for len in [0, 1, 511, 512, 513, 3 * 1024 * 1024 + 5] {
        let garbage = bytes::noise(len as u64, len);
        let mut changed = garbage.clone();
        changed.extend(b"more");
        for known in ALL_KNOWN {
            round_trip(&[&garbage], &changed, known);
            round_trip(&[&changed], &vec![0; len], known);
        }
    }
}

#[test]
fn pieces_do_not_depend_on_the_slices() {
    for LayerPair { name, old, .. } in layer_pairs::all() {
        let old = &old[..old.len().min(2_000_000)];
        let whole = index(old);
        for size in [1, 7, 4_000] {
            let mut builder = IndexBuilder::default();
            for slice in old.chunks(size) {
                builder.update(slice).unwrap();
            }
            assert!(
                builder.finish().unwrap() == whole,
                "{name} in slices of {size}"
            );
        }
    }
}

#[test]
fn many_files() {
    let old = layer_pairs::sources(false, 20_000, 100);
    let new = layer_pairs::sources(true, 20_000, 100);
    let (summary, _) = round_trip(&[&old], &new, Known::Index);
    assert!(summary.size < 40_000, "{summary:?}");
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    let (old, new) = (layer_pairs::jars(false), layer_pairs::jars(true));
    for known in ALL_KNOWN {
        let deltas = [(); 2].map(|()| make_delta(&[&old], &new, known).unwrap().1);
        assert!(deltas[0] == deltas[1]);
    }
}
