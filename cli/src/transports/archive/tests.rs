//! An archive, written and read.

use std::path::Path;

use futures::StreamExt;

use super::*;
use crate::spool::Spool;
use crate::transports::layout::LayoutSource;
use crate::transports::testing::*;
use crate::transports::{CopySource as _, CopyTarget as _, ManifestRole};
use crate::upload::UploadOutcome;

async fn target(path: &Path) -> ArchiveTarget {
    let target = ArchiveTarget::open(path, "oci-archive:it", Some("ghcr.io/o/app"));
    target.await.unwrap()
}

async fn source(path: &Path) -> LayoutSource {
    let spool = Spool::default();
    let source = LayoutSource::open(path, "oci-archive:it", "the archive", &spool);
    source.await.unwrap()
}

async fn tags(path: &Path) -> Vec<String> {
    let source = source(path).await;
    let tags = source.list_tags().next().await.unwrap().unwrap();
    tags.iter().map(ToString::to_string).collect()
}

/// Returns the names of the entries of a tar.
fn entries(path: &Path) -> Vec<String> {
    let mut archive = tar::Archive::new(std::fs::File::open(path).unwrap());
    let entries = archive.entries().unwrap();
    let name = |entry: std::io::Result<tar::Entry<'_, _>>| {
        String::from_utf8(entry.unwrap().path_bytes().into_owned()).unwrap()
    };
    entries.map(name).collect()
}

#[tokio::test]
async fn an_archive_appears_whole_and_takes_more() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("it.tar");
    let (a, b) = (image(b"a"), image(b"b"));
    let first = target(&path).await;
    put(&first, &a, &tagged("v1")).await;
    assert_eq!(
        digest_at(&first, "v1").await,
        Some(a.manifest.digest.clone())
    );
    assert!(!path.exists());
    first.finish().await.unwrap();
    assert_eq!(tags(&path).await, ["v1"]);
    let before = std::fs::read(&path).unwrap();

    let second = target(&path).await;
    assert_eq!(
        digest_at(&second, "v1").await,
        Some(a.manifest.digest.clone())
    );
    assert_eq!(
        put_blob(&second, &a.blobs[1]).await.unwrap(),
        UploadOutcome::AlreadyPresent
    );
    second.finish().await.unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), before);
    put(&second, &b, &tagged("v2")).await;
    assert_eq!(std::fs::read(&path).unwrap(), before);
    second.finish().await.unwrap();
    assert_eq!(tags(&path).await, ["v1", "v2"]);
    let ends = &entries(&path)[6..];
    assert_eq!(ends, ["manifest.json", "index.json", "oci-layout"]);

    // Blobs that no tag needs any more are left out.
    let third = target(&path).await;
    put(&third, &b, &tagged("v1")).await;
    third.finish().await.unwrap();
    assert_eq!(tags(&path).await, ["v1", "v2"]);
    assert_eq!(entries(&path).len(), 3 + 3);
    assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn the_same_content_makes_the_same_bytes() {
    let scratch = tempfile::tempdir().unwrap();
    let mut all = Vec::new();
    for name in ["one.tar", "two.tar"] {
        let path = scratch.path().join(name);
        let archive = target(&path).await;
        for tag in ["v2", "v1"] {
            put(&archive, &image(tag.as_bytes()), &tagged(tag)).await;
        }
        archive.finish().await.unwrap();
        all.push(std::fs::read(path).unwrap());
    }
    assert_eq!(all[0], all[1]);
}

#[tokio::test]
async fn a_blob_that_fails_leaves_nothing_in_the_archive() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("it.tar");
    let archive = target(&path).await;
    put_blob(&archive, b"nobody's").await.unwrap();
    for bytes in [&b"wrong"[..], b"ri"] {
        let blob = pending_blob(b"right", bytes);
        assert!(archive.put_blob(&blob, &quiet()).await.is_err());
    }
    archive.finish().await.unwrap();
    assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0);
    assert!(
        archive
            .put_blob(&pending_blob(b"right", b"wrong"), &quiet())
            .await
            .is_err()
    );
    put(&archive, &image(b"a"), &tagged("v1")).await;
    archive.finish().await.unwrap();
    assert_eq!(entries(&path).len(), 3 + 3);
    assert_eq!(tags(&path).await, ["v1"]);
}

#[tokio::test]
async fn one_writer_at_a_time_and_no_lost_updates() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("it.tar");
    let (one, other) = (target(&path).await, target(&path).await);
    put(&one, &image(b"a"), &tagged("v1")).await;
    let busy = put_blob(&other, b"b").await.unwrap_err();
    assert!(busy.what.contains("another imgsync"), "{}", busy.what);
    one.finish().await.unwrap();
    let changed = put_blob(&other, b"b").await.unwrap_err();
    assert!(changed.what.contains("changed"), "{}", changed.what);
    let again = target(&path).await;
    put(&again, &image(b"b"), &tagged("v2")).await;
    again.finish().await.unwrap();
    assert_eq!(tags(&path).await, ["v1", "v2"]);
}

#[tokio::test]
async fn an_old_archive_that_is_damaged_is_neither_used_nor_lost() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("it.tar");
    let archive = target(&path).await;
    put(&archive, &image(b"only here"), &tagged("v1")).await;
    archive.finish().await.unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let offset = bytes
        .windows(9)
        .position(|bytes| bytes == b"only here")
        .unwrap();
    bytes[offset] = b'O';
    std::fs::write(&path, &bytes).unwrap();
    let archive = target(&path).await;
    put(&archive, &image(b"b"), &tagged("v2")).await;
    let error = archive.finish().await.unwrap_err();
    assert!(error.what.contains("damaged"), "{}", error.what);
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
    drop(archive);
    for bad in [&bytes[..1000], b"no tar", b""] {
        std::fs::write(&path, bad).unwrap();
        assert!(
            ArchiveTarget::open(&path, "oci-archive:it", None)
                .await
                .is_err()
        );
        assert_eq!(std::fs::read(&path).unwrap(), bad);
    }
}

#[tokio::test]
async fn an_index_keeps_its_parts() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("it.tar");
    let (a, b) = (image(b"a"), image(b"b"));
    let whole = index(&[&a, &b]);
    let archive = target(&path).await;
    put(&archive, &a, &ManifestRole::Child).await;
    put(&archive, &b, &ManifestRole::Child).await;
    archive.put_manifest(&whole, &tagged("v1")).await.unwrap();
    let signature = referrer_image(b"signature", Some(&whole));
    let subject = whole.digest.clone();
    put(&archive, &signature, &ManifestRole::Referrer { subject }).await;
    archive.finish().await.unwrap();
    let source = source(&path).await;
    assert_eq!(
        source
            .fetch_manifest(&tag_reference("v1"))
            .await
            .unwrap()
            .unwrap(),
        whole
    );
    let referrers = source.list_referrers(&whole.digest).await.unwrap();
    assert_eq!(referrers[0].digest, signature.manifest.digest);
    // A second run keeps the content of the existing archive.
    let again = target(&path).await;
    put(&again, &image(b"c"), &tagged("v2")).await;
    again.finish().await.unwrap();
    assert!(digest_at(&target(&path).await, "v1").await.is_some());
}
