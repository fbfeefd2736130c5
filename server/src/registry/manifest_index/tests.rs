//! Tests that an index is complete whenever it is used, and that what it has is not read again.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use imgsync_oci::{Algorithm, Digest, Reference, Repository, media};

use super::*;
use crate::registry::Error;
use crate::registry::Registry;
use crate::registry::cache::tests::folder;
use crate::registry::tests::write_foreign_manifest;
use crate::store::{self, ObjectKey, Store};

const SUBJECT: &[u8] = b"the subject";

fn repository() -> Repository {
    "team/app".parse().unwrap()
}

/// Returns a manifest that refers to [`SUBJECT`].
fn referrer(word: &str) -> Vec<u8> {
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": media::OCI_INDEX,
        "manifests": [],
        "artifactType": "application/x",
        "annotations": { "word": word },
        "subject": {
            "mediaType": media::OCI_MANIFEST,
            "digest": Digest::of(SUBJECT),
            "size": SUBJECT.len(),
        },
    });
    manifest.to_string().into_bytes()
}

fn push(registry: &Registry, word: &str) -> Digest {
    let bytes = referrer(word);
    let digest = Digest::of(&bytes);
    let reference = Reference::Digest(digest.clone());
    registry
        .put_manifest(&repository(), &reference, &[], None, &bytes)
        .unwrap();
    digest
}

fn write_foreign(registry: &Registry, bytes: &[u8]) -> Digest {
    write_foreign_manifest(registry, &repository(), bytes)
}

fn list(registry: &Registry) -> Vec<Digest> {
    let subject = Digest::of(SUBJECT);
    let page = registry.list_referrers(&repository(), &subject, None, None, &Walk::unbounded());
    let page = page.unwrap();
    assert_eq!(page.more_after, None);
    page.referrers
        .into_iter()
        .map(|referrer| referrer.digest)
        .collect()
}

fn sorted(digests: &[&Digest]) -> Vec<Digest> {
    let mut digests: Vec<Digest> = digests.iter().copied().cloned().collect();
    digests.sort();
    digests
}

fn index_file(root: &Path) -> PathBuf {
    root.join("imgsync/repositories/team/app/_manifest-index-1")
}

/// Writes the line that says that the index is complete, as if the manifests were old.
fn mark_complete(registry: &Registry, root: &Path) {
    let repository = repository();
    // Later changes have another time, however coarse the clock is.
    let links = "docker/registry/v2/repositories/team/app/_manifests/revisions/sha256";
    let links = std::fs::File::open(root.join(links)).unwrap();
    links.set_modified(SystemTime::UNIX_EPOCH).unwrap();
    let links = LinkKind::Revisions;
    let folders = registry.store.link_folders_identity(&repository, links);
    let line = format!("{COMPLETE_MARK}{}\n", folders.unwrap());
    let log = DerivedLogKey::Manifests(&repository);
    registry.store.append_to_log(log, &line).unwrap();
}

#[test]
fn what_was_pushed_is_listed_without_reading_the_manifests() {
    let root = folder();
    let registry = Registry::open(root.path()).unwrap();
    let pushed: Vec<Digest> = (0..50)
        .map(|number| push(&registry, &number.to_string()))
        .collect();
    let expected = sorted(&pushed.iter().collect::<Vec<_>>());
    drop(registry);
    // A new server finds that all manifests are in the index.
    let registry = Registry::open(root.path()).unwrap();
    let opened = || registry.store.opened_files();
    let before = opened();
    assert_eq!(list(&registry), expected);
    // The link of each, and the index.
    let opened_once = opened() - before;
    assert!(opened_once < 60, "{opened_once} files were opened");
    let before = opened();
    assert_eq!(list(&registry), expected);
    assert!(opened() - before < 60);
}

#[test]
fn a_complete_index_is_not_compared_with_the_manifests() {
    let root = folder();
    let registry = Registry::open(root.path()).unwrap();
    let pushed = push(&registry, "pushed");
    mark_complete(&registry, root.path());
    drop(registry);
    let registry = Registry::open(root.path()).unwrap();
    let before = registry.store.listed_entries();
    assert_eq!(list(&registry), sorted(&[&pushed]));
    assert_eq!(registry.store.listed_entries(), before);
    drop(registry);
    // Another program adds a manifest.
    let foreign = write_foreign(&Registry::open(root.path()).unwrap(), &referrer("foreign"));
    let registry = Registry::open(root.path()).unwrap();
    assert_eq!(list(&registry), sorted(&[&pushed, &foreign]));
}

