//! A layout in a folder, written and read.

use std::path::Path;

use futures::StreamExt;
use imgsync_oci::client::DeleteOutcome;

use super::*;
use crate::spool::Spool;
use crate::transports::testing::*;
use crate::transports::{CopySource as _, CopyTarget as _, ManifestRole};
use crate::upload::UploadOutcome;

async fn target(path: &Path) -> LayoutTarget {
    LayoutTarget::open(path, "oci:it", None).await.unwrap()
}

async fn source(path: &Path) -> LayoutSource {
    let spool = Spool::default();
    let source = LayoutSource::open(path, "oci:it", "the OCI layout", &spool);
    source.await.unwrap()
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

#[tokio::test]
async fn stored_images_are_read_back_and_existing_ones_stay() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("new/layout");
    let (a, b, c) = (image(b"a"), image(b"b"), image(b"c"));
    let first = target(&path).await;
    assert_eq!(digest_at(&first, "v1").await, None);
    assert!(!path.exists(), "looking leaves a trace");
    put(&first, &a, &tagged("v1")).await;
    put(&first, &a, &tagged("same")).await;
    first.finish().await.unwrap();
    assert_eq!(names(&path), ["blobs", "index.json", "oci-layout"]);

    let second = target(&path).await;
    assert_eq!(
        digest_at(&second, "v1").await,
        Some(a.manifest.digest.clone())
    );
    assert_eq!(
        put_blob(&second, &a.blobs[0]).await.unwrap(),
        UploadOutcome::AlreadyPresent
    );
    put(&second, &b, &ManifestRole::Child).await;
    put(&second, &c, &ManifestRole::Child).await;
    let both = index(&[&b, &c]);
    second.put_manifest(&both, &tagged("v1")).await.unwrap();
    let signature = referrer_image(b"signature", Some(&both));
    let subject = both.digest.clone();
    let role = ManifestRole::Referrer { subject };
    put(&second, &signature, &role).await;
    let referrers = second.list_referrers(&both.digest).await.unwrap().unwrap();
    assert_eq!(referrers.len(), 1);
    second.finish().await.unwrap();

    let read = source(&path).await;
    let tags: Vec<_> = read.list_tags().collect().await;
    assert_eq!(tags[0].as_ref().unwrap(), &[tag("same"), tag("v1")]);
    let manifest = read
        .fetch_manifest(&tag_reference("v1"))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(manifest, both);
    let referrers = read.list_referrers(&both.digest).await.unwrap();
    assert_eq!(referrers[0].digest, signature.manifest.digest);
    assert!(
        read.list_referrers(&a.manifest.digest)
            .await
            .unwrap()
            .is_empty()
    );
    let layer = descriptor("", &c.blobs[1]);
    assert!(read.locate_blob(&layer).await.is_ok());
    let absent = descriptor("", b"nowhere");
    assert!(read.locate_blob(&absent).await.is_err());

    let deleted = second.delete_tag(&tag("same")).await.unwrap();
    assert!(matches!(deleted, DeleteOutcome::Deleted { .. }));
    let again = second.delete_tag(&tag("same")).await.unwrap();
    assert!(matches!(again, DeleteOutcome::NotFound));
    assert_eq!(digest_at(&second, "same").await, None);
}

#[tokio::test]
async fn an_image_that_lacks_a_blob_is_not_there() {
    let scratch = tempfile::tempdir().unwrap();
    let (a, b) = (image(b"a"), image(b"b"));
    let layout = target(scratch.path()).await;
    put(&layout, &a, &ManifestRole::Child).await;
    put(&layout, &b, &ManifestRole::Child).await;
    layout
        .put_manifest(&index(&[&a, &b]), &tagged("v1"))
        .await
        .unwrap();
    assert!(digest_at(&layout, "v1").await.is_some());
    let layer = imgsync_oci::Digest::of(b"b");
    let path = scratch.path().join("blobs/sha256").join(layer.hex());
    std::fs::write(&path, b"too long").unwrap();
    assert_eq!(digest_at(&layout, "v1").await, None);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(digest_at(&layout, "v1").await, None);
}

#[tokio::test]
async fn a_partial_blob_resumes_and_a_damaged_one_restarts() {
    let scratch = tempfile::tempdir().unwrap();
    let bytes: Vec<u8> = (0..700_000u32).map(|at| (at % 251) as u8).collect();
    let digest = imgsync_oci::Digest::of(&bytes);
    let own = scratch.path().join(".imgsync");
    let part = own.join(format!("sha256-{}.part", digest.hex()));
    let whole = scratch.path().join("blobs/sha256").join(digest.hex());
    let all = bytes.len() as u64;
    for (before, expected) in [
        (bytes[..300_000].to_vec(), all - 300_000),
        (bytes.clone(), 0),
        (vec![0; 300_000], 2 * all - 300_000),
        (vec![0; 800_000], all),
    ] {
        std::fs::create_dir_all(&own).unwrap();
        std::fs::write(&part, before).unwrap();
        let layout = target(scratch.path()).await;
        let moved = put_blob(&layout, &bytes).await.unwrap();
        assert_eq!(
            moved,
            UploadOutcome::Sent {
                bytes: expected,
                resent: 0
            }
        );
        assert_eq!(std::fs::read(&whole).unwrap(), bytes);
        assert!(!part.exists());
        std::fs::remove_file(&whole).unwrap();
    }
}

