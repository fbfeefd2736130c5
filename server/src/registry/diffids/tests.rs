//! Tests of the answers to resolve requests, on a real disk.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use imgsync_oci::ext::resolve::{ResolveRequest, ResolvedLayer};
use imgsync_oci::{Descriptor, Digest, Repository, media};

use super::DiffIdJob;
use crate::registry::Registry;
use crate::registry::tests::write_foreign_manifest;
use crate::store::{DerivedKey, ObjectKey};

const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

fn repository(name: &str) -> Repository {
    name.parse().unwrap()
}

/// Returns an empty tar archive, whose length depends on the length of `name`.
fn tar(name: &str) -> Vec<u8> {
    vec![0; 512 * (2 + name.len())]
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Writes a blob and its link into the tree, as another program may do.
fn put(registry: &Registry, name: &str, bytes: &[u8]) -> Digest {
    let digest = Digest::of(bytes);
    put_under(registry, name, &digest, bytes);
    digest
}

fn put_under(registry: &Registry, name: &str, digest: &Digest, bytes: &[u8]) {
    let link = digest.to_string();
    let repository = repository(name);
    let entries = [
        (ObjectKey::Blob(digest), bytes),
        (ObjectKey::LayerLink(&repository, digest), link.as_bytes()),
    ];
    registry.store.put_all(&entries).unwrap();
}

/// Runs the worker until it has examined everything.
fn examine(registry: &Registry) {
    let worker = registry.start_diff_id_worker().unwrap();
    wait_until_idle(registry);
    worker.stop();
}

fn wait_until_idle(registry: &Registry) {
    while registry.diff_id_queue.is_busy() {
        std::thread::yield_now();
    }
}

fn resolve(registry: &Registry, name: &str, diff_id: &Digest) -> ResolvedLayer {
    resolve_as(registry, name, diff_id, |_| true, false)
}

fn resolve_as(
    registry: &Registry,
    name: &str,
    diff_id: &Digest,
    may_pull: impl Fn(&Repository) -> bool,
    is_mounting: bool,
) -> ResolvedLayer {
    let request = ResolveRequest {
        diff_ids: vec![diff_id.clone()],
        ..ResolveRequest::default()
    };
    let response = registry.resolve_layers(&repository(name), &request, &may_pull, is_mounting);
    let [layer] = <[ResolvedLayer; 1]>::try_from(response.unwrap().layers).unwrap();
    layer
}

fn held_layer(media_type: &str, blob: &[u8]) -> ResolvedLayer {
    let blob = Descriptor::new(media_type, Digest::of(blob), blob.len() as u64);
    ResolvedLayer::Held { blob }
}

/// Lists all files below a directory.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            paths.extend(files(&path));
        } else {
            paths.push(path);
        }
    }
    paths
}

