//! Tests one folder and one configuration file that the stock registry and the server use in turn.
//! After each change, pushed content is there and deleted content is not.

use std::collections::BTreeMap;

use crate::support::check::StoredImage;
use crate::support::http::Response;
use crate::support::peers::program;
use crate::support::prelude::*;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha512};

const REQUIRED_PROGRAMS: [&str; 3] = ["docker", "busybox", "docker-registry"];
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const REPOSITORY: &str = "team/app";

fn sha512(bytes: &[u8]) -> String {
    let hash = Sha512::digest(bytes);
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha512:{hex}")
}

fn send(
    address: SocketAddr,
    method: &str,
    target: &str,
    media_type: &str,
    body: &[u8],
) -> Response {
    let headers = [("Content-Type", media_type)];
    http::send(address, method, target, &headers, body)
}

/// Opens an upload session. Returns its path.
fn start_upload(address: SocketAddr) -> String {
    let target = format!("/v2/{REPOSITORY}/blobs/uploads/");
    let reply = send(address, "POST", &target, "application/octet-stream", b"");
    assert_eq!(reply.status, 202, "{}", reply.text());
    path_of(reply.header("location").unwrap())
}

/// Returns a location without scheme and host. Those of the stock registry are absolute.
fn path_of(location: &str) -> String {
    match location.split_once("://") {
        Some((_, rest)) => rest[rest.find('/').unwrap()..].to_owned(),
        None => location.to_owned(),
    }
}

/// Pushes a blob with a digest of any algorithm.
fn push_blob(address: SocketAddr, expected_digest: &str, bytes: &[u8]) {
    let location = start_upload(address);
    let separator = if location.contains('?') { '&' } else { '?' };
    let target = format!("{location}{separator}digest={expected_digest}");
    let reply = send(address, "PUT", &target, "application/octet-stream", bytes);
    assert_eq!(reply.status, 201, "{expected_digest}: {}", reply.text());
}

fn put_manifest(
    address: SocketAddr,
    reference: &str,
    media_type: &str,
    manifest: &Value,
) -> Vec<u8> {
    let bytes = manifest.to_string().into_bytes();
    let target = format!("/v2/{REPOSITORY}/manifests/{reference}");
    let reply = send(address, "PUT", &target, media_type, &bytes);
    assert_eq!(reply.status, 201, "{reference}: {}", reply.text());
    bytes
}

fn get(address: SocketAddr, kind: &str, reference: &str) -> Response {
    http::get(address, &format!("/v2/{REPOSITORY}/{kind}/{reference}"))
}

fn descriptor(media_type: &str, digest: &str, size: usize) -> Value {
    json!({ "mediaType": media_type, "digest": digest, "size": size })
}

/// Returns a manifest that refers to another one as its subject.
fn referrer_manifest(subject: &StoredImage, size: usize, word: &str) -> Value {
    json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST,
        "artifactType": format!("application/x.{word}"),
        "config": descriptor("application/vnd.oci.empty.v1+json", &digest(b"{}"), 2),
        "layers": [],
        "subject": descriptor(DOCKER_MANIFEST, &subject.manifest, size),
        "annotations": { "word": word },
    })
}

/// Returns the referrers of a manifest: digests and artifact types.
fn referrers(address: SocketAddr, subject: &str) -> BTreeMap<String, String> {
    let reply = get(address, "referrers", subject);
    assert_eq!(reply.status, 200, "{}", reply.text());
    let json = reply.json();
    let listed = json["manifests"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let pair = |entry: &Value| (text(&entry["digest"]), text(&entry["artifactType"]));
    listed.map(pair).collect()
}

/// Returns which of these diffIDs the server holds, once no diffID is pending.
fn resolved_layers(address: SocketAddr, diff_ids: &[String]) -> Vec<bool> {
    let target = format!("/v2/{REPOSITORY}/_imgsync/layers/resolve");
    let body = json!({ "diffIDs": diff_ids }).to_string();
    wait_until("all diffIDs", || {
        let reply = send(
            address,
            "POST",
            &target,
            "application/json",
            body.as_bytes(),
        );
        assert_eq!(reply.status, 200, "{}", reply.text());
        let json = reply.json();
        let layers = json["layers"].as_array().unwrap();
        let states = layers.iter().map(|layer| layer["state"].as_str().unwrap());
        let states: Vec<&str> = states.collect();
        let is_complete = !states.contains(&"pending");
        is_complete.then(|| states.iter().map(|state| *state == "held").collect())
    })
}

/// Returns the bytes of every file below a folder.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.insert(path.clone(), std::fs::read(&path).unwrap());
        }
    }
    found
}