#[tokio::test]
async fn what_is_damaged_leaves_nothing() {
    let scratch = tempfile::tempdir().unwrap();
    let layout = target(scratch.path()).await;
    for bytes in [&b"wrong"[..], b"ri", b"rightandmore"] {
        let blob = pending_blob(b"right", bytes);
        let moved = layout.put_blob(&blob, &quiet()).await;
        // Only the announced size is read, so a source with more bytes can be right.
        assert_eq!(moved.is_ok(), bytes.starts_with(b"right"), "{bytes:?}");
    }
    layout.finish().await.unwrap();
    assert_eq!(names(scratch.path()), ["blobs"]);
    assert_eq!(names(&scratch.path().join("blobs/sha256")).len(), 1);
}

#[tokio::test]
async fn two_at_once_lose_no_entry() {
    let scratch = tempfile::tempdir().unwrap();
    let (one, other) = (target(scratch.path()).await, target(scratch.path()).await);
    let fill = |layout: LayoutTarget, name: &'static str| async move {
        for number in 0..10 {
            let sample = image(format!("{name}{}", number % 3).as_bytes());
            put(&layout, &sample, &tagged(&format!("{name}{number}"))).await;
        }
    };
    let tasks = [tokio::spawn(fill(one, "a")), tokio::spawn(fill(other, "b"))];
    for task in tasks {
        task.await.unwrap();
    }
    let tags = source(scratch.path())
        .await
        .list_tags()
        .next()
        .await
        .unwrap();
    assert_eq!(tags.unwrap().len(), 20);
}

#[tokio::test]
async fn links_and_folders_without_a_layout_are_not_written_to() {
    let scratch = tempfile::tempdir().unwrap();
    let (path, away) = (scratch.path().join("it"), scratch.path().join("away"));
    std::fs::create_dir_all(&path).unwrap();
    std::fs::create_dir_all(&away).unwrap();
    std::fs::write(path.join("letter.txt"), "dear").unwrap();
    assert!(LayoutTarget::open(&path, "oci:it", None).await.is_err());
    std::fs::remove_file(path.join("letter.txt")).unwrap();
    for link in [".imgsync", "blobs"] {
        std::os::unix::fs::symlink(&away, path.join(link)).unwrap();
        let layout = target(&path).await;
        assert!(put_blob(&layout, b"x").await.is_err(), "{link}");
        assert!(names(&away).is_empty());
        std::fs::remove_file(path.join(link)).unwrap();
    }
    std::fs::write(path.join("oci-layout"), OCI_LAYOUT_CONTENT).unwrap();
    std::os::unix::fs::symlink(away.join("index"), path.join("index.json")).unwrap();
    assert!(LayoutTarget::open(&path, "oci:it", None).await.is_err());
    std::fs::remove_file(path.join("index.json")).unwrap();
    std::fs::write(path.join("index.json"), "{}").unwrap();
    assert!(LayoutTarget::open(&path, "oci:it", None).await.is_err());
}

#[tokio::test]
async fn a_source_says_what_is_damaged() {
    let scratch = tempfile::tempdir().unwrap();
    let layout = target(scratch.path()).await;
    let sample = image(b"a");
    put(&layout, &sample, &tagged("v1")).await;
    let read = source(scratch.path()).await;
    assert_eq!(read.only_image(), Some(sample.manifest.digest.clone()));
    assert_eq!(read.find_named("v1"), Some(sample.manifest.digest.clone()));
    assert!(
        read.fetch_manifest(&tag_reference("v2"))
            .await
            .unwrap()
            .is_none()
    );
    let blobs = scratch.path().join("blobs/sha256");
    std::fs::write(blobs.join(sample.manifest.digest.hex()), "other").unwrap();
    let error = read.fetch_manifest(&tag_reference("v1")).await.unwrap_err();
    assert!(error.what.starts_with("source: "), "{}", error.what);
    let cut = descriptor("", b"a");
    std::fs::write(blobs.join(cut.digest.hex()), "").unwrap();
    assert!(read.locate_blob(&cut).await.is_err());
}

#[tokio::test]
async fn images_without_a_tag_are_counted() {
    let scratch = tempfile::tempdir().unwrap();
    let (a, b) = (image(b"a"), image(b"b"));
    let layout = target(scratch.path()).await;
    put(&layout, &a, &ManifestRole::Untagged).await;
    put(&layout, &b, &ManifestRole::Untagged).await;
    let signature = referrer_image(b"signature", Some(&a.manifest));
    let subject = a.manifest.digest.clone();
    put(&layout, &signature, &ManifestRole::Referrer { subject }).await;
    layout.finish().await.unwrap();
    assert_eq!(source(scratch.path()).await.untagged_images(), Some(2));
    let layout = target(scratch.path()).await;
    put(&layout, &a, &tagged("v1")).await;
    layout.finish().await.unwrap();
    assert_eq!(source(scratch.path()).await.untagged_images(), None);
}
