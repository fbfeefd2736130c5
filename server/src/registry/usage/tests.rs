//! Tests of the measurement of storage, with so many blobs that it takes several walks.

use std::time::Duration;

use imgsync_oci::{Digest, Repository};

use super::super::cache::tests::{folder, image, push, push_blob};
use super::super::{Registry, Walk};
use super::StorageUsage;
use crate::store::TrashPart;
use crate::wall_clock::unix_now;

fn name(text: &str) -> Repository {
    text.parse().unwrap()
}

/// Pushes an image and returns the size of its manifest and its config in bytes.
fn push_image(registry: &Registry, repository: &str, tag: &str, layers: &[&[u8]]) -> u64 {
    let repository = name(repository);
    let (manifest, config) = image(tag, layers);
    for blob in layers.iter().copied().chain([&config[..]]) {
        push_blob(registry, &repository, blob);
    }
    push(registry, &repository, tag, &manifest).unwrap();
    (manifest.len() + config.len()) as u64
}

fn measure(registry: &Registry, limit: usize) -> StorageUsage {
    registry.measure_storage(limit, &Walk::unbounded()).unwrap()
}

#[test]
fn what_is_shared_unlinked_or_untagged_is_counted_once() {
    let root = folder();
    let registry = Registry::open(root.path()).unwrap();
    let shared: &[u8] = &[1; 1000];
    let one = push_image(&registry, "a", "v1", &[shared, &[2; 200]]);
    push_image(&registry, "b", "v1", &[shared, &[2; 200]]);
    let two = push_image(&registry, "b", "v2", &[shared, &[3; 50]]);
    let three = push_image(&registry, "c/d", "v3", &[&[4; 7]]);
    // The first image of this tag loses it. Both have the config and the layer of 8 bytes.
    let config = image("t", &[]).1.len() as u64;
    let old = push_image(&registry, "c/d", "t", &[&[5; 30], &[6; 8]]) - config;
    push_image(&registry, "c/d", "t", &[&[6; 8]]);
    let usage = measure(&registry, 2);
    let listed: Vec<(&str, u64, u64)> = usage
        .largest
        .iter()
        .map(|listed| {
            (
                listed.repository.as_str(),
                listed.bytes,
                listed.shared_bytes,
            )
        })
        .collect();
    let first = one + 1200;
    assert_eq!(listed[0], ("b", first + two + 50, first));
    assert_eq!(listed[1], ("a", first, first));
    assert_eq!(listed.len(), 2);
    assert_eq!(usage.repositories, 3);
    assert_eq!(usage.saved_bytes(), first);
    assert_eq!(usage.unlinked_bytes, 0);
    assert_eq!(
        (usage.untagged_manifests, usage.untagged_bytes),
        (1, old + 30)
    );
    assert!(three > 0 && usage.blobs > 10);

    // Deleted content is in no repository, until it is collected.
    let digest = Digest::of(&image("v3", &[&[4; 7]]).0);
    let reference = digest.to_string().parse().unwrap();
    registry
        .delete_manifest(&name("c/d"), &reference, &Walk::unbounded())
        .unwrap();
    let manifest = image("v3", &[&[4; 7]]).0.len() as u64;
    let after = measure(&registry, 0);
    assert_eq!(after.unlinked_bytes, manifest);
    assert_eq!(after.blob_bytes, usage.blob_bytes);
    assert!(after.largest.is_empty());
}

#[test]
fn an_abandoned_measurement_ends() {
    let root = folder();
    let registry = Registry::open(root.path()).unwrap();
    push_image(&registry, "a", "v1", &[b"layer"]);
    assert!(
        registry
            .measure_storage(1, &Walk::new(5, &|| false))
            .is_err()
    );
    assert!(
        registry
            .measure_storage(1, &Walk::new(u64::MAX, &|| true))
            .is_err()
    );
}

#[test]
fn the_trash_and_uploads_are_summed_up() {
    let root = folder();
    let registry = Registry::open(root.path()).unwrap();
    let walk = Walk::unbounded();
    let undo = Duration::from_secs(100);
    let trash = registry.summarize_trash(undo, &walk).unwrap();
    assert_eq!((trash.entries, trash.first_expiry), (0, None));
    push_image(&registry, "a", "v1", &[b"layer"]);
    registry
        .delete_manifest(&name("a"), &"v1".parse().unwrap(), &walk)
        .unwrap();
    let trash = registry.summarize_trash(undo, &walk).unwrap();
    assert_eq!((trash.entries, trash.bytes), (1, 0));
    let expiry = TrashPart::at(unix_now()).expires_at(100);
    assert!(
        trash
            .last_expiry
            .is_some_and(|time| time <= expiry && time + 600 >= expiry)
    );
    let uploads = registry.summarize_uploads(&walk).unwrap();
    assert_eq!((uploads.count, uploads.oldest), (0, None));
}
