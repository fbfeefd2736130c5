//! Tests of pushes on a disk that fails.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use imgsync_oci::endpoint::Pagination;

use super::cache::tests::folder;
use super::tests::{TestImage, has, push, tagged};
use super::{Registry, Walk};
use crate::store::Store;

/// Pushes an image over another one while the disk fails each change for whose number `fails` is
/// true, then checks what a new server on the same folder has. Returns the number of changes.
fn push_on_a_failing_disk(fails: impl Fn(usize) -> bool + Send + Sync + 'static) -> usize {
    let root = folder();
    let (old, new) = (TestImage::of("old"), TestImage::of("new"));
    let registry = Registry::open(root.path()).unwrap();
    push(&registry, &old).1.unwrap();
    drop(registry);

    // The changes during opening do not fail.
    let count = Arc::new(AtomicUsize::new(usize::MAX / 2));
    let counter = Arc::clone(&count);
    let permit = move || {
        if fails(counter.fetch_add(1, Ordering::Relaxed)) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    };
    let registry = Registry::with_store(Store::open_with_hook(root.path(), permit).unwrap());
    count.store(0, Ordering::Relaxed);
    let (acknowledged, result) = push(&registry, &new);
    let changes = count.load(Ordering::Relaxed);
    if let Err(error) = &result {
        assert!(error.is_disk_full(), "{error}");
    }
    drop(registry);

    let registry = Registry::open(root.path()).unwrap();
    assert!(has(&registry, &old.layer) && has(&registry, &old.config));
    assert!(has(&registry, &new.layer) || acknowledged < 1);
    assert!(has(&registry, &new.config) || acknowledged < 2);
    match acknowledged {
        3 => assert_eq!(tagged(&registry), new.manifest),
        _ => assert!(tagged(&registry) == old.manifest || tagged(&registry) == new.manifest),
    }
    if tagged(&registry) == new.manifest {
        assert!(has(&registry, &new.layer) && has(&registry, &new.config));
    }
    let names = registry
        .list_repositories(&Pagination::default(), &Walk::unbounded())
        .unwrap()
        .names;
    assert_eq!(names, ["team/app"]);
    assert_eq!(
        std::fs::read_dir(root.path().join("imgsync/tmp"))
            .unwrap()
            .count(),
        0
    );
    // Repeating the push is safe.
    push(&registry, &new).1.unwrap();
    assert_eq!(tagged(&registry), new.manifest);
    changes
}

/// Runs a push for every n up to its number of changes; change `count` fails if `fails(n, count)`.
fn push_with_every_failure(fails: fn(usize, usize) -> bool) {
    let mut nth = 0;
    while push_on_a_failing_disk(move |count| fails(nth, count)) > nth {
        nth += 1;
    }
    assert!(nth > 60, "only {nth} changes could fail");
}

#[test]
fn a_disk_that_fails_once_loses_nothing_acknowledged_and_shows_nothing_incomplete() {
    push_with_every_failure(|nth, count| count == nth);
}

#[test]
fn a_disk_that_fails_for_good_loses_nothing_acknowledged_and_shows_nothing_incomplete() {
    push_with_every_failure(|nth, count| (nth..usize::MAX / 4).contains(&count));
}
