//! Tests of collections: what is removed, and what stays.

use std::time::Duration;

use imgsync_oci::{Digest, Reference, Repository};

use super::super::cache::tests::{cache_blob, folder, image, index, push, push_blob};
use super::super::cache::to_unix_seconds;
use super::super::{Registry, UploadOwner, Walk};
use super::{CollectOptions, CollectStats, ContentTarget, RestoreReport, UntaggedPolicy};
use crate::store::{ObjectKey, TrashEntry};
use crate::wall_clock;

pub(super) const HOUR: u64 = 3600;
pub(super) const GRACE: Duration = Duration::from_secs(24 * HOUR);

pub(super) fn now() -> u64 {
    to_unix_seconds(wall_clock::now())
}

pub(super) fn name(text: &str) -> Repository {
    text.parse().unwrap()
}

/// Pushes an image with its blobs, and returns its digest.
pub(super) fn push_image(
    registry: &Registry,
    repository: &str,
    tag: &str,
    layers: &[&[u8]],
) -> Digest {
    let (manifest, config) = image(tag, layers);
    for blob in layers.iter().copied().chain([&config[..]]) {
        push_blob(registry, &name(repository), blob);
    }
    push(registry, &name(repository), tag, &manifest).unwrap();
    Digest::of(&manifest)
}

pub(super) fn delete(registry: &Registry, repository: &str, reference: &str) {
    let reference: Reference = reference.parse().unwrap();
    let walk = Walk::unbounded();
    registry
        .delete_manifest(&name(repository), &reference, &walk)
        .unwrap();
}

/// Returns the result of a collection that only found this much unused content that is not old
/// enough.
fn kept(recent: usize) -> CollectStats {
    CollectStats {
        recent,
        ..CollectStats::default()
    }
}

/// Collects `hours` from now.
pub(super) fn collect_after(registry: &Registry, hours: u64) -> CollectStats {
    let options = CollectOptions {
        grace: GRACE,
        untagged: UntaggedPolicy::Keep,
        is_dry_run: false,
    };
    let now = now() + hours * HOUR;
    let stats = registry.collect_garbage(&options, now, &mut |_| {});
    stats.unwrap().unwrap()
}

pub(super) fn has_blob(registry: &Registry, repository: &str, bytes: &[u8]) -> bool {
    registry
        .open_blob(&name(repository), &Digest::of(bytes))
        .is_ok()
}

/// Returns whether bytes are stored, whatever links them.
pub(super) fn has_bytes(registry: &Registry, bytes: &[u8]) -> bool {
    let digest = Digest::of(bytes);
    let len = registry.store.len(ObjectKey::Blob(&digest)).unwrap();
    len.is_some()
}

pub(super) fn has_image(
    registry: &Registry,
    repository: &str,
    reference: &str,
    layers: &[&[u8]],
) -> bool {
    let reference: Reference = reference.parse().unwrap();
    let manifest = registry.get_manifest(&name(repository), &reference);
    manifest.is_ok()
        && layers
            .iter()
            .all(|layer| has_blob(registry, repository, layer))
}

pub(super) fn restore(registry: &Registry, target: ContentTarget) -> RestoreReport {
    registry.restore(&target).unwrap()
}

#[test]
fn blobs_that_no_manifest_names_are_removed_once_the_grace_period_is_over() {
    let root = folder();
    let registry = Registry::open(root.path()).unwrap();
    registry.start_leases(now(), GRACE);
    push_image(&registry, "a", "v1", &[b"one", b"shared"]);
    push_image(&registry, "b", "v1", &[b"two", b"shared"]);
    for repository in ["a", "b"] {
        push_blob(&registry, &name(repository), b"garbage");
    }
    push_blob(&registry, &name("a"), b"two");
    assert_eq!(collect_after(&registry, 23), kept(3));
    let stats = collect_after(&registry, 25);
    let expected = CollectStats {
        manifests: 0,
        links: 3,
        blobs: 1,
        bytes: 7,
        recent: 0,
        damaged: 0,
        ..CollectStats::default()
    };
    assert_eq!(stats, expected);
    assert!(has_image(&registry, "a", "v1", &[b"one", b"shared"]));
    assert!(has_image(&registry, "b", "v1", &[b"two", b"shared"]));
    assert!(!has_blob(&registry, "a", b"garbage") && !has_bytes(&registry, b"garbage"));
    assert!(!has_blob(&registry, "a", b"two") && has_bytes(&registry, b"two"));
    assert_eq!(collect_after(&registry, 49), CollectStats::default());
}

#[test]
fn a_dry_run_reports_the_same_and_removes_nothing() {
    let root = folder();
    let registry = Registry::open(root.path()).unwrap();
    push_image(&registry, "a", "v1", &[b"one"]);
    for repository in ["a", "b"] {
        push_blob(&registry, &name(repository), b"garbage");
    }
    let collect = |is_dry_run| {
        let (grace, mut entries) = (Duration::ZERO, Vec::new());
        let options = CollectOptions {
            grace,
            untagged: UntaggedPolicy::Keep,
            is_dry_run,
        };
        let report = &mut |entry: &TrashEntry| entries.push(entry.to_string());
        let stats = registry.collect_garbage(&options, now() + 1, report);
        let stats = stats.unwrap().unwrap();
        entries.sort();
        (stats, entries)
    };
    let (stats, entries) = collect(true);
    assert_eq!((stats.links, stats.blobs, stats.bytes), (2, 1, 7));
    assert_eq!(entries.len(), 3);
    assert!(has_blob(&registry, "a", b"garbage"));
    assert!(registry.store.trash_parts().unwrap().is_empty());
    assert_eq!(collect(false), (stats, entries));
    assert_eq!(collect(false).0, CollectStats::default());
}

