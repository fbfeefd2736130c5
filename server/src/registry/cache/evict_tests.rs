//! Tests of eviction: which images are evicted, which stay, and that pushed content is never lost.

use std::path::Path;
use std::time::Duration;

use imgsync_oci::{Digest, Repository, Tag};

use super::tests::{UPSTREAM, cache_blob, cache_manifest, folder, image, index, repository, tag};
use super::{BlobState, CacheLimits, ManifestState, TagState};
use crate::registry::Registry;

pub(super) fn limit_of(bytes: u64) -> CacheLimits {
    CacheLimits {
        max_bytes: Some(bytes),
        max_unused: None,
        grace_period: Duration::from_secs(60),
    }
}

/// Returns the total size of the blobs below a directory.
fn bytes_in(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    let sizes = entries.map(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            bytes_in(&path)
        } else {
            path.metadata().unwrap().len()
        }
    });
    sizes.sum()
}

pub(super) fn stored_bytes(root: &Path) -> u64 {
    bytes_in(&root.join("docker/registry/v2/blobs"))
}

/// Caches an image with all its blobs.
pub(super) fn cache_image(
    registry: &Registry,
    repository: &Repository,
    tag: &str,
    word: &str,
    layers: &[&[u8]],
    now: u64,
) -> Digest {
    let (manifest, config) = image(word, layers);
    let tag: Tag = tag.parse().unwrap();
    let cached = cache_manifest(registry, repository, Some(&tag), &manifest, now);
    for bytes in layers.iter().copied().chain([&config[..]]) {
        link_or_cache_blob(registry, repository, bytes, now);
    }
    cached.digest
}

/// Links a blob if its bytes are stored, or else caches it.
pub(super) fn link_or_cache_blob(
    registry: &Registry,
    repository: &Repository,
    bytes: &[u8],
    now: u64,
) {
    let digest = Digest::of(bytes);
    match registry.blob_state(repository, &digest).unwrap() {
        BlobState::Linked { .. } => {}
        BlobState::Elsewhere { .. } => {
            assert!(
                registry
                    .link_cached_blob(repository, &digest, UPSTREAM, now)
                    .unwrap()
            );
        }
        BlobState::Absent => cache_blob(registry, repository, bytes, now),
    }
}

pub(super) fn has_manifest(registry: &Registry, repository: &Repository, digest: &Digest) -> bool {
    registry.manifest_state(repository, digest).unwrap() != ManifestState::Absent
}

#[test]
fn the_least_recently_used_images_are_evicted_and_no_more_than_necessary() {
    let root = folder();
    let registry = Registry::open(root.path()).unwrap();
    let repositories: Vec<Repository> = ["docker.io/library/a", "ghcr.io/b", "ghcr.io/b/c"]
        .map(|name| name.parse().unwrap())
        .to_vec();
    let layers: Vec<Vec<u8>> = (0..9_u8).map(|byte| vec![byte; 10_000]).collect();
    let mut digests = Vec::new();
    for (number, layer) in layers.iter().enumerate() {
        let (repository, tag) = (&repositories[number % 3], format!("v{number}"));
        let now = 1000 + number as u64;
        let digest = cache_image(&registry, repository, &tag, &tag, &[layer], now);
        digests.push((repository, digest));
    }
    // The first image is pulled again.
    registry.record_use(digests[0].0, &digests[0].1, 2000);
    let now = 100_000;
    let evicted = registry.evict(&limit_of(1_000_000), now).unwrap();
    assert_eq!(evicted.images, 0);
    assert_eq!(evicted.cached_bytes, Some(stored_bytes(root.path())));
    let evicted = registry.evict(&limit_of(75_000), now).unwrap();
    assert_eq!(evicted.images, 2);
    assert_eq!(evicted.cached_bytes, Some(stored_bytes(root.path())));
    for (number, (repository, digest)) in digests.iter().enumerate() {
        let is_kept = !(1..=2).contains(&number);
        assert_eq!(
            has_manifest(&registry, repository, digest),
            is_kept,
            "{number}"
        );
        let tag = format!("v{number}").parse().unwrap();
        let state = registry.tag_state(repository, &tag).unwrap();
        assert_eq!(state != TagState::Absent, is_kept, "{number}");
        let layer = Digest::of(&layers[number]);
        assert_eq!(registry.open_blob(repository, &layer).is_ok(), is_kept);
    }
    // An evicted image can be fetched again.
    cache_image(&registry, &repositories[1], "v1", "v1", &[&layers[1]], now);
    assert!(has_manifest(&registry, digests[1].0, &digests[1].1));
    // Images in the grace period stay, however far the cache is above its limit.
    for (repository, digest) in &digests {
        registry.record_use(repository, digest, now);
    }
    assert!(registry.is_over_limit(&limit_of(10)));
    let evicted = registry.evict(&limit_of(10), now + 10).unwrap();
    assert_eq!((evicted.images, evicted.freed_bytes), (0, 0));
    let evicted = registry.evict(&limit_of(10), now + 100).unwrap();
    assert_eq!(evicted.images, 8);
    assert_eq!(
        (evicted.cached_bytes, stored_bytes(root.path())),
        (Some(0), 0)
    );
    assert!(!registry.is_over_limit(&limit_of(10)));
}

