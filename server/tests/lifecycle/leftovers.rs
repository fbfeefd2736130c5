//! Tests folders with unusual files: those that a stock registry writes, and incomplete ones that
//! remain after a crash.

use std::fs::{create_dir_all, write};

use crate::support::prelude::*;
use imgsync_oci::endpoint::UploadId;

/// A folder with the layout of the stock registry.
struct Tree<'a>(&'a Path);

impl Tree<'_> {
    fn put(&self, path: &str, content: &[u8]) {
        let path = self.0.join("docker/registry/v2").join(path);
        create_dir_all(path.parent().unwrap()).unwrap();
        write(path, content).unwrap();
    }

    fn folder(&self, path: &str) {
        create_dir_all(self.0.join("docker/registry/v2").join(path)).unwrap();
    }

    fn blob(&self, bytes: &[u8]) {
        let hex = Digest::of(bytes).hex().to_owned();
        self.put(&format!("blobs/sha256/{}/{hex}/data", &hex[..2]), bytes);
    }

    fn link(&self, kind: &str, named: &Digest, target: &Digest) {
        let (algorithm, hex) = (named.algorithm().as_str(), named.hex());
        let path = format!("repositories/a/{kind}/{algorithm}/{hex}/link");
        self.put(&path, target.to_string().as_bytes());
    }
}

/// Writes an image `a:v1` together with incomplete and unexpected files, and returns its manifest.
fn fill(root: &Path) -> Vec<u8> {
    let tree = Tree(root);
    let image = manifest(b"{}", &[b"layer"]);
    for bytes in [&b"{}"[..], b"layer", &image] {
        tree.blob(bytes);
    }
    for bytes in [&b"{}"[..], b"layer"] {
        tree.link("_layers", &Digest::of(bytes), &Digest::of(bytes));
    }
    let digest = Digest::of(&image);
    tree.link("_manifests/revisions", &digest, &digest);
    let tags = "repositories/a/_manifests/tags";
    let text = digest.to_string();
    tree.put(&format!("{tags}/v1/current/link"), text.as_bytes());
    tree.link("_manifests/tags/v1/index", &digest, &digest);

    // Temporary files, empty folders, links to missing content, and invalid names.
    tree.put(&format!("{tags}/v1/current/link.0a1b.tmp"), b"half");
    tree.put(&format!("{tags}/half/current/link.0a1b.tmp"), b"half");
    tree.link("_manifests/tags/old/index", &digest, &digest);
    tree.put(&format!("{tags}/empty/current/link"), b"");
    tree.folder(&format!("{tags}/-no-tag/current"));
    tree.put(&format!("{tags}/a-file"), b"");
    let missing = Digest::of(b"nobody");
    tree.link("_manifests/revisions", &missing, &missing);
    tree.folder(&format!(
        "repositories/a/_manifests/revisions/sha256/{}",
        Digest::of(b"deleted").hex()
    ));
    tree.folder("repositories/a/_manifests/revisions/sha256/what-is-this");
    tree.put("repositories/a/_manifests/revisions/a-file", b"");
    tree.folder("repositories/empty/_manifests/tags");
    tree.folder("repositories/parents/without/anything");
    tree.folder("repositories/Not A Name/_manifests");
    tree.put("repositories/.DS_Store", b"");
    tree.link("_layers", &missing, &missing);
    let hex = Digest::of(b"empty").hex().to_owned();
    tree.put(&format!("blobs/sha256/{}/{hex}/data", &hex[..2]), b"");
    tree.link("_layers", &Digest::of(b"empty"), &Digest::of(b"empty"));
    tree.put(
        &format!("blobs/sha256/{}/{hex}/data.0a.tmp", &hex[..2]),
        b"",
    );
    // The stock registry stores the data of a sha512 blob under its sha256 digest.
    let sha512 = Digest::of_with(Algorithm::Sha512, b"layer");
    tree.link("_layers", &sha512, &Digest::of(b"layer"));
    image
}

