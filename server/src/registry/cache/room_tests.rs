//! Tests of the room that fetches reserve, and of the holders of a blob.

use imgsync_oci::{Digest, Repository};

use super::evict_tests::{cache_image, has_manifest, limit_of};
use super::holders::BlobUse;
use super::tests::{UPSTREAM, cache_blob, folder, push_blob, repository};
use super::{CacheFill, CacheLimits};
use crate::registry::Registry;

fn open(registry: &Registry, content: &[u8]) -> CacheFill {
    let digest = Digest::of(content);
    registry
        .open_cache_fill(&digest, UPSTREAM)
        .unwrap()
        .unwrap()
}

#[test]
fn fetches_at_the_same_time_do_not_exceed_the_cache_together() {
    let root = folder();
    let registry = Registry::open(root.path()).unwrap();
    let limits = limit_of(1000);
    let mut first = open(&registry, b"first");
    let mut second = open(&registry, b"second");
    assert!(!first.reserve(1001, &limits, 1000).unwrap());
    assert!(first.reserve(600, &limits, 1000).unwrap());
    assert!(!second.reserve(600, &limits, 1000).unwrap());
    assert!(second.reserve(400, &limits, 1000).unwrap());
    // The upstream announces another size after an interruption.
    assert!(!second.reserve(401, &limits, 1000).unwrap());
    drop(first);
    assert!(second.reserve(1000, &limits, 1000).unwrap());
    let unlimited = CacheLimits {
        max_bytes: None,
        ..limits
    };
    let mut third = open(&registry, b"third");
    assert!(third.reserve(600, &unlimited, 1000).unwrap());
    assert!(
        !third.reserve(1 << 60, &unlimited, 1000).unwrap(),
        "no disk is so large"
    );
}

#[test]
fn cached_images_are_evicted_before_the_disk_is_too_small_for_a_fetch_or_a_push() {
    let root = folder();
    let registry = Registry::open(root.path()).unwrap();
    let unlimited = CacheLimits {
        max_bytes: None,
        ..limit_of(0)
    };
    let repository = repository();
    let images: Vec<Digest> = (0..8_u8)
        .map(|byte| {
            let (tag, now) = (format!("v{byte}"), 1000 + u64::from(byte));
            cache_image(&registry, &repository, &tag, &tag, &[&[byte; 10_000]], now)
        })
        .collect();
    let pushed = [b'p'; 10_000];
    push_blob(&registry, &repository, &pushed);
    let count = || {
        let images = images.iter();
        images
            .filter(|image| has_manifest(&registry, &repository, image))
            .count()
    };
    // The images and the pushed blob, and 5,000 bytes that a fetch leaves free.
    registry.store.simulate_disk(100_000);
    let now = 100_000;
    let mut fetch = open(&registry, b"fetch");
    // All images together would not be enough.
    assert!(!fetch.reserve(90_000, &unlimited, now).unwrap());
    assert_eq!(count(), 8);
    assert!(fetch.reserve(20_000, &unlimited, now + 1000).unwrap());
    let left = count();
    assert!((4..7).contains(&left), "{left}");
    assert!(has_manifest(&registry, &repository, &images[7]));
    // The fetch has not written its bytes yet.
    registry.make_disk_room(Some(40_000), &unlimited, now + 2000);
    let left_after = count();
    assert!((1..left).contains(&left_after), "{left_after}");
    assert!(
        registry
            .open_blob(&repository, &Digest::of(&pushed))
            .is_ok()
    );
    // Images in the grace period stay.
    let used = now + 3000;
    registry.record_use(&repository, &images[7], used);
    registry.make_disk_room(Some(99_000), &unlimited, used);
    assert!(has_manifest(&registry, &repository, &images[7]));
}

#[test]
fn the_bytes_of_interrupted_fetches_take_room() {
    let root = folder();
    let registry = Registry::open(root.path()).unwrap();
    let limits = limit_of(1000);
    let mut first = open(&registry, &[b'x'; 700]);
    assert!(first.reserve(700, &limits, 1000).unwrap());
    first.append(&[b'x'; 600]).unwrap();
    first.ingest.sync().unwrap();
    drop(first);
    let mut second = open(&registry, b"second");
    assert!(!second.reserve(500, &limits, 1000).unwrap());
    assert!(second.reserve(400, &limits, 1000).unwrap());
    drop(second);
    // The fetch goes on, and its bytes do not count twice.
    let mut first = open(&registry, &[b'x'; 700]);
    assert_eq!(first.ingest.offset(), 600);
    assert!(first.reserve(700, &limits, 2000).unwrap());
    first.append(&[b'x'; 100]).unwrap();
    first.commit(&[repository()], 2000).unwrap();
    let mut second = open(&registry, b"second");
    assert!(!second.reserve(400, &limits, 2000).unwrap());
    assert!(second.reserve(300, &limits, 2000).unwrap());
}

#[test]
fn a_full_cache_evicts_unused_images_before_a_fetch() {
    let root = folder();
    let registry = Registry::open(root.path()).unwrap();
    let old = cache_image(
        &registry,
        &repository(),
        "old",
        "old",
        &[&[b'o'; 4000]],
        1000,
    );
    let new = cache_image(
        &registry,
        &repository(),
        "new",
        "new",
        &[&[b'n'; 4000]],
        2000,
    );
    let limits = limit_of(10_000);
    let mut fill = open(&registry, b"next");
    // Both images were used less than a minute ago.
    assert!(!fill.reserve(4000, &limits, 1030).unwrap());
    // There is no second attempt soon after one that was in vain.
    assert!(!fill.reserve(4000, &limits, 1040).unwrap());
    assert!(fill.reserve(4000, &limits, 2010).unwrap());
    assert!(!has_manifest(&registry, &repository(), &old));
    assert!(has_manifest(&registry, &repository(), &new));
}

#[test]
fn only_blobs_of_the_same_upstream_are_used_without_permission() {
    let root = folder();
    let registry = Registry::open(root.path()).unwrap();
    let digest = Digest::of(b"layer");
    let holder = |upstream: &str, allowed: Option<(&str, BlobUse)>| {
        let allowed_use = |repository: &Repository| {
            let (name, allowed_use) = allowed?;
            (repository.as_str() == name).then_some(allowed_use)
        };
        let holder = registry.find_blob_holder(&digest, upstream, &allowed_use);
        let holder = holder.unwrap();
        holder.map(|holder| (holder.repository.to_string(), holder.allowed_use))
    };
    let found = |name: &str, allowed_use| Some((name.to_owned(), allowed_use));
    push_blob(&registry, &"team/app".parse().unwrap(), b"layer");
    assert_eq!(holder(UPSTREAM, None), None);
    let serve = Some(("team/app", BlobUse::Serve));
    assert_eq!(holder(UPSTREAM, serve), found("team/app", BlobUse::Serve));
    cache_blob(&registry, &repository(), b"layer", 1);
    let cached = repository().to_string();
    assert_eq!(holder(UPSTREAM, None), found(&cached, BlobUse::Link));
    assert_eq!(holder(UPSTREAM, serve), found(&cached, BlobUse::Link));
    assert_eq!(holder("evil.example", None), None);
    assert_eq!(holder("", None), None);
    assert_eq!(
        holder("evil.example", serve),
        found("team/app", BlobUse::Serve)
    );
}
