//! Tests of restorations: what can be restored, and for how long.

use std::time::Duration;

use imgsync_oci::{Algorithm, Digest, Reference};

use super::super::cache::tests::{folder, image, index, push, push_blob};
use super::super::{Error, Registry};
use super::tests::{
    HOUR, collect_after, delete, has_blob, has_bytes, has_image, name, now, push_image, restore,
};
use super::{CollectStats, ContentTarget};
use crate::config::IndexPlatforms;
use crate::store::ObjectKey;

#[test]
fn a_deleted_image_is_collected_and_can_be_restored() {
    let root = folder();
    let registry = Registry::open(root.path()).unwrap();
    let layers: [&[u8]; 2] = [b"one", b"two"];
    let digest = push_image(&registry, "a", "v1", &layers);
    push(&registry, &name("a"), "v2", &image("v1", &layers).0).unwrap();
    delete(&registry, "a", &digest.to_string());
    let stats = collect_after(&registry, 1000);
    assert_eq!((stats.links, stats.blobs), (3, 4));
    assert!(!has_bytes(&registry, b"one"));
    let v1 = ContentTarget::Tag(name("a"), "v1".parse().unwrap());
    let report = restore(&registry, v1.clone());
    assert!(report.gone.is_empty() && report.occupied.is_empty());
    assert!(has_image(&registry, "a", "v1", &layers));
    let unknown: Reference = "v2".parse().unwrap();
    let missing = registry.get_manifest(&name("a"), &unknown);
    assert!(matches!(missing, Err(Error::ManifestUnknown(_))));
    // A restoration that was interrupted can be repeated.
    assert_eq!(restore(&registry, v1).restored, []);
    restore(&registry, ContentTarget::Repository(name("a")));
    assert!(has_image(&registry, "a", "v2", &layers));
    // Restored content is not collected again at once.
    assert_eq!(collect_after(&registry, 1000), CollectStats::default());
}

#[test]
fn a_repository_gets_back_only_what_was_removed_from_it() {
    let root = folder();
    let registry = Registry::open(root.path()).unwrap();
    let other = push_image(&registry, "other", "v1", &[b"of the other"]);
    let target = ContentTarget::Manifest(name("a"), other.clone());
    let report = restore(&registry, target);
    assert_eq!((report.restored, report.gone), (vec![], [other].into()));
    // An index may name manifests that its repository does not have.
    let index = index(&[b"of the other"]);
    let (tag, platforms) = ("v1".parse().unwrap(), IndexPlatforms::None);
    registry
        .put_manifest_with(&name("a"), &tag, &[], None, &index, &platforms)
        .unwrap();
    delete(&registry, "a", &Digest::of(&index).to_string());
    let report = restore(&registry, ContentTarget::Repository(name("a")));
    assert_eq!(report.gone, [Digest::of(b"of the other")].into());
    assert!(!has_blob(&registry, "a", b"of the other"));
}

#[test]
fn sha512_content_of_a_stock_registry_can_be_restored() {
    let root = folder();
    let registry = Registry::open(root.path()).unwrap();
    let layer = b"content";
    let (long, short) = (Digest::of_with(Algorithm::Sha512, layer), Digest::of(layer));
    push_blob(&registry, &name("b"), layer);
    let repository = name("a");
    let link = ObjectKey::LayerLink(&repository, &long);
    let text = short.to_string();
    registry.store.put(link, text.as_bytes()).unwrap();
    collect_after(&registry, 1000);
    assert!(!has_bytes(&registry, layer));
    let report = restore(&registry, ContentTarget::Digest(long.clone()));
    assert_eq!(report.gone, [].into());
    assert!(registry.open_blob(&repository, &long).is_ok());
}

#[test]
fn a_tag_that_exists_again_is_not_changed() {
    let root = folder();
    let registry = Registry::open(root.path()).unwrap();
    push_image(&registry, "a", "v1", &[b"one"]);
    delete(&registry, "a", "v1");
    let (other, config) = image("other", &[b"one"]);
    push_blob(&registry, &name("a"), &config);
    push(&registry, &name("a"), "v1", &other).unwrap();
    let tag = "v1".parse().unwrap();
    let report = restore(&registry, ContentTarget::Tag(name("a"), tag));
    assert_eq!(report.occupied, [(name("a"), "v1".parse().unwrap())]);
    let reference = "v1".parse().unwrap();
    let current = registry.get_manifest(&name("a"), &reference).unwrap();
    assert_eq!(current.digest, Digest::of(&other));
}

#[test]
fn what_was_in_the_trash_for_long_enough_is_gone() {
    let root = folder();
    let registry = Registry::open(root.path()).unwrap();
    let digest = push_image(&registry, "a", "v1", &[b"one"]);
    delete(&registry, "a", &digest.to_string());
    collect_after(&registry, 1000);
    let undo = Duration::from_secs(24 * HOUR);
    registry.expire_trash(undo, now() + 1001 * HOUR).unwrap();
    assert!(!registry.store.trash_parts().unwrap().is_empty());
    registry.expire_trash(undo, now() + 1025 * HOUR).unwrap();
    assert!(registry.store.trash_parts().unwrap().is_empty());
    let target = ContentTarget::Manifest(name("a"), digest.clone());
    let report = restore(&registry, target);
    assert!(report.gone.contains(&digest) && report.restored.is_empty());
}
