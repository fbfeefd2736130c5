//! Tests of the store on a real disk.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use imgsync_oci::endpoint::UploadId;
use imgsync_oci::{Algorithm, Digest, Repository, Tag};

use super::disk::{Disk, DiskChange};
use super::ingest::SealedIngest;
use super::{DerivedKey, Error, ListScope, ObjectKey, Store, Walk};

fn repository() -> Repository {
    "team/app".parse().unwrap()
}

fn session(store: &Store) -> UploadId {
    let id = UploadId::random();
    store
        .create_upload(&repository(), id, Algorithm::Sha256, None)
        .unwrap();
    id
}

/// Appends and syncs bytes; returns the durable offset of the session.
fn append(store: &Arc<Store>, id: UploadId, bytes: &[u8]) -> u64 {
    let mut upload = store.resume_upload(&repository(), id).unwrap().unwrap();
    upload.write(bytes).unwrap();
    upload.sync().unwrap();
    upload.durable_offset()
}

fn seal(store: &Arc<Store>, id: UploadId, algorithm: Algorithm) -> SealedIngest {
    let upload = store.resume_upload(&repository(), id).unwrap().unwrap();
    upload.seal(algorithm).unwrap()
}

fn files(folder: &Path) -> Vec<String> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            paths.extend(files(&path));
        } else {
            paths.push(path.to_str().unwrap().to_owned());
        }
    }
    paths
}

#[test]
fn synced_bytes_survive_a_restart_and_unsynced_bytes_are_gone() {
    let root = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(root.path()).unwrap());
    let id = session(&store);
    assert_eq!(append(&store, id, b"kept, "), 6);
    let mut upload = store.resume_upload(&repository(), id).unwrap().unwrap();
    upload.write(b"never kept").unwrap();
    drop((upload, store));

    let store = Arc::new(Store::open(root.path()).unwrap());
    assert_eq!(store.upload_offset(&repository(), id).unwrap(), Some(6));
    assert_eq!(append(&store, id, b"and on"), 12);
    for algorithm in [Algorithm::Sha512, Algorithm::Sha256] {
        let sealed = seal(&store, id, algorithm);
        assert_eq!(
            *sealed.digest(),
            Digest::of_with(algorithm, b"kept, and on")
        );
    }
    let digest = Digest::of(b"kept, and on");
    let sealed = seal(&store, id, Algorithm::Sha256);
    store
        .commit_ingest(
            &sealed,
            &[(ObjectKey::LayerLink(&repository(), &digest), b"x")],
        )
        .unwrap();
    assert!(store.cancel_upload(&repository(), id).unwrap());
    assert!(!store.cancel_upload(&repository(), id).unwrap());
    assert_eq!(
        store.get(ObjectKey::Blob(&digest), 100).unwrap().unwrap(),
        b"kept, and on"
    );
    assert_eq!(
        store
            .get(ObjectKey::LayerLink(&repository(), &digest), 100)
            .unwrap()
            .unwrap(),
        b"x"
    );
    assert_eq!(store.upload_offset(&repository(), id).unwrap(), None);
    // The blob, its link, and the lock file.
    assert_eq!(files(root.path()).len(), 3);
}

#[test]
fn a_tail_of_zeros_after_a_power_cut_is_truncated() {
    let root = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(root.path()).unwrap());
    let id = session(&store);
    append(&store, id, b"true");
    let data = store.paths.upload_data(&repository(), id);
    std::fs::write(&data, b"true\0\0\0\0").unwrap();
    assert_eq!(store.upload_offset(&repository(), id).unwrap(), Some(4));
    let upload = store.resume_upload(&repository(), id).unwrap().unwrap();
    assert_eq!(
        (upload.durable_offset(), std::fs::read(&data).unwrap()),
        (4, b"true".to_vec())
    );
    drop(upload);
    assert_eq!(
        *seal(&store, id, Algorithm::Sha256).digest(),
        Digest::of(b"true")
    );
}

