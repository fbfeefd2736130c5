//! Tests that pushed content survives evictions: random operations checked against a model, and pushes
//! that run at the same time as evictions.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use imgsync_oci::{Digest, Reference, Repository, Tag};

use super::evict_tests::{has_manifest, limit_of, link_or_cache_blob};
use super::tests::{
    UPSTREAM, cache_blob, cache_manifest, folder, image, index, push, push_blob, tag,
};
use super::{BlobState, CacheLimits, ManifestState, TagState};
use crate::registry::{Error, Registry, Walk};
use crate::store::testing::TestRng;

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
        let layers: Vec<Vec<u8>> = (0..6_u8).map(|byte| vec![byte; 100 << byte]).collect();
        let images: Vec<_> = (0..8_usize)
            .map(|number| {
                let own_layers = [&layers[number % 6][..], &layers[number * 2 % 5], &layers[0]];
                let (manifest, config) = image(&number.to_string(), &own_layers);
                let blobs = own_layers
                    .iter()
                    .map(|bytes| bytes.to_vec())
                    .chain([config]);
                (manifest, blobs.collect())
            })
            .collect();
        let indexes = [vec![0, 1], vec![1, 2, 3], vec![4]].map(|children| {
            let bytes: Vec<&[u8]> = children
                .iter()
                .map(|number: &usize| &images[*number].0[..])
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

    /// Caches the first `count` blobs of an image.
    fn cache_blobs(
        &self,
        registry: &Registry,
        repository: &Repository,
        image: usize,
        count: usize,
        now: u64,
    ) {
        for bytes in self.images[image].1.iter().take(count) {
            link_or_cache_blob(registry, repository, bytes, now);
        }
    }

    /// Pushes an image as clients do: blobs that a HEAD finds are not uploaded.
    fn push_image(
        &self,
        registry: &Registry,
        repository: &Repository,
        image: usize,
        reference: &str,
    ) {
        for bytes in &self.images[image].1 {
            if registry.blob_size(repository, &Digest::of(bytes)).is_err() {
                push_blob(registry, repository, bytes);
            }
        }
        push(registry, repository, reference, &self.images[image].0).unwrap();
    }

    fn record_pushed(&self, pushed: &mut PushedContent, repository: &Repository, image: usize) {
        let digest = Digest::of(&self.images[image].0);
        pushed.manifests.insert((repository.clone(), digest));
        for bytes in &self.images[image].1 {
            pushed.blobs.insert((repository.clone(), Digest::of(bytes)));
        }
    }

    /// Returns the manifests that each repository has, with those of their blobs that the
    /// repository links.
    fn complete_images(&self, registry: &Registry) -> BTreeMap<(Repository, Digest), Vec<Digest>> {
        let mut images = BTreeMap::new();
        for repository in &self.repositories {
            for (manifest, blobs) in &self.images {
                let digest = Digest::of(manifest);
                if has_manifest(registry, repository, &digest) {
                    let blobs = blobs.iter().map(|bytes| Digest::of(bytes));
                    let linked = blobs.filter(|blob| registry.open_blob(repository, blob).is_ok());
                    images.insert((repository.clone(), digest), linked.collect());
                }
            }
        }
        images
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

fn run_random_steps(seed: u64, content: &TestContent) -> usize {
    let root = folder();
    let mut registry = Registry::open(root.path()).unwrap();
    let mut random = TestRng(seed * 7919 + 1);
    let (mut pushed, mut now, mut evicted) = (PushedContent::default(), 10_000, 0);
    for _ in 0..60 {
        now += 1 + random.below(100) as u64;
        let repository = &content.repositories[random.below(3)];
        let tag = &content.tags[random.below(3)];
        let image = random.below(content.images.len());
        let key = (repository.clone(), tag.clone());
        match random.below(16) {
            0 | 1 | 10..=13 => {
                let bytes = &content.images[image].0;
                let is_pushed = pushed.tags.contains_key(&key);
                let cached = cache_manifest(&registry, repository, Some(tag), bytes, now);
                assert_eq!(cached.is_tagged, !is_pushed);
                content.cache_blobs(&registry, repository, image, random.below(5), now);
            }
            2 | 3 => {
                let (index, children) = &content.indexes[image % 3];
                cache_manifest(&registry, repository, Some(tag), index, now);
                for child in children.iter().skip(random.below(2)) {
                    cache_manifest(&registry, repository, None, &content.images[*child].0, now);
                    content.cache_blobs(&registry, repository, *child, random.below(6), now);
                }
            }
            4 => {
                content.push_image(&registry, repository, image, tag.as_str());
                content.record_pushed(&mut pushed, repository, image);
                let digest = Digest::of(&content.images[image].0);
                pushed.tags.insert(key, digest);
            }
            5 => {
                // A child that is only partly cached must be pushed too.
                let (index, children) = &content.indexes[image % 3];
                if push(&registry, repository, tag.as_str(), index).is_err() {
                    for child in children {
                        let digest = Digest::of(&content.images[*child].0).to_string();
                        content.push_image(&registry, repository, *child, &digest);
                    }
                    push(&registry, repository, tag.as_str(), index).unwrap();
                }
                for child in children {
                    content.record_pushed(&mut pushed, repository, *child);
                }
                let digest = Digest::of(index);
                pushed
                    .manifests
                    .insert((repository.clone(), digest.clone()));
                pushed.tags.insert(key, digest);
            }
            6 => {
                if registry
                    .delete_manifest(repository, &Reference::Tag(tag.clone()), &Walk::unbounded())
                    .is_ok()
                {
                    pushed.tags.remove(&key);
                }
                let state = registry.tag_state(repository, tag).unwrap();
                assert_eq!(state, TagState::Absent);
            }
            7 => {
                let blob = Digest::of(&content.images[image].1[0]);
                let source = &content.repositories[random.below(3)];
                if registry.mount(repository, source, &blob).unwrap() {
                    pushed.blobs.insert((repository.clone(), blob));
                }
            }
            8 => registry.record_use(repository, &Digest::of(&content.images[image].0), now),
            9 => {
                drop(registry);
                registry = Registry::open(root.path()).unwrap();
            }
            _ => {
                // All leases from HEAD requests have expired.
                now += 10_000;
                let before = content.complete_images(&registry);
                let limits = CacheLimits {
                    max_bytes: Some([0, 2_000, 5_000, 100_000][random.below(4)]),
                    max_unused: [None, Some(Duration::from_secs(20_000))][random.below(2)],
                    grace_period: Duration::from_secs(1 + random.below(2) as u64 * 5_000),
                };
                let first = registry.evict(&limits, now - 5_000).unwrap();
                let second = registry.evict(&limits, now).unwrap();
                evicted += first.images + second.images;
                assert!(second.cached_bytes <= limits.max_bytes, "{second:?}");
                for (image, blobs) in content.complete_images(&registry) {
                    assert_eq!(blobs, before[&image], "{image:?}");
                }
            }
        }
        pushed.check(&registry);
    }
    // In the end only pushed content is left.
    now += 200_000;
    registry.evict(&limit_of(0), now - 100_000).unwrap();
    let last = registry.evict(&limit_of(0), now).unwrap();
    assert_eq!(last.cached_bytes, Some(0));
    pushed.check(&registry);
    drop(registry);
    let registry = Registry::open(root.path()).unwrap();
    pushed.check(&registry);
    evicted
}

#[test]
fn pushed_content_survives_random_sequences_of_operations() {
    let content = TestContent::new();
    let evicted: usize = (1..=40).map(|seed| run_random_steps(seed, &content)).sum();
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
fn an_acknowledged_push_is_complete_while_the_same_image_is_cached_and_evicted() {
    let root = folder();
    let registry = Registry::open(root.path()).unwrap();
    let content = TestContent::new();
    let repository: Repository = content.repositories[1].clone();
    let is_over = AtomicBool::new(false);
    let limits = CacheLimits {
        max_bytes: Some(0),
        max_unused: None,
        grace_period: Duration::from_secs(0),
    };
    let evicted = std::thread::scope(|scope| {
        let (registry, content, is_over) = (&registry, &content, &is_over);
        let repository = &repository;
        scope.spawn(move || {
            for image in (0..8)
                .cycle()
                .take_while(|_| !is_over.load(Ordering::Relaxed))
            {
                let (manifest, blobs) = &content.images[image];
                cache_manifest(registry, repository, Some(&tag()), manifest, 1000);
                for bytes in blobs {
                    let digest = Digest::of(bytes);
                    match registry.blob_state(repository, &digest).unwrap() {
                        BlobState::Linked { .. } => {}
                        // The bytes or the link may be evicted again at once.
                        BlobState::Elsewhere { .. } => {
                            registry
                                .link_cached_blob(repository, &digest, UPSTREAM, 1000)
                                .unwrap();
                        }
                        BlobState::Absent => cache_blob(registry, repository, bytes, 1000),
                    }
                }
            }
        });
        let evicting = scope.spawn(move || {
            let mut images = 0;
            while !is_over.load(Ordering::Relaxed) {
                images += registry.evict(&limits, 1_000_000).unwrap().images;
            }
            images
        });
        let stop = StopOnDrop(is_over);
        for round in 0..60 {
            let (manifest, blobs) = &content.images[round % 8];
            let digest = Digest::of(manifest);
            for tries in 0.. {
                assert!(tries < 1000, "the push never succeeds");
                for bytes in blobs {
                    if registry.blob_size(repository, &Digest::of(bytes)).is_err() {
                        push_blob(registry, repository, bytes);
                    }
                }
                match push(registry, repository, &digest.to_string(), manifest) {
                    Ok(()) => break,
                    // A blob that a HEAD found has been evicted since; a client starts over.
                    Err(Error::ChildrenUnknown(_)) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            for bytes in blobs {
                for _ in 0..20 {
                    let blob = registry.open_blob(repository, &Digest::of(bytes)).unwrap();
                    assert_eq!(blob.read(0, bytes.len()).unwrap(), *bytes);
                }
            }
            let state = registry.manifest_state(repository, &digest).unwrap();
            assert_eq!(state, ManifestState::Pushed);
            // Deletes the pushed image, so that the next round starts without it.
            registry
                .delete_manifest(repository, &Reference::Digest(digest), &Walk::unbounded())
                .unwrap();
            for bytes in blobs {
                // The image may contain the same layer twice.
                let _ = registry.delete_blob(repository, &Digest::of(bytes));
            }
        }
        drop(stop);
        evicting.join().unwrap()
    });
    assert!(evicted > 0);
}
