//! Tests of the registry's rules, on a real disk and on a failing one.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use imgsync_oci::endpoint::{Pagination, UploadId};
use imgsync_oci::{Algorithm, Digest, Reference, Repository, media};

use super::cache::tests::{folder, image};
use super::{Error, Registry, UploadOwner, Walk};
use crate::store::{ObjectKey, Store};

fn repository() -> Repository {
    "team/app".parse().unwrap()
}

fn tag() -> Reference {
    "v1".parse().unwrap()
}

/// An image with one layer; all content contains one word.
struct TestImage {
    config: Vec<u8>,
    layer: Vec<u8>,
    manifest: Vec<u8>,
}

impl TestImage {
    fn of(word: &str) -> Self {
        let layer = format!("the layer of {word}").into_bytes();
        let (manifest, config) = image(word, &[&layer]);
        Self {
            config,
            layer,
            manifest,
        }
    }
}

fn push_blob(registry: &Registry, bytes: &[u8]) -> Result<(), Error> {
    let id = registry.start_upload(&repository(), Algorithm::Sha256, &UploadOwner::Unknown)?;
    let (start, end) = bytes.split_at(bytes.len() / 2);
    let mut writer = registry.open_upload_writer(&repository(), id, Some(0))?;
    writer.ingest.write(start)?;
    writer.ingest.sync()?;
    drop(writer);
    let mut writer = registry.open_upload_writer(&repository(), id, Some(start.len() as u64))?;
    writer.ingest.write(end)?;
    writer.commit(&Digest::of(bytes))
}

fn push_manifest(registry: &Registry, image: &TestImage) -> Result<(), Error> {
    registry
        .put_manifest(&repository(), &tag(), &[], None, &image.manifest)
        .map(drop)
}

/// Writes a manifest and its link into the tree, as another program does.
pub(super) fn write_foreign_manifest(
    registry: &Registry,
    repository: &Repository,
    bytes: &[u8],
) -> Digest {
    let digest = Digest::of(bytes);
    let link = digest.to_string();
    let entries = [
        (ObjectKey::Blob(&digest), bytes),
        (
            ObjectKey::RevisionLink(repository, &digest),
            link.as_bytes(),
        ),
    ];
    registry.store.put_all(&entries).unwrap();
    digest
}

/// Pushes a manifest whose subject is an image. Returns the digests of both.
fn push_referrer(registry: &Registry, image: &TestImage) -> (Digest, Digest) {
    let mut referrer: serde_json::Value = serde_json::from_slice(&image.manifest).unwrap();
    let subject = Digest::of(&image.manifest);
    referrer["subject"] = serde_json::json!({
        "mediaType": media::OCI_MANIFEST, "digest": &subject, "size": image.manifest.len(),
    });
    let referrer = referrer.to_string();
    let digest = Digest::of(referrer.as_bytes());
    let reference = Reference::Digest(digest.clone());
    registry
        .put_manifest(&repository(), &reference, &[], None, referrer.as_bytes())
        .unwrap();
    (subject, digest)
}

/// Pushes an image as a client does; returns how many of the three steps were acknowledged.
fn push(registry: &Registry, image: &TestImage) -> (usize, Result<(), Error>) {
    let steps: [&dyn Fn() -> Result<(), Error>; 3] = [
        &|| push_blob(registry, &image.layer),
        &|| push_blob(registry, &image.config),
        &|| push_manifest(registry, image),
    ];
    for (done, step) in steps.into_iter().enumerate() {
        if let Err(error) = step() {
            return (done, Err(error));
        }
    }
    (3, Ok(()))
}

/// Whether a blob is there. Asserts that it is complete if so.
fn has(registry: &Registry, bytes: &[u8]) -> bool {
    let digest = Digest::of(bytes);
    match registry.open_blob(&repository(), &digest) {
        Ok(blob) => {
            assert_eq!(
                registry.blob_size(&repository(), &digest).unwrap(),
                bytes.len() as u64
            );
            assert_eq!(blob.size(), bytes.len() as u64);
            assert_eq!(blob.read(0, bytes.len()).unwrap(), bytes);
            true
        }
        Err(Error::BlobUnknown(_)) => false,
        Err(error) => panic!("{error}"),
    }
}

fn tagged(registry: &Registry) -> Vec<u8> {
    registry.get_manifest(&repository(), &tag()).unwrap().bytes
}

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

