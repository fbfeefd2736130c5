//! Tests of the cache on a real file system.

use imgsync_oci::{Algorithm, Digest, Reference, Repository, Tag, media};

use super::manifests::CachedManifest;
use super::{BlobState, ManifestState, TagState, UpstreamManifest};
use crate::registry::{Error, Registry, UploadOwner};

pub(super) const UPSTREAM: &str = "ghcr.io";

pub(in crate::registry) fn repository() -> Repository {
    "ghcr.io/owner/app".parse().unwrap()
}

pub(in crate::registry) fn tag() -> Tag {
    "v1".parse().unwrap()
}

/// Returns a temporary directory, in memory if possible, because the tests sync often.
pub(in crate::registry) fn folder() -> tempfile::TempDir {
    let memory = tempfile::tempdir_in("/dev/shm");
    memory.unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

pub(in crate::registry) fn descriptor(media_type: &str, bytes: &[u8]) -> serde_json::Value {
    serde_json::json!({
        "mediaType": media_type, "digest": Digest::of(bytes), "size": bytes.len(),
    })
}

/// Returns the manifest and the config of an image with these layers. The config is made from
/// `word`.
pub(in crate::registry) fn image(word: &str, layers: &[&[u8]]) -> (Vec<u8>, Vec<u8>) {
    let config = format!("{{\"word\":\"{word}\"}}").into_bytes();
    let layer = |bytes: &&[u8]| descriptor("application/vnd.oci.image.layer.v1.tar", bytes);
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": media::OCI_MANIFEST,
        "config": descriptor(media::OCI_CONFIG, &config),
        "layers": layers.iter().map(layer).collect::<Vec<_>>(),
    });
    (manifest.to_string().into_bytes(), config)
}

pub(in crate::registry) fn index(manifests: &[&[u8]]) -> Vec<u8> {
    let child = |bytes: &&[u8]| descriptor(media::OCI_MANIFEST, bytes);
    let index = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": media::OCI_INDEX,
        "manifests": manifests.iter().map(child).collect::<Vec<_>>(),
    });
    index.to_string().into_bytes()
}

/// Caches a manifest as received from an upstream.
pub(in crate::registry) fn cache_manifest(
    registry: &Registry,
    repository: &Repository,
    tag: Option<&Tag>,
    bytes: &[u8],
    now: u64,
) -> CachedManifest {
    let incoming = UpstreamManifest {
        digest: None,
        media_type: None,
        bytes,
        upstream: UPSTREAM,
    };
    registry
        .cache_manifest(repository, tag, incoming, now)
        .unwrap()
}

/// Caches a blob.
pub(in crate::registry) fn cache_blob(
    registry: &Registry,
    repository: &Repository,
    bytes: &[u8],
    now: u64,
) {
    let mut fill = registry
        .open_cache_fill(&Digest::of(bytes), UPSTREAM)
        .unwrap()
        .unwrap();
    fill.append(&bytes[fill.ingest.offset() as usize..])
        .unwrap();
    fill.commit(std::slice::from_ref(repository), now).unwrap();
}

pub(in crate::registry) fn push_blob(registry: &Registry, repository: &Repository, bytes: &[u8]) {
    let id = registry
        .start_upload(repository, Algorithm::Sha256, &UploadOwner::Unknown)
        .unwrap();
    let mut writer = registry
        .open_upload_writer(repository, id, Some(0))
        .unwrap();
    writer.ingest.write(bytes).unwrap();
    writer.commit(&Digest::of(bytes)).unwrap();
}

pub(in crate::registry) fn push(
    registry: &Registry,
    repository: &Repository,
    reference: &str,
    bytes: &[u8],
) -> Result<(), Error> {
    let reference: Reference = reference.parse().unwrap();
    registry
        .put_manifest(repository, &reference, &[], None, bytes)
        .map(drop)
}

