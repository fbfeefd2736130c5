use imgsync_oci::media;

use super::*;
use crate::plan::LayerEvidence;

const MIB: u64 = 1024 * 1024;

fn layer(name: &str, created_by: Option<&str>) -> LayerHistory {
    LayerHistory {
        layer: Digest::of(name.as_bytes()),
        diff_id: Digest::of(name.as_bytes()),
        created_by: created_by.map(str::to_owned),
    }
}

fn older(layers: &[(&str, Option<&str>)]) -> OlderImage {
    let layers = layers.iter().map(|(name, created_by)| OlderLayer {
        blob: blob(name, MIB),
        diff_id: Digest::of(name.as_bytes()),
        created_by: created_by.map(str::to_owned),
    });
    OlderImage {
        tag: Tag::latest(),
        layers: layers.collect(),
    }
}

fn blob(name: &str, size: u64) -> Descriptor {
    let digest = Digest::of(format!("blob of {name}").as_bytes());
    Descriptor::new(media::DOCKER_LAYER_GZIP, digest, size)
}

/// Returns a plan that sends these layers, each of `size` bytes.
fn plan(layers: &[LayerHistory], size: Option<u64>) -> PushPlan {
    let layers = layers.iter().map(|layer| LayerEvidence {
        layer: layer.layer.clone(),
        size,
        candidate: None,
        mount: None,
    });
    PushPlan::new(layers.collect(), &HashSet::new())
}

fn raw(layers: &[LayerHistory]) -> HashSet<Digest> {
    layers.iter().map(|layer| layer.layer.clone()).collect()
}

/// Plans deltas for an image of which all layers are sent. Returns for each layer the names of its
/// bases in `older`.
fn pairs(layers: &[LayerHistory], old: &[(&str, Option<&str>)]) -> Vec<Vec<String>> {
    let mut plan = plan(layers, None);
    let image = older(old);
    plan.plan_deltas(&raw(layers), layers, &image);
    let names = |step: &BlobStep| match step {
        BlobStep::Send {
            delta: Some(delta), ..
        } => {
            let name = |base: &DeltaBase| {
                let mut names = old.iter().map(|(name, _)| *name);
                let found = names.find(|name| blob(name, MIB).digest == base.blob);
                found.unwrap().to_owned()
            };
            delta.bases.iter().map(name).collect()
        }
        _ => Vec::new(),
    };
    plan.steps.iter().map(|(_, step)| names(step)).collect()
}

#[test]
fn layers_are_paired_by_the_instruction() {
    let new = [
        layer("base", Some("ADD root")),
        layer("tools 2", Some("RUN apt")),
        layer("more", Some("COPY more")),
        layer("app 2", Some("COPY app")),
    ];
    let old = [
        ("base", Some("ADD root")),
        ("tools 1", Some("RUN apt")),
        ("app 1", Some("COPY app")),
    ];
    // The layer of the base image is the same, and the one of a new instruction has no counterpart.
    assert_eq!(
        pairs(&new, &old),
        [vec![], vec!["tools 1"], vec![], vec!["app 1"]]
    );
}

#[test]
fn layers_without_a_common_instruction_are_paired_by_their_position_from_the_top() {
    let new = [
        layer("base 2", None),
        layer("dependencies 2", None),
        layer("app 2", None),
    ];
    let old = [("base 1", None), ("dependencies 1", None), ("app 1", None)];
    assert_eq!(
        pairs(&new, &old),
        [vec!["base 1"], vec!["dependencies 1"], vec!["app 1"]]
    );
    // The older builder of Docker writes the digest of the files into the instruction.
    let new = [
        layer("dependencies 2", Some("RUN pip")),
        layer("app 2", Some("COPY file:2 in /app")),
    ];
    let old = [
        ("dependencies 1", Some("RUN pip")),
        ("app 1", Some("COPY file:1 in /app")),
    ];
    assert_eq!(pairs(&new, &old), [["dependencies 1"], ["app 1"]]);
}

#[test]
fn the_layers_of_another_base_image_are_paired_too() {
    let new = [
        layer("debian 2", Some("ADD rootfs")),
        layer("python 2", Some("RUN make python")),
    ];
    let old = [
        ("debian 1", Some("ADD rootfs")),
        ("certificates", Some("RUN apt")),
        ("python 1", Some("RUN make python")),
    ];
    assert_eq!(pairs(&new, &old), [["debian 1"], ["python 1"]]);
}

#[test]
fn with_another_number_of_layers_neighbours_are_bases_too() {
    let new = [layer("dependencies 2", None), layer("app 2", None)];
    let old = [("dependencies 1", None), ("app 1", None), ("extra", None)];
    assert_eq!(
        pairs(&new, &old),
        [
            vec!["app 1", "extra", "dependencies 1"],
            vec!["extra", "app 1", "dependencies 1"]
        ]
    );
    let old = [
        ("one", None),
        ("two", None),
        ("three", None),
        ("four", None),
    ];
    assert_eq!(pairs(&new[..1], &old)[0].len(), MAX_BASES);
    assert_eq!(pairs(&new, &[("app 1", None)]), [["app 1"], ["app 1"]]);
    assert_eq!(pairs(&new, &[]), [vec![""; 0], vec![]]);
}

