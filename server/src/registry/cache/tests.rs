//! Tests of the cache on a real file system.

use imgsync_oci::{Algorithm, Digest, Reference, Repository, Tag, media};

use super::manifests::CachedManifest;
use super::{BlobState, ManifestState, TagState, UpstreamManifest};
use crate::registry::{Error, Registry};

pub(super) const UPSTREAM: &str = "ghcr.io";

pub(super) fn repository() -> Repository {
    "ghcr.io/owner/app".parse().unwrap()
}

pub(super) fn tag() -> Tag {
    "v1".parse().unwrap()
}

/// Returns a temporary directory, in memory if possible, because the tests sync often.
pub(super) fn folder() -> tempfile::TempDir {
    let memory = tempfile::tempdir_in("/dev/shm");
    memory.unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

pub(super) fn descriptor(media_type: &str, bytes: &[u8]) -> serde_json::Value {
    serde_json::json!({
        "mediaType": media_type, "digest": Digest::of(bytes), "size": bytes.len(),
    })
}

/// Returns the manifest and the config of an image with these layers. The config is made from
/// `word`.
pub(super) fn image(word: &str, layers: &[&[u8]]) -> (Vec<u8>, Vec<u8>) {
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

pub(super) fn index(manifests: &[&[u8]]) -> Vec<u8> {
    let child = |bytes: &&[u8]| descriptor(media::OCI_MANIFEST, bytes);
    let index = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": media::OCI_INDEX,
        "manifests": manifests.iter().map(child).collect::<Vec<_>>(),
    });
    index.to_string().into_bytes()
}