#[test]
fn an_index_is_marked_complete_once_nothing_changes() {
    let root = folder();
    let registry = Registry::open(root.path()).unwrap();
    let pushed: Vec<Digest> = (0..MIN_MARKED_MANIFESTS)
        .map(|number| push(&registry, &number.to_string()))
        .collect();
    let is_marked = || registry.is_index_marked(&repository()).unwrap();
    let mark_after = |seconds| {
        let later = Duration::from_secs(seconds);
        let now = (Instant::now() + later, SystemTime::now() + later);
        registry.mark_idle_indexes(now, &Walk::unbounded());
    };
    mark_after(1);
    assert!(!is_marked());
    // A walk that ends is repeated.
    let now = (
        Instant::now() + Duration::from_secs(60),
        SystemTime::now() + Duration::from_secs(60),
    );
    registry.mark_idle_indexes(now, &Walk::new(1, &|| false));
    assert!(!is_marked());
    mark_after(60);
    assert!(is_marked());
    registry
        .delete_manifest(
            &repository(),
            &Reference::Digest(pushed[0].clone()),
            &Walk::unbounded(),
        )
        .unwrap();
    assert!(!is_marked());
    mark_after(60);
    let last = push(&registry, "last");
    assert!(!is_marked());
    mark_after(60);
    assert!(is_marked());
    drop(registry);
    let registry = Registry::open(root.path()).unwrap();
    let before = registry.store.listed_entries();
    let mut expected: Vec<Digest> = pushed[1..].to_vec();
    expected.push(last);
    expected.sort();
    assert_eq!(list(&registry), expected);
    assert_eq!(registry.store.listed_entries(), before);
}

#[test]
fn an_index_with_an_unreadable_manifest_or_a_fresh_folder_is_never_marked_complete() {
    let root = folder();
    let registry = Registry::open(root.path()).unwrap();
    for number in 0..MIN_MARKED_MANIFESTS {
        push(&registry, &number.to_string());
    }
    list(&registry);
    let index = std::fs::read_to_string(index_file(root.path())).unwrap();
    assert_eq!(index.lines().count(), MIN_MARKED_MANIFESTS);
    // A manifest whose bytes come back later.
    let late = referrer("late");
    let digest = write_foreign(&registry, &late);
    registry.store.delete(ObjectKey::Blob(&digest)).unwrap();
    drop(registry);
    let registry = Registry::open(root.path()).unwrap();
    assert_eq!(list(&registry).len(), MIN_MARKED_MANIFESTS);
    assert_eq!(push(&registry, "late"), digest);
    assert!(list(&registry).contains(&digest));
}

#[test]
fn a_lost_or_damaged_index_is_completed() {
    let root = folder();
    let registry = Registry::open(root.path()).unwrap();
    let pushed = ["one", "two", "three"].map(|word| push(&registry, word));
    let expected = sorted(&pushed.iter().collect::<Vec<_>>());
    let index = std::fs::read(index_file(root.path())).unwrap();
    drop(registry);
    for end in [0, 1, 100, index.len() / 2, index.len() - 1] {
        let zeros = [&index[..end], &vec![0; index.len() - end]].concat();
        let merged = index
            .iter()
            .map(|byte| if *byte == b'\n' { 0 } else { *byte });
        for damaged in [index[..end].to_vec(), zeros, merged.collect()] {
            std::fs::write(index_file(root.path()), damaged).unwrap();
            let registry = Registry::open(root.path()).unwrap();
            assert_eq!(list(&registry), expected);
            // A push after the damage is not lost with it.
            let later = push(&registry, "later");
            assert!(list(&registry).contains(&later));
            let reference = Reference::Digest(later);
            let walk = Walk::unbounded();
            registry
                .delete_manifest(&repository(), &reference, &walk)
                .unwrap();
        }
    }
    std::fs::remove_dir_all(root.path().join("imgsync")).unwrap();
    let registry = Registry::open(root.path()).unwrap();
    assert_eq!(list(&registry), expected);
}

#[test]
fn a_push_whose_line_is_lost_is_listed() {
    let root = folder();
    let registry = Registry::open(root.path()).unwrap();
    let first = push(&registry, "first");
    assert_eq!(list(&registry), sorted(&[&first]));
    // The index cannot be written: a folder is in its place.
    std::fs::remove_file(index_file(root.path())).unwrap();
    std::fs::create_dir(index_file(root.path())).unwrap();
    let second = push(&registry, "second");
    std::fs::remove_dir(index_file(root.path())).unwrap();
    assert_eq!(list(&registry), sorted(&[&first, &second]));
}

