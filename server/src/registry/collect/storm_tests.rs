//! A storm: many threads push, mount, retag, delete and pull while collections run without a pause.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use imgsync_oci::{Digest, Reference, Repository};

use super::super::cache::tests::{folder, image, push, push_blob};
use super::super::{Error, Registry, Walk};
use super::{CollectOptions, UntaggedPolicy};
use crate::wall_clock::unix_now;

const CLIENTS: u64 = 6;
const DEFAULT_ROUNDS: u64 = 150;

/// A client that pushes images of a few layers, which the others push, too.
struct StormClient<'a> {
    registry: &'a Registry,
    number: u64,
}

impl StormClient<'_> {
    fn push_image(&self, round: u64) {
        let repository: Repository = format!("r{}", round % 2).parse().unwrap();
        let layers: Vec<Vec<u8>> = (0..3)
            .map(|layer| format!("layer {}", (round / 2 + layer) % 7).into_bytes())
            .collect();
        let slices: Vec<&[u8]> = layers.iter().map(Vec::as_slice).collect();
        let (manifest, config) = image("config", &slices);
        for blob in slices.iter().copied().chain([&config[..]]) {
            let digest = Digest::of(blob);
            let is_there = match (round + self.number) % 3 {
                0 => self.registry.blob_size(&repository, &digest).is_ok(),
                1 => {
                    let source = format!("r{}", (round + 1) % 2).parse().unwrap();
                    self.registry.mount(&repository, &source, &digest).unwrap()
                }
                _ => false,
            };
            if !is_there {
                push_blob(self.registry, &repository, blob);
            }
        }
        // Everything that the manifest names was promised within the grace period.
        let tag = format!("t{}", self.number);
        push(self.registry, &repository, &tag, &manifest).unwrap();
        self.check(&repository, &tag);
        let reference = match round % 4 {
            0 => tag,
            1 => Digest::of(&manifest).to_string(),
            _ => return,
        };
        let walk = Walk::unbounded();
        let reference: Reference = reference.parse().unwrap();
        let deleted = self
            .registry
            .delete_manifest(&repository, &reference, &walk);
        assert!(matches!(deleted, Ok(_) | Err(Error::ManifestUnknown(_))));
    }

    /// Pulls an image, unless another client has deleted it.
    fn check(&self, repository: &Repository, reference: &str) {
        let reference: Reference = reference.parse().unwrap();
        if self.registry.manifest_size(repository, &reference).is_err() {
            return;
        }
        let Ok(manifest) = self.registry.get_manifest(repository, &reference) else {
            return;
        };
        let named = self.registry.named_digests(repository, &manifest.digest);
        for digest in named.unwrap() {
            let blob = self.registry.open_blob(repository, &digest);
            assert!(blob.is_ok(), "{repository} lacks {digest}");
        }
    }
}

#[test]
fn images_stay_complete_while_collections_run_without_a_pause() {
    let root = folder();
    let registry = Registry::open(root.path()).unwrap();
    // Garbage from before, and whatever is older than this, is collected during the storm.
    let options = CollectOptions {
        grace: Duration::from_secs(2),
        untagged: UntaggedPolicy::RemoveAll,
        is_dry_run: false,
    };
    registry.start_leases(unix_now() - 60, options.grace);
    let rounds = std::env::var("IMGSYNC_TESTS_ROUNDS").ok();
    let rounds = rounds.map_or(DEFAULT_ROUNDS, |rounds| rounds.parse().unwrap());
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (registry, options, is_over) = (&registry, &options, &is_over);
        let collector = scope.spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                let collected = registry.collect_garbage(options, unix_now(), &mut |_| {});
                collected.unwrap();
            }
        });
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let client = StormClient { registry, number };
                scope.spawn(move || (0..rounds).for_each(|round| client.push_image(round)))
            })
            .collect();
        let results: Vec<_> = clients.into_iter().map(|client| client.join()).collect();
        is_over.store(true, Ordering::Relaxed);
        collector.join().unwrap();
        assert!(results.iter().all(Result::is_ok));
    });
    let client = StormClient {
        registry: &registry,
        number: 0,
    };
    for repository in ["r0", "r1"] {
        for number in 0..CLIENTS {
            client.check(&repository.parse().unwrap(), &format!("t{number}"));
        }
    }
    // Nothing unused is left a while after the storm.
    let later = unix_now() + 1_000_000;
    for _ in 0..2 {
        let collected = registry.collect_garbage(&options, later, &mut |_| {});
        assert!(collected.unwrap().is_some());
    }
    let collected = registry.collect_garbage(&options, later, &mut |_| {});
    assert_eq!(collected.unwrap(), Some(Default::default()));
}