/// Replaces the bytes of a blob's file.
fn damage(root: &Path, digest: &Digest, bytes: &[u8]) {
    let hex = digest.hex();
    let blobs = root.join("docker/registry/v2/blobs/sha256");
    let path = blobs.join(&hex[..2]).join(hex).join("data");
    assert!(path.exists());
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn damaged_content_counts_as_absent_and_the_next_push_repairs_it() {
    let root = tempfile::tempdir().unwrap();
    let registry = Registry::open(root.path()).unwrap();
    let image = TestImage::of("word");
    push(&registry, &image).1.unwrap();
    let layer = Digest::of(&image.layer);
    // An empty file.
    damage(root.path(), &layer, b"");
    assert!(!has(&registry, &image.layer));
    push(&registry, &image).1.unwrap();
    assert!(has(&registry, &image.layer));
    // A truncated file, which only the size in a manifest reveals.
    damage(root.path(), &layer, &image.layer[..3]);
    let error = push_manifest(&registry, &image).unwrap_err();
    assert!(matches!(&error, Error::ChildrenUnknown(missing) if *missing == [layer.clone()]));
    assert!(!has(&registry, &image.layer));
    push(&registry, &image).1.unwrap();
    // A damaged manifest.
    for bytes in [&b""[..], &image.manifest[1..]] {
        damage(root.path(), &Digest::of(&image.manifest), bytes);
        let error = registry.get_manifest(&repository(), &tag()).err().unwrap();
        assert!(matches!(error, Error::ManifestDamaged(_)));
        push_manifest(&registry, &image).unwrap();
        assert_eq!(tagged(&registry), image.manifest);
    }
    // Damaged links.
    let repositories = root.path().join("docker/registry/v2/repositories/team/app");
    let hex = layer.hex();
    std::fs::write(repositories.join(format!("_layers/sha256/{hex}/link")), b"").unwrap();
    std::fs::write(
        repositories.join("_manifests/tags/v1/current/link"),
        b"sha256:",
    )
    .unwrap();
    assert!(!has(&registry, &image.layer));
    let error = registry.get_manifest(&repository(), &tag()).err().unwrap();
    assert!(matches!(error, Error::ManifestUnknown(_)));
    push(&registry, &image).1.unwrap();
    assert!(has(&registry, &image.layer));
    assert_eq!(tagged(&registry), image.manifest);
}

#[test]
fn a_link_to_other_content_counts_as_absent_and_the_next_push_repairs_it() {
    let root = tempfile::tempdir().unwrap();
    let registry = Registry::open(root.path()).unwrap();
    let (image, other) = (TestImage::of("word"), TestImage::of("other"));
    push(&registry, &other).1.unwrap();
    push(&registry, &image).1.unwrap();
    let repositories = root.path().join("docker/registry/v2/repositories/team/app");
    let pairs = [
        ("_layers", &image.layer, &other.layer),
        ("_manifests/revisions", &image.manifest, &other.manifest),
    ];
    for (folder, bytes, others) in pairs {
        let hex = Digest::of(bytes).hex().to_owned();
        let link = repositories.join(format!("{folder}/sha256/{hex}/link"));
        std::fs::write(link, Digest::of(others).to_string()).unwrap();
    }
    assert!(!has(&registry, &image.layer));
    let digest = Reference::Digest(Digest::of(&image.manifest));
    for reference in [tag(), digest] {
        let error = registry
            .get_manifest(&repository(), &reference)
            .err()
            .unwrap();
        assert!(matches!(error, Error::ManifestUnknown(_)), "{error}");
    }
    let index = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": media::OCI_INDEX,
        "manifests": [{
            "mediaType": media::OCI_MANIFEST,
            "digest": Digest::of(&image.manifest),
            "size": other.manifest.len(),
        }],
    });
    let index = index.to_string();
    let error = registry
        .put_manifest(&repository(), &tag(), &[], None, index.as_bytes())
        .unwrap_err();
    assert!(matches!(error, Error::ChildrenUnknown(_)), "{error}");
    push(&registry, &image).1.unwrap();
    assert!(has(&registry, &image.layer));
    assert_eq!(tagged(&registry), image.manifest);
    // A manifest under its sha512 digest is served only if its content matches.
    let alias = Digest::of_with(Algorithm::Sha512, &image.manifest);
    let folder = repositories.join(format!("_manifests/revisions/sha512/{}", alias.hex()));
    std::fs::create_dir_all(&folder).unwrap();
    for (bytes, is_served) in [(&other.manifest, false), (&image.manifest, true)] {
        std::fs::write(folder.join("link"), Digest::of(bytes).to_string()).unwrap();
        let served = registry.get_manifest(&repository(), &Reference::Digest(alias.clone()));
        assert_eq!(served.is_ok(), is_served);
    }
}

#[test]
fn a_healthy_blob_survives_a_manifest_that_lies_about_its_size() {
    let root = tempfile::tempdir().unwrap();
    let registry = Registry::open(root.path()).unwrap();
    let image = TestImage::of("word");
    push(&registry, &image).1.unwrap();
    let mut lie: serde_json::Value = serde_json::from_slice(&image.manifest).unwrap();
    lie["layers"][0]["size"] = 1.into();
    let lie = lie.to_string();
    let error = registry
        .put_manifest(&repository(), &tag(), &[], None, lie.as_bytes())
        .unwrap_err();
    let layer = Digest::of(&image.layer);
    assert!(
        matches!(
            &error,
            Error::SizeMismatch { digest, stated: 1, actual }
                if *digest == layer && *actual == image.layer.len() as u64
        ),
        "{error}"
    );
    assert!(has(&registry, &image.layer));
    assert_eq!(tagged(&registry), image.manifest);
}

