//! Tests downloads of blobs.

use crate::support::prelude::*;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2;
use hyper::{Request, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

#[tokio::test]
async fn whole() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path());
    // More bytes than one read of the server, and no multiple of its size.
    let content = bytes(1_000_001);
    let digest = server.push_blob("a/b", &content).await;
    let path = format!("/v2/a/b/blobs/{digest}");
    for response in [server.head(&path).await, server.get(&path).await] {
        assert_eq!(response.status(), 200);
        for (name, value) in [
            ("content-length", "1000001"),
            ("content-type", "application/octet-stream"),
            ("docker-content-digest", &digest.to_string()),
            ("etag", &format!("\"{digest}\"")),
            ("cache-control", "max-age=31536000"),
            ("accept-ranges", "bytes"),
            ("docker-distribution-api-version", "registry/2.0"),
        ] {
            assert_eq!(header(&response, name), value, "{name}");
        }
        let body = response.bytes().await.unwrap();
        assert!(body.is_empty() || body == content);
    }
    let escaped = path.replace("sha256:", "sha256%3A");
    assert_eq!(server.get(&escaped).await.bytes().await.unwrap(), content);
}

#[tokio::test]
async fn ranges() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path());
    let content = bytes(1_000_000);
    let digest = server.push_blob("a", &content).await;
    let url = server.url(&format!("/v2/a/blobs/{digest}"));
    let get = |range: &str| client().get(&url).header("range", range).send();
    for (range, first, last) in [
        ("bytes=0-0", 0, 0),
        ("bytes=1-999998", 1, 999_998),
        ("bytes=262143-262144", 262_143, 262_144),
        ("bytes=300000-", 300_000, 999_999),
        ("bytes=-1", 999_999, 999_999),
        ("bytes=999999-5000000", 999_999, 999_999),
    ] {
        let response = get(range).await.unwrap();
        assert_eq!(response.status(), 206, "{range}");
        assert_eq!(
            header(&response, "content-range"),
            format!("bytes {first}-{last}/1000000")
        );
        assert_eq!(
            header(&response, "content-length"),
            (last - first + 1).to_string()
        );
        assert!(
            response.bytes().await.unwrap() == content[first..=last],
            "{range}"
        );
    }
    for range in ["bytes=1000000-", "bytes=-0"] {
        let response = get(range).await.unwrap();
        assert_eq!(header(&response, "content-range"), "bytes */1000000");
        assert_error(response, StatusCode::RANGE_NOT_SATISFIABLE, "RANGE_INVALID").await;
    }
    for ignored in ["bytes=0-,0-", "lines=1-2", "bytes=5-1"] {
        assert_eq!(get(ignored).await.unwrap().status(), 200, "{ignored}");
    }
    // `If-Range` with another ETag gets the whole blob.
    for (condition, status) in [
        (format!("\"{digest}\""), 206),
        ("\"other\"".to_owned(), 200),
    ] {
        let request = client().get(&url).header("range", "bytes=0-9");
        let response = request.header("if-range", condition).send().await.unwrap();
        assert_eq!(response.status(), status);
    }
}

/// podman's partial pulls ask for several ranges in one request.
#[tokio::test]
async fn several_ranges_of_a_blob() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path());
    let content: Vec<u8> = (0..1_000_000u32).map(|i| (i % 251) as u8).collect();
    let digest = server.push_blob("a", &content).await;
    let url = server.url(&format!("/v2/a/blobs/{digest}"));
    for (range, parts) in [
        ("bytes=0-9,20-29", vec![0..10, 20..30]),
        ("bytes=5-299999, -1", vec![5..300_000, 999_999..1_000_000]),
    ] {
        let request = client().get(&url).header("range", range);
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 206, "{range}");
        let content_type = header(&response, "content-type");
        let boundary = content_type.strip_prefix("multipart/byteranges; boundary=");
        let boundary = boundary.unwrap().to_owned();
        let length: usize = header(&response, "content-length").parse().unwrap();
        let body = response.bytes().await.unwrap();
        let mut expected = Vec::new();
        for part in parts {
            expected.extend_from_slice(
                format!(
                    "\r\n--{boundary}\r\nContent-Type: application/octet-stream\r\n\
                     Content-Range: bytes {}-{}/1000000\r\n\r\n",
                    part.start,
                    part.end - 1
                )
                .as_bytes(),
            );
            expected.extend_from_slice(&content[part]);
        }
        expected.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
        assert!(body == expected, "{range}");
        assert_eq!(length, expected.len(), "{range}");
    }
}

