//! Tests deletes of tags, manifests and blobs, and the modes that refuse them.

use crate::support::prelude::*;
use imgsync_oci::endpoint::UploadId;

async fn delete(server: &Server, path: &str) -> Response {
    client().delete(server.url(path)).send().await.unwrap()
}

async fn assert_deleted(server: &Server, path: &str) {
    let response = delete(server, path).await;
    assert_eq!(response.status(), 202, "{path}");
    assert_eq!(header(&response, "content-length"), "0");
}

async fn tags(server: &Server) -> Vec<String> {
    let list: serde_json::Value = server.get("/v2/a/tags/list").await.json().await.unwrap();
    serde_json::from_value(list["tags"].clone()).unwrap()
}

#[tokio::test]
async fn a_tag_is_deleted_alone_and_a_manifest_with_its_tags() {
    let root = tempfile::tempdir().unwrap();
    let mut server = Server::start(root.path());
    let old = server.push_image("a", "v1", "old").await;
    let new = server.push_image("a", "v1", "new").await;
    for tag in ["v2", "latest"] {
        let put = server.put_manifest("a", tag, media::OCI_MANIFEST, &new);
        assert_eq!(put.await.status(), 201);
    }
    let put = server.put_manifest("a", "old", media::OCI_MANIFEST, &old);
    assert_eq!(put.await.status(), 201);
    assert_eq!(tags(&server).await, ["latest", "old", "v1", "v2"]);

    assert_deleted(&server, "/v2/a/manifests/v2").await;
    assert_eq!(tags(&server).await, ["latest", "old", "v1"]);
    let path = format!("/v2/a/manifests/{}", Digest::of(&new));
    assert_eq!(server.get(&path).await.status(), 200);

    assert_deleted(&server, &path).await;
    server.kill_and_restart();
    assert_eq!(tags(&server).await, ["old"]);
    for reference in ["v1", "v2", "latest", &Digest::of(&new).to_string()] {
        let path = format!("/v2/a/manifests/{reference}");
        assert_error(
            server.get(&path).await,
            StatusCode::NOT_FOUND,
            "MANIFEST_UNKNOWN",
        )
        .await;
        assert_error(
            delete(&server, &path).await,
            StatusCode::NOT_FOUND,
            "MANIFEST_UNKNOWN",
        )
        .await;
    }
    let path = format!("/v2/a/manifests/{}", Digest::of(&old));
    assert_eq!(server.get(&path).await.bytes().await.unwrap(), old);
    // The deleted manifest can be pushed again.
    let put = server.put_manifest("a", "v1", media::OCI_MANIFEST, &new);
    assert_eq!(put.await.status(), 201);
    assert_eq!(tags(&server).await, ["old", "v1"]);
}

#[tokio::test]
async fn a_blob_is_deleted_from_one_repository_and_can_be_pushed_again() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path());
    for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
        let digest = Digest::of_with(algorithm, b"content");
        for repository in ["a", "b"] {
            let url = server.url(&format!("/v2/{repository}/blobs/uploads/?digest={digest}"));
            let pushed = client().post(url).body("content").send().await.unwrap();
            assert_eq!(pushed.status(), 201);
        }
        let path = format!("/v2/a/blobs/{digest}");
        assert_deleted(&server, &path).await;
        for response in [server.get(&path).await, delete(&server, &path).await] {
            assert_error(response, StatusCode::NOT_FOUND, "BLOB_UNKNOWN").await;
        }
        assert_eq!(
            server.get(&format!("/v2/b/blobs/{digest}")).await.status(),
            200
        );
        let location = server.start_upload("a").await;
        assert_eq!(
            server.put(&location, &digest, b"content").await.status(),
            201
        );
        assert_eq!(server.get(&path).await.text().await.unwrap(), "content");
    }
}

#[tokio::test]
async fn concurrent_deletes_and_puts_lose_no_acknowledged_tag() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path());
    let images = [
        server.push_image("a", "one", "one").await,
        server.push_image("a", "two", "two").await,
    ];
    for _ in 0..20 {
        let [one, two] = &images;
        let digest = Digest::of(one);
        let put = server.put_manifest("a", "moving", media::OCI_MANIFEST, one);
        assert_eq!(put.await.status(), 201);
        // The first image is deleted with its tags while one of them is moved to the second image.
        let path = format!("/v2/a/manifests/{digest}");
        let (deleted, moved) = tokio::join!(
            delete(&server, &path),
            server.put_manifest("a", "moving", media::OCI_MANIFEST, two),
        );
        assert_eq!(
            (deleted.status(), moved.status().as_u16()),
            (StatusCode::ACCEPTED, 201)
        );
        let found = server.get("/v2/a/manifests/moving").await;
        assert_eq!(found.bytes().await.unwrap(), *two);
    }
}

/// Returns every request that would change the image `a:v1` or its repository.
fn changes(digest: &Digest) -> Vec<(Method, String, &'static str)> {
    let upload = format!("/v2/a/blobs/uploads/{}", UploadId::random());
    let allow = "GET, HEAD";
    vec![
        (Method::DELETE, "/v2/a/manifests/v1".to_owned(), allow),
        (Method::DELETE, format!("/v2/a/manifests/{digest}"), allow),
        (Method::DELETE, format!("/v2/a/blobs/{digest}"), allow),
        (Method::PUT, "/v2/a/manifests/v2".to_owned(), allow),
        (Method::POST, "/v2/a/blobs/uploads/".to_owned(), allow),
        (Method::PATCH, upload.clone(), allow),
        (Method::PUT, format!("{upload}?digest={digest}"), allow),
        (Method::DELETE, upload, allow),
    ]
}

#[tokio::test]
async fn read_only_mode_refuses_every_change_and_allows_reads() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path());
    let image = server.push_image("a", "v1", "word").await;
    let digest = Digest::of(&image);
    drop(server);

    let readonly = ("REGISTRY_STORAGE_MAINTENANCE_READONLY", "{enabled: true}");
    let server = Server::start_with(root.path(), &[readonly]);
    for (method, path, allow) in changes(&digest) {
        let request = client().request(method.clone(), server.url(&path));
        let response = request.body(image.clone()).send().await.unwrap();
        assert_eq!(header(&response, "allow"), allow, "{method} {path}");
        assert_error(response, StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED").await;
    }
    for path in ["/v2/a/manifests/v1", "/v2/a/tags/list", "/v2/_catalog"] {
        assert_eq!(server.get(path).await.status(), 200, "{path}");
    }
    let referrers = server.get(&format!("/v2/a/referrers/{digest}")).await;
    assert_eq!(referrers.status(), 200);
    drop(server);

    let no_deletes = ("REGISTRY_STORAGE_DELETE_ENABLED", "false");
    let server = Server::start_with(root.path(), &[no_deletes]);
    for (path, allow) in [
        ("/v2/a/manifests/v1", "GET, HEAD, PUT"),
        (&format!("/v2/a/blobs/{digest}"), "GET, HEAD"),
    ] {
        let response = delete(&server, path).await;
        assert_eq!(header(&response, "allow"), allow);
        assert_error(response, StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED").await;
    }
    // Cancelling an upload is allowed without deletes.
    let location = server.start_upload("a").await;
    assert_eq!(delete(&server, &location).await.status(), 204);
    assert_eq!(tags(&server).await, ["v1"]);
}