#[test]
fn the_empty_blob_is_a_blob() {
    let root = tempfile::tempdir().unwrap();
    let registry = Registry::open(root.path()).unwrap();
    assert!(!has(&registry, b""));
    push_blob(&registry, b"").unwrap();
    assert!(has(&registry, b""));
}

#[test]
fn a_sha512_link_of_a_stock_registry_is_read_by_its_content() {
    let root = tempfile::tempdir().unwrap();
    let registry = Registry::open(root.path()).unwrap();
    push_blob(&registry, b"content").unwrap();
    let digest = Digest::of_with(Algorithm::Sha512, b"content");
    let unknown = registry.blob_size(&repository(), &digest).unwrap_err();
    assert!(matches!(unknown, Error::BlobUnknown(_)));
    let folder = root
        .path()
        .join("docker/registry/v2/repositories/team/app/_layers/sha512");
    let folder = folder.join(digest.hex());
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("link"), Digest::of(b"content").to_string()).unwrap();
    assert_eq!(registry.blob_size(&repository(), &digest).unwrap(), 7);
    let other: Repository = "other".parse().unwrap();
    assert!(registry.mount(&other, &repository(), &digest).unwrap());
    assert_eq!(
        registry
            .open_blob(&other, &digest)
            .unwrap()
            .read(0, 7)
            .unwrap(),
        b"content"
    );
}

#[test]
fn one_writer_at_a_time() {
    let root = tempfile::tempdir().unwrap();
    let registry = Registry::open(root.path()).unwrap();
    let id = registry
        .start_upload(&repository(), Algorithm::Sha256, &UploadOwner::Unknown)
        .unwrap();
    let mut first = registry
        .open_upload_writer(&repository(), id, None)
        .unwrap();
    first.ingest.write(b"abc").unwrap();
    assert!(!first.contended_flag().load(Ordering::Relaxed));
    let second = registry
        .open_upload_writer(&repository(), id, Some(0))
        .err()
        .unwrap();
    assert!(
        matches!(second, Error::UploadBusy { offset: 0 }),
        "{second}"
    );
    assert!(first.contended_flag().load(Ordering::Relaxed));
    let cancel = registry.cancel_upload(&repository(), id).unwrap_err();
    assert!(matches!(cancel, Error::UploadBusy { .. }), "{cancel}");
    first.ingest.sync().unwrap();
    drop(first);
    let late = registry
        .open_upload_writer(&repository(), id, Some(0))
        .err()
        .unwrap();
    assert!(matches!(late, Error::WrongOffset { offset: 3 }), "{late}");
    registry
        .open_upload_writer(&repository(), id, Some(3))
        .unwrap()
        .commit(&Digest::of(b"abc"))
        .unwrap();
    assert!(has(&registry, b"abc"));
    let finished = registry
        .open_upload_writer(&repository(), id, Some(3))
        .err()
        .unwrap();
    assert!(matches!(finished, Error::UploadUnknown(_)), "{finished}");
    let unknown = registry
        .cancel_upload(&repository(), UploadId::random())
        .unwrap_err();
    assert!(matches!(unknown, Error::UploadUnknown(_)), "{unknown}");
}

#[test]
fn content_on_a_read_only_volume_is_served() {
    let root = tempfile::tempdir().unwrap();
    let registry = Registry::open(root.path()).unwrap();
    let image = TestImage::of("word");
    push(&registry, &image).1.unwrap();
    let (subject, referrer) = push_referrer(&registry, &image);
    drop(registry);
    // As a stock registry leaves the folder.
    std::fs::remove_dir_all(root.path().join("imgsync")).unwrap();
    let registry = Registry::with_store(Store::open_unwritable(root.path()).unwrap());
    let worker = registry.start_diff_id_worker().unwrap();
    assert_eq!(tagged(&registry), image.manifest);
    assert!(has(&registry, &image.layer));
    let listed = registry.list_referrers(&repository(), &subject, None, None, &Walk::unbounded());
    let listed = listed.unwrap().referrers;
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].digest, referrer);
    let error = push_blob(&registry, b"more").unwrap_err();
    assert!(matches!(error, Error::Store(_)), "{error}");
    worker.stop();
    assert!(!root.path().join("imgsync").exists());
    // A missing folder does not count as an empty one.
    let missing = root.path().join("nowhere");
    assert!(Store::open_unwritable(&missing).is_err());
}
