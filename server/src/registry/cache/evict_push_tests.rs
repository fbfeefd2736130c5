//! Tests of evictions of what is pushed or pulled meanwhile, and of interrupted evictions.

use imgsync_oci::{Digest, Reference, Repository, Tag};

use super::evict_tests::{cache_image, has_manifest, limit_of, stored_bytes};
use super::tests::{
    UPSTREAM, cache_blob, cache_manifest, folder, image, index, push, push_blob, repository, tag,
};
use super::{EvictionStats, ManifestState, TagState};
use crate::registry::{Error, Registry, Walk};

#[test]
fn an_image_pushed_over_a_cached_one_is_never_evicted_nor_overwritten() {
    let root = folder();
    let registry = Registry::open(root.path()).unwrap();
    let repository = repository();
    let (first, config) = image("one", &[b"first"]);
    let one = cache_image(&registry, &repository, "one", "one", &[b"first"], 1000);
    let (second, _) = image("two", &[b"second"]);
    let two = cache_manifest(&registry, &repository, None, &second, 1000).digest;
    let index = index(&[&first, &second]);
    cache_manifest(&registry, &repository, Some(&tag()), &index, 1000);
    // One child lacks a blob.
    let error = push(&registry, &repository, "v1", &index).unwrap_err();
    assert!(matches!(&error, Error::ChildrenUnknown(missing) if *missing == [two.clone()]));
    cache_blob(&registry, &repository, b"second", 1000);
    let (_, other) = image("two", &[]);
    cache_blob(&registry, &repository, &other, 1000);
    push(&registry, &repository, "v1", &index).unwrap();
    let evicted = registry.evict(&limit_of(0), 100_000).unwrap();
    assert_eq!(
        evicted,
        EvictionStats {
            images: 0,
            freed_bytes: 0,
            cached_bytes: Some(0)
        }
    );
    for digest in [&one, &two, &Digest::of(&index)] {
        let state = registry.manifest_state(&repository, digest).unwrap();
        assert_eq!(state, ManifestState::Pushed);
    }
    for bytes in [&b"first"[..], b"second", &config, &other] {
        registry.open_blob(&repository, &Digest::of(bytes)).unwrap();
    }
    assert_eq!(
        registry.tag_state(&repository, &tag()).unwrap(),
        TagState::Pushed
    );
    // The upstream moves the tag to a newer image.
    let (newer, _) = image("three", &[b"third"]);
    let cached = cache_manifest(&registry, &repository, Some(&tag()), &newer, 200_000);
    assert!(!cached.is_tagged);
    assert!(
        !registry
            .confirm_tag(&repository, &tag(), &cached.digest, 1)
            .unwrap()
    );
    assert!(!registry.remove_cached_tag(&repository, &tag()).unwrap());
    let served = registry.get_manifest(&repository, &Reference::Tag(tag()));
    assert_eq!(served.unwrap().bytes, index);
    // Another tag of the same image still counts as cached.
    let state = registry.tag_state(&repository, &"one".parse().unwrap());
    assert!(matches!(state.unwrap(), TagState::Cached { .. }));
}

#[test]
fn an_eviction_interrupted_by_a_crash_is_finished_by_the_next_start() {
    let root = folder();
    let registry = Registry::open(root.path()).unwrap();
    cache_image(&registry, &repository(), "one", "one", &[b"first"], 1000);
    let digests = [Digest::of(b"first"), Digest::of(b"bare")];
    push_blob(&registry, &"other".parse().unwrap(), b"bare");
    registry
        .store
        .save_pending_evictions(&[&digests[0], &digests[1]])
        .unwrap();
    registry.delete_blob(&repository(), &digests[0]).unwrap();
    // The state that a crash and a stock registry leave behind.
    let hex = digests[0].hex();
    let link = "docker/registry/v2/repositories/ghcr.io/owner/app/_layers/sha256";
    std::fs::create_dir(root.path().join(link).join(hex)).unwrap();
    let before = stored_bytes(root.path());
    registry.evict(&limit_of(1_000_000), 1000).unwrap();
    assert_eq!(stored_bytes(root.path()), before - 5);
    let pushed = registry.open_blob(&"other".parse().unwrap(), &digests[1]);
    assert!(pushed.is_ok());
    assert!(registry.store.pending_evictions().unwrap().is_empty());
}

