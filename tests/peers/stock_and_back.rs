//! From the stock registry to our server, back, and again: one folder, one configuration file, and
//! after every turn all that was pushed is there and all that was deleted is not.

use std::collections::BTreeMap;

use crate::support::check::StoredImage;
use crate::support::http::Response;
use crate::support::peers::program;
use crate::support::prelude::*;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha512};

const PEERS: [&str; 3] = ["docker", "busybox", "docker-registry"];
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const REPOSITORY: &str = "team/app";

fn sha512(bytes: &[u8]) -> String {
    let hash = Sha512::digest(bytes);
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha512:{hex}")
}

fn send(at: SocketAddr, method: &str, target: &str, media_type: &str, body: &[u8]) -> Response {
    let headers = [("Content-Type", media_type)];
    http::send(at, method, target, &headers, body)
}

/// Opens an upload session; yields its path, without query.
fn start_upload(at: SocketAddr) -> String {
    let target = format!("/v2/{REPOSITORY}/blobs/uploads/");
    let reply = send(at, "POST", &target, "application/octet-stream", b"");
    assert_eq!(reply.status, 202, "{}", reply.text());
    local(reply.header("location").unwrap())
}

/// A location without scheme and host: the stock registry's are absolute.
fn local(location: &str) -> String {
    match location.split_once("://") {
        Some((_, rest)) => rest[rest.find('/').unwrap()..].to_owned(),
        None => location.to_owned(),
    }
}

/// Pushes a blob under any digest.
fn push_blob(at: SocketAddr, named: &str, bytes: &[u8]) {
    let location = start_upload(at);
    let sign = if location.contains('?') { '&' } else { '?' };
    let target = format!("{location}{sign}digest={named}");
    let reply = send(at, "PUT", &target, "application/octet-stream", bytes);
    assert_eq!(reply.status, 201, "{named}: {}", reply.text());
}

fn put_manifest(at: SocketAddr, reference: &str, media_type: &str, manifest: &Value) -> Vec<u8> {
    let bytes = manifest.to_string().into_bytes();
    let target = format!("/v2/{REPOSITORY}/manifests/{reference}");
    let reply = send(at, "PUT", &target, media_type, &bytes);
    assert_eq!(reply.status, 201, "{reference}: {}", reply.text());
    bytes
}

fn get(at: SocketAddr, kind: &str, reference: &str) -> Response {
    http::get(at, &format!("/v2/{REPOSITORY}/{kind}/{reference}"))
}

fn descriptor(media_type: &str, digest: &str, size: usize) -> Value {
    json!({ "mediaType": media_type, "digest": digest, "size": size })
}

/// A manifest that speaks about another one.
fn about(subject: &StoredImage, size: usize, word: &str) -> Value {
    json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST,
        "artifactType": format!("application/x.{word}"),
        "config": descriptor("application/vnd.oci.empty.v1+json", &digest(b"{}"), 2),
        "layers": [],
        "subject": descriptor(DOCKER_MANIFEST, &subject.manifest, size),
        "annotations": { "word": word },
    })
}

/// What a registry lists as referrers of a manifest: digests and artifact types.
fn referrers(at: SocketAddr, of: &str) -> BTreeMap<String, String> {
    let reply = get(at, "referrers", of);
    assert_eq!(reply.status, 200, "{}", reply.text());
    let json = reply.json();
    let listed = json["manifests"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let pair = |one: &Value| (text(&one["digest"]), text(&one["artifactType"]));
    listed.map(pair).collect()
}

/// Which of these diffIDs our server says that it holds, once it knows of all.
fn resolved(at: SocketAddr, diff_ids: &[String]) -> Vec<bool> {
    let target = format!("/v2/{REPOSITORY}/_imgsync/layers/resolve");
    let body = json!({ "diffIDs": diff_ids }).to_string();
    wait_until("all diffIDs", || {
        let reply = send(at, "POST", &target, "application/json", body.as_bytes());
        assert_eq!(reply.status, 200, "{}", reply.text());
        let json = reply.json();
        let layers = json["layers"].as_array().unwrap();
        let states = layers.iter().map(|layer| layer["state"].as_str().unwrap());
        let states: Vec<&str> = states.collect();
        let known = !states.contains(&"pending");
        known.then(|| states.iter().map(|state| *state == "held").collect())
    })
}

/// The bytes of every file below a folder.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => {
                found.insert(path.clone(), std::fs::read(&path).unwrap());
            }
        }
    }
    found
}

