//! Tests of eviction: which images are evicted, which stay, and that pushed content is never lost.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use imgsync_oci::{Digest, Reference, Repository, Tag};

use super::tests::{fetch, folder, image, index, keep, push, push_blob, repository, tag};
use super::{BlobState, CacheLimits, EvictionStats, ManifestState, TagState};
use crate::registry::{Error, Registry};

fn to_bytes(bytes: u64) -> CacheLimits {
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
        match path.is_dir() {
            true => bytes_in(&path),
            false => path.metadata().unwrap().len(),
        }
    });
    sizes.sum()
}

fn stored(root: &Path) -> u64 {
    bytes_in(&root.join("docker/registry/v2/blobs"))
}

/// Caches an image with all its blobs.
fn cache(
    registry: &Registry,
    repository: &Repository,
    tag: &str,
    word: &str,
    layers: &[&[u8]],
    now: u64,
) -> Digest {
    let (manifest, config) = image(word, layers);
    let tag: Tag = tag.parse().unwrap();
    let kept = keep(registry, repository, Some(&tag), &manifest, now);
    for bytes in layers.iter().copied().chain([&config[..]]) {
        let digest = Digest::of(bytes);
        match registry.blob_state(repository, &digest).unwrap() {
            BlobState::Linked { .. } => {}
            BlobState::Elsewhere { .. } => {
                assert!(registry.link_cached_blob(repository, &digest, now).unwrap());
            }
            BlobState::Absent => fetch(registry, repository, bytes, now),
        }
    }
    kept.digest
}

fn is_there(registry: &Registry, repository: &Repository, digest: &Digest) -> bool {
    registry.manifest_state(repository, digest).unwrap() != ManifestState::Absent
}

#[test]
fn what_was_used_longest_ago_goes_and_no_more_than_has_to() {
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
        let digest = cache(&registry, repository, &tag, &tag, &[layer], now);
        digests.push((repository, digest));
    }
    // The first image is pulled again.
    registry.record_use(digests[0].0, &digests[0].1, 2000);
    let now = 100_000;
    let evicted = registry.evict(&to_bytes(1_000_000), now).unwrap();
    assert_eq!(evicted.images, 0);
    assert_eq!(evicted.cached_bytes, Some(stored(root.path())));
    let evicted = registry.evict(&to_bytes(75_000), now).unwrap();
    assert_eq!(evicted.images, 2);
    assert_eq!(evicted.cached_bytes, Some(stored(root.path())));
    for (number, (repository, digest)) in digests.iter().enumerate() {
        let is_kept = !(1..=2).contains(&number);
        assert_eq!(is_there(&registry, repository, digest), is_kept, "{number}");
        let tag = format!("v{number}").parse().unwrap();
        let state = registry.tag_state(repository, &tag).unwrap();
        assert_eq!(state != TagState::Absent, is_kept, "{number}");
        let layer = Digest::of(&layers[number]);
        assert_eq!(registry.open_blob(repository, &layer).is_ok(), is_kept);
    }
    // An evicted image can be fetched again.
    cache(&registry, &repositories[1], "v1", "v1", &[&layers[1]], now);
    assert!(is_there(&registry, digests[1].0, &digests[1].1));
    // Images in the grace period stay, however far the cache is above its limit.
    for (repository, digest) in &digests {
        registry.record_use(repository, digest, now);
    }
    assert!(registry.is_over_limit(&to_bytes(10)));
    let evicted = registry.evict(&to_bytes(10), now + 10).unwrap();
    assert_eq!((evicted.images, evicted.freed_bytes), (0, 0));
    let evicted = registry.evict(&to_bytes(10), now + 100).unwrap();
    assert_eq!(evicted.images, 8);
    assert_eq!((evicted.cached_bytes, stored(root.path())), (Some(0), 0));
    assert!(!registry.is_over_limit(&to_bytes(10)));
}

