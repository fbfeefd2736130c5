//! Tests of collections: what is removed, what stays, and what can be restored.

use std::time::Duration;

use imgsync_oci::{Digest, Reference, Repository};

use super::super::cache::tests::{cache_blob, descriptor, folder, image, index, push, push_blob};
use super::super::cache::to_unix_seconds;
use super::super::{Error, Registry, UploadOwner, Walk};
use super::{CollectOptions, CollectStats, ContentTarget, RestoreReport, UntaggedPolicy};
use crate::store::{ObjectKey, TrashEntry};
use crate::wall_clock;

const HOUR: u64 = 3600;
const GRACE: Duration = Duration::from_secs(24 * HOUR);

fn now() -> u64 {
    to_unix_seconds(wall_clock::now())
}

fn name(text: &str) -> Repository {
    text.parse().unwrap()
}

/// Pushes an image with its blobs, and returns its digest.
fn push_image(registry: &Registry, repository: &str, tag: &str, layers: &[&[u8]]) -> Digest {
    let (manifest, config) = image(tag, layers);
    for blob in layers.iter().copied().chain([&config[..]]) {
        push_blob(registry, &name(repository), blob);
    }
    push(registry, &name(repository), tag, &manifest).unwrap();
    Digest::of(&manifest)
}

fn delete(registry: &Registry, repository: &str, reference: &str) {
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
fn collect_after(registry: &Registry, hours: u64) -> CollectStats {
    let options = CollectOptions {
        grace: GRACE,
        untagged: UntaggedPolicy::Keep,
        is_dry_run: false,
    };
    let now = now() + hours * HOUR;
    let stats = registry.collect_garbage(&options, now, &mut |_| {});
    stats.unwrap().unwrap()
}

fn has_blob(registry: &Registry, repository: &str, bytes: &[u8]) -> bool {
    registry
        .open_blob(&name(repository), &Digest::of(bytes))
        .is_ok()
}

/// Returns whether bytes are stored, whatever links them.
fn has_bytes(registry: &Registry, bytes: &[u8]) -> bool {
    let digest = Digest::of(bytes);
    let len = registry.store.len(ObjectKey::Blob(&digest)).unwrap();
    len.is_some()
}

fn has_image(registry: &Registry, repository: &str, reference: &str, layers: &[&[u8]]) -> bool {
    let reference: Reference = reference.parse().unwrap();
    let manifest = registry.get_manifest(&name(repository), &reference);
    manifest.is_ok()
        && layers
            .iter()
            .all(|layer| has_blob(registry, repository, layer))
}

fn restore(registry: &Registry, target: ContentTarget) -> RestoreReport {
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

/// Collects `hours` from now, also manifests that have had no tag for a week.
fn collect_untagged_after(registry: &Registry, hours: u64, is_dry_run: bool) -> CollectStats {
    let options = CollectOptions {
        grace: GRACE,
        untagged: UntaggedPolicy::after(Duration::from_secs(7 * 24 * HOUR)),
        is_dry_run,
    };
    let now = now() + hours * HOUR;
    let stats = registry.collect_garbage(&options, now, &mut |_| {});
    stats.unwrap().unwrap()
}

#[test]
fn untagged_manifests_are_removed_a_week_after_they_were_first_seen_so() {
    let root = folder();
    let registry = Registry::open(root.path()).unwrap();
    let old = push_image(&registry, "a", "v1", &[b"one", b"shared"]);
    let old_config = image("v1", &[]).1;
    let (new, config) = image("new", &[b"two", b"shared"]);
    for blob in [&b"two"[..], &config] {
        push_blob(&registry, &name("a"), blob);
    }
    push(&registry, &name("a"), "v1", &new).unwrap();
    // Without that time in the options, untagged manifests stay.
    assert_eq!(collect_after(&registry, 100).manifests, 0);
    let collect = |hours| collect_untagged_after(&registry, hours, false);
    assert_eq!(collect(100), CollectStats::default());
    assert_eq!(collect(100 + 24 * 7 - 1), CollectStats::default());
    let dry = collect_untagged_after(&registry, 100 + 24 * 7, true);
    let stats = collect(100 + 24 * 7);
    assert_eq!(stats, dry);
    assert_eq!((stats.manifests, stats.links, stats.blobs), (1, 2, 3));
    assert!(!has_bytes(&registry, b"one") && !has_bytes(&registry, &old_config));
    assert!(has_image(&registry, "a", "v1", &[b"two", b"shared"]));
    let target = ContentTarget::Manifest(name("a"), old.clone());
    restore(&registry, target);
    assert!(has_image(
        &registry,
        "a",
        &old.to_string(),
        &[b"one", b"shared"]
    ));
}

#[test]
fn a_manifest_lives_as_long_as_a_tag_an_index_or_its_subject_needs_it() {
    let root = folder();
    let registry = Registry::open(root.path()).unwrap();
    let repository = name("a");
    let put = |reference: &str, bytes: &[u8]| push(&registry, &repository, reference, bytes);
    let digest = |bytes: &[u8]| Digest::of(bytes).to_string();
    let mut manifests = Vec::new();
    for word in ["amd64", "tagged", "untagged"] {
        let (manifest, config) = image(word, &[]);
        push_blob(&registry, &repository, &config);
        put(&digest(&manifest), &manifest).unwrap();
        manifests.push(manifest);
    }
    let [amd64, tagged, untagged] = &manifests[..] else {
        panic!("there are three");
    };
    put("v1", tagged).unwrap();
    let multi = index(&[amd64]);
    put("multi", &multi).unwrap();
    let signature_of = |subject: &[u8]| {
        let mut signature: serde_json::Value =
            serde_json::from_slice(&image("amd64", &[]).0).unwrap();
        signature["subject"] = descriptor(imgsync_oci::media::OCI_MANIFEST, subject);
        signature.to_string().into_bytes()
    };
    let signatures: Vec<_> = [amd64, tagged, untagged]
        .map(|subject| signature_of(subject))
        .to_vec();
    let signature_of_signature = signature_of(&signatures[1]);
    for signature in signatures.iter().chain([&signature_of_signature]) {
        put(&digest(signature), signature).unwrap();
    }
    collect_untagged_after(&registry, 100, false);
    let stats = collect_untagged_after(&registry, 1000, false);
    let gone = [untagged, &signatures[2]];
    let has = |manifest: &[u8]| has_image(&registry, "a", &digest(manifest), &[]);
    assert_eq!(stats.manifests, 2);
    for manifest in manifests.iter().chain(&signatures) {
        assert_eq!(has(manifest), !gone.contains(&manifest));
    }
    assert!(has(&signature_of_signature) && has(&multi));
    // The index loses its tag.
    delete(&registry, "a", "multi");
    assert_eq!(collect_untagged_after(&registry, 1001, false).manifests, 0);
    let stats = collect_untagged_after(&registry, 2000, false);
    assert_eq!(stats.manifests, 3);
    assert!(!has(&multi) && !has(amd64) && !has(&signatures[0]) && has(tagged));
    restore(
        &registry,
        ContentTarget::Tag(name("a"), "multi".parse().unwrap()),
    );
    assert!(has(&multi) && has(amd64));
}

#[test]
fn a_manifest_that_is_being_pulled_or_tagged_is_kept() {
    let root = folder();
    let registry = Registry::open(root.path()).unwrap();
    registry.start_leases(now(), GRACE);
    let digest = push_image(&registry, "a", "v1", &[b"one"]);
    delete(&registry, "a", "v1");
    let options = CollectOptions {
        grace: Duration::from_secs(HOUR),
        untagged: UntaggedPolicy::RemoveAll,
        is_dry_run: false,
    };
    let collect_at = |time| {
        let collected = registry.collect_garbage(&options, time, &mut |_| {});
        collected.unwrap().unwrap().manifests
    };
    let reference: Reference = digest.to_string().parse().unwrap();
    registry.manifest_size(&name("a"), &reference).unwrap();
    assert_eq!(collect_at(now() + HOUR - 60), 0);
    push(&registry, &name("a"), "v2", &image("v1", &[b"one"]).0).unwrap();
    assert_eq!(collect_at(now() + 9 * HOUR), 0);
    delete(&registry, "a", "v2");
    assert_eq!(collect_at(now() + 9 * HOUR), 1);
}