#[test]
fn of_several_blobs_with_a_diff_id_the_preferred_one_is_reported() {
    let root = tempfile::tempdir().unwrap();
    let registry = Registry::open(root.path()).unwrap();
    let tar = tar("layer");
    let blobs = [
        gzip(&tar),
        tar.clone(),
        [gzip(&tar[..512]), gzip(&tar[512..])].concat(),
    ];
    for blob in &blobs {
        put(&registry, "a", blob);
    }
    put(&registry, "a", &gzip(b"another blob"));
    examine(&registry);
    for blob in &blobs {
        let request = ResolveRequest {
            diff_ids: vec![Digest::of(&tar)],
            preferred: vec![Digest::of(b"unknown"), Digest::of(blob)],
            ..ResolveRequest::default()
        };
        let answer = registry.resolve_layers(&repository("a"), &request, &|_| true, false);
        match &answer.unwrap().layers[..] {
            [ResolvedLayer::Held { blob: held }] => assert_eq!(held.digest, Digest::of(blob)),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_layer_is_held_where_it_is_linked_and_elsewhere_for_callers_who_may_pull_there() {
    let root = tempfile::tempdir().unwrap();
    let registry = Registry::open(root.path()).unwrap();
    let tar = tar("layer");
    let (diff_id, blob) = (Digest::of(&tar), gzip(&tar));
    put(&registry, "a/b", &blob);
    put(&registry, "a/b", b"{\"not\":\"a layer\"}");
    examine(&registry);
    assert_eq!(resolve(&registry, "a/b", &diff_id), held_layer(GZIP, &blob));
    let elsewhere = ResolvedLayer::Elsewhere {
        blob: Descriptor::new(GZIP, Digest::of(&blob), blob.len() as u64),
        repository: "a/b".to_owned(),
    };
    assert_eq!(resolve(&registry, "c", &diff_id), elsewhere);
    // A repository from which the caller may not pull counts as absent.
    for is_mounting in [false, true] {
        let layer = resolve_as(&registry, "c", &diff_id, |_| false, is_mounting);
        assert_eq!(layer, ResolvedLayer::Absent);
    }
    let may_pull = |name: &Repository| name.as_str() == "a/b";
    let mounted = resolve_as(&registry, "c", &diff_id, may_pull, true);
    assert_eq!(mounted, held_layer(GZIP, &blob));
    assert_eq!(
        resolve_as(&registry, "c", &diff_id, |_| false, false),
        mounted
    );
    // Neither the blob's own digest nor a digest of another algorithm is its diffID.
    assert_eq!(
        resolve(&registry, "a/b", &Digest::of(&blob)),
        ResolvedLayer::Absent
    );
    let long = Digest::of_with(imgsync_oci::Algorithm::Sha512, &tar);
    assert_eq!(resolve(&registry, "a/b", &long), ResolvedLayer::Absent);
}

#[test]
fn only_a_blob_that_is_linked_and_stored_now_counts() {
    let root = tempfile::tempdir().unwrap();
    let registry = Registry::open(root.path()).unwrap();
    let tar = tar("x");
    let (diff_id, blob) = (Digest::of(&tar), gzip(&tar));
    let digest = put(&registry, "a", &blob);
    examine(&registry);
    assert_eq!(resolve(&registry, "a", &diff_id), held_layer(GZIP, &blob));
    registry
        .store
        .delete(ObjectKey::LayerLink(&repository("a"), &digest))
        .unwrap();
    assert_eq!(resolve(&registry, "a", &diff_id), ResolvedLayer::Absent);
    assert_eq!(resolve(&registry, "b", &diff_id), ResolvedLayer::Absent);
    put(&registry, "a", &blob);
    assert_eq!(resolve(&registry, "a", &diff_id), held_layer(GZIP, &blob));
    // The blob is truncated, as after a power cut, and then gone.
    registry
        .store
        .put(ObjectKey::Blob(&digest), &blob[..blob.len() / 2])
        .unwrap();
    assert_eq!(resolve(&registry, "a", &diff_id), ResolvedLayer::Absent);
    registry.store.delete(ObjectKey::Blob(&digest)).unwrap();
    assert_eq!(resolve(&registry, "a", &diff_id), ResolvedLayer::Absent);
    // The next walk removes the records.
    assert_eq!(files(&root.path().join("imgsync/diffids")).len(), 2);
    examine(&registry);
    assert_eq!(
        files(&root.path().join("imgsync/diffids")),
        [""; 0].map(PathBuf::from)
    );
}

#[test]
fn a_blob_that_was_not_examined_yet_is_pending_for_everyone() {
    let root = tempfile::tempdir().unwrap();
    let registry = Registry::open(root.path()).unwrap();
    let tar = tar("x");
    let digest = put(&registry, "a", &tar);
    registry.diff_id_queue.open();
    for may_pull in [false, true] {
        let layer = resolve_as(&registry, "a", &digest, |_| may_pull, false);
        assert_eq!(layer, ResolvedLayer::Pending);
    }
    registry.diff_id_queue.close();
    examine(&registry);
    assert_eq!(
        resolve(&registry, "a", &digest),
        held_layer("application/vnd.oci.image.layer.v1.tar", &tar)
    );
}

#[test]
fn a_crash_at_any_moment_and_damage_are_repaired_by_the_next_start() {
    let root = tempfile::tempdir().unwrap();
    let registry = Registry::open(root.path()).unwrap();
    let tar = tar("x");
    let (diff_id, blob) = (Digest::of(&tar), gzip(&tar));
    let digest = put(&registry, "a", &blob);
    // A crash after the first of the two files is written.
    let half = DerivedKey::DiffIdBlob(&diff_id, &digest);
    registry.store.put_derived(half, b"").unwrap();
    assert_eq!(resolve(&registry, "a", &diff_id), ResolvedLayer::Absent);
    examine(&registry);
    assert_eq!(resolve(&registry, "a", &diff_id), held_layer(GZIP, &blob));
    for damage in [&b""[..], b"{", b"{\"format\":\"another\"}"] {
        registry
            .store
            .put_derived(DerivedKey::LayerRecord(&digest), damage)
            .unwrap();
        assert_eq!(resolve(&registry, "a", &diff_id), ResolvedLayer::Absent);
        examine(&registry);
        assert_eq!(
            resolve(&registry, "a", &diff_id),
            held_layer(GZIP, &blob),
            "{damage:?}"
        );
    }
    // A wrong record has no effect.
    let lie = Digest::of(b"lie");
    registry
        .store
        .put_derived(DerivedKey::DiffIdBlob(&lie, &digest), b"")
        .unwrap();
    assert_eq!(resolve(&registry, "a", &lie), ResolvedLayer::Absent);
}

#[test]
fn damaged_bytes_do_not_count_as_the_blob_and_a_push_repairs_them() {
    let root = tempfile::tempdir().unwrap();
    let registry = Registry::open(root.path()).unwrap();
    let (tar, other) = (tar("good"), tar("bad"));
    let (diff_id, blob) = (Digest::of(&tar), gzip(&tar));
    let digest = Digest::of(&blob);
    for damaged in [gzip(&other), blob[..blob.len() - 1].to_vec()] {
        put_under(&registry, "a", &digest, &damaged);
        examine(&registry);
        for wrong in [&diff_id, &Digest::of(&other)] {
            assert_eq!(resolve(&registry, "a", wrong), ResolvedLayer::Absent);
        }
    }
    put_under(&registry, "a", &digest, &blob);
    let _worker = registry.start_diff_id_worker().unwrap();
    registry
        .diff_id_queue
        .push(DiffIdJob(repository("a"), digest));
    wait_until_idle(&registry);
    assert_eq!(resolve(&registry, "a", &diff_id), held_layer(GZIP, &blob));
}

#[test]
fn manifests_are_found_by_their_config() {
    let root = tempfile::tempdir().unwrap();
    let registry = Registry::open(root.path()).unwrap();
    let config = put(&registry, "a", b"{\"an\":\"image\"}");
    let request = ResolveRequest {
        config: Some(config.clone()),
        ..ResolveRequest::default()
    };
    let find_manifests = |registry: &Registry, name: &str| {
        let response = registry.resolve_layers(&repository(name), &request, &|_| true, false);
        response.unwrap().manifests
    };
    assert_eq!(find_manifests(&registry, "a"), []);
    let size = b"{\"an\":\"image\"}".len();
    let mut pushed = Vec::new();
    for number in 0..12 {
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": media::OCI_MANIFEST,
            "config": { "mediaType": media::OCI_CONFIG, "digest": config, "size": size },
            "layers": [],
            "annotations": { "number": number.to_string() },
        });
        let bytes = manifest.to_string().into_bytes();
        let digest = write_foreign_manifest(&registry, &repository("a"), &bytes);
        pushed.push(Descriptor::new(
            media::OCI_MANIFEST,
            digest,
            bytes.len() as u64,
        ));
        if number == 0 {
            examine(&registry);
            assert_eq!(find_manifests(&registry, "a"), pushed);
        }
    }
    drop(registry);
    let registry = Registry::open(root.path()).unwrap();
    examine(&registry);
    assert_eq!(find_manifests(&registry, "a").len(), 10);
    assert_eq!(find_manifests(&registry, "b"), []);
    for manifest in &pushed[1..] {
        let key = (repository("a"), manifest.digest.clone());
        registry
            .store
            .delete(ObjectKey::RevisionLink(&key.0, &key.1))
            .unwrap();
    }
    assert_eq!(find_manifests(&registry, "a"), pushed[..1]);
}

#[test]
fn what_an_earlier_version_recorded_about_configs_is_used_until_it_is_in_the_index() {
    let root = tempfile::tempdir().unwrap();
    let registry = Registry::open(root.path()).unwrap();
    let config = put(&registry, "a", b"{\"an\":\"image\"}");
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": media::OCI_MANIFEST,
        "config": { "mediaType": media::OCI_CONFIG, "digest": config, "size": 14 },
        "layers": [],
    });
    let bytes = manifest.to_string().into_bytes();
    let digest = write_foreign_manifest(&registry, &repository("a"), &bytes);
    let folder = Digest::of(format!("a {config}").as_bytes())
        .hex()
        .to_owned();
    let configs = root.path().join("imgsync/diffids/configs");
    let folder = configs.join(&folder[..2]).join(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join(format!("sha256-{}", digest.hex())), b"").unwrap();
    let request = ResolveRequest {
        config: Some(config),
        ..ResolveRequest::default()
    };
    for _ in 0..2 {
        let response = registry.resolve_layers(&repository("a"), &request, &|_| true, false);
        let found = response.unwrap().manifests;
        assert_eq!(
            found.iter().map(|found| &found.digest).collect::<Vec<_>>(),
            [&digest]
        );
        examine(&registry);
        assert!(!configs.exists());
    }
}

