//! Tests of backups on a real file system.

use std::sync::Mutex;
use std::time::Duration;

use imgsync_oci::{Digest, Reference, Repository, Tag};

use super::super::cache::tests::{
    cache_blob, cache_manifest, folder, image, index, push, push_blob,
};
use super::super::{CollectOptions, Error, OpenedBackup, Registry, UntaggedPolicy, Walk};
use super::{BackupGap, BackupOutcome, BackupStats};
use crate::store::{BackupState, ObjectKey, Store};
use crate::wall_clock::unix_now;

pub(super) fn name(text: &str) -> Repository {
    text.parse().unwrap()
}

pub(super) fn tag(text: &str) -> Tag {
    text.parse().unwrap()
}

/// Pushes an image of two layers, and returns its digest.
pub(super) fn push_image(
    registry: &Registry,
    repository: &str,
    reference: &str,
    word: &str,
) -> Digest {
    let repository = name(repository);
    let layer = format!("the layer of {word}");
    let layers: [&[u8]; 2] = [b"shared", layer.as_bytes()];
    let (manifest, config) = image(word, &layers);
    for blob in [layers[0], layers[1], &config] {
        push_blob(registry, &repository, blob);
    }
    push(registry, &repository, reference, &manifest).unwrap();
    Digest::of(&manifest)
}

/// Asserts that a tag points at the image that [`push_image`] pushed for a word, and that the image
/// is complete.
pub(super) fn assert_image(registry: &Registry, repository: &str, reference: &str, word: &str) {
    let layer = format!("the layer of {word}");
    let layers: [&[u8]; 2] = [b"shared", layer.as_bytes()];
    let (manifest, config) = image(word, &layers);
    let repository = name(repository);
    let found = registry.get_manifest(&repository, &reference.parse().unwrap());
    assert_eq!(found.unwrap().bytes, manifest, "{reference}");
    for blob in [layers[0], layers[1], &config] {
        let opened = registry.open_blob(&repository, &Digest::of(blob)).unwrap();
        assert_eq!(opened.read(0, blob.len()).unwrap(), blob);
    }
}

pub(super) fn has_manifest(registry: &Registry, repository: &str, reference: &str) -> bool {
    let reference: Reference = reference.parse().unwrap();
    registry.get_manifest(&name(repository), &reference).is_ok()
}

pub(super) fn has_bytes(registry: &Registry, bytes: &[u8]) -> bool {
    let len = registry.store.len(ObjectKey::Blob(&Digest::of(bytes)));
    len.unwrap().is_some()
}

pub(super) fn delete(registry: &Registry, repository: &str, reference: &str) {
    let reference: Reference = reference.parse().unwrap();
    let walk = Walk::unbounded();
    registry
        .delete_manifest(&name(repository), &reference, &walk)
        .unwrap();
}

/// Collects everything that no tag needs.
fn collect(registry: &Registry) -> bool {
    let options = CollectOptions {
        grace: Duration::ZERO,
        untagged: UntaggedPolicy::RemoveAll,
        is_dry_run: false,
    };
    let collected = registry.collect_garbage(&options, unix_now() + 1, &mut |_| {});
    collected.unwrap().is_some()
}

/// A registry and its backup.
pub(super) struct Pair {
    pub(super) source: Registry,
    pub(super) root: tempfile::TempDir,
    pub(super) folder: tempfile::TempDir,
}

impl Pair {
    pub(super) fn new() -> Self {
        let root = folder();
        Self {
            source: Registry::open(root.path()).unwrap(),
            root,
            folder: folder(),
        }
    }

    pub(super) fn open_backup(&self) -> Registry {
        match Registry::open_backup(self.folder.path(), self.root.path()).unwrap() {
            OpenedBackup::Open(target) => target,
            OpenedBackup::NotABackup | OpenedBackup::InStore => panic!("not a backup"),
        }
    }