#[test]
fn a_session_without_a_state_file_resumes_at_its_last_byte() {
    let root = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(root.path()).unwrap());
    // The files of a stock registry's upload session.
    let id = UploadId::random();
    let folder = store.paths.upload(&repository(), id);
    std::fs::create_dir_all(folder.join("hashstates/sha256")).unwrap();
    std::fs::write(folder.join("hashstates/sha256/5"), b"state").unwrap();
    std::fs::write(folder.join("startedat"), b"2026-11-21T22:30:36Z").unwrap();
    assert_eq!(store.upload_offset(&repository(), id).unwrap(), Some(0));
    std::fs::write(folder.join("data"), b"stock").unwrap();
    assert_eq!(store.upload_offset(&repository(), id).unwrap(), Some(5));
    assert_eq!(append(&store, id, b" and ours"), 14);
    // Damaged state files, and one whose checkpoint is beyond the end of the data.
    let state = store.paths.upload_state(id);
    for bad in [&b""[..], b"{", &std::fs::read(&state).unwrap()] {
        std::fs::write(&state, bad).unwrap();
        std::fs::write(folder.join("data"), b"stock").unwrap();
        let upload = store.resume_upload(&repository(), id).unwrap().unwrap();
        assert_eq!(upload.durable_offset(), 5);
        let sealed = upload.seal(Algorithm::Sha256).unwrap();
        assert_eq!(*sealed.digest(), Digest::of(b"stock"));
    }
    assert!(store.cancel_upload(&repository(), id).unwrap());
    assert_eq!(store.upload_offset(&repository(), id).unwrap(), None);
    assert!(!folder.exists());
}

#[test]
fn a_session_is_found_only_in_its_repository() {
    let root = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(root.path()).unwrap());
    let id = session(&store);
    let other: Repository = "team/other".parse().unwrap();
    assert_eq!(store.upload_offset(&other, id).unwrap(), None);
    assert!(store.resume_upload(&other, id).unwrap().is_none());
    assert!(!store.cancel_upload(&other, id).unwrap());
    assert_eq!(store.upload_offset(&repository(), id).unwrap(), Some(0));
}

#[test]
fn an_upload_on_a_full_disk_rolls_back_to_its_last_checkpoint() {
    let root = tempfile::tempdir().unwrap();
    let full = Arc::new(AtomicBool::new(false));
    let hook = {
        let full = Arc::clone(&full);
        move |change: &DiskChange<'_>| match change {
            DiskChange::Write { .. } if full.load(Ordering::Relaxed) => {
                Err(io::ErrorKind::StorageFull.into())
            }
            _ => Ok(()),
        }
    };
    let store = Arc::new(Store::open_on(Disk::with_hook(Arc::new(hook)), root.path()).unwrap());
    let id = session(&store);
    append(&store, id, b"first");
    full.store(true, Ordering::Relaxed);
    let mut upload = store.resume_upload(&repository(), id).unwrap().unwrap();
    let error = upload.write(b"second").unwrap_err();
    assert!(matches!(error, Error::Full { .. }), "{error}");
    assert_eq!(upload.offset(), 5);
    let data = store.paths.upload_data(&repository(), id);
    assert_eq!(std::fs::read(&data).unwrap(), b"first");
    // There is space for the bytes, but not for the checkpoint.
    full.store(false, Ordering::Relaxed);
    upload.write(b"second").unwrap();
    full.store(true, Ordering::Relaxed);
    assert!(matches!(upload.sync().unwrap_err(), Error::Full { .. }));
    assert_eq!(
        (upload.offset(), std::fs::read(&data).unwrap()),
        (5, b"first".to_vec())
    );
    assert!(
        store
            .create_upload(&repository(), UploadId::random(), Algorithm::Sha256, None)
            .is_err()
    );
    drop(upload);
    full.store(false, Ordering::Relaxed);
    assert_eq!(append(&store, id, b", third"), 12);
    store.cancel_upload(&repository(), id).unwrap();
    assert_eq!(
        files(root.path()).len(),
        1,
        "more than the lock file is left"
    );
}

#[test]
fn a_failed_put_leaves_the_old_object_and_no_temporary_file() {
    let root = tempfile::tempdir().unwrap();
    let repository = repository();
    let v1: Tag = "v1".parse().unwrap();
    let store = Arc::new(Store::open(root.path()).unwrap());
    store
        .put(ObjectKey::TagCurrent(&repository, &v1), b"old")
        .unwrap();
    drop(store);
    let before = files(root.path());
    for failing in 0..4 {
        let count = std::sync::atomic::AtomicUsize::new(0);
        let armed = Arc::new(AtomicBool::new(false));
        let is_armed = Arc::clone(&armed);
        let permit = move || {
            if is_armed.load(Ordering::Relaxed) && count.fetch_add(1, Ordering::Relaxed) == failing
            {
                return Err(io::ErrorKind::StorageFull.into());
            }
            Ok(())
        };
        let store = Store::open_with_hook(root.path(), permit).unwrap();
        armed.store(true, Ordering::Relaxed);
        // Create, write, sync, rename.
        assert!(
            store
                .put(ObjectKey::TagCurrent(&repository, &v1), b"new")
                .is_err()
        );
        assert_eq!(
            store
                .get(ObjectKey::TagCurrent(&repository, &v1), 9)
                .unwrap()
                .unwrap(),
            b"old"
        );
        drop(store);
        assert_eq!(files(root.path()), before, "failing change {failing}");
    }
}

