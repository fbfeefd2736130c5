//! Tests collections against a model: clients push, delete and rely on what they were told, hours
//! pass, and collections run in between.
//!
//! A run is determined by its seed. `IMGSYNC_TESTS_SEEDS` sets how many runs there are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::Duration;

use imgsync_oci::{Digest, Reference, Repository};

use super::super::cache::tests::{folder, image, push, push_blob};
use super::super::{Registry, Walk};
use super::{CollectOptions, UntaggedPolicy};
use crate::store::testing::TestRng;
use crate::wall_clock::unix_now;

const HOUR: u64 = 3600;
const GRACE_HOURS: u64 = 24;
const DEFAULT_SEEDS: u64 = 100;
const STEPS_PER_RUN: u64 = 120;
const LAYERS: u64 = 12;

/// A push that is not finished: it will put an image of the layers that it was promised.
struct Push {
    repository: Repository,
    layers: BTreeSet<Vec<u8>>,
    /// When it was promised its first layer.
    promised_at: u64,
}

struct Model {
    registry: Registry,
    random: TestRng,
    /// In seconds since the start.
    time: u64,
    pushes: Vec<Push>,
    /// The layers of the image at each tag.
    tags: BTreeMap<(Repository, String), BTreeSet<Vec<u8>>>,
}

impl Model {
    fn draw(&mut self, count: u64) -> u64 {
        self.random.below(count as usize) as u64
    }

    fn repository(&mut self) -> Repository {
        format!("r{}", self.draw(3)).parse().unwrap()
    }

    fn layer(&mut self) -> Vec<u8> {
        format!("layer {}", self.draw(LAYERS)).into_bytes()
    }

    fn pass(&mut self, seconds: u64) {
        self.time += seconds;
        let offset = &self.registry.collect.clock_offset;
        offset.store(self.time, Ordering::Relaxed);
    }

    fn collect(&mut self) {
        let options = CollectOptions {
            grace: Duration::from_secs(GRACE_HOURS * HOUR),
            untagged: UntaggedPolicy::after(Duration::from_secs(48 * HOUR)),
            is_dry_run: false,
        };
        let now = unix_now() + self.time;
        let collected = self.registry.collect_garbage(&options, now, &mut |_| {});
        assert!(collected.unwrap().is_some());
    }

    fn begin_push(&mut self) {
        let push = Push {
            repository: self.repository(),
            layers: BTreeSet::new(),
            promised_at: self.time,
        };
        self.pushes.push(push);
    }

    /// Asks for a layer, and uploads it if the repository lacks it.
    fn add_layer(&mut self) {
        let (layer, count) = (self.layer(), self.pushes.len() as u64);
        if count == 0 {
            return self.begin_push();
        }
        let index = self.draw(count) as usize;
        let (push, digest) = (&mut self.pushes[index], Digest::of(&layer));
        if self.registry.blob_size(&push.repository, &digest).is_err() {
            let source: Repository = "r0".parse().unwrap();
            let mounted = self.registry.mount(&push.repository, &source, &digest);
            if !mounted.unwrap() {
                push_blob(&self.registry, &push.repository, &layer);
            }
        }
        push.layers.insert(layer);
    }

    /// Finishes a push that has not taken longer than the grace period.
    fn finish_push(&mut self) {
        let time = self.time;
        let limit = GRACE_HOURS * HOUR - 60;
        self.pushes.retain(|push| time - push.promised_at < limit);
        if self.pushes.is_empty() {
            return;
        }
        let index = self.draw(self.pushes.len() as u64) as usize;
        let tag = format!("t{}", self.draw(3));
        let Push {
            repository, layers, ..
        } = self.pushes.swap_remove(index);
        let slices: Vec<&[u8]> = layers.iter().map(Vec::as_slice).collect();
        let (manifest, config) = image("config", &slices);
        push_blob(&self.registry, &repository, &config);
        push(&self.registry, &repository, &tag, &manifest).unwrap();
        self.tags.insert((repository, tag), layers);
    }