#[test]
fn a_blob_that_is_linked_again_before_its_deletion_keeps_its_bytes() {
    let root = folder();
    let registry = Registry::open(root.path()).unwrap();
    let (pushed, cached): (Repository, _) = ("own".parse().unwrap(), repository());
    let (manifest, config) = image("one", &[]);
    for bytes in [
        &b"pushed"[..],
        b"mounted",
        b"linked",
        b"fetched",
        b"gone",
        &config,
    ] {
        push_blob(&registry, &pushed, bytes);
    }
    push(&registry, &pushed, "v1", &manifest).unwrap();
    let (other, _) = image("two", &[]);
    push_blob(&registry, &pushed, &other);
    let of = |bytes: &[u8]| Digest::of(bytes);
    let contents = [
        &b"pushed"[..],
        b"linked",
        b"fetched",
        b"gone",
        &manifest,
        &other,
    ];
    let digests = contents.map(of);
    for digest in &digests {
        let _ = registry.delete_blob(&pushed, digest);
    }
    registry
        .delete_manifest(
            &pushed,
            &Reference::Digest(of(&manifest)),
            &Walk::unbounded(),
        )
        .unwrap();
    registry
        .mark_unlinked_bytes(digests.iter().cloned().collect())
        .unwrap();
    push_blob(&registry, &pushed, b"pushed");
    assert!(
        registry
            .link_cached_blob(&cached, &of(b"linked"), UPSTREAM, 1)
            .unwrap()
    );
    cache_blob(&registry, &cached, b"fetched", 1);
    push(&registry, &pushed, "v1", &manifest).unwrap();
    cache_manifest(&registry, &cached, None, &other, 1);
    assert_eq!(registry.remove_marked_bytes().unwrap(), 4);
    for (repository, bytes) in [
        (&pushed, &b"pushed"[..]),
        (&cached, b"linked"),
        (&cached, b"fetched"),
        (&pushed, b"mounted"),
    ] {
        registry.open_blob(repository, &of(bytes)).unwrap();
    }
    assert!(has_manifest(&registry, &pushed, &of(&manifest)));
    assert!(has_manifest(&registry, &cached, &of(&other)));
}

#[test]
fn an_image_that_is_pulled_during_its_eviction_stays_complete() {
    let root = folder();
    let registry = Registry::open(root.path()).unwrap();
    let (repository, (child, config)) = (repository(), image("one", &[b"first"]));
    let one = cache_image(&registry, &repository, "one", "one", &[b"first"], 1000);
    let index = index(&[&child]);
    let parent = cache_manifest(&registry, &repository, Some(&tag()), &index, 1000).digest;
    let mut pull = |_: &_| {
        registry.record_use(&repository, &parent, 3000);
        Ok(())
    };
    let candidates = std::slice::from_ref(&one);
    let evicted = registry.evict_from_repository(&repository, candidates, 2000, &mut pull);
    assert!(evicted.unwrap().digests.is_empty());
    for digest in [&one, &parent] {
        assert!(has_manifest(&registry, &repository, digest));
    }
    for bytes in [&b"first"[..], &config] {
        registry.open_blob(&repository, &Digest::of(bytes)).unwrap();
    }
}

#[test]
fn a_cached_manifest_with_a_pushed_tag_is_not_evicted() {
    let root = folder();
    let registry = Registry::open(root.path()).unwrap();
    let digest = cache_image(&registry, &repository(), "v1", "one", &[b"first"], 1000);
    // The state that a stock registry leaves behind if it ran in between.
    let (pushed_tag, link): (Tag, _) = ("ours".parse().unwrap(), digest.to_string());
    let repository = repository();
    let current = crate::store::ObjectKey::TagCurrent(&repository, &pushed_tag);
    registry.store.put(current, link.as_bytes()).unwrap();
    assert_eq!(registry.evict(&limit_of(0), 100_000).unwrap().images, 0);
    let served = registry.get_manifest(&repository, &Reference::Tag(pushed_tag));
    assert_eq!(served.unwrap().digest, digest);
    let layer = Digest::of(b"first");
    registry.open_blob(&repository, &layer).unwrap();
}
