//! What other registries were seen to do wrong, each tried here: by name of the fault, not of the
//! registry.

use crate::support::prelude::*;

const LAYER: &[u8] = b"the layer of word";

fn stock(root: &Path) -> PathBuf {
    root.join("docker/registry/v2")
}

fn data(root: &Path, digest: &Digest) -> PathBuf {
    let (algorithm, hex) = (digest.algorithm().as_str(), digest.hex());
    let blobs = stock(root).join("blobs").join(algorithm);
    blobs.join(&hex[..2]).join(hex).join("data")
}

/// A link in the repository `a`.
fn link(root: &Path, path: &str) -> PathBuf {
    stock(root).join("repositories/a").join(path).join("link")
}

/// Empties a file, as a power cut may with a registry that does not sync.
fn empty(path: &Path) {
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

async fn unknown(response: Response, code: &str) {
    faults(response, StatusCode::NOT_FOUND, code).await;
}

/// An empty link of one tag breaks that tag, and nothing beside it: neither lists nor deletes.
#[tokio::test]
async fn an_empty_link_of_a_tag() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path());
    let image = server.push_image("a", "broken", "word").await;
    for tag in ["healthy", "other"] {
        let put = server.put_manifest("a", tag, media::OCI_MANIFEST, &image);
        assert_eq!(put.await.status(), 201);
    }
    let broken = link(root.path(), "_manifests/tags/broken/current");
    empty(&broken);
    let digest = Digest::of(&image);
    unknown(
        server.get("/v2/a/manifests/broken").await,
        "MANIFEST_UNKNOWN",
    )
    .await;
    assert_eq!(tags(&server).await, ["healthy", "other"]);
    for reference in ["healthy", &digest.to_string()] {
        let found = server.get(&format!("/v2/a/manifests/{reference}")).await;
        assert_eq!(found.bytes().await.unwrap(), image);
    }
    // A push mends it, a delete removes it, and a delete by digest succeeds beside it.
    let put = server.put_manifest("a", "broken", media::OCI_MANIFEST, &image);
    assert_eq!(put.await.status(), 201);
    assert_eq!(tags(&server).await, ["broken", "healthy", "other"]);
    empty(&broken);
    let gone = delete(&server, "/v2/a/manifests/broken").await;
    assert_eq!(gone.status(), 202);
    let put = server.put_manifest("a", "broken", media::OCI_MANIFEST, &image);
    assert_eq!(put.await.status(), 201);
    empty(&broken);
    let gone = delete(&server, &format!("/v2/a/manifests/{digest}")).await;
    assert_eq!(gone.status(), 202);
    assert_eq!(tags(&server).await, [""; 0]);
    unknown(
        server.get("/v2/a/manifests/healthy").await,
        "MANIFEST_UNKNOWN",
    )
    .await;
}

/// A blob whose bytes are gone is not there; the next push brings it back.
#[tokio::test]
async fn an_empty_blob_file() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path());
    server.push_image("a", "v1", "word").await;
    let digest = Digest::of(LAYER);
    let path = format!("/v2/a/blobs/{digest}");
    for _ in 0..2 {
        empty(&data(root.path(), &digest));
        assert_eq!(server.head(&path).await.status(), 404);
        unknown(server.get(&path).await, "BLOB_UNKNOWN").await;
        server.push_blob("a", LAYER).await;
        assert_eq!(server.get(&path).await.bytes().await.unwrap(), LAYER);
    }
    // The same for its link.
    let hex = digest.hex();
    empty(&link(root.path(), &format!("_layers/sha256/{hex}")));
    unknown(server.get(&path).await, "BLOB_UNKNOWN").await;
    server.push_blob("a", LAYER).await;
    assert_eq!(server.get(&path).await.bytes().await.unwrap(), LAYER);
}

/// A manifest whose bytes or link are gone is not there; the next push brings it back.
#[tokio::test]
async fn an_empty_manifest_file() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path());
    let image = server.push_image("a", "v1", "word").await;
    let digest = Digest::of(&image);
    let revision = format!("_manifests/revisions/sha256/{}", digest.hex());
    for damaged in [data(root.path(), &digest), link(root.path(), &revision)] {
        empty(&damaged);
        for reference in ["v1", &digest.to_string()] {
            let path = format!("/v2/a/manifests/{reference}");
            assert_eq!(server.head(&path).await.status(), 404);
            unknown(server.get(&path).await, "MANIFEST_UNKNOWN").await;
        }
        let put = server.put_manifest("a", "v1", media::OCI_MANIFEST, &image);
        assert_eq!(put.await.status(), 201);
        let found = server.get("/v2/a/manifests/v1").await;
        assert_eq!(found.bytes().await.unwrap(), image);
    }
    // A damaged one can be deleted.
    empty(&link(root.path(), &revision));
    let gone = delete(&server, &format!("/v2/a/manifests/{digest}")).await;
    assert_eq!(gone.status(), 202);
}

/// A small disk; `None` where this process may not mount one.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"]);
        let is_mounted = command
            .arg(folder.path())
            .output()
            .unwrap()
            .status
            .success();
        let required = std::env::var("IMGSYNC_TESTS_PEERS").is_ok_and(|value| value == "required");
        assert!(is_mounted || !required, "a small disk cannot be mounted");
        is_mounted.then_some(Self(folder))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).output();
    }
}

