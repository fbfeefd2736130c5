//! Tests of the removal of manifests that no tag needs.

use std::time::Duration;

use imgsync_oci::{Digest, Reference};

use super::super::Registry;
use super::super::cache::tests::{descriptor, folder, image, index, push, push_blob};
use super::tests::{
    GRACE, HOUR, collect_after, delete, has_bytes, has_image, name, now, push_image, restore,
};
use super::{CollectOptions, CollectStats, ContentTarget, UntaggedPolicy};

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