fn cached_tag(digest: &Digest, confirmed_at: u64) -> TagState {
    TagState::Cached {
        digest: digest.clone(),
        confirmed_at,
        upstream: UPSTREAM.to_owned(),
    }
}

#[test]
fn a_cached_image_is_served_and_counts_as_cached() {
    let root = folder();
    let registry = Registry::open(root.path()).unwrap();
    let (manifest, config) = image("one", &[b"layer"]);
    let digest = Digest::of(&manifest);
    let (repository, tag) = (repository(), tag());
    assert_eq!(
        registry.tag_state(&repository, &tag).unwrap(),
        TagState::Absent
    );
    let cached = cache_manifest(&registry, &repository, Some(&tag), &manifest, 1000);
    assert_eq!((cached.digest, cached.is_tagged), (digest.clone(), true));
    cache_blob(&registry, &repository, b"layer", 1001);
    cache_blob(&registry, &repository, &config, 1002);
    drop(registry);

    let registry = Registry::open(root.path()).unwrap();
    assert_eq!(
        registry.tag_state(&repository, &tag).unwrap(),
        cached_tag(&digest, 1000)
    );
    let state = registry.manifest_state(&repository, &digest).unwrap();
    assert_eq!(state, ManifestState::Cached);
    let served = registry.get_manifest(&repository, &Reference::Tag(tag.clone()));
    assert_eq!(served.unwrap().bytes, manifest);
    let layer = Digest::of(b"layer");
    let blob = registry.open_blob(&repository, &layer).unwrap();
    assert_eq!(blob.read(0, 5).unwrap(), b"layer");
    // The upstream confirms this digest, and then another one.
    assert!(
        registry
            .confirm_tag(&repository, &tag, &digest, 2000)
            .unwrap()
    );
    assert!(
        !registry
            .confirm_tag(&repository, &tag, &layer, 3000)
            .unwrap()
    );
    assert_eq!(
        registry.tag_state(&repository, &tag).unwrap(),
        cached_tag(&digest, 2000)
    );
    // The upstream moves the tag, and then deletes it.
    let (other, _) = image("two", &[b"layer"]);
    cache_manifest(&registry, &repository, Some(&tag), &other, 4000);
    let state = registry.tag_state(&repository, &tag).unwrap();
    assert_eq!(state, cached_tag(&Digest::of(&other), 4000));
    assert!(registry.remove_cached_tag(&repository, &tag).unwrap());
    assert!(!registry.remove_cached_tag(&repository, &tag).unwrap());
    assert_eq!(
        registry.tag_state(&repository, &tag).unwrap(),
        TagState::Absent
    );
    let state = registry.manifest_state(&repository, &Digest::of(&other));
    assert_eq!(state.unwrap(), ManifestState::Cached);
}

#[test]
fn content_from_an_upstream_is_stored_only_if_it_matches_its_digest() {
    let root = folder();
    let registry = Registry::open(root.path()).unwrap();
    let (manifest, _) = image("one", &[b"layer"]);
    let other = Digest::of(b"other");
    let incoming = UpstreamManifest {
        digest: Some(&other),
        media_type: None,
        bytes: &manifest,
        upstream: UPSTREAM,
    };
    let error = registry
        .cache_manifest(&repository(), Some(&tag()), incoming, 1)
        .unwrap_err();
    assert!(matches!(error, Error::DigestMismatch { .. }), "{error}");
    let incoming = UpstreamManifest {
        digest: None,
        bytes: b"<html>",
        ..incoming
    };
    let error = registry
        .cache_manifest(&repository(), Some(&tag()), incoming, 1)
        .unwrap_err();
    assert!(matches!(error, Error::ManifestInvalid(_)), "{error}");
    assert_eq!(
        registry.tag_state(&repository(), &tag()).unwrap(),
        TagState::Absent
    );
    let digest = Digest::of(b"layer");
    let mut fill = registry
        .open_cache_fill(&digest, UPSTREAM)
        .unwrap()
        .unwrap();
    fill.append(b"laxer").unwrap();
    let error = fill.commit(&[repository()], 1).unwrap_err();
    assert!(matches!(error, Error::DigestMismatch { .. }), "{error}");
    let state = registry.blob_state(&repository(), &digest).unwrap();
    assert_eq!(state, BlobState::Absent);
    assert_eq!(
        registry
            .open_cache_fill(&digest, UPSTREAM)
            .unwrap()
            .unwrap()
            .ingest
            .offset(),
        0
    );
}

