//! Tests that silent and slow clients do not keep others out, and that request bodies in memory are
//! bounded.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, TcpStream};
use std::time::Duration;

use crate::support::prelude::*;
use rustix::net::sockopt::set_socket_recv_buffer_size;

const CONNECTIONS: usize = 4;
const FEW_CONNECTIONS: (&str, &str) = ("REGISTRY_IMGSYNC_LIMITS_CONNECTIONS", "4");
/// Long enough for every server that answers at all.
const PATIENCE: Duration = Duration::from_secs(20);

fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(&server.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Opens a connection and sends the beginning of a request.
fn send(server: &Server, text: &str) -> TcpStream {
    let mut stream = connect(server);
    stream.write_all(text.as_bytes()).unwrap();
    stream
}

/// Returns a request with a body, whose head is complete.
fn request_with_body(method: &str, path: &str, len: usize) -> String {
    format!("{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len}\r\n\r\n")
}

/// Returns everything that a connection receives until it is closed.
fn read_to_end(stream: &mut TcpStream) -> String {
    let mut received = Vec::new();
    match stream.read_to_end(&mut received) {
        Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("{error}"),
        _ => String::from_utf8_lossy(&received).into_owned(),
    }
}

/// Checks that the server answers a new client at this address.
async fn assert_answers(server: &Server, local_address: IpAddr) {
    let client = reqwest::Client::builder()
        .no_proxy()
        .local_address(local_address)
        .timeout(PATIENCE);
    let request = client.build().unwrap().get(server.url("/v2/"));
    assert_eq!(request.send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn silent_connections_give_way_to_new_ones() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start_with(root.path(), &[FEW_CONNECTIONS]);
    for beginning in ["", "GET /v2/ HTTP/1.1\r\nx: "] {
        let _silent: Vec<_> = (0..2 * CONNECTIONS)
            .map(|_| send(&server, beginning))
            .collect();
        assert_answers(&server, Ipv4Addr::LOCALHOST.into()).await;
    }
    // Connections whose request is complete.
    let mut idle: Vec<_> = (0..CONNECTIONS)
        .map(|_| send(&server, "GET /v2/ HTTP/1.1\r\nhost: x\r\n\r\n"))
        .collect();
    for stream in &mut idle {
        stream.read_exact(&mut [0; 12]).unwrap();
    }
    assert_answers(&server, Ipv4Addr::LOCALHOST.into()).await;
    server.wait_for_log("all 4 connections are in use");
}

#[tokio::test]
async fn stalled_requests_and_responses_give_way_to_new_connections() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start_with(root.path(), &[FEW_CONNECTIONS]);
    let digest = server.push_blob("a", &bytes(12_000_000)).await;
    let mut pushes = Vec::new();
    for _ in 0..CONNECTIONS {
        let upload = server.start_upload("a").await;
        pushes.push(request_with_body("PATCH", &upload, 1_000_000));
    }
    let pull = format!("GET /v2/a/blobs/{digest} HTTP/1.1\r\nhost: x\r\n\r\n");
    for requests in [vec![pull; CONNECTIONS], pushes] {
        let stalled = requests.iter().map(|request| {
            let mut stream = connect(&server);
            set_socket_recv_buffer_size(&stream, 64 * 1024).unwrap();
            stream.write_all(request.as_bytes()).unwrap();
            stream
        });
        let _stalled: Vec<_> = stalled.collect();
        assert_answers(&server, Ipv4Addr::LOCALHOST.into()).await;
    }
}

/// Uploads on all connections, each slow but never stalled, from one client: directly, and behind a
/// proxy that names the client.
#[tokio::test]
async fn one_client_does_not_keep_others_out() {
    let root = tempfile::tempdir().unwrap();
    let other_address = IpAddr::from([127, 0, 0, 2]);
    for (trusted, header) in [
        ("[192.0.2.1]", ""),
        ("[127.0.0.1]", "x-forwarded-for: 192.0.2.7\r\n"),
    ] {
        let variables = [
            FEW_CONNECTIONS,
            ("REGISTRY_IMGSYNC_LIMITS_CONNECTIONSPERCLIENT", "2"),
            ("REGISTRY_IMGSYNC_TRUSTEDPROXIES", trusted),
        ];
        let server = Server::start_with(root.path(), &variables);
        let mut slow = Vec::new();
        for _ in 0..CONNECTIONS {
            let upload = server.start_upload("a").await;
            let request = request_with_body("PATCH", &upload, 1_000_000_000);
            let mut stream = send(
                &server,
                &request.replace("host:", &format!("{header}host:")),
            );
            slow.push(std::thread::spawn(move || {
                while stream.write_all(&[0; 1024]).is_ok() {
                    std::thread::sleep(Duration::from_millis(100));
                }
            }));
        }
        assert_answers(&server, other_address).await;
        // One of them was closed for it.
        while !slow.iter().any(|thread| thread.is_finished()) {
            tokio::task::yield_now().await;
        }
        drop(server);
        slow.into_iter().for_each(|thread| thread.join().unwrap());
    }
}

#[tokio::test]
async fn the_head_of_a_request_must_arrive_in_time() {
    let root = tempfile::tempdir().unwrap();
    let variables = [("REGISTRY_IMGSYNC_HEADERTIMEOUT", "1s")];
    let server = Server::start_with(root.path(), &variables);
    let mut incomplete = send(&server, "GET /v2/ HTTP/1.1\r\nhost: x\r\nx-a: ");
    let mut second = send(
        &server,
        "GET /v2/ HTTP/1.1\r\nhost: x\r\n\r\nGET /v2/ HTTP/1.1\r\n",
    );
    second.read_exact(&mut [0; 12]).unwrap();
    // Sent after the response, so that it is the head of the next request.
    second.write_all(b"host: x\r\nx-a: ").unwrap();
    for stream in [&mut incomplete, &mut second] {
        assert!(!read_to_end(stream).contains("HTTP/1.1 200"));
    }
}

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

/// Manifests of the largest size come, all but their last byte. `IMGSYNC_TESTS_CROWD` sets their
/// number.
#[tokio::test]
async fn many_large_manifests_use_little_memory() {
    const MAX_RESIDENT_KIB: u64 = 150 * 1024;
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path());
    let crowd = std::env::var("IMGSYNC_TESTS_CROWD").map_or(60, |count| count.parse().unwrap());
    let large = vec![b' '; imgsync_oci::MAX_MANIFEST_BYTES];
    let request = request_with_body("PUT", "/v2/a/manifests/v1", large.len());
    let mut connections = Vec::new();
    for _ in 0..crowd {
        let mut stream = send(&server, &request);
        stream
            .set_write_timeout(Some(Duration::from_millis(100)))
            .unwrap();
        // A manifest that waits for memory is not read.
        let _ = stream.write_all(&large[1..]);
        connections.push(stream);
    }
    let resident = server.resident_kib();
    assert!(resident < MAX_RESIDENT_KIB, "{resident} KiB");
    server.push_image("a", "small", "one").await;
}
