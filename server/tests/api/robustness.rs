//! Tests situations in which other registries were seen to fail: damaged files, a full disk, wrong
//! digests, and restarts.

use crate::support::prelude::*;
use crate::support::small_disk::SmallDisk;
use hyper::ext::ReasonPhrase;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const LAYER: &[u8] = b"the layer of word";

fn registry_folder(root: &Path) -> PathBuf {
    root.join("docker/registry/v2")
}

fn data_path(root: &Path, digest: &Digest) -> PathBuf {
    let (algorithm, hex) = (digest.algorithm().as_str(), digest.hex());
    let blobs = registry_folder(root).join("blobs").join(algorithm);
    blobs.join(&hex[..2]).join(hex).join("data")
}

/// Returns the path of a link in the repository `a`.
fn link_path(root: &Path, path: &str) -> PathBuf {
    registry_folder(root)
        .join("repositories/a")
        .join(path)
        .join("link")
}

/// Truncates a file, as a power failure may do if the registry does not sync its files.
fn truncate(path: &Path) {
    assert!(path.metadata().unwrap().len() > 0, "{path:?}");
    std::fs::write(path, b"").unwrap();
}

async fn delete(server: &Server, path: &str) -> Response {
    client().delete(server.url(path)).send().await.unwrap()
}

async fn tags(server: &Server) -> Vec<String> {
    let list: serde_json::Value = server.get("/v2/a/tags/list").await.json().await.unwrap();
    serde_json::from_value(list["tags"].clone()).unwrap()
}

async fn assert_not_found(response: Response, code: &str) {
    assert_error(response, StatusCode::NOT_FOUND, code).await;
}

/// An empty link of a tag affects neither the other tags, nor the list, nor deletes.
#[tokio::test]
async fn an_empty_link_of_a_tag() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path());
    let image = server.push_image("a", "broken", "word").await;
    for tag in ["healthy", "other"] {
        let put = server.put_manifest("a", tag, media::OCI_MANIFEST, &image);
        assert_eq!(put.await.status(), 201);
    }
    let broken = link_path(root.path(), "_manifests/tags/broken/current");
    truncate(&broken);
    let digest = Digest::of(&image);
    assert_not_found(
        server.get("/v2/a/manifests/broken").await,
        "MANIFEST_UNKNOWN",
    )
    .await;
    assert_eq!(tags(&server).await, ["healthy", "other"]);
    for reference in ["healthy", &digest.to_string()] {
        let found = server.get(&format!("/v2/a/manifests/{reference}")).await;
        assert_eq!(found.bytes().await.unwrap(), image);
    }
    // The damaged tag can be pushed again and deleted, and a delete by digest succeeds.
    let put = server.put_manifest("a", "broken", media::OCI_MANIFEST, &image);
    assert_eq!(put.await.status(), 201);
    assert_eq!(tags(&server).await, ["broken", "healthy", "other"]);
    truncate(&broken);
    let deleted = delete(&server, "/v2/a/manifests/broken").await;
    assert_eq!(deleted.status(), 202);
    let put = server.put_manifest("a", "broken", media::OCI_MANIFEST, &image);
    assert_eq!(put.await.status(), 201);
    truncate(&broken);
    let deleted = delete(&server, &format!("/v2/a/manifests/{digest}")).await;
    assert_eq!(deleted.status(), 202);
    assert_eq!(tags(&server).await, [""; 0]);
    assert_not_found(
        server.get("/v2/a/manifests/healthy").await,
        "MANIFEST_UNKNOWN",
    )
    .await;
}

/// A blob with an empty file counts as missing, and the next push restores it.
#[tokio::test]
async fn an_empty_blob_file() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path());
    server.push_image("a", "v1", "word").await;
    let digest = Digest::of(LAYER);
    let path = format!("/v2/a/blobs/{digest}");
    for _ in 0..2 {
        truncate(&data_path(root.path(), &digest));
        assert_eq!(server.head(&path).await.status(), 404);
        assert_not_found(server.get(&path).await, "BLOB_UNKNOWN").await;
        server.push_blob("a", LAYER).await;
        assert_eq!(server.get(&path).await.bytes().await.unwrap(), LAYER);
    }
    // An empty link of the blob has the same effect.
    let hex = digest.hex();
    truncate(&link_path(root.path(), &format!("_layers/sha256/{hex}")));
    assert_not_found(server.get(&path).await, "BLOB_UNKNOWN").await;
    server.push_blob("a", LAYER).await;
    assert_eq!(server.get(&path).await.bytes().await.unwrap(), LAYER);
}