#[test]
fn a_reader_of_a_partial_blob_reads_on_after_the_commit() {
    let root = folder();
    let registry = Registry::open(root.path()).unwrap();
    let digest = Digest::of(b"first, second");
    let mut fill = registry
        .open_cache_fill(&digest, UPSTREAM)
        .unwrap()
        .unwrap();
    assert!(
        registry
            .open_cache_fill(&digest, UPSTREAM)
            .unwrap()
            .is_none(),
        "one writer"
    );
    let reader = fill.ingest.reader();
    assert_eq!(reader.read(0, 100).unwrap(), b"");
    fill.append(b"first").unwrap();
    assert_eq!(
        (reader.available(), reader.read(1, 100).unwrap()),
        (5, b"irst".to_vec())
    );
    assert_eq!(reader.read(9, 100).unwrap(), b"");
    fill.append(b", second").unwrap();
    fill.commit(&[repository()], 1).unwrap();
    assert_eq!(reader.read(5, 100).unwrap(), b", second");
    let state = registry.blob_state(&repository(), &digest).unwrap();
    assert_eq!(state, BlobState::Linked { size: 13 });
    let other = "ghcr.io/owner/other".parse().unwrap();
    let state = registry.blob_state(&other, &digest).unwrap();
    assert_eq!(state, BlobState::Elsewhere { size: 13 });
    assert!(
        registry
            .link_cached_blob(&other, &digest, UPSTREAM, 2)
            .unwrap()
    );
    let state = registry.blob_state(&other, &digest).unwrap();
    assert_eq!(state, BlobState::Linked { size: 13 });
    assert!(
        !registry
            .link_cached_blob(&other, &Digest::of(b"no"), UPSTREAM, 2)
            .unwrap()
    );
}

#[test]
fn an_interrupted_fetch_resumes_at_its_checkpoint() {
    let root = folder();
    let registry = Registry::open(root.path()).unwrap();
    let digest = Digest::of(b"kept, and on");
    let mut fill = registry
        .open_cache_fill(&digest, UPSTREAM)
        .unwrap()
        .unwrap();
    fill.append(b"kept").unwrap();
    fill.ingest.sync().unwrap();
    fill.append(b" lost").unwrap();
    drop(fill);
    drop(registry);
    let registry = Registry::open(root.path()).unwrap();
    let mut fill = registry
        .open_cache_fill(&digest, UPSTREAM)
        .unwrap()
        .unwrap();
    assert_eq!(fill.ingest.offset(), 4);
    fill.append(b", and on").unwrap();
    fill.commit(&[repository()], 1).unwrap();
    // The bytes from before a restart do no harm.
    let digest = Digest::of(b"right");
    let mut fill = registry
        .open_cache_fill(&digest, UPSTREAM)
        .unwrap()
        .unwrap();
    fill.append(b"wrong, and long").unwrap();
    fill.ingest.sync().unwrap();
    fill.ingest.restart().unwrap();
    assert_eq!(
        (fill.ingest.offset(), fill.ingest.reader().available()),
        (0, 0)
    );
    fill.append(b"right").unwrap();
    fill.commit(&[repository()], 1).unwrap();
    let blob = registry.open_blob(&repository(), &digest).unwrap();
    assert_eq!(
        (blob.size(), blob.read(0, 5).unwrap()),
        (5, b"right".to_vec())
    );
    let fill = registry
        .open_cache_fill(&Digest::of(b"none"), UPSTREAM)
        .unwrap()
        .unwrap();
    fill.discard().unwrap();
    let files = std::fs::read_dir(root.path().join("imgsync/cache/filling"));
    assert_eq!(files.unwrap().count(), 0);
}

