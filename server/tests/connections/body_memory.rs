//! Tests that the memory and the time of manifests that are being received are bounded.

use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::time::Duration;

use super::raw::{read_to_end, request_with_body, send};
use crate::support::prelude::*;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::future::join_all;
use http_body_util::{BodyExt as _, Empty, StreamBody};
use hyper::Request;
use hyper::body::Frame;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use imgsync_oci::MAX_MANIFEST_BYTES;
use tokio::sync::Notify;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// All manifests of the tests together are larger.
const MAX_RESIDENT_KIB: u64 = 120 * 1024;
/// The streams that the server allows on a connection.
const HTTP2_STREAMS: usize = 16;
const HTTP2_CONNECTIONS: usize = 2;

#[tokio::test]
async fn a_manifest_must_arrive_in_time() {
    let root = tempfile::tempdir().unwrap();
    let variables = [("REGISTRY_IMGSYNC_BODYTIMEOUT", "1s")];
    let server = Server::start_with(root.path(), &variables);
    let request = request_with_body("PUT", "/v2/a/manifests/v1", 100_000);
    let mut stream = send(&server, &request);
    let answer = read_to_end(&mut stream);
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert!(answer.contains("imgsync.bodytimeout"), "{answer}");
}

#[tokio::test]
async fn a_slow_manifest_gives_its_memory_to_the_next_one() {
    let root = tempfile::tempdir().unwrap();
    let variables = [("REGISTRY_IMGSYNC_LIMITS_BODYMEMORY", "128KiB")];
    let server = Server::start_with(root.path(), &variables);
    let large = vec![b' '; 100_000];
    let request = request_with_body("PUT", "/v2/a/manifests/v1", large.len() + 1);
    let mut slow = send(&server, &request);
    slow.write_all(&large).unwrap();
    // Small manifests have memory of their own.
    server.push_image("a", "small", "one").await;
    let put = server.put_manifest("a", "v2", media::OCI_MANIFEST, &large);
    assert_error(put.await, StatusCode::BAD_REQUEST, "MANIFEST_INVALID").await;
    slow.write_all(b" ").unwrap();
    let mut answer = String::new();
    while !answer.ends_with("]}") {
        let mut part = [0; 4096];
        let len = slow.read(&mut part).unwrap();
        assert!(len > 0, "{answer}");
        answer.push_str(std::str::from_utf8(&part[..len]).unwrap().trim_end());
    }
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(answer.contains("retry-after: "), "{answer}");
    // Its connection is still good.
    slow.write_all(b"GET /v2/ HTTP/1.1\r\nhost: x\r\n\r\n")
        .unwrap();
    let mut head = [0; 12];
    slow.read_exact(&mut head).unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");
}

#[tokio::test]
async fn a_large_manifest_that_nobody_reads_gives_its_memory_to_the_next_one() {
    let root = tempfile::tempdir().unwrap();
    let variables = [
        ("REGISTRY_HTTP_H2C_ENABLED", "true"),
        ("REGISTRY_IMGSYNC_LIMITS_BODYMEMORY", "64KiB"),
    ];
    let server = Server::start_with(root.path(), &variables);
    server.push_blob("a", b"config").await;
    let large = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": media::OCI_MANIFEST,
        "config": descriptor(media::OCI_CONFIG, b"config"),
        "layers": [],
        "annotations": { "large": "x".repeat(4_000_000) },
    });
    let large = large.to_string().into_bytes();
    let put = server.put_manifest("a", "v1", media::OCI_MANIFEST, &large);
    assert_eq!(put.await.status(), 201);
    let whole = read_while_another_is_slow(&server, "/v2/a/manifests/v1").await;
    assert!(whole == large);
    let head = server.head("/v2/a/manifests/v1").await;
    assert_eq!(header(&head, "content-length"), large.len().to_string());
}

#[tokio::test]
async fn a_long_list_that_nobody_reads_gives_its_memory_to_the_next_one() {
    let root = tempfile::tempdir().unwrap();
    let variables = [
        ("REGISTRY_HTTP_H2C_ENABLED", "true"),
        ("REGISTRY_IMGSYNC_LIMITS_BODYMEMORY", "64KiB"),
    ];
    let server = Server::start_with(root.path(), &variables);
    let digest = Digest::of(&server.push_image("a", "v1", "word").await);
    let tags = "docker/registry/v2/repositories/a/_manifests/tags";
    let tags = root.path().join(tags);
    let names: Vec<String> = (0..3000)
        .map(|number| format!("{number:0>120}"))
        .chain(["v1".to_owned()])
        .collect();
    for name in &names[..3000] {
        let current = tags.join(name).join("current");
        std::fs::create_dir_all(&current).unwrap();
        std::fs::write(current.join("link"), digest.to_string()).unwrap();
    }
    let list = read_while_another_is_slow(&server, "/v2/a/tags/list").await;
    let list: serde_json::Value = serde_json::from_slice(&list).unwrap();
    assert_eq!(list, serde_json::json!({ "name": "a", "tags": names }));
}