    pub(super) fn write(&self) -> (BackupStats, Vec<BackupGap>) {
        let mut gaps = Vec::new();
        let target = self.open_backup();
        let written = self
            .source
            .back_up_to(&target, &|| true, &mut |gap| gaps.push(gap));
        match written.unwrap() {
            BackupOutcome::Complete(stats) => (stats, gaps),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_backup_has_everything_and_only_changes_are_written_again() {
    let pair = Pair::new();
    let (source, folder) = (&pair.source, &pair.folder);
    let one = push_image(source, "team/app", "v1", "one");
    push_image(source, "team/app", "v2", "two");
    push_image(source, "other", "latest", "one");
    let child = image("child", &[]);
    push_blob(source, &name("team/app"), &child.1);
    let child_digest = Digest::of(&child.0).to_string();
    push(source, &name("team/app"), &child_digest, &child.0).unwrap();
    push(source, &name("team/app"), "multi", &index(&[&child.0])).unwrap();
    push_blob(source, &name("team/app"), b"garbage");
    let (stats, gaps) = pair.write();
    assert_eq!(gaps, []);
    assert_eq!((stats.repositories, stats.tags, stats.manifests), (2, 4, 5));
    // Four manifests and configs, an index, two layers and one that all share.
    assert_eq!((stats.linked, stats.copied), (10, 0));

    let (stats, _) = pair.write();
    assert_eq!((stats.linked, stats.copied, stats.new_bytes), (0, 0, 0));
    delete(source, "team/app", &one.to_string());
    push_image(source, "team/app", "v2", "three");
    let (stats, _) = pair.write();
    // The layer that all share was sent again.
    assert_eq!((stats.linked, stats.removed_tags), (4, 1));
    assert_eq!(stats.removed_blobs, 0, "the other repository has the image");
    delete(source, "other", &one.to_string());
    let (stats, _) = pair.write();
    assert_eq!((stats.removed_tags, stats.removed_blobs), (1, 3));

    let restored = Registry::open(folder.path()).unwrap();
    let state = restored.store.backup_state().unwrap();
    assert!(matches!(state, Some(BackupState::Complete(_))), "{state:?}");
    assert_image(&restored, "team/app", "v2", "three");
    let untagged = image("two", &[b"shared", b"the layer of two"]).0;
    let untagged = Digest::of(&untagged).to_string();
    assert_image(&restored, "team/app", &untagged, "two");
    assert!(has_manifest(&restored, "team/app", "multi"));
    assert!(has_manifest(&restored, "team/app", &child_digest));
    for (repository, tag) in [("team/app", "v1"), ("other", "latest")] {
        assert!(!has_manifest(&restored, repository, tag));
    }
    assert!(!has_bytes(&restored, b"garbage"));
    // The registry does not change with its backup.
    push_image(&restored, "team/app", "v2", "one");
    assert_image(source, "team/app", "v2", "three");
}

#[test]
fn an_image_that_is_deleted_meanwhile_is_in_the_backup_completely_or_not_at_all() {
    for moment in 0.. {
        let pair = Pair::new();
        push_image(&pair.source, "a", "v1", "one");
        push_image(&pair.source, "b", "v1", "two");
        let child = image("three", &[b"shared", b"the layer of three"]).0;
        let child_digest = Digest::of(&child).to_string();
        push_image(&pair.source, "b", &child_digest, "three");
        let multi = index(&[&child]);
        push(&pair.source, &name("b"), "multi", &multi).unwrap();
        push_image(&pair.source, "b", "v2", "four");
        let source = pair.source.clone();
        let changes = std::sync::Arc::new(Mutex::new(0));
        let counter = std::sync::Arc::clone(&changes);
        let hook = move || {
            let mut changes = counter.lock().unwrap();
            *changes += 1;
            if *changes == moment {
                let two = image("two", &[b"shared", b"the layer of two"]).0;
                for manifest in [&two, &multi, &child] {
                    delete(&source, "b", &Digest::of(manifest).to_string());
                }
                assert!(!collect(&source), "paused");
            }
            Ok(())
        };
        let root = pair.folder.path().join("backup");
        let pause = pair.source.pause_collection();
        let target = Registry::with_store(Store::open_with_hook(&root, hook).unwrap());
        let written = pair
            .source
            .back_up_to(&target, &|| true, &mut |gap| panic!("{gap}"));
        assert!(matches!(written, Ok(BackupOutcome::Complete(_))));
        drop(pause);
        assert_image(&target, "a", "v1", "one");
        if has_manifest(&target, "b", "v1") {
            assert_image(&target, "b", "v1", "two");
        }
        if has_manifest(&target, "b", "multi") {
            assert_image(&target, "b", &child_digest, "three");
        }
        if *changes.lock().unwrap() < moment {
            assert!(moment > 50, "{moment}");
            return;
        }
    }
}

#[test]
fn an_empty_registry_and_a_lost_lease_remove_nothing() {
    let pair = Pair::new();
    push_image(&pair.source, "a", "v1", "one");
    pair.write();
    let other = folder();
    let empty = Registry::open(other.path()).unwrap();
    let target = pair.open_backup();
    let written = empty.back_up_to(&target, &|| true, &mut |_| {});
    assert_eq!(written.unwrap(), BackupOutcome::EmptyRegistry);
    let state = target.store.backup_state().unwrap();
    assert!(matches!(state, Some(BackupState::Complete(_))), "{state:?}");

    push_image(&empty, "b", "v1", "one");
    let written = empty.back_up_to(&target, &|| false, &mut |_| {});
    assert_eq!(written.unwrap(), BackupOutcome::LeaseLost);
    assert_eq!(
        target.store.backup_state().unwrap(),
        Some(BackupState::Incomplete)
    );
    assert_image(&target, "a", "v1", "one");
    let written = empty.back_up_to(&target, &|| true, &mut |_| {});
    assert!(matches!(written, Ok(BackupOutcome::Complete(_))));
    assert!(!has_manifest(&target, "a", "v1"));
    assert_image(&target, "b", "v1", "one");
}

#[test]
fn cached_content_is_left_out_until_it_is_pushed() {
    let pair = Pair::new();
    let source = &pair.source;
    push_image(source, "a", "v1", "one");
    let (manifest, config) = image("cached", &[b"cached layer"]);
    let cached = name("ghcr.io/owner/app");
    cache_manifest(source, &cached, Some(&tag("v1")), &manifest, 1000);
    cache_blob(source, &cached, b"cached layer", 1000);
    cache_blob(source, &cached, &config, 1000);
    let (stats, _) = pair.write();
    assert_eq!(stats.repositories, 1);
    assert!(!has_bytes(&pair.open_backup(), b"cached layer"));
    push(source, &cached, "mine", &manifest).unwrap();
    pair.write();
    let target = pair.open_backup();
    assert!(has_manifest(&target, cached.as_str(), "mine"));
    assert!(has_bytes(&target, b"cached layer"));
}

#[test]
fn a_registry_that_serves_a_backup_takes_it_over() {
    let pair = Pair::new();
    push_image(&pair.source, "a", "v1", "one");
    pair.write();
    let registry = Registry::open(pair.folder.path()).unwrap();
    let state = registry.adopt_backup().unwrap();
    assert!(matches!(state, Some(BackupState::Complete(_))), "{state:?}");
    drop(registry);
    let opened = Registry::open_backup(pair.folder.path(), pair.root.path()).unwrap();
    assert!(matches!(opened, OpenedBackup::NotABackup));
}

#[test]
fn a_failed_write_leaves_complete_images() -> Result<(), Error> {
    let pair = Pair::new();
    for (repository, word) in [("a", "one"), ("b", "two"), ("c", "three")] {
        push_image(&pair.source, repository, "v1", word);
    }
    for allowed in 0.. {
        let root = folder();
        let root = root.path().join("backup");
        let count = Mutex::new(0);
        let hook = move || {
            let mut count = count.lock().unwrap();
            *count += 1;
            if *count > allowed + 20 {
                return Err(std::io::ErrorKind::StorageFull.into());
            }
            Ok(())
        };
        let Ok(store) = Store::open_with_hook(&root, hook) else {
            continue;
        };
        let target = Registry::with_store(store);
        let written = pair
            .source
            .back_up_to(&target, &|| true, &mut |gap| panic!("{gap}"));
        drop(target);
        let target = Registry::open(&root)?;
        for (repository, word) in [("a", "one"), ("b", "two"), ("c", "three")] {
            if has_manifest(&target, repository, "v1") {
                assert_image(&target, repository, "v1", word);
            }
        }
        if written.is_ok() {
            assert!(allowed > 50, "{allowed}");
            return Ok(());
        }
        let written = pair
            .source
            .back_up_to(&target, &|| true, &mut |gap| panic!("{gap}"))?;
        assert!(matches!(written, BackupOutcome::Complete(_)));
        assert_image(&target, "c", "v1", "three");
    }
    Ok(())
}