#[test]
fn folders_created_for_a_failed_put_are_removed() {
    let root = tempfile::tempdir().unwrap();
    let hook = |change: &DiskChange<'_>| match change {
        DiskChange::Rename { to, .. } if to.ends_with("link") => {
            Err(io::ErrorKind::StorageFull.into())
        }
        DiskChange::MakeFolder(path) if path.ends_with("tags") => {
            Err(io::ErrorKind::StorageFull.into())
        }
        _ => Ok(()),
    };
    let store = Store::open_on(Disk::with_hook(Arc::new(hook)), root.path()).unwrap();
    let (repository, digest) = (repository(), Digest::of(b"x"));
    let tag: Tag = "v1".parse().unwrap();
    for key in [
        ObjectKey::RevisionLink(&repository, &digest),
        ObjectKey::TagCurrent(&repository, &tag),
        ObjectKey::LayerLink(&repository, &digest),
    ] {
        assert!(store.put(key, b"x").is_err());
        assert!(!store.has_repository(&repository).unwrap());
        let stock_root = root.path().join("docker/registry/v2");
        assert_eq!(stock_root.read_dir().unwrap().count(), 0);
    }
}

#[test]
fn a_second_server_is_locked_out_and_temporary_files_are_removed_at_the_start() {
    let root = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(root.path()).unwrap());
    assert!(matches!(
        Store::open(root.path()),
        Err(Error::Locked { .. })
    ));
    let leftover = store.temporary_path();
    std::fs::write(&leftover, b"half").unwrap();
    drop(store);
    drop(Store::open(root.path()).unwrap());
    assert!(!leftover.exists());
}

#[test]
fn repositories_are_listed_in_the_order_of_their_names() {
    let root = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(root.path()).unwrap());
    let names = [
        "a", "a-b", "a-b/c", "a.c", "a/b", "a/b/c/d", "a0", "b/x", "c",
    ];
    for name in names {
        let repository: Repository = name.parse().unwrap();
        store
            .put(
                ObjectKey::RevisionLink(&repository, &Digest::of(b"x")),
                b"x",
            )
            .unwrap();
    }
    // Neither of these repositories has a manifest.
    let digest = Digest::of(b"y");
    store
        .put(
            ObjectKey::LayerLink(&"only/layers".parse().unwrap(), &digest),
            b"x",
        )
        .unwrap();
    session(&store);
    let list = |after: &str, limit| {
        let scope = ListScope::Repositories;
        store.list(scope, after, limit, &Walk::unbounded())
    };
    for (start, after) in names.iter().enumerate() {
        let rest: Vec<&str> = names[start + 1..].to_vec();
        assert_eq!(list(after, 100).unwrap(), rest, "after {after}");
        let two: Vec<&str> = rest.into_iter().take(2).collect();
        assert_eq!(list(after, 2).unwrap(), two, "after {after}");
    }
    assert_eq!(list("", 100).unwrap(), names);
    assert_eq!(list("a/a", 1).unwrap(), ["a/b"]);
    assert_eq!(list("d", 1).unwrap(), [""; 0]);
}

#[test]
fn a_replaced_object_is_not_deleted_with_the_damaged_one() {
    let root = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(root.path()).unwrap());
    let digest = Digest::of(b"whole");
    let key = ObjectKey::Blob(&digest);
    store.put(key, b"who").unwrap();
    let (damaged, _) = store.open_object(key).unwrap().unwrap();
    store.put(key, b"whole").unwrap();
    store.delete_if_unchanged(key, &damaged).unwrap();
    assert_eq!(store.get(key, 9).unwrap().unwrap(), b"whole");
    let (current, _) = store.open_object(key).unwrap().unwrap();
    store.delete_if_unchanged(key, &current).unwrap();
    assert_eq!(store.get(key, 9).unwrap(), None);
    store.delete_if_unchanged(key, &current).unwrap();
}

#[test]
fn a_file_is_written_while_another_thread_removes_its_empty_folder() {
    let memory = tempfile::tempdir_in("/dev/shm");
    let root = memory.unwrap_or_else(|_| tempfile::tempdir().unwrap());
    let store = Arc::new(Store::open(root.path()).unwrap());
    let subject = Digest::of(b"subject");
    std::thread::scope(|scope| {
        for name in [b"one", b"two"] {
            let (store, subject) = (&store, &subject);
            scope.spawn(move || {
                let digest = Digest::of(name);
                let key = DerivedKey::DiffIdBlob(subject, &digest);
                for _ in 0..500 {
                    store.put_derived(key, b"").unwrap();
                    assert!(store.has_derived(key).unwrap());
                    store.delete_derived(key).unwrap();
                }
            });
        }
    });
}
