//! Tests of repairs: what a check repairs, and what the next push heals.

use imgsync_oci::Digest;

use super::super::cache::tests::{folder, image, index, push, push_blob};
use super::tests::{LAYERS, assert_clean, damage, name, open, push_image, run, tag};
use super::{Finding, Repair};
use crate::store::ObjectKey;

#[test]
fn a_damaged_layer_is_reported_with_all_images_and_the_next_push_heals_it() {
    let root = folder();
    let registry = open(&root);
    let one = push_image(&registry, "a", "v1", "one");
    push_image(&registry, "a", "v2", "two");
    push_image(&registry, "b", "v1", "one");
    let (manifest, _) = image("one", &LAYERS);
    push(&registry, &name("a"), "multi", &index(&[&manifest])).unwrap();
    let layer = Digest::of(LAYERS[0]);
    // Of the same size, so that no request notices it.
    damage(&registry, &layer, b"A LAYER");
    let images: Vec<_> = ["a:multi", "a:v1", "a:v2", "b:v1"]
        .map(|image| (image.to_owned(), vec![layer.clone()]))
        .into();
    let expected = |repair| Finding::DamagedBlob {
        digest: layer.clone(),
        size: 7,
        repair,
    };
    for _ in 0..2 {
        let report = run(&registry, false);
        assert_eq!(report.findings, [expected(Repair::None)]);
        assert_eq!(report.images, images);
    }
    assert!(registry.blob_size(&name("a"), &layer).is_ok());
    let report = run(&registry, true);
    assert_eq!(report.findings[0], expected(Repair::Quarantined));
    assert_eq!(report.images, images);
    // Clients are told that the blob is missing, so they send it.
    assert!(registry.blob_size(&name("a"), &layer).is_err());
    let quarantined = root.path().join("imgsync/quarantine-1");
    let quarantined = quarantined.join(format!("sha256-{}", layer.hex()));
    assert_eq!(std::fs::read(quarantined).unwrap(), b"A LAYER");
    push_blob(&registry, &name("a"), LAYERS[0]);
    // The link of the other repository leads to the same bytes.
    assert_clean(&registry);
    assert!(
        registry
            .get_manifest(&name("a"), &one.to_string().parse().unwrap())
            .is_ok()
    );
}

#[test]
fn damaged_links_are_written_again_from_their_names() {
    let root = folder();
    let registry = open(&root);
    let one = push_image(&registry, "a", "v1", "one");
    let layer = Digest::of(LAYERS[0]);
    let repository = name("a");
    let other = Digest::of(LAYERS[1]).to_string();
    for (link, is_manifest) in [
        (ObjectKey::LayerLink(&repository, &layer), false),
        (ObjectKey::RevisionLink(&repository, &one), true),
    ] {
        for bytes in ["", "sha256:1", &other] {
            registry.store.put(link, bytes.as_bytes()).unwrap();
            let digest = if is_manifest { &one } else { &layer };
            let expected = |repair| Finding::DamagedLink {
                repository: repository.clone(),
                digest: digest.clone(),
                is_manifest,
                repair,
            };
            let report = run(&registry, false);
            assert_eq!(report.findings, [expected(Repair::None)]);
            assert_eq!(report.images, [("a:v1".to_owned(), vec![digest.clone()])]);
            let report = run(&registry, true);
            assert_eq!(report.findings, [expected(Repair::Rewritten)]);
            assert!(report.images.is_empty());
            assert_clean(&registry);
        }
    }
    // Without its content, the link leads nowhere.
    let lost = Digest::of(b"lost");
    let link = ObjectKey::LayerLink(&repository, &lost);
    registry.store.put(link, b"").unwrap();
    let report = run(&registry, true);
    assert!(matches!(
        &report.findings[..],
        [Finding::DamagedLink {
            repair: Repair::Removed,
            ..
        }]
    ));
    assert_clean(&registry);
}

#[test]
fn a_damaged_tag_gets_the_manifest_that_its_history_shows() {
    let root = folder();
    let registry = open(&root);
    let repository = name("a");
    let one = push_image(&registry, "a", "v1", "one");
    let v1 = tag("v1");
    let current = ObjectKey::TagCurrent(&repository, &v1);
    registry.store.put(current, b"").unwrap();
    assert_eq!(run(&registry, false).images, [("a:v1".to_owned(), vec![])]);
    let report = run(&registry, true);
    assert_eq!(
        report.findings,
        [Finding::DamagedTag {
            repository: repository.clone(),
            tag: tag("v1"),
            candidates: vec![one.clone()],
            unlisted: 0,
            repair: Repair::Rewritten,
        }]
    );
    assert_clean(&registry);
    // Nobody can tell at which of two manifests the tag pointed.
    push_image(&registry, "a", "v1", "two");
    registry.store.put(current, b"").unwrap();
    for _ in 0..2 {
        let report = run(&registry, true);
        let [
            Finding::DamagedTag {
                candidates, repair, ..
            },
        ] = &report.findings[..]
        else {
            panic!("{:?}", report.findings);
        };
        assert_eq!((candidates.len(), repair), (2, &Repair::None));
        assert_eq!(report.images, [("a:v1".to_owned(), vec![])]);
    }
    // Of many candidates only some are named: the message is a line.
    for number in 0..20 {
        push_image(&registry, "a", "v1", &number.to_string());
    }
    registry.store.put(current, b"").unwrap();
    let [finding] = &run(&registry, true).findings[..] else {
        panic!("there is one finding");
    };
    assert!(finding.to_string().ends_with(" and 12 others"), "{finding}");
    push_image(&registry, "a", "v1", "three");
    assert_clean(&registry);
    // A tag without any manifest leads nowhere.
    let tag = tag("v9");
    let nowhere = ObjectKey::TagCurrent(&repository, &tag);
    registry.store.put(nowhere, b"").unwrap();
    run(&registry, true);
    assert_clean(&registry);
    assert_eq!(registry.store.len(nowhere).unwrap(), None);
}

#[test]
fn a_damaged_tag_does_not_get_an_older_image() {
    let root = folder();
    let registry = open(&root);
    let repository = name("a");
    let old = push_image(&registry, "a", "v1", "old");
    let new = push_image(&registry, "a", "v1", "new");
    let v1 = tag("v1");
    let current = ObjectKey::TagCurrent(&repository, &v1);
    // The disk has lost the new manifest with its link.
    registry.store.put(current, b"").unwrap();
    registry.store.delete(ObjectKey::Blob(&new)).unwrap();
    let link = ObjectKey::RevisionLink(&repository, &new);
    registry.store.delete(link).unwrap();
    let report = run(&registry, true);
    let [
        Finding::DamagedTag {
            candidates, repair, ..
        },
    ] = &report.findings[..]
    else {
        panic!("{:?}", report.findings);
    };
    assert_eq!((&candidates[..], repair), (&[old][..], &Repair::None));
    assert_eq!(registry.read_link(current).unwrap(), None);
    assert_eq!(report.images, [("a:v1".to_owned(), vec![])]);
}
