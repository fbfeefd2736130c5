//! Tests uploads of blobs: every form, and invalid requests.

use crate::support::assert_offset;
use crate::support::prelude::*;
use reqwest::Body;

pub(super) async fn assert_blob(server: &Server, repository: &str, content: &[u8]) {
    let digest = Digest::of(content);
    let response = server
        .get(&format!("/v2/{repository}/blobs/{digest}"))
        .await;
    assert_eq!(response.status(), 200);
    assert_eq!(
        header(&response, "docker-content-digest"),
        digest.to_string()
    );
    assert!(response.bytes().await.unwrap() == content, "other bytes");
}

async fn assert_no_blob(server: &Server, repository: &str, content: &[u8]) {
    let digest = Digest::of(content);
    assert_eq!(
        server
            .head(&format!("/v2/{repository}/blobs/{digest}"))
            .await
            .status(),
        404
    );
}

#[tokio::test]
async fn in_chunks() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path());
    let content = bytes(3_000_000);
    let location = server.start_upload("team/app").await;
    let mut offset = 0;
    for chunk in content.chunks(1_000_000) {
        let response = server.patch(&location, offset, chunk).await;
        assert_eq!(response.status(), 202);
        offset += chunk.len() as u64;
        assert_offset(&response, offset);
        assert_eq!(server.offset(&location).await, offset);
    }
    assert_no_blob(&server, "team/app", &content).await;
    let digest = Digest::of(&content);
    let response = server.put(&location, &digest, b"").await;
    assert_eq!(response.status(), 201);
    assert_eq!(
        header(&response, "location"),
        format!("/v2/team/app/blobs/{digest}")
    );
    assert_eq!(
        header(&response, "docker-content-digest"),
        digest.to_string()
    );
    assert_blob(&server, "team/app", &content).await;
    // The session has ended, and no other repository has the blob.
    let response = server.get(&location).await;
    assert_error(response, StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN").await;
    assert_no_blob(&server, "other", &content).await;
}

#[tokio::test]
async fn streamed_and_in_one_request_and_with_a_last_chunk() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path());
    // Docker sends one PATCH of unknown length.
    let content = bytes(2_500_000);
    let location = server.start_upload("a").await;
    let parts: Vec<_> = content.chunks(70_000).map(<[u8]>::to_vec).collect();
    let parts = futures::stream::iter(parts.into_iter().map(Ok::<_, std::io::Error>));
    let request = client()
        .patch(server.url(&location))
        .body(Body::wrap_stream(parts));
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 202);
    assert_offset(&response, 2_500_000);
    assert_eq!(
        server
            .put(&location, &Digest::of(&content), b"")
            .await
            .status(),
        201
    );
    assert_blob(&server, "a", &content).await;
    // POST, then PUT with the whole blob.
    let location = server.start_upload("a").await;
    let response = server
        .put(&location, &Digest::of(b"one put"), b"one put")
        .await;
    assert_eq!(response.status(), 201);
    assert_blob(&server, "a", b"one put").await;
    // The PUT has the last chunk and its range.
    let location = server.start_upload("a").await;
    assert_eq!(server.patch(&location, 0, b"first, ").await.status(), 202);
    let digest = Digest::of(b"first, last");
    let put = client().put(server.url(&format!("{location}?digest={digest}")));
    let put = put.header("content-range", "7-10").body("last");
    assert_eq!(put.send().await.unwrap().status(), 201);
    assert_blob(&server, "a", b"first, last").await;
    // One POST with the whole blob, also with an empty one.
    server.push_blob("a", b"one post").await;
    assert_blob(&server, "a", b"one post").await;
    server.push_blob("a", b"").await;
    assert_blob(&server, "a", b"").await;
}

#[tokio::test]
async fn by_sha512() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path());
    let digest = Digest::of_with(Algorithm::Sha512, b"content");
    let location = server.start_upload("a").await;
    assert_eq!(server.patch(&location, 0, b"content").await.status(), 202);
    assert_eq!(server.put(&location, &digest, b"").await.status(), 201);
    let response = server.get(&format!("/v2/a/blobs/{digest}")).await;
    assert_eq!(response.bytes().await.unwrap(), "content");
    // The blob is stored under its sha512 digest, where the garbage collector of a stock registry
    // finds it.
    let hex = digest.hex();
    let blobs = root.path().join("docker/registry/v2/blobs/sha512");
    assert!(blobs.join(&hex[..2]).join(hex).join("data").exists());
    assert_no_blob(&server, "a", b"content").await;
}