#[tokio::test]
async fn lists_and_pulls_ignore_incomplete_content() {
    let root = tempfile::tempdir().unwrap();
    let image = fill(root.path());
    let server = Server::start(root.path());
    let list = server.get("/v2/a/tags/list").await.text().await.unwrap();
    assert_eq!(list.trim(), r#"{"name":"a","tags":["v1"]}"#);
    let catalog = server.get("/v2/_catalog").await.text().await.unwrap();
    assert_eq!(catalog.trim(), r#"{"repositories":["a","empty"]}"#);
    let found = server.get("/v2/a/manifests/v1").await;
    assert_eq!(header(&found, "content-type"), media::OCI_MANIFEST);
    assert_eq!(found.bytes().await.unwrap(), image);
    for digest in [
        Digest::of(b"layer"),
        Digest::of_with(Algorithm::Sha512, b"layer"),
    ] {
        let found = server.get(&format!("/v2/a/blobs/{digest}")).await;
        assert_eq!(found.text().await.unwrap(), "layer");
    }
    for digest in [Digest::of(b"nobody"), Digest::of(b"empty")] {
        let found = server.get(&format!("/v2/a/blobs/{digest}")).await;
        assert_error(found, StatusCode::NOT_FOUND, "BLOB_UNKNOWN").await;
    }
    for reference in ["half", "old", "empty", &Digest::of(b"nobody").to_string()] {
        let found = server.get(&format!("/v2/a/manifests/{reference}")).await;
        assert_error(found, StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN").await;
    }
    let subject = Digest::of(&image);
    let found = server.get(&format!("/v2/a/referrers/{subject}")).await;
    let found: serde_json::Value = found.json().await.unwrap();
    assert_eq!(found["manifests"], serde_json::json!([]));
}

#[tokio::test]
async fn deletes_and_pushes_succeed() {
    let root = tempfile::tempdir().unwrap();
    let image = fill(root.path());
    let server = Server::start(root.path());
    for tag in ["half", "old", "empty"] {
        let put = server.put_manifest("a", tag, media::OCI_MANIFEST, &image);
        assert_eq!(put.await.status(), 201, "{tag}");
        let found = server.get(&format!("/v2/a/manifests/{tag}")).await;
        assert_eq!(found.bytes().await.unwrap(), image);
    }
    for content in [&b"nobody"[..], b"empty"] {
        let digest = server.push_blob("a", content).await;
        let found = server.get(&format!("/v2/a/blobs/{digest}")).await;
        assert_eq!(found.bytes().await.unwrap(), content);
    }
    let path = server.url(&format!("/v2/a/manifests/{}", Digest::of(&image)));
    assert_eq!(client().delete(path).send().await.unwrap().status(), 202);
    let list = server.get("/v2/a/tags/list").await.text().await.unwrap();
    assert_eq!(list.trim(), r#"{"name":"a","tags":[]}"#);
}

/// The sessions are those of a stock registry: complete, without a start time, without data, and
/// empty.
#[tokio::test]
async fn uploads_continue_after_their_data() {
    let root = tempfile::tempdir().unwrap();
    fill(root.path());
    let tree = Tree(root.path());
    let ids: Vec<String> = (0..4).map(|_| UploadId::random().to_string()).collect();
    let [complete, without_time, without_data, empty] = &ids[..] else {
        panic!()
    };
    let path = |id: &str, name: &str| format!("repositories/a/_uploads/{id}/{name}");
    // Computed from now, because the server purges sessions that are older than a week.
    let started = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(1);
    let started = format!("{started:.0}");
    for id in [complete, without_data] {
        tree.put(&path(id, "startedat"), started.as_bytes());
    }
    for id in [complete, without_time] {
        tree.put(&path(id, "data"), b"some bytes");
        tree.put(&path(id, "hashstates/sha256/10"), &[7; 108]);
        tree.put(&path(id, "hashstates/sha256/10.0a1b.tmp"), b"");
    }
    tree.folder(&path(empty, "hashstates/sha256"));
    tree.folder("repositories/a/_uploads/not-a-uuid");

    let server = Server::start(root.path());
    for (id, offset) in [(complete, 10), (without_time, 10), (without_data, 0)] {
        let location = format!("/v2/a/blobs/uploads/{id}");
        assert_eq!(server.offset(&location).await, offset);
        let content = [&b"some bytes"[..offset as usize], b" and more"].concat();
        let patched = server.patch(&location, offset, b" and").await;
        assert_eq!(patched.status(), 202);
        let digest = Digest::of(&content);
        let done = server.put(&location, &digest, b" more").await;
        assert_eq!(done.status(), 201);
        let found = server.get(&header(&done, "location")).await;
        assert_eq!(found.bytes().await.unwrap(), content);
        let response = server.get(&location).await;
        assert_error(response, StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN").await;
    }
    let location = format!("/v2/a/blobs/uploads/{empty}");
    let response = server.get(&location).await;
    assert_error(response, StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN").await;
}