/// Reads a response while another client has requested the same and reads only a part of it, whose
/// response then ends early.
async fn read_while_another_is_slow(server: &Server, path: &str) -> Bytes {
    // Over HTTP/1, the kernel could take the whole response.
    let stream = tokio::net::TcpStream::connect(&server.address);
    let handshake = http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(64 * 1024_u32)
        .handshake(TokioIo::new(stream.await.unwrap()));
    let (mut sender, connection) = handshake.await.unwrap();
    tokio::spawn(connection);
    let request = Request::get(server.url(path)).body(Empty::<Bytes>::new());
    let slow = sender.send_request(request.unwrap()).await.unwrap();
    let whole = server.get(path).await;
    let length = header(&whole, "content-length");
    let whole = whole.bytes().await.unwrap();
    assert_eq!(length, whole.len().to_string());
    assert!(slow.into_body().collect().await.is_err());
    whole
}

/// Manifests of the largest size come, all but their last byte. `IMGSYNC_TESTS_CROWD` sets their
/// number.
#[tokio::test]
async fn many_large_manifests_use_little_memory() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path());
    let crowd = std::env::var("IMGSYNC_TESTS_CROWD").map_or(32, |count| count.parse().unwrap());
    let large = vec![b' '; MAX_MANIFEST_BYTES];
    let request = request_with_body("PUT", "/v2/a/manifests/v1", large.len());
    let mut connections = Vec::new();
    for _ in 0..crowd {
        let mut stream = send(&server, &request);
        // A manifest that waits for memory is not read.
        let timeout = Some(Duration::from_millis(100));
        stream.set_write_timeout(timeout).unwrap();
        let _ = stream.write_all(&large[1..]);
        connections.push(stream);
    }
    let resident = server.resident_kib();
    assert!(resident < MAX_RESIDENT_KIB, "{resident} KiB");
    server.push_image("a", "small", "one").await;
}

#[tokio::test]
async fn many_large_manifests_over_http2_use_little_memory() {
    let root = tempfile::tempdir().unwrap();
    let variables = [("REGISTRY_HTTP_H2C_ENABLED", "true")];
    let server = Server::start_with(root.path(), &variables);
    let mut requests = Vec::new();
    for _ in 0..HTTP2_CONNECTIONS {
        let stream = tokio::net::TcpStream::connect(&server.address)
            .await
            .unwrap();
        let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
        let (sender, connection) = handshake.unwrap();
        tokio::spawn(connection);
        for _ in 0..HTTP2_STREAMS {
            let mut sender = sender.clone();
            let url = server.url("/v2/a/manifests/v1");
            requests.push(async move {
                let is_sent = Arc::new(Notify::new());
                let sent = Arc::clone(&is_sent);
                let piece = Bytes::from(vec![b' '; 64 * 1024]);
                let pieces = vec![piece; MAX_MANIFEST_BYTES / (64 * 1024) - 1];
                let never = async move {
                    sent.notify_one();
                    std::future::pending().await
                };
                let frames = futures::stream::iter(pieces).chain(futures::stream::once(never));
                let body = StreamBody::new(
                    frames
                        .map(|bytes| Ok::<_, BoxError>(Frame::data(bytes)))
                        .boxed(),
                );
                let request = Request::put(url).header("content-length", MAX_MANIFEST_BYTES);
                let mut sending = Box::pin(sender.send_request(request.body(body).unwrap()));
                tokio::select! {
                    response = &mut sending => assert_eq!(response.unwrap().status(), 503),
                    () = is_sent.notified() => {}
                }
                // Dropping it would end the request.
                Some(sending)
            });
        }
    }
    let _open = join_all(requests).await;
    let resident = server.resident_kib();
    assert!(resident < MAX_RESIDENT_KIB, "{resident} KiB");
    server.push_image("a", "small", "one").await;
}