#[test]
fn expired_images_are_evicted_below_the_size_limit() {
    let root = folder();
    let registry = Registry::open(root.path()).unwrap();
    let old = cache_image(
        &registry,
        &repository(),
        "old",
        "old",
        &[b"one", b"both"],
        1000,
    );
    let new = cache_image(
        &registry,
        &repository(),
        "new",
        "new",
        &[b"two", b"both"],
        9000,
    );
    let limits = CacheLimits {
        max_bytes: None,
        max_unused: Some(Duration::from_secs(5000)),
        grace_period: Duration::from_secs(60),
    };
    assert_eq!(registry.evict(&limits, 5000).unwrap().images, 0);
    assert_eq!(registry.evict(&limits, 10_000).unwrap().images, 1);
    assert!(!has_manifest(&registry, &repository(), &old));
    assert!(has_manifest(&registry, &repository(), &new));
    for (bytes, is_kept) in [(&b"one"[..], false), (b"two", true), (b"both", true)] {
        let opened = registry.open_blob(&repository(), &Digest::of(bytes));
        assert_eq!(opened.is_ok(), is_kept);
    }
}

#[test]
fn an_index_is_evicted_with_its_children_when_none_of_them_was_used() {
    let root = folder();
    let registry = Registry::open(root.path()).unwrap();
    let repository = repository();
    let one = cache_image(&registry, &repository, "one", "one", &[b"first"], 1000);
    let (child, _) = image("two", &[b"second"]);
    let two = cache_manifest(&registry, &repository, None, &child, 1100).digest;
    cache_blob(&registry, &repository, b"second", 1100);
    let (first, _) = image("one", &[b"first"]);
    let index = index(&[&first, &child]);
    let parent = cache_manifest(&registry, &repository, Some(&tag()), &index, 1050).digest;
    // The index was last used between its children: one earlier, one later. Another image is older
    // than the newest child.
    let other = cache_image(&registry, &repository, "other", "other", &[b"third"], 1080);
    let limits = limit_of(stored_bytes(root.path()) - 1);
    registry.evict(&limits, 10_000).unwrap();
    assert!(!has_manifest(&registry, &repository, &other));
    for digest in [&one, &two, &parent] {
        assert!(has_manifest(&registry, &repository, digest));
    }
    let evicted = registry.evict(&limit_of(0), 20_000).unwrap();
    assert_eq!(evicted.images, 1);
    for digest in [&one, &two, &parent] {
        assert!(!has_manifest(&registry, &repository, digest));
    }
    assert_eq!(stored_bytes(root.path()), 0);
}

#[test]
fn unreferenced_blobs_are_swept_and_leased_ones_later() {
    let root = folder();
    let registry = Registry::open(root.path()).unwrap();
    let limits = limit_of(1_000_000);
    registry.evict(&limits, 1000).unwrap();
    cache_blob(&registry, &repository(), b"loose", 1000);
    let loose = Digest::of(b"loose");
    registry.evict(&limits, 2000).unwrap();
    assert!(registry.open_blob(&repository(), &loose).is_ok());
    let sweep_interval = 24 * 3600 + 3600;
    registry.blob_size(&repository(), &loose).unwrap();
    registry.evict(&limits, 1000 + sweep_interval).unwrap();
    assert!(registry.open_blob(&repository(), &loose).is_ok());
    registry.evict(&limits, 1000 + 2 * sweep_interval).unwrap();
    assert!(registry.open_blob(&repository(), &loose).is_err());
    assert_eq!(stored_bytes(root.path()), 0);
}

#[test]
fn an_absent_blob_is_never_leased() {
    let root = folder();
    let registry = Registry::open(root.path()).unwrap();
    registry.evict(&limit_of(1_000_000), 1000).unwrap();
    cache_blob(&registry, &repository(), b"here", 1000);
    let [present, absent] = [Digest::of(b"here"), Digest::of(b"gone")];
    registry.blob_size(&repository(), &present).unwrap();
    registry.blob_size(&repository(), &absent).unwrap_err();
    // Otherwise a client could fill the leases with absent digests, and thereby keep every blob
    // from being evicted.
    assert!(registry.cache.is_leased(&present) && !registry.cache.is_leased(&absent));
}

#[test]
fn interrupted_fetches_are_discarded_for_space_and_after_a_week() {
    let root = folder();
    let registry = Registry::open(root.path()).unwrap();
    let begin = |content: &[u8]| {
        let mut fill = registry
            .open_cache_fill(&Digest::of(content), UPSTREAM)
            .unwrap()
            .unwrap();
        fill.append(&[1; 1000]).unwrap();
        fill.ingest.sync().unwrap();
        fill
    };
    drop(begin(b"given up"));
    let running = begin(b"going on");
    let now = super::to_unix_seconds(std::time::SystemTime::now());
    let limits = limit_of(500);
    assert_eq!(
        registry.evict(&limits, now).unwrap().cached_bytes,
        Some(2000)
    );
    let evicted = registry.evict(&limits, now + 4000).unwrap();
    assert_eq!(
        (evicted.freed_bytes, evicted.cached_bytes),
        (1000, Some(1000))
    );
    assert_eq!(running.ingest.reader().read(0, 9).unwrap(), [1; 9]);
    drop(running);
    let evicted = registry
        .evict(&limit_of(5000), now + 8 * 24 * 3600)
        .unwrap();
    assert_eq!((evicted.freed_bytes, evicted.cached_bytes), (1000, Some(0)));
}