    fn delete(&mut self) {
        let Some((repository, tag)) = self.tags.keys().next().cloned() else {
            return;
        };
        let mut reference: Reference = tag.parse().unwrap();
        let by_digest = self.draw(2) == 0;
        if by_digest {
            let manifest = self.registry.get_manifest(&repository, &reference);
            let digest = manifest.unwrap().digest;
            let same = self.tags_of(&repository, &digest);
            self.tags.retain(|key, _| !same.contains(key));
            reference = Reference::Digest(digest);
        }
        let walk = Walk::unbounded();
        self.registry
            .delete_manifest(&repository, &reference, &walk)
            .unwrap();
        self.tags.remove(&(repository, tag));
    }

    fn tags_of(&self, repository: &Repository, digest: &Digest) -> BTreeSet<(Repository, String)> {
        let keys = self.tags.keys().filter(|(of, tag)| {
            let reference: Reference = tag.parse().unwrap();
            of == repository
                && self
                    .registry
                    .get_manifest(of, &reference)
                    .is_ok_and(|manifest| manifest.digest == *digest)
        });
        keys.cloned().collect()
    }

    /// Asserts that every tagged image is complete.
    fn check(&self, seed: u64) {
        for ((repository, tag), layers) in &self.tags {
            let reference: Reference = tag.parse().unwrap();
            let manifest = self.registry.get_manifest(repository, &reference);
            assert!(manifest.is_ok(), "seed {seed}: {repository}:{tag}");
            for layer in layers {
                let blob = self.registry.open_blob(repository, &Digest::of(layer));
                assert!(blob.is_ok(), "seed {seed}: {repository}:{tag}");
            }
        }
    }

    /// Asserts that nothing is stored but what the tags need.
    fn check_nothing_else(&self, seed: u64) {
        let mut needed: BTreeSet<Digest> = BTreeSet::new();
        for ((repository, tag), layers) in &self.tags {
            let reference: Reference = tag.parse().unwrap();
            let manifest = self.registry.get_manifest(repository, &reference);
            needed.insert(manifest.unwrap().digest);
            needed.insert(Digest::of(&image("config", &[]).1));
            needed.extend(layers.iter().map(|layer| Digest::of(layer)));
        }
        let stored: BTreeSet<Digest> = self.registry.store.blobs().map(Result::unwrap).collect();
        assert_eq!(stored, needed, "seed {seed}");
    }
}

fn run(seed: u64) {
    let root = folder();
    let registry = Registry::open(root.path()).unwrap();
    registry.start_leases(unix_now(), Duration::from_secs(GRACE_HOURS * HOUR));
    let mut model = Model {
        registry,
        random: TestRng(seed + 1),
        time: 0,
        pushes: Vec::new(),
        tags: BTreeMap::new(),
    };
    for _ in 0..STEPS_PER_RUN {
        match model.draw(16) {
            0 => model.begin_push(),
            1..=6 => model.add_layer(),
            7..=8 => model.finish_push(),
            9 => model.delete(),
            10..=12 => {
                let minutes = model.draw(600);
                model.pass(minutes * 60);
            }
            _ => model.collect(),
        }
        model.check(seed);
    }
    model.pushes.clear();
    // First the tags, then what only deleted manifests kept.
    for _ in 0..4 {
        model.pass(8 * 24 * HOUR);
        model.collect();
    }
    model.check(seed);
    model.check_nothing_else(seed);
}

#[test]
fn nothing_that_was_promised_or_acknowledged_is_lost_and_nothing_unused_stays() {
    let seeds = std::env::var("IMGSYNC_TESTS_SEEDS").ok();
    let seeds = seeds.map_or(DEFAULT_SEEDS, |seeds| seeds.parse().unwrap());
    for seed in 0..seeds {
        run(seed);
    }
}
