//! Tests of pushes during a purge.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use imgsync_oci::{Algorithm, Digest};

use super::super::super::cache::tests::{folder, image, index, push};
use super::super::super::digest_prefix::digest_prefix;
use super::super::super::{Error, Registry, UploadOwner};
use super::super::ContentTarget;
use super::super::tests::{name, push_image};
use super::tests::{SECRET, assert_complete, files_with, purged, tag};
use super::{PurgeOptions, PurgeOutcome};

#[test]
fn an_image_that_is_pushed_during_the_purge_stays() {
    let root = folder();
    let registry = Registry::open(root.path()).unwrap();
    push_image(&registry, "a", "v1", &[SECRET, b"one"]);
    let other = registry.clone();
    let mut is_pushed = false;
    let outcome = registry.purge(&tag("a", "v1"), PurgeOptions::default(), &mut |_| {
        // The push waits for no lock of what is removed first: the report is under the lock of one
        // blob, and the new image has the others.
        if !std::mem::replace(&mut is_pushed, true) {
            push_all_but_locked(&other);
        }
    });
    let PurgeOutcome::Purged(report) = outcome.unwrap() else {
        panic!("it was not purged");
    };
    let kept: Vec<_> = report.kept.values().collect();
    assert_eq!(kept, [&None], "{report:?}");
    assert_complete(&registry, "b", "new");
}

/// Pushes an image with that one of the layers of `a:v1` that is purged last.
fn push_all_but_locked(registry: &Registry) {
    let config = image("v1", &[]).1;
    let mut blobs = [SECRET, b"one", &config[..]];
    blobs.sort_by_key(|blob| Digest::of(blob));
    push_image(registry, "b", "new", &[blobs[2]]);
}

#[test]
fn an_index_that_is_pushed_during_the_purge_is_complete_or_refused() {
    // The push comes before the first blob is removed, or after it.
    for is_early in [true, false] {
        let root = folder();
        let registry = Registry::open(root.path()).unwrap();
        push_image(&registry, "a", "v1", &[SECRET]);
        let child = image("v1", &[SECRET]).0;
        let index = index(&[&child]);
        push(&registry, &name("a"), "all", &index).unwrap();
        let target = ContentTarget::Repository(name("a"));
        let plan = registry.plan_purge(&target).unwrap();
        let push_again = || push(&registry, &name("a"), "all", &index);
        let mut pushed = None;
        let contents: Vec<u128> = plan.contents.iter().map(digest_prefix).collect();
        let outcome = registry.collect.removal.watch(contents, || {
            if is_early {
                pushed = Some(push_again());
            }
            registry.purge_planned(plan, PurgeOptions::default(), &mut |_| {
                pushed.get_or_insert_with(push_again);
            })
        });
        assert!(matches!(outcome, Ok(PurgeOutcome::Purged(_))));
        match pushed.unwrap() {
            Ok(()) => {
                assert!(is_early);
                let digest = Digest::of(&child).to_string();
                registry
                    .get_manifest(&name("a"), &"all".parse().unwrap())
                    .unwrap();
                assert_complete(&registry, "a", &digest);
            }
            Err(Error::ChildrenUnknown(missing)) => assert_eq!(missing, [Digest::of(&child)]),
            Err(error) => panic!("{error}"),
        }
        // A push of everything is accepted again.
        push_image(&registry, "a", "v1", &[SECRET]);
        push_again().unwrap();
        assert_complete(&registry, "a", "v1");
    }
}

#[test]
fn an_upload_of_the_content_is_interrupted() {
    let root = folder();
    let registry = Registry::open(root.path()).unwrap();
    push_image(&registry, "a", "v1", &[SECRET]);
    let (owner, other) = (UploadOwner::Unknown, name("other"));
    let id = registry
        .start_upload(&other, Algorithm::Sha256, &owner)
        .unwrap();
    let mut writer = registry.open_upload_writer(&other, id, Some(0)).unwrap();
    writer.write(SECRET).unwrap();
    writer.sync().unwrap();
    let is_purged = Arc::new(AtomicBool::new(false));
    let client = std::thread::spawn({
        let is_purged = Arc::clone(&is_purged);
        move || {
            let mut synced = Ok(());
            while synced.is_ok() && !is_purged.load(Ordering::Relaxed) {
                synced = writer.sync();
            }
            synced
        }
    });
    let report = purged(&registry, &tag("a", "v1"));
    assert_eq!(report.unfinished_uploads, 0);
    is_purged.store(true, Ordering::Relaxed);
    let synced = client.join().unwrap();
    assert!(matches!(synced, Err(Error::UploadUnknown(unknown)) if unknown == id));
    assert_eq!(files_with(root.path(), SECRET), Vec::<String>::new());
}