#[test]
fn what_a_client_was_promised_is_kept() {
    let root = folder();
    let registry = Registry::open(root.path()).unwrap();
    push_blob(&registry, &name("a"), b"old");
    push_blob(&registry, &name("b"), b"mounted");
    // The server starts when the blobs are old.
    let in_hours = |hours: u64| now() + hours * HOUR;
    let options = CollectOptions {
        grace: Duration::from_secs(HOUR),
        untagged: UntaggedPolicy::Keep,
        is_dry_run: false,
    };
    registry.start_leases(now(), GRACE);
    let collect_at = |time| {
        let collected = registry.collect_garbage(&options, time, &mut |_| {});
        collected.unwrap().unwrap()
    };
    // A restart begins a new grace period.
    assert_eq!(collect_at(now() + HOUR - 60), kept(2));
    registry.blob_size(&name("a"), &Digest::of(b"old")).unwrap();
    let mounted = registry.mount(&name("a"), &name("b"), &Digest::of(b"mounted"));
    assert!(mounted.unwrap());
    assert_eq!(collect_at(now() + HOUR - 60), kept(3));
    let stats = collect_at(in_hours(2));
    assert_eq!((stats.links, stats.blobs), (3, 2));
}

#[test]
fn an_open_upload_renews_the_leases_of_its_repository() {
    let root = folder();
    let registry = Registry::open(root.path()).unwrap();
    registry.start_leases(now(), GRACE);
    for repository in ["a", "b"] {
        push_blob(&registry, &name(repository), b"first layer of a long push");
    }
    let owner = UploadOwner::Unknown;
    let algorithm = imgsync_oci::Algorithm::Sha256;
    let id = registry
        .start_upload(&name("a"), algorithm, &owner)
        .unwrap();
    // A write to the session after 30 hours.
    let data = root.path().join(format!(
        "docker/registry/v2/repositories/a/_uploads/{id}/data"
    ));
    let file = std::fs::File::options().write(true).open(&data).unwrap();
    file.set_modified(wall_clock::now() + Duration::from_secs(30 * HOUR))
        .unwrap();
    let stats = collect_after(&registry, 31);
    assert_eq!((stats.links, stats.blobs), (1, 0));
    assert!(has_blob(&registry, "a", b"first layer of a long push"));
    assert!(!has_blob(&registry, "b", b"first layer of a long push"));
    // The push was given up.
    let stats = collect_after(&registry, 31 + 25);
    assert_eq!((stats.links, stats.blobs), (1, 1));
}

#[test]
fn indexes_referrers_and_cached_content_are_kept() {
    let root = folder();
    let registry = Registry::open(root.path()).unwrap();
    let images: Vec<_> = ["amd64", "arm64"]
        .map(|word| image(word, &[word.as_bytes()]))
        .to_vec();
    let repository = name("a");
    for ((manifest, config), word) in images.iter().zip(["amd64", "arm64"]) {
        push_blob(&registry, &repository, config);
        push_blob(&registry, &repository, word.as_bytes());
        let digest = Digest::of(manifest).to_string();
        push(&registry, &repository, &digest, manifest).unwrap();
    }
    let manifests: Vec<&[u8]> = images.iter().map(|(manifest, _)| &manifest[..]).collect();
    push(&registry, &repository, "v1", &index(&manifests)).unwrap();
    cache_blob(&registry, &name("ghcr.io/x"), b"cached", now());
    let stats = collect_after(&registry, 1000);
    assert_eq!(stats, CollectStats::default());
    assert!(has_blob(&registry, "ghcr.io/x", b"cached"));
    assert!(has_blob(&registry, "a", b"arm64"));
}

#[test]
fn damaged_files_are_counted_and_stop_nothing() {
    let root = folder();
    let registry = Registry::open(root.path()).unwrap();
    push_image(&registry, "a", "v1", &[b"one"]);
    let cut_off = push_image(&registry, "b", "v1", &[b"two"]);
    let empty = push_image(&registry, "c", "v1", &[b"three"]);
    for repository in ["a", "b", "c"] {
        push_blob(&registry, &name(repository), b"garbage");
    }
    let manifest = registry.store.get(ObjectKey::Blob(&cut_off), 9999);
    let manifest = manifest.unwrap().unwrap();
    let put = |key, bytes: &[u8]| registry.store.put(key, bytes).unwrap();
    put(ObjectKey::Blob(&cut_off), &manifest[..manifest.len() - 9]);
    put(ObjectKey::Blob(&empty), b"");
    // An empty link to a manifest, and one to a blob.
    let (a, digest) = (name("a"), Digest::of(b"gone"));
    put(ObjectKey::RevisionLink(&a, &digest), b"");
    put(ObjectKey::LayerLink(&a, &digest), b"");
    let stats = collect_after(&registry, 1000);
    assert_eq!(stats.damaged, 2);
    // Nobody can tell what the empty manifest named, so its repository keeps its blobs.
    assert!(has_blob(&registry, "c", b"three") && has_blob(&registry, "c", b"garbage"));
    assert!(has_blob(&registry, "b", b"two") && !has_blob(&registry, "b", b"garbage"));
    assert!(has_blob(&registry, "a", b"one") && !has_blob(&registry, "a", b"garbage"));
}