#[test]
fn what_was_not_used_for_too_long_goes_though_there_is_room() {
    let root = folder();
    let registry = Registry::open(root.path()).unwrap();
    let old = cache(
        &registry,
        &repository(),
        "old",
        "old",
        &[b"one", b"both"],
        1000,
    );
    let new = cache(
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
    assert!(!is_there(&registry, &repository(), &old));
    assert!(is_there(&registry, &repository(), &new));
    for (bytes, is_kept) in [(&b"one"[..], false), (b"two", true), (b"both", true)] {
        let opened = registry.open_blob(&repository(), &Digest::of(bytes));
        assert_eq!(opened.is_ok(), is_kept);
    }
}

#[test]
fn an_index_goes_with_its_children_when_none_of_them_is_used_any_more() {
    let root = folder();
    let registry = Registry::open(root.path()).unwrap();
    let repository = repository();
    let one = cache(&registry, &repository, "one", "one", &[b"first"], 1000);
    let (child, _) = image("two", &[b"second"]);
    let two = keep(&registry, &repository, None, &child, 1100).digest;
    fetch(&registry, &repository, b"second", 1100);
    let (first, _) = image("one", &[b"first"]);
    let index = index(&[&first, &child]);
    let all = keep(&registry, &repository, Some(&tag()), &index, 1050).digest;
    // The index was last used between its children: one earlier, one later. Another image is older
    // than the newest child.
    let other = cache(&registry, &repository, "other", "other", &[b"third"], 1080);
    let limits = to_bytes(stored(root.path()) - 1);
    registry.evict(&limits, 10_000).unwrap();
    assert!(!is_there(&registry, &repository, &other));
    for digest in [&one, &two, &all] {
        assert!(is_there(&registry, &repository, digest));
    }
    let evicted = registry.evict(&to_bytes(0), 20_000).unwrap();
    assert_eq!(evicted.images, 1);
    for digest in [&one, &two, &all] {
        assert!(!is_there(&registry, &repository, digest));
    }
    assert_eq!(stored(root.path()), 0);
}

#[test]
fn unreferenced_blobs_are_swept_after_a_while_and_leased_ones_later() {
    let root = folder();
    let registry = Registry::open(root.path()).unwrap();
    let limits = to_bytes(1_000_000);
    registry.evict(&limits, 1000).unwrap();
    fetch(&registry, &repository(), b"loose", 1000);
    let loose = Digest::of(b"loose");
    registry.evict(&limits, 2000).unwrap();
    assert!(registry.open_blob(&repository(), &loose).is_ok());
    let day = 24 * 3600 + 3600;
    registry.blob_size(&repository(), &loose).unwrap();
    registry.evict(&limits, 1000 + day).unwrap();
    assert!(registry.open_blob(&repository(), &loose).is_ok());
    registry.evict(&limits, 1000 + 2 * day).unwrap();
    assert!(registry.open_blob(&repository(), &loose).is_err());
    assert_eq!(stored(root.path()), 0);
}

#[test]
fn an_absent_blob_is_never_leased() {
    let root = folder();
    let registry = Registry::open(root.path()).unwrap();
    registry.evict(&to_bytes(1_000_000), 1000).unwrap();
    fetch(&registry, &repository(), b"here", 1000);
    let [here, gone] = [Digest::of(b"here"), Digest::of(b"gone")];
    registry.blob_size(&repository(), &here).unwrap();
    registry.blob_size(&repository(), &gone).unwrap_err();
    // Otherwise a client could fill the leases with absent digests, and thereby keep every blob
    // from being evicted.
    assert!(registry.cache.is_leased(&here) && !registry.cache.is_leased(&gone));
}

#[test]
fn fetches_that_broke_off_make_room_and_do_not_stay_for_ever() {
    let root = folder();
    let registry = Registry::open(root.path()).unwrap();
    let begin = |word: &[u8]| {
        let mut filling = registry
            .open_cache_fill(&Digest::of(word))
            .unwrap()
            .unwrap();
        filling.append(&[1; 1000]).unwrap();
        filling.sync().unwrap();
        filling
    };
    drop(begin(b"given up"));
    let going_on = begin(b"going on");
    let now = super::to_unix_seconds(std::time::SystemTime::now());
    let limits = to_bytes(500);
    assert_eq!(
        registry.evict(&limits, now).unwrap().cached_bytes,
        Some(2000)
    );
    let evicted = registry.evict(&limits, now + 4000).unwrap();
    assert_eq!(
        (evicted.freed_bytes, evicted.cached_bytes),
        (1000, Some(1000))
    );
    assert_eq!(going_on.reader().read(0, 9).unwrap(), [1; 9]);
    drop(going_on);
    let evicted = registry
        .evict(&to_bytes(5000), now + 8 * 24 * 3600)
        .unwrap();
    assert_eq!((evicted.freed_bytes, evicted.cached_bytes), (1000, Some(0)));
}

#[test]
fn what_is_pushed_over_a_cached_image_is_never_evicted_nor_overwritten() {
    let root = folder();
    let registry = Registry::open(root.path()).unwrap();
    let repository = repository();
    let (first, config) = image("one", &[b"first"]);
    let one = cache(&registry, &repository, "one", "one", &[b"first"], 1000);
    let (second, _) = image("two", &[b"second"]);
    let two = keep(&registry, &repository, None, &second, 1000).digest;
    let index = index(&[&first, &second]);
    keep(&registry, &repository, Some(&tag()), &index, 1000);
    // One child lacks a blob.
    let error = push(&registry, &repository, "v1", &index).unwrap_err();
    assert!(matches!(&error, Error::ChildrenUnknown(missing) if *missing == [two.clone()]));
    fetch(&registry, &repository, b"second", 1000);
    let (_, other) = image("two", &[]);
    fetch(&registry, &repository, &other, 1000);
    push(&registry, &repository, "v1", &index).unwrap();
    let evicted = registry.evict(&to_bytes(0), 100_000).unwrap();
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
    let kept = keep(&registry, &repository, Some(&tag()), &newer, 200_000);
    assert!(!kept.is_tagged);
    assert!(
        !registry
            .confirm_tag(&repository, &tag(), &kept.digest, 1)
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
fn what_a_crash_left_of_evicting_is_removed_by_the_next_start() {
    let root = folder();
    let registry = Registry::open(root.path()).unwrap();
    cache(&registry, &repository(), "one", "one", &[b"first"], 1000);
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
    let before = stored(root.path());
    registry.evict(&to_bytes(1_000_000), 1000).unwrap();
    assert_eq!(stored(root.path()), before - 5);
    let pushed = registry.open_blob(&"other".parse().unwrap(), &digests[1]);
    assert!(pushed.is_ok());
    assert!(registry.store.pending_evictions().unwrap().is_empty());
}

#[test]
fn what_is_linked_again_after_it_was_found_to_be_unlinked_keeps_its_bytes() {
    let root = folder();
    let registry = Registry::open(root.path()).unwrap();
    let (here, there): (Repository, _) = ("own".parse().unwrap(), repository());
    let (manifest, config) = image("one", &[]);
    for bytes in [
        &b"pushed"[..],
        b"mounted",
        b"linked",
        b"fetched",
        b"gone",
        &config,
    ] {
        push_blob(&registry, &here, bytes);
    }
    push(&registry, &here, "v1", &manifest).unwrap();
    let (other, _) = image("two", &[]);
    push_blob(&registry, &here, &other);
    let of = |bytes: &[u8]| Digest::of(bytes);
    let words = [
        &b"pushed"[..],
        b"linked",
        b"fetched",
        b"gone",
        &manifest,
        &other,
    ];
    let digests = words.map(of);
    for digest in &digests {
        let _ = registry.delete_blob(&here, digest);
    }
    registry
        .delete_manifest(&here, &Reference::Digest(of(&manifest)))
        .unwrap();
    registry
        .mark_unlinked_bytes(digests.iter().cloned().collect())
        .unwrap();
    push_blob(&registry, &here, b"pushed");
    assert!(
        registry
            .link_cached_blob(&there, &of(b"linked"), 1)
            .unwrap()
    );
    fetch(&registry, &there, b"fetched", 1);
    push(&registry, &here, "v1", &manifest).unwrap();
    keep(&registry, &there, None, &other, 1);
    assert_eq!(registry.remove_marked_bytes().unwrap(), 4);
    for (repository, bytes) in [
        (&here, &b"pushed"[..]),
        (&there, b"linked"),
        (&there, b"fetched"),
        (&here, b"mounted"),
    ] {
        registry.open_blob(repository, &of(bytes)).unwrap();
    }
    assert!(is_there(&registry, &here, &of(&manifest)));
    assert!(is_there(&registry, &there, &of(&other)));
}

#[test]
fn what_is_pulled_while_it_is_about_to_go_stays_whole() {
    let root = folder();
    let registry = Registry::open(root.path()).unwrap();
    let (at, (child, config)) = (repository(), image("one", &[b"first"]));
    let one = cache(&registry, &at, "one", "one", &[b"first"], 1000);
    let all = keep(&registry, &at, Some(&tag()), &index(&[&child]), 1000).digest;
    let mut pull = |_: &_| {
        registry.record_use(&at, &all, 3000);
        Ok(())
    };
    let gone = registry.evict_from_repository(&at, std::slice::from_ref(&one), 2000, &mut pull);
    assert!(gone.unwrap().digests.is_empty());
    for digest in [&one, &all] {
        assert!(is_there(&registry, &at, digest));
    }
    for bytes in [&b"first"[..], &config] {
        registry.open_blob(&at, &Digest::of(bytes)).unwrap();
    }
}

#[test]
fn what_a_pushed_tag_points_at_stays_whoever_brought_it() {
    let root = folder();
    let registry = Registry::open(root.path()).unwrap();
    let digest = cache(&registry, &repository(), "v1", "one", &[b"first"], 1000);
    // The state that a stock registry leaves behind if it ran in between.
    let (ours, link): (Tag, _) = ("ours".parse().unwrap(), digest.to_string());
    let at = repository();
    let current = crate::store::ObjectKey::TagCurrent(&at, &ours);
    registry.store.put(current, link.as_bytes()).unwrap();
    assert_eq!(registry.evict(&to_bytes(0), 100_000).unwrap().images, 0);
    let served = registry.get_manifest(&at, &Reference::Tag(ours)).unwrap();
    assert_eq!(served.digest, digest);
    registry.open_blob(&at, &Digest::of(b"first")).unwrap();
}

/// A pseudo-random generator with the same sequence in every run.
struct TestRng(u64);

impl TestRng {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 20) as usize % most
    }
}

/// The pushed content, which must survive every eviction.
#[derive(Default)]
struct PushedContent {
    tags: BTreeMap<(Repository, Tag), Digest>,
    manifests: BTreeSet<(Repository, Digest)>,
    blobs: BTreeSet<(Repository, Digest)>,
}

/// All images and indexes of the test by digest, and the content of all blobs.
struct TestContent {
    repositories: Vec<Repository>,
    tags: Vec<Tag>,
    images: Vec<(Vec<u8>, Vec<Vec<u8>>)>,
    indexes: Vec<(Vec<u8>, Vec<usize>)>,
}

impl TestContent {
    fn new() -> Self {
        let layers: Vec<Vec<u8>> = (0..6_u8).map(|it| vec![it; 100 << it]).collect();
        let images: Vec<_> = (0..8_usize)
            .map(|it| {
                let own = [&layers[it % 6][..], &layers[it * 2 % 5], &layers[0]];
                let (manifest, config) = image(&it.to_string(), &own);
                let blobs = own.iter().map(|bytes| bytes.to_vec()).chain([config]);
                (manifest, blobs.collect())
            })
            .collect();
        let indexes = [vec![0, 1], vec![1, 2, 3], vec![4]].map(|children| {
            let bytes: Vec<&[u8]> = children
                .iter()
                .map(|it: &usize| &images[*it].0[..])
                .collect();
            (index(&bytes), children)
        });
        Self {
            repositories: ["docker.io/library/a", "ghcr.io/b", "own"]
                .map(|name| name.parse().unwrap())
                .to_vec(),
            tags: ["v1", "v2", "latest"]
                .map(|tag| tag.parse().unwrap())
                .to_vec(),
            images,
            indexes: indexes.to_vec(),
        }
    }

    /// Caches the first `most` blobs of an image.
    fn cache_blobs(&self, registry: &Registry, to: &Repository, it: usize, most: usize, now: u64) {
        for bytes in self.images[it].1.iter().take(most) {
            let digest = Digest::of(bytes);
            match registry.blob_state(to, &digest).unwrap() {
                BlobState::Linked { .. } => {}
                BlobState::Elsewhere { .. } => {
                    assert!(registry.link_cached_blob(to, &digest, now).unwrap());
                }
                BlobState::Absent => fetch(registry, to, bytes, now),
            }
        }
    }

    /// Pushes an image as clients do: blobs that a HEAD finds are not uploaded.
    fn push_image(&self, registry: &Registry, to: &Repository, it: usize, at: &str) {
        for bytes in &self.images[it].1 {
            if registry.blob_size(to, &Digest::of(bytes)).is_err() {
                push_blob(registry, to, bytes);
            }
        }
        push(registry, to, at, &self.images[it].0).unwrap();
    }

    fn must_have(&self, pushed: &mut PushedContent, at: &Repository, it: usize) {
        let digest = Digest::of(&self.images[it].0);
        pushed.manifests.insert((at.clone(), digest));
        for bytes in &self.images[it].1 {
            pushed.blobs.insert((at.clone(), Digest::of(bytes)));
        }
    }

    /// Returns the manifests that each repository has, with those of their blobs that the
    /// repository links.
    fn whole(&self, registry: &Registry) -> BTreeMap<(Repository, Digest), Vec<Digest>> {
        let mut found = BTreeMap::new();
        for repository in &self.repositories {
            for (manifest, blobs) in &self.images {
                let digest = Digest::of(manifest);
                if is_there(registry, repository, &digest) {
                    let blobs = blobs.iter().map(|bytes| Digest::of(bytes));
                    let held = blobs.filter(|blob| registry.open_blob(repository, blob).is_ok());
                    found.insert((repository.clone(), digest), held.collect());
                }
            }
        }
        found
    }
}

impl PushedContent {
    fn check(&self, registry: &Registry) {
        for ((repository, tag), digest) in &self.tags {
            let state = registry.tag_state(repository, tag).unwrap();
            assert_eq!(state, TagState::Pushed, "{repository}:{tag}");
            let served = registry.get_manifest(repository, &Reference::Tag(tag.clone()));
            assert_eq!(served.unwrap().digest, *digest);
        }
        for (repository, digest) in &self.manifests {
            let state = registry.manifest_state(repository, digest).unwrap();
            assert_eq!(state, ManifestState::Pushed, "{repository} {digest}");
        }
        for (repository, digest) in &self.blobs {
            let blob = registry.open_blob(repository, digest).unwrap();
            let bytes = blob.read(0, blob.size() as usize).unwrap();
            assert_eq!(Digest::of(&bytes), *digest);
        }
    }
}

fn live(seed: u64, world: &TestContent) -> usize {
    let root = folder();
    let mut registry = Registry::open(root.path()).unwrap();
    let mut dice = TestRng(seed * 7919 + 1);
    let (mut pushed, mut now, mut evicted) = (PushedContent::default(), 10_000, 0);
    for _ in 0..60 {
        now += 1 + dice.below(100) as u64;
        let repository = &world.repositories[dice.below(3)];
        let tag = &world.tags[dice.below(3)];
        let it = dice.below(world.images.len());
        let key = (repository.clone(), tag.clone());
        match dice.below(16) {
            0 | 1 | 10..=13 => {
                let bytes = &world.images[it].0;
                let is_ours = pushed.tags.contains_key(&key);
                let kept = keep(&registry, repository, Some(tag), bytes, now);
                assert_eq!(kept.is_tagged, !is_ours);
                world.cache_blobs(&registry, repository, it, dice.below(5), now);
            }
            2 | 3 => {
                let (index, children) = &world.indexes[it % 3];
                keep(&registry, repository, Some(tag), index, now);
                for child in children.iter().skip(dice.below(2)) {
                    keep(&registry, repository, None, &world.images[*child].0, now);
                    world.cache_blobs(&registry, repository, *child, dice.below(6), now);
                }
            }
            4 => {
                world.push_image(&registry, repository, it, tag.as_str());
                world.must_have(&mut pushed, repository, it);
                let digest = Digest::of(&world.images[it].0);
                pushed.tags.insert(key, digest);
            }
            5 => {
                // A child that is only partly cached must be pushed too.
                let (index, children) = &world.indexes[it % 3];
                if push(&registry, repository, tag.as_str(), index).is_err() {
                    for child in children {
                        let digest = Digest::of(&world.images[*child].0).to_string();
                        world.push_image(&registry, repository, *child, &digest);
                    }
                    push(&registry, repository, tag.as_str(), index).unwrap();
                }
                for child in children {
                    world.must_have(&mut pushed, repository, *child);
                }
                let digest = Digest::of(index);
                pushed
                    .manifests
                    .insert((repository.clone(), digest.clone()));
                pushed.tags.insert(key, digest);
            }
            6 => {
                if registry
                    .delete_manifest(repository, &Reference::Tag(tag.clone()))
                    .is_ok()
                {
                    pushed.tags.remove(&key);
                }
                let state = registry.tag_state(repository, tag).unwrap();
                assert_eq!(state, TagState::Absent);
            }
            7 => {
                let blob = Digest::of(&world.images[it].1[0]);
                let from = &world.repositories[dice.below(3)];
                if registry.mount(repository, from, &blob).unwrap() {
                    pushed.blobs.insert((repository.clone(), blob));
                }
            }
            8 => registry.record_use(repository, &Digest::of(&world.images[it].0), now),
            9 => {
                drop(registry);
                registry = Registry::open(root.path()).unwrap();
            }
            _ => {
                // All leases from HEAD requests have expired.
                now += 10_000;
                let before = world.whole(&registry);
                let limits = CacheLimits {
                    max_bytes: Some([0, 2_000, 5_000, 100_000][dice.below(4)]),
                    max_unused: [None, Some(Duration::from_secs(20_000))][dice.below(2)],
                    grace_period: Duration::from_secs(1 + dice.below(2) as u64 * 5_000),
                };
                let first = registry.evict(&limits, now - 5_000).unwrap();
                let done = registry.evict(&limits, now).unwrap();
                evicted += first.images + done.images;
                assert!(done.cached_bytes <= limits.max_bytes, "{done:?}");
                for (image, blobs) in world.whole(&registry) {
                    assert_eq!(blobs, before[&image], "{image:?}");
                }
            }
        }
        pushed.check(&registry);
    }
    // In the end only pushed content is left.
    now += 200_000;
    registry.evict(&to_bytes(0), now - 100_000).unwrap();
    let done = registry.evict(&to_bytes(0), now).unwrap();
    assert_eq!(done.cached_bytes, Some(0));
    pushed.check(&registry);
    drop(registry);
    let registry = Registry::open(root.path()).unwrap();
    pushed.check(&registry);
    evicted
}

#[test]
fn whatever_is_cached_pushed_pulled_and_evicted_what_was_pushed_is_never_lost() {
    let world = TestContent::new();
    let evicted: usize = (1..=40).map(|seed| live(seed, &world)).sum();
    assert!(evicted > 100, "only {evicted} images were evicted");
}

/// Sets the stop flag when dropped, also after a panic.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn what_is_pushed_while_the_same_is_cached_and_evicted_is_there_when_it_is_acknowledged() {
    let root = folder();
    let registry = Registry::open(root.path()).unwrap();
    let world = TestContent::new();
    let at: Repository = world.repositories[1].clone();
    let is_over = AtomicBool::new(false);
    let nothing = CacheLimits {
        max_bytes: Some(0),
        max_unused: None,
        grace_period: Duration::from_secs(0),
    };
    let evicted = std::thread::scope(|scope| {
        let (registry, world, at, is_over) = (&registry, &world, &at, &is_over);
        scope.spawn(move || {
            for it in (0..8)
                .cycle()
                .take_while(|_| !is_over.load(Ordering::Relaxed))
            {
                let (manifest, blobs) = &world.images[it];
                keep(registry, at, Some(&tag()), manifest, 1000);
                for bytes in blobs {
                    let digest = Digest::of(bytes);
                    match registry.blob_state(at, &digest).unwrap() {
                        BlobState::Linked { .. } => {}
                        // The bytes or the link may be evicted again at once.
                        BlobState::Elsewhere { .. } => {
                            registry.link_cached_blob(at, &digest, 1000).unwrap();
                        }
                        BlobState::Absent => fetch(registry, at, bytes, 1000),
                    }
                }
            }
        });
        let evicting = scope.spawn(move || {
            let mut images = 0;
            while !is_over.load(Ordering::Relaxed) {
                images += registry.evict(&nothing, 1_000_000).unwrap().images;
            }
            images
        });
        let over = StopOnDrop(is_over);
        for round in 0..60 {
            let it = round % 8;
            let (manifest, blobs) = &world.images[it];
            let digest = Digest::of(manifest);
            for tries in 0.. {
                assert!(tries < 1000, "it is never taken");
                for bytes in blobs {
                    if registry.blob_size(at, &Digest::of(bytes)).is_err() {
                        push_blob(registry, at, bytes);
                    }
                }
                match push(registry, at, &digest.to_string(), manifest) {
                    Ok(()) => break,
                    // A blob that a HEAD found has been evicted since; a client starts over.
                    Err(Error::ChildrenUnknown(_)) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            for bytes in blobs {
                for _ in 0..20 {
                    let blob = registry.open_blob(at, &Digest::of(bytes)).unwrap();
                    assert_eq!(blob.read(0, bytes.len()).unwrap(), *bytes);
                }
            }
            let state = registry.manifest_state(at, &digest).unwrap();
            assert_eq!(state, ManifestState::Pushed);
            // Deletes the pushed image, so that the next round starts without it.
            registry
                .delete_manifest(at, &Reference::Digest(digest))
                .unwrap();
            for bytes in blobs {
                // The image may contain the same layer twice.
                let _ = registry.delete_blob(at, &Digest::of(bytes));
            }
        }
        drop(over);
        evicting.join().unwrap()
    });
    assert!(evicted > 0);
}
