//! Tests of the registry's rules.

use std::sync::atomic::Ordering;

use imgsync_oci::endpoint::UploadId;
use imgsync_oci::{Algorithm, Digest, Reference, Repository, media};

use super::cache::tests::image;
use super::{Error, Registry, UploadOwner, Walk};
use crate::store::{ObjectKey, Store};

pub(super) fn repository() -> Repository {
    "team/app".parse().unwrap()
}

pub(super) fn tag() -> Reference {
    "v1".parse().unwrap()
}

/// An image with one layer; all content contains one word.
pub(super) struct TestImage {
    pub(super) config: Vec<u8>,
    pub(super) layer: Vec<u8>,
    pub(super) manifest: Vec<u8>,
}

impl TestImage {
    pub(super) fn of(word: &str) -> Self {
        let layer = format!("the layer of {word}").into_bytes();
        let (manifest, config) = image(word, &[&layer]);
        Self {
            config,
            layer,
            manifest,
        }
    }
}

pub(super) fn push_blob(registry: &Registry, bytes: &[u8]) -> Result<(), Error> {
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

pub(super) fn push_manifest(registry: &Registry, image: &TestImage) -> Result<(), Error> {
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
pub(super) fn push_referrer(registry: &Registry, image: &TestImage) -> (Digest, Digest) {
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
pub(super) fn push(registry: &Registry, image: &TestImage) -> (usize, Result<(), Error>) {
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
pub(super) fn has(registry: &Registry, bytes: &[u8]) -> bool {
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

pub(super) fn tagged(registry: &Registry) -> Vec<u8> {
    registry.get_manifest(&repository(), &tag()).unwrap().bytes
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