#[test]
fn a_record_whose_entry_was_lost_in_a_power_cut_is_found_again() {
    let root = tempfile::tempdir().unwrap();
    let registry = Registry::open(root.path()).unwrap();
    let tar = tar("x");
    let (diff_id, blob) = (Digest::of(&tar), gzip(&tar));
    put(&registry, "a", &blob);
    examine(&registry);
    std::fs::remove_dir_all(root.path().join("imgsync/diffids/layers")).unwrap();
    assert_eq!(resolve(&registry, "a", &diff_id), ResolvedLayer::Absent);
    examine(&registry);
    assert_eq!(resolve(&registry, "a", &diff_id), held_layer(GZIP, &blob));
}

#[test]
fn a_truncated_layer_counts_as_absent_and_the_next_push_repairs_it() {
    let root = tempfile::tempdir().unwrap();
    let registry = Registry::open(root.path()).unwrap();
    let blob = gzip(&tar("word"));
    let digest = put(&registry, "a", &blob);
    let size = || registry.blob_size(&repository("a"), &digest);
    examine(&registry);
    assert_eq!(size().unwrap(), blob.len() as u64);
    registry
        .store
        .put(ObjectKey::Blob(&digest), &blob[..10])
        .unwrap();
    assert!(size().is_err());
    assert!(registry.open_blob(&repository("a"), &digest).is_err());
    put(&registry, "a", &blob);
    assert_eq!(size().unwrap(), blob.len() as u64);
}

#[test]
fn a_damaged_blob_is_removed_and_the_next_push_repairs_it() {
    let root = tempfile::tempdir().unwrap();
    let registry = Registry::open(root.path()).unwrap();
    let (blob, other) = (gzip(&tar("word")), gzip(&tar("others")));
    let digest = Digest::of(&blob);
    // A truncated blob, and complete but different bytes.
    for damaged in [&blob[..10], &other] {
        put_under(&registry, "a", &digest, damaged);
        examine(&registry);
        assert!(registry.blob_size(&repository("a"), &digest).is_err());
        assert_eq!(registry.store.len(ObjectKey::Blob(&digest)).unwrap(), None);
    }
    put(&registry, "a", &blob);
    examine(&registry);
    let size = registry.blob_size(&repository("a"), &digest).unwrap();
    assert_eq!(size, blob.len() as u64);
    assert_eq!(
        resolve(&registry, "a", &Digest::of(&tar("word"))),
        held_layer(GZIP, &blob)
    );
}