/// Builds an image, pushes it with docker under a tag, and removes it from the daemon. Returns its
/// ID.
fn build_and_push(
    address: SocketAddr,
    name: &str,
    version: &str,
    tag: &str,
) -> (String, StoredImage) {
    let image = DockerImage::build(name, version);
    let id = image.id();
    let tagged = image.tag(format!("{address}/{REPOSITORY}:{tag}"));
    docker(&["push", tagged.reference()]);
    (
        id,
        check::at_registry(address, &format!("{REPOSITORY}:{tag}")),
    )
}

fn assert_docker_runs(address: SocketAddr, tag: &str, id: &str, version: &str) {
    let pulled = DockerImage::pull(format!("{address}/{REPOSITORY}:{tag}"));
    assert_eq!(pulled.id(), id, "{tag}");
    assert_eq!(
        pulled.container_output(),
        format!("hello from version {version}")
    );
}

fn assert_all(address: SocketAddr, images: &[(&str, &StoredImage)]) {
    for (tag, found) in images {
        let current = check::at_registry(address, &format!("{REPOSITORY}:{tag}"));
        assert_eq!(current, **found, "{tag}");
    }
}

#[test]
fn stock_registry_and_server_take_over_from_each_other() {
    if !programs_available(&REQUIRED_PROGRAMS) {
        return;
    }
    let _docker = serial::docker();
    let scratch = Scratch::new();
    let root = scratch.folder("root");
    let config = scratch.path("config.yml");
    let start_stock =
        || StockRegistry::start_configured(&root, ", delete: {enabled: true}", "", "");

    // A stock registry with several images, an index, an incomplete upload, and a blob that was
    // pushed with a sha512 digest. The stock registry stores such a blob under its sha256.
    let mut stock = start_stock();
    std::fs::copy(stock.config(), &config).unwrap();
    let address = stock.address();
    let name = unique("and-back");
    let (id1, v1) = build_and_push(address, &name, "v1", "v1");
    let (_, v2) = build_and_push(address, &name, "v2", "v2");
    let size = |address, tag: &str| get(address, "manifests", tag).body.len();
    let (size1, size2) = (size(address, "v1"), size(address, "v2"));
    let index = json!({
        "schemaVersion": 2, "mediaType": OCI_INDEX,
        "manifests": [
            descriptor(DOCKER_MANIFEST, &v1.manifest, size1),
            descriptor(DOCKER_MANIFEST, &v2.manifest, size2),
        ],
    });
    put_manifest(address, "index", OCI_INDEX, &index);
    let both = check::at_registry(address, &format!("{REPOSITORY}:index"));
    let aliased_blob = noise(5, 5000);
    push_blob(address, &sha512(&aliased_blob), &aliased_blob);
    let upload = noise(7, 100_000);
    let (first, rest) = upload.split_at(60_000);
    let session = start_upload(address);
    let reply = send(
        address,
        "PATCH",
        &session,
        "application/octet-stream",
        first,
    );
    assert_eq!(reply.status, 202, "{}", reply.text());
    stock.stop();
    let tree = files(&root.join("docker"));

    // The server serves every byte, and changes no file.
    let mut server = Server::start_configured(&config, &root);
    let address = server.address();
    assert_all(address, &[("v1", &v1), ("v2", &v2), ("index", &both)]);
    assert_docker_runs(address, "v1", &id1, "v1");
    assert_eq!(
        get(address, "blobs", &sha512(&aliased_blob)).body,
        aliased_blob
    );
    assert_eq!(
        get(address, "tags", "list").json()["tags"],
        json!(["index", "v1", "v2"])
    );
    assert_eq!(referrers(address, &v1.manifest), BTreeMap::new());
    assert!(
        resolved_layers(address, &v2.diff_ids)
            .iter()
            .all(|is_held| *is_held)
    );
    assert_eq!(files(&root.join("docker")), tree);

    // The upload continues. docker pushes an image. A referrer and an image that uses only sha512
    // are pushed.
    let path = session.split('?').next().unwrap();
    let status = http::get(address, path);
    assert_eq!(
        (status.status, status.header("range")),
        (204, Some("0-59999"))
    );
    let target = format!("{path}?digest={}", digest(&upload));
    let reply = send(address, "PUT", &target, "application/octet-stream", rest);
    assert_eq!(reply.status, 201, "{}", reply.text());
    let (id3, v3) = build_and_push(address, &name, "v3", "v3");
    push_blob(address, &digest(b"{}"), b"{}");
    let early = put_manifest(
        address,
        "early",
        OCI_MANIFEST,
        &referrer_manifest(&v1, size1, "early"),
    );
    let early = digest(&early);
    let sha512_blob = noise(9, 3000);
    push_blob(address, &sha512(&sha512_blob), &sha512_blob);
    push_blob(address, &sha512(b"{}"), b"{}");
    let image = json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST,
        "config": descriptor("application/vnd.oci.empty.v1+json", &sha512(b"{}"), 2),
        "layers": [descriptor("application/octet-stream", &sha512(&sha512_blob), sha512_blob.len())],
    });
    let sha512_manifest = sha512(image.to_string().as_bytes());
    let image = put_manifest(
        address,
        &format!("{sha512_manifest}?tag=long"),
        OCI_MANIFEST,
        &image,
    );
    let expected = BTreeMap::from([(early.clone(), "application/x.early".to_owned())]);
    assert_eq!(referrers(address, &v1.manifest), expected);
    assert!(server.stop().success());

    // The stock registry serves old and new content, deletes an image and a referrer, and collects
    // garbage.
    let mut stock = start_stock();
    let address = stock.address();
    assert_all(
        address,
        &[("v1", &v1), ("v2", &v2), ("v3", &v3), ("index", &both)],
    );
    assert_docker_runs(address, "v3", &id3, "v3");
    assert_eq!(get(address, "blobs", &digest(&upload)).body, upload);
    assert_eq!(get(address, "manifests", "long").body, image);
    assert_eq!(
        get(address, "blobs", &sha512(&sha512_blob)).body,
        sha512_blob
    );
    let index = digest(index.to_string().as_bytes());
    for deleted in [&index, &v2.manifest, &early] {
        let target = format!("/v2/{REPOSITORY}/manifests/{deleted}");
        let reply = send(address, "DELETE", &target, "", b"");
        assert_eq!(reply.status, 202, "{}", reply.text());
    }
    stock.stop();
    let mut collect = Command::new(program("docker-registry"));
    must(collect.arg("garbage-collect").arg(&config));
    let mut stock = start_stock();
    let address = stock.address();
    assert_all(address, &[("v1", &v1), ("v3", &v3)]);
    // The garbage collector of the stock registry understands sha512 blobs, and keeps those of an
    // existing image.
    assert_eq!(get(address, "manifests", &sha512_manifest).body, image);
    assert_eq!(
        get(address, "blobs", &sha512(&sha512_blob)).body,
        sha512_blob
    );
    push_blob(address, &digest(b"{}"), b"{}");
    let late = put_manifest(
        address,
        "late",
        OCI_MANIFEST,
        &referrer_manifest(&v1, size1, "late"),
    );
    let late = digest(&late);
    stock.stop();

    // The server again: deleted and collected content is missing, and new content is found.
    let mut server = Server::start_configured(&config, &root);
    let address = server.address();
    assert_all(address, &[("v1", &v1), ("v3", &v3)]);
    assert_docker_runs(address, "v1", &id1, "v1");
    assert_docker_runs(address, "v3", &id3, "v3");
    let expected = BTreeMap::from([(late, "application/x.late".to_owned())]);
    assert_eq!(referrers(address, &v1.manifest), expected);
    for deleted in ["v2", "index", "early", &v2.manifest, &early] {
        get(address, "manifests", deleted).assert_error(404, "MANIFEST_UNKNOWN");
    }
    let (own_layer, _) = v2.blobs.last().unwrap();
    get(address, "blobs", own_layer).assert_error(404, "BLOB_UNKNOWN");
    assert_eq!(
        get(address, "blobs", &sha512(&sha512_blob)).body,
        sha512_blob
    );
    // Only those layers of the second image are left that another image shares.
    let is_shared = |layer| v1.diff_ids.contains(layer) || v3.diff_ids.contains(layer);
    let is_shared_layer: Vec<bool> = v2.diff_ids.iter().map(is_shared).collect();
    assert!(
        is_shared_layer.contains(&true) && is_shared_layer.contains(&false),
        "{is_shared_layer:?}"
    );
    assert_eq!(resolved_layers(address, &v2.diff_ids), is_shared_layer);
    // The image is complete again after another push.
    let (_, again) = build_and_push(address, &name, "v2", "v2");
    assert!(
        resolved_layers(address, &again.diff_ids)
            .iter()
            .all(|is_held| *is_held)
    );
    assert!(server.stop().success());
}