#[test]
fn lists_are_complete_on_a_full_disk() {
    let root = folder();
    let registry = Registry::open(root.path()).unwrap();
    let foreign = write_foreign(&registry, &referrer("foreign"));
    drop(registry);
    let is_full = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let full = std::sync::Arc::clone(&is_full);
    let permit = move || {
        if full.load(Ordering::Relaxed) {
            Err(std::io::ErrorKind::StorageFull.into())
        } else {
            Ok(())
        }
    };
    let store = Store::open_with_hook(root.path(), permit).unwrap();
    is_full.store(true, Ordering::Relaxed);
    let registry = Registry::with_store(store);
    assert_eq!(list(&registry), sorted(&[&foreign]));
    is_full.store(false, Ordering::Relaxed);
    assert_eq!(list(&registry), sorted(&[&foreign]));
}

#[test]
fn a_long_index_is_compacted() {
    let root = folder();
    let registry = Registry::open(root.path()).unwrap();
    let pushed = push(&registry, "pushed");
    let line = std::fs::read_to_string(index_file(root.path())).unwrap();
    let gone = ManifestFacts::of(&Digest::of(b"gone"), &referrer("gone")).to_line();
    let long = [line.repeat(MIN_EXCESS_LINES), gone.repeat(10)].concat();
    std::fs::write(index_file(root.path()), long).unwrap();
    assert_eq!(list(&registry), sorted(&[&pushed]));
    assert_eq!(
        std::fs::read_to_string(index_file(root.path())).unwrap(),
        line
    );
    assert_eq!(list(&registry), sorted(&[&pushed]));
}

#[test]
fn large_referrers_are_read_only_for_the_lists_that_have_them() {
    let root = folder();
    let registry = Registry::open(root.path()).unwrap();
    for number in 0..9 {
        push(&registry, &number.to_string().repeat(600_000));
    }
    let subject = Digest::of(SUBJECT);
    let (walk, repository) = (Walk::unbounded(), repository());
    let before = registry.store.opened_files();
    let other = Some("application/other");
    let page = registry
        .list_referrers(&repository, &subject, other, None, &walk)
        .unwrap();
    assert_eq!(page.referrers.len(), 0);
    assert!(registry.store.opened_files() - before < 9);
    // A page has as many as fit, and the next one continues after it.
    let page = registry
        .list_referrers(&repository, &subject, None, None, &walk)
        .unwrap();
    assert_eq!(page.referrers.len(), 6);
    let last = page.more_after.unwrap();
    let page = registry.list_referrers(&repository, &subject, None, Some(&last), &walk);
    assert_eq!(page.unwrap().referrers.len(), 3);
}

#[test]
fn a_long_list_needs_memory_before_it_is_made() {
    let root = folder();
    let registry = Registry::open(root.path()).unwrap();
    for number in 0..20 {
        push(&registry, &number.to_string());
    }
    let list = |max_memory| {
        let walk = Walk::unbounded().with_max_memory(max_memory);
        let subject = Digest::of(SUBJECT);
        registry.list_referrers(&repository(), &subject, None, None, &walk)
    };
    let Err(Error::Store(store::Error::NeedsMemory { bytes })) = list(10_000) else {
        panic!("the list takes more");
    };
    // Some 500 bytes for each, twice.
    assert!((15_000..40_000).contains(&bytes), "{bytes}");
    assert_eq!(list(bytes).unwrap().referrers.len(), 20);
}

#[test]
fn a_manifest_under_its_sha512_digest_is_listed() {
    let root = folder();
    let registry = Registry::open(root.path()).unwrap();
    let bytes = referrer("long");
    let digest = Digest::of_with(Algorithm::Sha512, &bytes);
    let reference = Reference::Digest(digest.clone());
    registry
        .put_manifest(&repository(), &reference, &[], None, &bytes)
        .unwrap();
    assert_eq!(list(&registry), [digest]);
}

#[test]
fn a_caller_that_waits_for_an_index_is_noticed() {
    let root = folder();
    let registry = Registry::open(root.path()).unwrap();
    let foreign = write_foreign(&registry, &referrer("foreign"));
    let lock = registry.lock_keys([LockKey::ManifestIndex(repository())]);
    std::thread::scope(|scope| {
        let listed = scope.spawn(|| list(&registry));
        while !registry.is_index_awaited() {
            std::thread::yield_now();
        }
        drop(lock);
        assert_eq!(listed.join().unwrap(), [foreign]);
    });
    assert!(!registry.is_index_awaited());
}

#[test]
fn a_walk_that_ends_early_keeps_what_it_read() {
    let root = folder();
    let registry = Registry::open(root.path()).unwrap();
    for number in 0..5 {
        write_foreign(&registry, &referrer(&number.to_string()));
    }
    let few_steps = Walk::new(40, &|| false);
    assert!(registry.update_index(&repository(), &few_steps).is_err());
    let index = std::fs::read_to_string(index_file(root.path())).unwrap();
    assert!((1..5).contains(&index.lines().count()), "{index}");
    assert_eq!(list(&registry).len(), 5);
}
