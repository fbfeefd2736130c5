//! Tests that silent and slow clients do not keep others out.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::raw::{PATIENCE, connect, read_to_end, request_with_body, send};
use crate::support::prelude::*;
use rustix::net::sockopt::set_socket_recv_buffer_size;

const CONNECTIONS: usize = 4;
const FEW_CONNECTIONS: (&str, &str) = ("REGISTRY_IMGSYNC_LIMITS_CONNECTIONS", "4");
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