/// Caches a manifest as received from an upstream.
pub(super) fn keep(
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
pub(super) fn fetch(registry: &Registry, repository: &Repository, bytes: &[u8], now: u64) {
    let mut filling = registry
        .open_cache_fill(&Digest::of(bytes))
        .unwrap()
        .unwrap();
    filling.append(&bytes[filling.len() as usize..]).unwrap();
    filling
        .commit(std::slice::from_ref(repository), now)
        .unwrap();
}

pub(super) fn push_blob(registry: &Registry, repository: &Repository, bytes: &[u8]) {
    let id = registry
        .start_upload(repository, Algorithm::Sha256, None)
        .unwrap();
    let mut append = registry
        .open_upload_writer(repository, id, Some(0))
        .unwrap();
    append.write(bytes).unwrap();
    append.commit(&Digest::of(bytes)).unwrap();
}

pub(super) fn push(
    registry: &Registry,
    repository: &Repository,
    at: &str,
    bytes: &[u8],
) -> Result<(), Error> {
    let at: Reference = at.parse().unwrap();
    let taken = registry.put_manifest(repository, &at, &[], None, bytes);
    taken.map(|_| ())
}

fn cached(digest: &Digest, confirmed: u64) -> TagState {
    TagState::Cached {
        digest: digest.clone(),
        confirmed_at: confirmed,
        upstream: UPSTREAM.to_owned(),
    }
}

#[test]
fn a_cached_image_is_served_like_any_other_and_known_to_be_cached() {
    let root = folder();
    let registry = Registry::open(root.path()).unwrap();
    let (manifest, config) = image("one", &[b"layer"]);
    let digest = Digest::of(&manifest);
    let (repository, tag) = (repository(), tag());
    assert_eq!(
        registry.tag_state(&repository, &tag).unwrap(),
        TagState::Absent
    );
    let kept = keep(&registry, &repository, Some(&tag), &manifest, 1000);
    assert_eq!((kept.digest, kept.is_tagged), (digest.clone(), true));
    fetch(&registry, &repository, b"layer", 1001);
    fetch(&registry, &repository, &config, 1002);
    drop(registry);

    let registry = Registry::open(root.path()).unwrap();
    assert_eq!(
        registry.tag_state(&repository, &tag).unwrap(),
        cached(&digest, 1000)
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
        cached(&digest, 2000)
    );
    // The upstream moves the tag, and then deletes it.
    let (other, _) = image("two", &[b"layer"]);
    keep(&registry, &repository, Some(&tag), &other, 4000);
    let state = registry.tag_state(&repository, &tag).unwrap();
    assert_eq!(state, cached(&Digest::of(&other), 4000));
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
fn what_an_upstream_sends_is_kept_only_if_it_is_what_was_asked_for() {
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
    let mut filling = registry.open_cache_fill(&digest).unwrap().unwrap();
    filling.append(b"laxer").unwrap();
    let error = filling.commit(&[repository()], 1).unwrap_err();
    assert!(matches!(error, Error::DigestMismatch { .. }), "{error}");
    let state = registry.blob_state(&repository(), &digest).unwrap();
    assert_eq!(state, BlobState::Absent);
    assert_eq!(registry.open_cache_fill(&digest).unwrap().unwrap().len(), 0);
}

#[test]
fn a_reader_of_a_partial_blob_reads_on_after_the_commit() {
    let root = folder();
    let registry = Registry::open(root.path()).unwrap();
    let digest = Digest::of(b"first, second");
    let mut filling = registry.open_cache_fill(&digest).unwrap().unwrap();
    assert!(
        registry.open_cache_fill(&digest).unwrap().is_none(),
        "one writer"
    );
    let reader = filling.reader();
    assert_eq!(reader.read(0, 100).unwrap(), b"");
    filling.append(b"first").unwrap();
    assert_eq!(
        (reader.available(), reader.read(1, 100).unwrap()),
        (5, b"irst".to_vec())
    );
    assert_eq!(reader.read(9, 100).unwrap(), b"");
    filling.append(b", second").unwrap();
    filling.commit(&[repository()], 1).unwrap();
    assert_eq!(reader.read(5, 100).unwrap(), b", second");
    let state = registry.blob_state(&repository(), &digest).unwrap();
    assert_eq!(state, BlobState::Linked { size: 13 });
    let other = "ghcr.io/owner/other".parse().unwrap();
    let state = registry.blob_state(&other, &digest).unwrap();
    assert_eq!(state, BlobState::Elsewhere { size: 13 });
    assert!(registry.link_cached_blob(&other, &digest, 2).unwrap());
    let state = registry.blob_state(&other, &digest).unwrap();
    assert_eq!(state, BlobState::Linked { size: 13 });
    assert!(
        !registry
            .link_cached_blob(&other, &Digest::of(b"no"), 2)
            .unwrap()
    );
}

#[test]
fn a_fetch_that_broke_off_goes_on_from_what_was_kept() {
    let root = folder();
    let registry = Registry::open(root.path()).unwrap();
    let digest = Digest::of(b"kept, and on");
    let mut filling = registry.open_cache_fill(&digest).unwrap().unwrap();
    filling.append(b"kept").unwrap();
    filling.sync().unwrap();
    filling.append(b" lost").unwrap();
    drop(filling);
    drop(registry);
    let registry = Registry::open(root.path()).unwrap();
    let mut filling = registry.open_cache_fill(&digest).unwrap().unwrap();
    assert_eq!(filling.len(), 4);
    filling.append(b", and on").unwrap();
    filling.commit(&[repository()], 1).unwrap();
    // The bytes from before a restart do no harm.
    let digest = Digest::of(b"right");
    let mut filling = registry.open_cache_fill(&digest).unwrap().unwrap();
    filling.append(b"wrong, and long").unwrap();
    filling.sync().unwrap();
    filling.restart().unwrap();
    assert_eq!((filling.len(), filling.reader().available()), (0, 0));
    filling.append(b"right").unwrap();
    filling.commit(&[repository()], 1).unwrap();
    let blob = registry.open_blob(&repository(), &digest).unwrap();
    assert_eq!(
        (blob.size(), blob.read(0, 5).unwrap()),
        (5, b"right".to_vec())
    );
    let filling = registry
        .open_cache_fill(&Digest::of(b"none"))
        .unwrap()
        .unwrap();
    filling.discard().unwrap();
    let left = std::fs::read_dir(root.path().join("imgsync/cache/filling"));
    assert_eq!(left.unwrap().count(), 0);
}

#[test]
fn what_a_stock_registry_cached_is_cached_and_what_was_pushed_is_not() {
    let root = folder();
    let registry = Registry::open(root.path()).unwrap();
    let names = ["library/nginx", "own/app"];
    let [proxied, own]: [Repository; 2] = names.map(|name| name.parse().unwrap());
    let (manifest, config) = image("one", &[b"layer", b"shared"]);
    let (pushed, other) = image("two", &[b"shared"]);
    let mut noted = serde_json::Map::new();
    let mut note = |repository: &Repository, bytes: &[u8], kind: u8| {
        let key = format!("{repository}@{}", Digest::of(bytes));
        let entry = serde_json::json!({
            "Key": &key, "ExpiryData": "2026-11-21T22:30:36.123456789Z", "EntryType": kind,
        });
        noted.insert(key, entry);
    };
    for bytes in [&b"layer"[..], b"shared", &config] {
        push_blob(&registry, &proxied, bytes);
        note(&proxied, bytes, 0);
    }
    push(&registry, &proxied, "latest", &manifest).unwrap();
    note(&proxied, &manifest, 1);
    note(&proxied, b"gone", 0);
    push_blob(&registry, &own, b"layer");
    let state = root.path().join("scheduler-state.json");
    // A push after the file was written, with a layer that the proxy had cached.
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(10);
    push_blob(&registry, &proxied, &other);
    push(&registry, &proxied, "ours", &pushed).unwrap();
    let digest = Digest::of(&pushed);
    note(&proxied, &pushed, 1);
    // The file is truncated.
    let json = serde_json::json!(noted).to_string();
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
    for (repository, bytes, is_there) in [
        (&proxied, &b"layer"[..], false),
        (&own, b"layer", true),
        (&proxied, b"shared", true),
        (&proxied, &other, true),
        (&proxied, &config, false),
    ] {
        let opened = registry.open_blob(repository, &Digest::of(bytes));
        assert_eq!(opened.is_ok(), is_there, "{repository}");
    }
    let served = registry.get_manifest(&proxied, &"ours".parse().unwrap());
    assert_eq!(served.unwrap().bytes, pushed);
}