/// A manifest with an empty link counts as missing. One with an empty file is an error that says so.
/// The next push restores both.
#[tokio::test]
async fn an_empty_manifest_file() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path());
    let image = server.push_image("a", "v1", "word").await;
    let digest = Digest::of(&image);
    let revision = format!("_manifests/revisions/sha256/{}", digest.hex());
    for (damaged, status, code) in [
        (
            data_path(root.path(), &digest),
            StatusCode::INTERNAL_SERVER_ERROR,
            "MANIFEST_DAMAGED",
        ),
        (
            link_path(root.path(), &revision),
            StatusCode::NOT_FOUND,
            "MANIFEST_UNKNOWN",
        ),
    ] {
        truncate(&damaged);
        for reference in ["v1", &digest.to_string()] {
            let path = format!("/v2/a/manifests/{reference}");
            // Clients that push a manifest ask for it first, and repair what is missing.
            assert_eq!(server.head(&path).await.status(), 404);
            assert_error(server.get(&path).await, status, code).await;
        }
        if code == "MANIFEST_DAMAGED" {
            server.wait_for_log("a manifest is damaged");
        }
        let put = server.put_manifest("a", "v1", media::OCI_MANIFEST, &image);
        assert_eq!(put.await.status(), 201);
        let found = server.get("/v2/a/manifests/v1").await;
        assert_eq!(found.bytes().await.unwrap(), image);
    }
    // A damaged manifest can be deleted.
    truncate(&link_path(root.path(), &revision));
    let deleted = delete(&server, &format!("/v2/a/manifests/{digest}")).await;
    assert_eq!(deleted.status(), 202);
}

fn count_uploads(root: &Path) -> usize {
    let folder = registry_folder(root).join("repositories/a/_uploads");
    std::fs::read_dir(folder).map_or(0, Iterator::count)
}

/// On a full disk the server refuses uploads before their bytes are written, without paths, leaves
/// no session and no bytes behind, and continues to serve reads.
#[tokio::test]
async fn a_full_disk() {
    let Some(disk) = SmallDisk::mount() else {
        return;
    };
    let root = disk.path().join("root");
    let server = Server::start(&root);
    server.push_image("a", "v1", "word").await;
    let before = count_uploads(&root);
    let location = server.start_upload("a").await;
    assert_eq!(server.patch(&location, 0, &bytes(1000)).await.status(), 202);

    let large = bytes(6_000_000);
    let response = server.patch(&location, 1000, &large).await;
    assert_refused(response, &root).await;
    assert_eq!(server.get(&location).await.status(), 404);
    assert_eq!(count_uploads(&root), before);
    // Of a body of unknown length, the bytes are removed.
    let location = server.start_upload("a").await;
    let pieces = large
        .chunks(100_000)
        .map(|piece| Ok::<_, std::io::Error>(piece.to_vec()));
    let pieces: Vec<_> = pieces.collect();
    let body = reqwest::Body::wrap_stream(futures::stream::iter(pieces));
    let request = client().patch(server.url(&location)).body(body);
    assert_refused(request.send().await.unwrap(), &root).await;
    assert_eq!(count_uploads(&root), before);
    // An upload in one request leaves no session.
    let url = server.url(&format!(
        "/v2/a/blobs/uploads/?digest={}",
        Digest::of(&large)
    ));
    let response = client().post(url).body(large.clone()).send().await.unwrap();
    assert_refused(response, &root).await;
    assert_eq!(count_uploads(&root), before);

    // Without any free space, no session is opened, and reads succeed.
    server.wait_for_diff_ids().await;
    disk.fill();
    let url = server.url("/v2/a/blobs/uploads/");
    let response = client().post(url).send().await.unwrap();
    assert_refused(response, &root).await;
    assert_eq!(count_uploads(&root), before);
    assert_eq!(server.get("/v2/").await.status(), 200);
    let found = server.get("/v2/a/manifests/v1").await;
    assert_eq!(found.status(), 200);

    // With free space again, uploads succeed.
    disk.remove_filler();
    server.push_blob("a", &bytes(1000)).await;
}

async fn assert_refused(response: Response, root: &Path) {
    // Docker with containerd's image store shows only the status line.
    let reason = response.extensions().get::<ReasonPhrase>().unwrap();
    let reason = String::from_utf8(reason.as_bytes().to_vec()).unwrap();
    let errors = assert_error(response, StatusCode::FORBIDDEN, "DENIED").await;
    let text = &errors[0].message;
    assert_eq!(*text, reason);
    for words in ["the disk of the registry is full", "imgsync.space.reserve"] {
        assert!(text.contains(words), "{text}");
    }
    assert!(
        !text.contains(root.to_str().unwrap()) && !text.contains("_uploads"),
        "{text}"
    );
}