fn uploads(root: &Path) -> usize {
    let folder = stock(root).join("repositories/a/_uploads");
    std::fs::read_dir(folder).map_or(0, Iterator::count)
}

/// A full disk is said to be full, in words that tell no paths; what was not kept takes no space,
/// no session is left that nobody knows of, and the server goes on.
#[tokio::test]
async fn a_full_disk() {
    let Some(disk) = SmallDisk::mount() else {
        return;
    };
    let root = disk.0.path().join("root");
    let server = Server::start(&root);
    server.push_image("a", "v1", "word").await;
    let location = server.start_upload("a").await;
    assert_eq!(server.patch(&location, 0, &bytes(1000)).await.status(), 202);

    let large = bytes(6_000_000);
    let response = server.patch(&location, 1000, &large).await;
    let said = faults(response, StatusCode::INSUFFICIENT_STORAGE, "UNAVAILABLE").await;
    let said = format!("{said:?}");
    assert!(
        !said.contains(root.to_str().unwrap()) && !said.contains("/_uploads"),
        "{said}"
    );
    assert_eq!(server.offset(&location).await, 1000);
    let kept = location.rsplit('/').next().unwrap();
    let kept = stock(&root).join("repositories/a/_uploads").join(kept);
    assert_eq!(kept.join("data").metadata().unwrap().len(), 1000);
    // With one request there is no session to go on with.
    let before = uploads(&root);
    let url = server.url(&format!(
        "/v2/a/blobs/uploads/?digest={}",
        Digest::of(&large)
    ));
    let response = client().post(url).body(large.clone()).send().await.unwrap();
    faults(response, StatusCode::INSUFFICIENT_STORAGE, "UNAVAILABLE").await;
    assert_eq!(uploads(&root), before);

    // With not a byte left, nothing is begun, and reading goes on.
    server.settle().await;
    for size in [1 << 20, 1 << 16, 1 << 12] {
        for count in 0.. {
            let filler = disk.0.path().join(format!("filler-{size}-{count}"));
            if std::fs::write(&filler, vec![1; size]).is_err() {
                std::fs::remove_file(&filler).unwrap();
                break;
            }
        }
    }
    let url = server.url("/v2/a/blobs/uploads/");
    let begun = client().post(url).send().await.unwrap();
    faults(begun, StatusCode::INSUFFICIENT_STORAGE, "UNAVAILABLE").await;
    assert_eq!(uploads(&root), before);
    assert_eq!(server.get("/v2/").await.status(), 200);
    let found = server.get("/v2/a/manifests/v1").await;
    assert_eq!(found.status(), 200);

    // Once there is room again, all goes on where it was.
    for entry in std::fs::read_dir(disk.0.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            std::fs::remove_file(path).unwrap();
        }
    }
    let (first, rest) = (bytes(1000), b"and the rest");
    let whole = [&first[..], rest].concat();
    let done = server.put(&location, &Digest::of(&whole), rest).await;
    assert_eq!(done.status(), 201);
    let found = server.get(&header(&done, "location")).await;
    assert_eq!(found.bytes().await.unwrap(), whole);
}

/// Bytes that are not what their digest says get nowhere, in no repository.
#[tokio::test]
async fn bytes_under_a_digest_that_is_not_theirs() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path());
    let other = Digest::of(b"other");
    let location = server.start_upload("a").await;
    let response = server.put(&location, &other, b"hello").await;
    faults(response, StatusCode::BAD_REQUEST, "DIGEST_INVALID").await;
    let url = server.url(&format!("/v2/a/blobs/uploads/?digest={other}"));
    let response = client().post(url).body("hello").send().await.unwrap();
    faults(response, StatusCode::BAD_REQUEST, "DIGEST_INVALID").await;
    unknown(
        server.get(&format!("/v2/a/blobs/{other}")).await,
        "BLOB_UNKNOWN",
    )
    .await;
    assert!(!data(root.path(), &other).exists());
    let image = server.push_image("a", "v1", "word").await;
    let response = server
        .put_manifest("a", &other.to_string(), media::OCI_MANIFEST, &image)
        .await;
    faults(response, StatusCode::BAD_REQUEST, "DIGEST_INVALID").await;
    unknown(
        server.get(&format!("/v2/a/manifests/{other}")).await,
        "MANIFEST_UNKNOWN",
    )
    .await;
    // Digests are no tags, and lists keep to their limits.
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

/// A chunk that does not begin where the session ends is refused.
#[tokio::test]
async fn a_chunk_out_of_order() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path());
    let location = server.start_upload("a").await;
    for first in [5, 1 << 40] {
        let response = server.patch(&location, first, b"later").await;
        faults(response, StatusCode::RANGE_NOT_SATISFIABLE, "RANGE_INVALID").await;
    }
    assert_eq!(server.offset(&location).await, 0);
}

/// The address of an upload is good after a restart, with no secret configured anywhere.
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
    // Also with what a stock registry put behind it.
    let status = server.get(&format!("{location}?_state=abc")).await;
    assert_eq!(
        (status.status(), header(&status, "range")),
        (StatusCode::NO_CONTENT, "0-49999".to_owned())
    );
    let whole = bytes(50_000);
    let done = server.put(&location, &Digest::of(&whole), b"").await;
    assert_eq!(done.status(), 201);
}
