//! Tests of backups of registries that have lost or damaged content.

use imgsync_oci::Digest;

use super::super::cache::tests::{image, push_blob};
use super::BackupGap;
use super::tests::{Pair, assert_image, has_bytes, has_manifest, name, push_image, tag};
use crate::store::ObjectKey;

#[test]
fn what_the_registry_has_lost_stays_in_the_backup() {
    let pair = Pair::new();
    let source = &pair.source;
    push_image(source, "a", "v1", "one");
    pair.write();
    let layer = Digest::of(b"the layer of one");
    let manifest = Digest::of(&image("one", &[b"shared", b"the layer of one"]).0);
    for lost in [&layer, &manifest] {
        // A new file, as on a damaged disk: the backup has a link to the old one.
        let bytes = source.store.get(ObjectKey::Blob(lost), 10_000).unwrap();
        source.store.put(ObjectKey::Blob(lost), b"").unwrap();
        let (_, gaps) = pair.write();
        assert_eq!(gaps, []);
        assert_image(&pair.open_backup(), "a", "v1", "one");
        source.store.delete(ObjectKey::Blob(lost)).unwrap();
        pair.write();
        assert_image(&pair.open_backup(), "a", "v1", "one");
        source
            .store
            .put(ObjectKey::Blob(lost), &bytes.unwrap())
            .unwrap();
    }
    let current = name("a");
    let current = ObjectKey::TagCurrent(&current, &tag("v1"));
    source.store.put(current, b"").unwrap();
    let (_, gaps) = pair.write();
    assert_eq!(gaps, [BackupGap::Tag(name("a"), tag("v1"))]);
    assert_image(&pair.open_backup(), "a", "v1", "one");
}

#[test]
fn a_manifest_of_an_unsupported_format_keeps_its_blobs_in_the_backup() {
    let pair = Pair::new();
    let (source, repository) = (&pair.source, name("a"));
    push_image(source, "a", "v1", "one");
    push_blob(source, &repository, b"of the old format");
    let layer = Digest::of(b"of the old format");
    let manifest = format!("{{\"schemaVersion\":1,\"fsLayers\":[{{\"blobSum\":\"{layer}\"}}]}}");
    let (digest, manifest) = (Digest::of(manifest.as_bytes()), manifest.as_bytes());
    let stored = ObjectKey::Blob(&digest);
    source.store.put(stored, manifest).unwrap();
    let link = ObjectKey::RevisionLink(&repository, &digest);
    source
        .store
        .put(link, digest.to_string().as_bytes())
        .unwrap();
    pair.write();
    assert!(has_bytes(&pair.open_backup(), b"of the old format"));
    // The backup still has what the registry loses.
    source.store.delete(stored).unwrap();
    pair.write();
    assert!(has_bytes(&pair.open_backup(), manifest));
    assert!(has_bytes(&pair.open_backup(), b"of the old format"));
}

#[test]
fn damaged_images_are_reported_and_the_rest_is_written() {
    let pair = Pair::new();
    let source = &pair.source;
    let one = push_image(source, "a", "v1", "one");
    push_image(source, "a", "v2", "two");
    push_image(source, "a", "v3", "three");
    let lost = Digest::of(b"the layer of two");
    source.store.delete(ObjectKey::Blob(&lost)).unwrap();
    source.store.put(ObjectKey::Blob(&one), b"damaged").unwrap();
    let (stats, gaps) = pair.write();
    assert_eq!((stats.tags, stats.damaged), (2, gaps.len()));
    let texts: Vec<String> = gaps.iter().map(ToString::to_string).collect();
    assert!(
        texts.iter().any(|text| text.contains(&lost.to_string())),
        "{texts:?}"
    );
    assert!(
        gaps.contains(&BackupGap::Tag(name("a"), tag("v1"))),
        "{texts:?}"
    );
    let target = pair.open_backup();
    assert_image(&target, "a", "v3", "three");
    assert!(!has_manifest(&target, "a", "v1"));
    assert!(has_manifest(&target, "a", "v2"));
}

#[test]
fn a_blob_that_was_pushed_again_replaces_the_one_in_the_backup() {
    let pair = Pair::new();
    let source = &pair.source;
    push_image(source, "a", "v1", "one");
    let layer = Digest::of(b"the layer of one");
    // Damaged, but not in its size, and linked into the backup.
    source
        .store
        .put(ObjectKey::Blob(&layer), b"THE LAYER OF ONE")
        .unwrap();
    pair.write();
    source
        .store
        .put(ObjectKey::Blob(&layer), b"the layer of one")
        .unwrap();
    let (stats, _) = pair.write();
    assert_eq!(stats.linked, 1);
    assert_image(&pair.open_backup(), "a", "v1", "one");
}