/// Content with a wrong digest is stored in no repository.
#[tokio::test]
async fn content_with_a_wrong_digest() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path());
    let other = Digest::of(b"other");
    let location = server.start_upload("a").await;
    let response = server.put(&location, &other, b"hello").await;
    assert_error(response, StatusCode::BAD_REQUEST, "DIGEST_INVALID").await;
    let url = server.url(&format!("/v2/a/blobs/uploads/?digest={other}"));
    let response = client().post(url).body("hello").send().await.unwrap();
    assert_error(response, StatusCode::BAD_REQUEST, "DIGEST_INVALID").await;
    assert_not_found(
        server.get(&format!("/v2/a/blobs/{other}")).await,
        "BLOB_UNKNOWN",
    )
    .await;
    assert!(!data_path(root.path(), &other).exists());
    let image = server.push_image("a", "v1", "word").await;
    let response = server
        .put_manifest("a", &other.to_string(), media::OCI_MANIFEST, &image)
        .await;
    assert_error(response, StatusCode::BAD_REQUEST, "DIGEST_INVALID").await;
    assert_not_found(
        server.get(&format!("/v2/a/manifests/{other}")).await,
        "MANIFEST_UNKNOWN",
    )
    .await;
    // A manifest that was put by digest adds no tag, and pages of tags keep to their limit.
    let digest = Digest::of(&image).to_string();
    let put = server.put_manifest("a", &digest, media::OCI_MANIFEST, &image);
    assert_eq!(put.await.status(), 201);
    for tag in ["v2", "v3"] {
        let put = server.put_manifest("a", tag, media::OCI_MANIFEST, &image);
        assert_eq!(put.await.status(), 201);
    }
    assert_eq!(tags(&server).await, ["v1", "v2", "v3"]);
    let page: serde_json::Value = server
        .get("/v2/a/tags/list?n=1&last=v1")
        .await
        .json()
        .await
        .unwrap();
    assert_eq!(page["tags"], serde_json::json!(["v2"]));
}

/// A chunk that does not start at the offset of the session is refused.
#[tokio::test]
async fn a_chunk_out_of_order() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path());
    let location = server.start_upload("a").await;
    for first in [5, 1 << 40] {
        let response = server.patch(&location, first, b"later").await;
        assert_error(response, StatusCode::RANGE_NOT_SATISFIABLE, "RANGE_INVALID").await;
    }
    assert_eq!(server.offset(&location).await, 0);
}

/// The URL of an upload session is valid after a restart, without a configured secret.
#[tokio::test]
async fn an_upload_after_a_restart() {
    let root = tempfile::tempdir().unwrap();
    let mut server = Server::start(root.path());
    let location = server.start_upload("a").await;
    assert_eq!(
        server.patch(&location, 0, &bytes(50_000)).await.status(),
        202
    );
    server.kill_and_restart();
    // The `_state` that a stock registry appends to the URL is ignored.
    let status = server.get(&format!("{location}?_state=abc")).await;
    assert_eq!(
        (status.status(), header(&status, "range")),
        (StatusCode::NO_CONTENT, "0-49999".to_owned())
    );
    let whole = bytes(50_000);
    let done = server.put(&location, &Digest::of(&whole), b"").await;
    assert_eq!(done.status(), 201);
}

async fn send_raw(server: &Server, request: &str) -> String {
    let mut stream = TcpStream::connect(&server.address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn a_request_with_two_hosts_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path());
    for (hosts, status) in [
        ("host: a\r\n", "200"),
        ("host: a\r\nhost: b\r\n", "400"),
        ("host: a\r\nHost: a\r\n", "400"),
    ] {
        let request = format!("GET /v2/ HTTP/1.1\r\n{hosts}connection: close\r\n\r\n");
        let answer = send_raw(&server, &request).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn a_long_path_is_cut_in_the_log() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path());
    let path = format!("/v2/{}", "x".repeat(50_000));
    let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    let answer = send_raw(&server, &request).await;
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    let log = server.wait_for_log("status=404");
    let line = log.lines().find(|line| line.contains("/v2/xxx")).unwrap();
    assert!(
        line.contains("x...(50004 bytes)") && line.len() < 2000,
        "{line}"
    );
}