/// Pushes an image with docker under a tag of the repository, and takes it out of the daemon.
fn docker_push(at: SocketAddr, name: &str, version: &str, tag: &str) -> (String, StoredImage) {
    let image = DockerImage::build(name, version);
    let id = image.id();
    let tagged = image.tag(format!("{at}/{REPOSITORY}:{tag}"));
    docker(&["push", tagged.reference()]);
    (id, check::at_registry(at, &format!("{REPOSITORY}:{tag}")))
}

fn docker_runs(at: SocketAddr, tag: &str, id: &str, version: &str) {
    let pulled = DockerImage::pull(format!("{at}/{REPOSITORY}:{tag}"));
    assert_eq!(pulled.id(), id, "{tag}");
    assert_eq!(
        pulled.container_output(),
        format!("hello from version {version}")
    );
}

fn assert_all(at: SocketAddr, images: &[(&str, &StoredImage)]) {
    for (tag, found) in images {
        let now = check::at_registry(at, &format!("{REPOSITORY}:{tag}"));
        assert_eq!(now, **found, "{tag}");
    }
}

#[test]
fn our_server_takes_over_the_stock_one_goes_on_and_ours_tells_the_truth_afterwards() {
    if !programs_available(&PEERS) {
        return;
    }
    let _docker = serial::docker();
    let scratch = Scratch::new();
    let root = scratch.folder("root");
    let config = scratch.path("config.yml");
    let start_stock =
        || StockRegistry::start_configured(&root, ", delete: {enabled: true}", "", "");

    // A stock registry with several images, an index, a half-finished upload, and a blob that was
    // pushed under its sha512: those lie under their sha256 there.
    let mut stock = start_stock();
    std::fs::copy(stock.config(), &config).unwrap();
    let at = stock.address();
    let name = unique("and-back");
    let (id1, v1) = docker_push(at, &name, "v1", "v1");
    let (_, v2) = docker_push(at, &name, "v2", "v2");
    let size = |at, tag: &str| get(at, "manifests", tag).body.len();
    let (size1, size2) = (size(at, "v1"), size(at, "v2"));
    let index = json!({
        "schemaVersion": 2, "mediaType": OCI_INDEX,
        "manifests": [
            descriptor(DOCKER_MANIFEST, &v1.manifest, size1),
            descriptor(DOCKER_MANIFEST, &v2.manifest, size2),
        ],
    });
    put_manifest(at, "index", OCI_INDEX, &index);
    let both = check::at_registry(at, &format!("{REPOSITORY}:index"));
    let alias = noise(5, 5000);
    push_blob(at, &sha512(&alias), &alias);
    let upload = noise(7, 100_000);
    let (first, rest) = upload.split_at(60_000);
    let session = start_upload(at);
    let reply = send(at, "PATCH", &session, "application/octet-stream", first);
    assert_eq!(reply.status, 202, "{}", reply.text());
    stock.stop();
    let tree = files(&root.join("docker"));

    // Ours serves every byte, and changes none by that.
    let mut server = Server::start_configured(&config, &root);
    let at = server.address();
    assert_all(at, &[("v1", &v1), ("v2", &v2), ("index", &both)]);
    docker_runs(at, "v1", &id1, "v1");
    assert_eq!(get(at, "blobs", &sha512(&alias)).body, alias);
    assert_eq!(
        get(at, "tags", "list").json()["tags"],
        json!(["index", "v1", "v2"])
    );
    assert_eq!(referrers(at, &v1.manifest), BTreeMap::new());
    assert!(resolved(at, &v2.diff_ids).iter().all(|is_held| *is_held));
    assert_eq!(files(&root.join("docker")), tree);

    // The upload goes on; docker pushes; a referrer; an image that is sha512 all through.
    let path = session.split('?').next().unwrap();
    let status = http::get(at, path);
    assert_eq!(
        (status.status, status.header("range")),
        (204, Some("0-59999"))
    );
    let target = format!("{path}?digest={}", digest(&upload));
    let reply = send(at, "PUT", &target, "application/octet-stream", rest);
    assert_eq!(reply.status, 201, "{}", reply.text());
    let (id3, v3) = docker_push(at, &name, "v3", "v3");
    push_blob(at, &digest(b"{}"), b"{}");
    let early = put_manifest(at, "early", OCI_MANIFEST, &about(&v1, size1, "early"));
    let early = digest(&early);
    let long = noise(9, 3000);
    push_blob(at, &sha512(&long), &long);
    push_blob(at, &sha512(b"{}"), b"{}");
    let image = json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST,
        "config": descriptor("application/vnd.oci.empty.v1+json", &sha512(b"{}"), 2),
        "layers": [descriptor("application/octet-stream", &sha512(&long), long.len())],
    });
    let of = sha512(image.to_string().as_bytes());
    let image = put_manifest(at, &format!("{of}?tag=long"), OCI_MANIFEST, &image);
    let expected = BTreeMap::from([(early.clone(), "application/x.early".to_owned())]);
    assert_eq!(referrers(at, &v1.manifest), expected);
    assert!(server.stop().success());

    // The stock registry serves old and new, deletes an image and a referrer, and collects.
    let mut stock = start_stock();
    let at = stock.address();
    assert_all(
        at,
        &[("v1", &v1), ("v2", &v2), ("v3", &v3), ("index", &both)],
    );
    docker_runs(at, "v3", &id3, "v3");
    assert_eq!(get(at, "blobs", &digest(&upload)).body, upload);
    assert_eq!(get(at, "manifests", "long").body, image);
    assert_eq!(get(at, "blobs", &sha512(&long)).body, long);
    let index = digest(index.to_string().as_bytes());
    for gone in [&index, &v2.manifest, &early] {
        let target = format!("/v2/{REPOSITORY}/manifests/{gone}");
        let reply = send(at, "DELETE", &target, "", b"");
        assert_eq!(reply.status, 202, "{}", reply.text());
    }
    stock.stop();
    let mut collect = Command::new(program("docker-registry"));
    must(collect.arg("garbage-collect").arg(&config));
    let mut stock = start_stock();
    let at = stock.address();
    assert_all(at, &[("v1", &v1), ("v3", &v3)]);
    // Its collector understands our sha512 blobs: a live image keeps them.
    assert_eq!(get(at, "manifests", &of).body, image);
    assert_eq!(get(at, "blobs", &sha512(&long)).body, long);
    push_blob(at, &digest(b"{}"), b"{}");
    let late = put_manifest(at, "late", OCI_MANIFEST, &about(&v1, size1, "late"));
    let late = digest(&late);
    stock.stop();

    // Ours again: what was deleted is gone, what was collected is absent, what is new is known.
    let mut server = Server::start_configured(&config, &root);
    let at = server.address();
    assert_all(at, &[("v1", &v1), ("v3", &v3)]);
    docker_runs(at, "v1", &id1, "v1");
    docker_runs(at, "v3", &id3, "v3");
    let expected = BTreeMap::from([(late, "application/x.late".to_owned())]);
    assert_eq!(referrers(at, &v1.manifest), expected);
    for gone in ["v2", "index", "early", &v2.manifest, &early] {
        get(at, "manifests", gone).assert_error(404, "MANIFEST_UNKNOWN");
    }
    let (own, _) = v2.blobs.last().unwrap();
    get(at, "blobs", own).assert_error(404, "BLOB_UNKNOWN");
    assert_eq!(get(at, "blobs", &sha512(&long)).body, long);
    // Of the second image's layers those are left that another image shares.
    let is_shared = |layer| v1.diff_ids.contains(layer) || v3.diff_ids.contains(layer);
    let held: Vec<bool> = v2.diff_ids.iter().map(is_shared).collect();
    assert!(held.contains(&true) && held.contains(&false), "{held:?}");
    assert_eq!(resolved(at, &v2.diff_ids), held);
    // It comes back when it is pushed again.
    let (_, again) = docker_push(at, &name, "v2", "v2");
    assert!(resolved(at, &again.diff_ids).iter().all(|is_held| *is_held));
    assert!(server.stop().success());
}