#[test]
fn an_instruction_that_occurs_twice_has_both_layers_as_bases() {
    let new = [
        layer("one 2", Some("COPY . .")),
        layer("two 2", Some("COPY . .")),
    ];
    let old = [("one 1", Some("COPY . .")), ("two 1", Some("COPY . ."))];
    assert_eq!(pairs(&new, &old), [vec!["one 1"], vec!["two 1", "one 1"]]);
    // A layer that occurs twice is sent once.
    let new = [
        layer("same", Some("COPY . .")),
        layer("same", Some("RUN x")),
    ];
    assert_eq!(
        pairs(&new, &old).iter().filter(|it| !it.is_empty()).count(),
        1
    );
}

#[test]
fn only_large_raw_layers_get_deltas() {
    let layers = [layer("new", None)];
    let raw = raw(&layers);
    for (size, is_candidate) in [(None, true), (Some(MIB), true), (Some(MIB - 1), false)] {
        let plan = plan(&layers, size);
        assert_eq!(!plan.delta_candidates(&raw).is_empty(), is_candidate);
        assert!(plan.delta_candidates(&HashSet::new()).is_empty());
    }
    // A compressed layer counts with its compressed size.
    let mut plan = plan(&layers, Some(100 * MIB));
    plan.mark_packed(&layers[0].diff_id, MIB - 1);
    assert!(plan.delta_candidates(&raw).is_empty());
    plan.mark_packed(&layers[0].diff_id, MIB);
    assert_eq!(plan.delta_candidates(&raw).len(), 1);
    assert!(plan.deltas().is_empty());
    plan.plan_deltas(&raw, &layers, &older(&[("old", None)]));
    assert_eq!(plan.deltas().len(), 1);
}

/// A compressed layer is known by the digest of its blob, and paired by its diffID.
#[test]
fn compressed_layers_are_paired_by_the_diff_id() {
    let compressed = |name: &str| LayerHistory {
        layer: blob(name, MIB).digest,
        ..layer(name, None)
    };
    let new = [compressed("base"), compressed("app 2")];
    let old = [("base", None), ("app 1", None)];
    assert_eq!(pairs(&new, &old), [vec![], vec!["app 1"]]);
}

#[test]
fn fast_connections_send_whole_layers() {
    for (sent, is_whole) in [
        (None, false),
        (Some(12_000_000), false),
        (Some(12_000_001), true),
    ] {
        let rates = TransferRates {
            sent,
            received: None,
        };
        assert_eq!(rates.favour_whole_layers(), is_whole);
    }
}

#[test]
fn a_base_must_be_a_tar_of_some_size() {
    let layers = [layer("new", None)];
    for (media_type, size, is_base) in [
        (media::DOCKER_LAYER_GZIP, MIN_BASE_BYTES, true),
        (media::DOCKER_LAYER_GZIP, MIN_BASE_BYTES - 1, false),
        ("application/vnd.example", MIB, false),
    ] {
        let mut image = older(&[("old", None)]);
        image.layers[0].blob = Descriptor::new(media_type, Digest::of(b"x"), size);
        let mut plan = plan(&layers, None);
        plan.plan_deltas(&raw(&layers), &layers, &image);
        assert_eq!(!plan.deltas().is_empty(), is_base, "{media_type}");
    }
}

/// Layers that are too small for a delta count for the position, too.
#[test]
fn small_layers_are_paired_and_get_no_delta() {
    let layers = [layer("large 2", None), layer("small 2", None)];
    let mut image = older(&[("large 1", None), ("small 1", None)]);
    image.layers[1].blob = blob("small 1", MIN_BASE_BYTES - 1);
    let mut plan = plan(&layers, None);
    let wanted = raw(&layers[..1]);
    plan.plan_deltas(&wanted, &layers, &image);
    let deltas = plan.deltas();
    assert_eq!(deltas.len(), 1);
    let bases = &deltas[&layers[0].diff_id].bases;
    assert_eq!(bases[0].blob, image.layers[0].blob.digest);
}

#[test]
fn the_bases_are_named() {
    let plan = DeltaPlan {
        diff_id: Digest::of(b"new"),
        tag: "v1".parse().unwrap(),
        bases: bases(older(&[("old", None)]).layers.iter()),
    };
    let name = Digest::of(b"old").short().to_owned();
    assert_eq!(plan.to_string(), format!("layer {name} of v1"));
}

#[test]
fn layers_that_compress_very_well_are_sent_whole() {
    let rates = |sent| TransferRates {
        sent,
        received: None,
    };
    for (sent, size, raw_size, is_whole) in [
        (None, 155_000_000, 500_000_000, false),
        (Some(2_500_000), 155_000_000, 500_000_000, false),
        (Some(13_000_000), 155_000_000, 500_000_000, true),
        // A sparse file.
        (None, 2_000_000, 630_000_000, true),
        (Some(100_000), 2_000_000, 630_000_000, false),
        (Some(1), 155_000_000, 5 << 30, true),
    ] {
        let found = rates(sent).favour_whole_layer(size, raw_size);
        assert_eq!(found, is_whole, "{sent:?} {size} {raw_size}");
    }
}