#[test]
fn the_cache_of_a_stock_registry_is_imported_and_pushed_content_is_not() {
    let root = folder();
    let registry = Registry::open(root.path()).unwrap();
    let names = ["library/nginx", "own/app"];
    let [proxied, own]: [Repository; 2] = names.map(|name| name.parse().unwrap());
    let (manifest, config) = image("one", &[b"layer", b"shared"]);
    let (pushed, other) = image("two", &[b"shared"]);
    let mut entries = serde_json::Map::new();
    let mut add_entry = |repository: &Repository, bytes: &[u8], kind: u8| {
        let key = format!("{repository}@{}", Digest::of(bytes));
        let entry = serde_json::json!({
            "Key": &key, "ExpiryData": "2026-11-21T22:30:36.123456789Z", "EntryType": kind,
        });
        entries.insert(key, entry);
    };
    for bytes in [&b"layer"[..], b"shared", &config] {
        push_blob(&registry, &proxied, bytes);
        add_entry(&proxied, bytes, 0);
    }
    push(&registry, &proxied, "latest", &manifest).unwrap();
    add_entry(&proxied, &manifest, 1);
    add_entry(&proxied, b"gone", 0);
    push_blob(&registry, &own, b"layer");
    let state = root.path().join("scheduler-state.json");
    // A push after the file was written, with a layer that the proxy had cached.
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(10);
    push_blob(&registry, &proxied, &other);
    push(&registry, &proxied, "ours", &pushed).unwrap();
    let digest = Digest::of(&pushed);
    add_entry(&proxied, &pushed, 1);
    // The file is truncated.
    let json = serde_json::json!(entries).to_string();
    std::fs::write(&state, &json[..json.len() - 1]).unwrap();
    let link = crate::store::ObjectKey::RevisionLink(&proxied, &digest);
    registry
        .store
        .put(link, digest.to_string().as_bytes())
        .unwrap();
    let hex = digest.hex();
    let link = format!(
        "docker/registry/v2/repositories/library/nginx/_manifests/revisions/sha256/{hex}/link"
    );
    let link = std::fs::File::options()
        .write(true)
        .open(root.path().join(link));
    link.unwrap().set_modified(later).unwrap();

    assert_eq!(registry.import_stock_proxy("docker.io", 5000).unwrap(), 4);
    assert_eq!(registry.import_stock_proxy("docker.io", 5000).unwrap(), 0);
    let cached = registry.tag_state(&proxied, &"latest".parse().unwrap());
    let expected = TagState::Cached {
        digest: Digest::of(&manifest),
        confirmed_at: 0,
        upstream: "docker.io".to_owned(),
    };
    assert_eq!(cached.unwrap(), expected);
    let ours = registry.tag_state(&proxied, &"ours".parse().unwrap());
    assert_eq!(ours.unwrap(), TagState::Pushed);
    let limits = super::CacheLimits {
        max_bytes: Some(0),
        max_unused: None,
        grace_period: std::time::Duration::from_secs(1),
    };
    assert_eq!(registry.evict(&limits, 100_000).unwrap().images, 1);
    for (repository, bytes, is_present) in [
        (&proxied, &b"layer"[..], false),
        (&own, b"layer", true),
        (&proxied, b"shared", true),
        (&proxied, &other, true),
        (&proxied, &config, false),
    ] {
        let opened = registry.open_blob(repository, &Digest::of(bytes));
        assert_eq!(opened.is_ok(), is_present, "{repository}");
    }
    let served = registry.get_manifest(&proxied, &"ours".parse().unwrap());
    assert_eq!(served.unwrap().bytes, pushed);
}