#[tokio::test]
async fn chunks_that_do_not_fit_change_nothing() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path());
    let location = server.start_upload("a").await;
    assert_eq!(
        server.patch(&location, 0, b"0123456789").await.status(),
        202
    );
    // Chunks after and before the offset are refused. The response has the offset to continue at.
    for first in [11, 9, 0] {
        let response = server.patch(&location, first, &bytes(2_000_000)).await;
        assert_offset(&response, 10);
        assert_error(response, StatusCode::RANGE_NOT_SATISFIABLE, "RANGE_INVALID").await;
    }
    let digest = Digest::of(b"0123456789x");
    let put = client().put(server.url(&format!("{location}?digest={digest}")));
    let response = put
        .header("content-range", "11-11")
        .body("x")
        .send()
        .await
        .unwrap();
    assert_offset(&response, 10);
    assert_error(response, StatusCode::RANGE_NOT_SATISFIABLE, "RANGE_INVALID").await;
    // A malformed range, and ranges whose length is not that of the body.
    let patch = |range: &'static str| {
        client()
            .patch(server.url(&location))
            .header("content-range", range)
    };
    let response = patch("ten-eleven").body("ab").send().await.unwrap();
    assert_error(response, StatusCode::RANGE_NOT_SATISFIABLE, "RANGE_INVALID").await;
    for range in ["10-10", "10-12"] {
        let response = patch(range).body("ab").send().await.unwrap();
        assert_error(response, StatusCode::BAD_REQUEST, "SIZE_INVALID").await;
        let stream = futures::stream::iter(["a", "b"].map(Ok::<_, std::io::Error>));
        let response = patch(range)
            .body(Body::wrap_stream(stream))
            .send()
            .await
            .unwrap();
        let offset = if range == "10-10" { 10 } else { 12 };
        assert_offset(&response, offset);
        assert_error(response, StatusCode::BAD_REQUEST, "SIZE_INVALID").await;
        assert_eq!(server.offset(&location).await, offset);
    }
    let content = b"0123456789ab";
    assert_eq!(
        server
            .put(&location, &Digest::of(content), b"")
            .await
            .status(),
        201
    );
    assert_blob(&server, "a", content).await;
}

#[tokio::test]
async fn a_wrong_digest_ends_the_upload_and_stores_nothing() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path());
    let location = server.start_upload("a").await;
    assert_eq!(
        server.patch(&location, 0, b"these bytes").await.status(),
        202
    );
    let response = server
        .put(&location, &Digest::of(b"other bytes"), b"")
        .await;
    assert_error(response, StatusCode::BAD_REQUEST, "DIGEST_INVALID").await;
    let response = server.get(&location).await;
    assert_error(response, StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN").await;
    let url = format!("/v2/a/blobs/uploads/?digest={}", Digest::of(b"other bytes"));
    let response = client()
        .post(server.url(&url))
        .body("these bytes")
        .send()
        .await
        .unwrap();
    assert_error(response, StatusCode::BAD_REQUEST, "DIGEST_INVALID").await;
    for content in [&b"these bytes"[..], b"other bytes"] {
        assert_no_blob(&server, "a", content).await;
    }
    // No digest, and malformed ones.
    let location = server.start_upload("a").await;
    for query in [
        "",
        "?digest=sha256:123",
        "?digest=md5:d41d8cd98f00b204e9800998ecf8427e",
    ] {
        let url = server.url(&format!("{location}{query}"));
        let response = client().put(url).send().await.unwrap();
        assert_error(response, StatusCode::BAD_REQUEST, "DIGEST_INVALID").await;
    }
    assert_eq!(server.offset(&location).await, 0);
}

#[tokio::test]
async fn sessions_belong_to_their_repository_and_can_be_cancelled() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path());
    let location = server.start_upload("a/b").await;
    let other_location = location.replace("/v2/a/b/", "/v2/a/c/");
    assert_error(
        server.get(&other_location).await,
        StatusCode::NOT_FOUND,
        "BLOB_UPLOAD_UNKNOWN",
    )
    .await;
    let response = server.patch(&other_location, 0, b"x").await;
    assert_error(response, StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN").await;
    assert_eq!(server.head(&location).await.status(), 204);
    let response = client().delete(server.url(&location)).send().await.unwrap();
    assert_eq!(response.status(), 204);
    for _ in 0..2 {
        let response = client().delete(server.url(&location)).send().await.unwrap();
        assert_error(response, StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN").await;
    }
    let response = server.patch(&location, 0, b"x").await;
    assert_error(response, StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN").await;
    for id in ["..%2f..%2fx", "x"] {
        let response = server.get(&format!("/v2/a/blobs/uploads/{id}")).await;
        assert_eq!(response.status(), 404, "{id}");
    }
}

#[tokio::test]
async fn mounts() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path());
    let digest = server.push_blob("from/here", b"content").await;
    let mount = |target: &str, query: String| {
        client().post(server.url(&format!(
            "/v2/{target}/blobs/uploads/?mount={digest}{query}"
        )))
    };
    // If the source does not have the blob, does not exist or is no valid name, a session is opened.
    for query in ["&from=to/here", "&from=nowhere", "&from=../x"] {
        let response = mount("to/here", query.to_owned()).send().await.unwrap();
        assert_eq!(response.status(), 202, "{query}");
        assert_offset(&response, 0);
        assert_no_blob(&server, "to/here", b"content").await;
    }
    let response = mount("to/here", "&from=from/here".to_owned())
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 201);
    assert_eq!(
        header(&response, "location"),
        format!("/v2/to/here/blobs/{digest}")
    );
    assert_eq!(
        header(&response, "docker-content-digest"),
        digest.to_string()
    );
    assert_blob(&server, "to/here", b"content").await;
}