#[tokio::test]
async fn a_blob_that_the_client_has_is_not_sent() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path());
    let digest = server.push_blob("a", b"content").await;
    let url = server.url(&format!("/v2/a/blobs/{digest}"));
    for (method, tag, status) in [
        ("GET", format!("\"{digest}\""), 304),
        ("HEAD", format!("W/\"{digest}\""), 304),
        ("GET", digest.to_string(), 304),
        ("GET", "\"other\"".to_owned(), 200),
    ] {
        let request = client().request(method.parse().unwrap(), &url);
        let request = request.header("if-none-match", &tag);
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), status, "{method} {tag}");
        assert_eq!(header(&response, "etag"), format!("\"{digest}\""));
    }
    // A blob that is not in the repository is unknown, even to a client that has it.
    let elsewhere = server.url(&format!("/v2/b/blobs/{digest}"));
    let request = client().get(elsewhere).header("if-none-match", "*");
    assert_eq!(request.send().await.unwrap().status(), 404);
}

#[tokio::test]
async fn missing_blobs() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path());
    let digest = server.push_blob("a", b"content").await;
    let absent = Digest::of(b"absent");
    // A blob that is only in another repository is missing as well.
    for path in [
        format!("/v2/a/blobs/{absent}"),
        format!("/v2/b/blobs/{digest}"),
    ] {
        let errors = assert_error(
            server.get(&path).await,
            StatusCode::NOT_FOUND,
            "BLOB_UNKNOWN",
        )
        .await;
        let digest = path.rsplit('/').next().unwrap();
        assert_eq!(errors[0].detail, digest);
        let head = server.head(&path).await;
        assert_eq!(head.status(), 404);
        assert!(header(&head, "content-length").parse::<u64>().unwrap() > 0);
    }
    let bad = server.get("/v2/a/blobs/sha256:..%2f..%2fx").await;
    assert_error(bad, StatusCode::NOT_FOUND, "UNSUPPORTED").await;
    let bad = server.get("/v2/a/blobs/sha256:x").await;
    assert_error(bad, StatusCode::BAD_REQUEST, "DIGEST_INVALID").await;
}

#[tokio::test]
async fn http2_without_tls_must_be_enabled() {
    let root = tempfile::tempdir().unwrap();
    for variables in [
        &[][..],
        &[
            ("REGISTRY_HTTP_H2C_ENABLED", "true"),
            ("REGISTRY_HTTP_HTTP2_DISABLED", "true"),
        ],
    ] {
        let server = Server::start_with(root.path(), variables);
        let stream = TcpStream::connect(&server.address).await.unwrap();
        let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.unwrap();
        tokio::spawn(connection);
        let check = Request::get(server.url("/v2/")).body(Full::new(Bytes::new()));
        assert!(sender.send_request(check.unwrap()).await.is_err());
    }
    let server = Server::start_with(root.path(), &[("REGISTRY_HTTP_H2C_ENABLED", "true")]);
    let content = Bytes::from(bytes(20_000_000));
    let digest = Digest::of(&content);
    let stream = TcpStream::connect(&server.address).await.unwrap();
    let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.unwrap();
    let connection = tokio::spawn(connection);
    let request = |method: &str, path: String, body: Bytes| {
        let request = Request::builder().method(method).uri(server.url(&path));
        request.body(Full::new(body)).unwrap()
    };
    let upload = format!("/v2/a/blobs/uploads/?digest={digest}");
    let response = sender
        .send_request(request("POST", upload, content.clone()))
        .await
        .unwrap();
    assert_eq!(
        (response.status(), response.version()),
        (StatusCode::CREATED, Version::HTTP_2)
    );
    let blob = format!("/v2/a/blobs/{digest}");
    let head = sender
        .send_request(request("HEAD", blob.clone(), Bytes::new()))
        .await
        .unwrap();
    assert_eq!(head.headers()["content-length"], "20000000");
    let response = sender
        .send_request(request("GET", blob, Bytes::new()))
        .await
        .unwrap();
    assert!(response.into_body().collect().await.unwrap().to_bytes() == content);
    let absent = format!("/v2/b/blobs/{digest}");
    let response = sender
        .send_request(request("HEAD", absent, Bytes::new()))
        .await
        .unwrap();
    assert_eq!(response.status(), 404);
    drop(sender);
    connection.await.unwrap().unwrap();
}
