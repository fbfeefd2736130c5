//! Tests that the memory of the server is bounded while many clients upload or download, and that
//! the buffers of downloads are given back afterwards.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Instant;

use crate::support::prelude::*;
use rustix::net::sockopt::set_socket_recv_buffer_size;

const CLIENTS: usize = 300;
/// Just less than the server writes at a time, so that it waits for more.
const SENT_BYTES: usize = 250_000;
const KIB_PER_MIB: u64 = 1024;

/// Returns once `is_done` returns true.
fn wait_until(what: &str, is_done: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_done() {
        assert!(began.elapsed().as_secs() < 60, "waited for {what}");
        std::thread::yield_now();
    }
}

/// Reads the head of a response, and returns the value of a header.
fn read_header(stream: &mut TcpStream, name: &str) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.extend(byte);
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    let mut lines = head.lines();
    let line = lines.find_map(|line| line.strip_prefix(&format!("{name}: ")));
    line.unwrap_or_else(|| panic!("no {name} in {head}"))
        .to_owned()
}

#[tokio::test]
async fn uploads_that_pause_hold_no_buffers() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path());
    let bytes = bytes(SENT_BYTES);
    let mut streams = Vec::new();
    let mut files = Vec::new();
    for number in 0..CLIENTS {
        let mut stream = TcpStream::connect(&server.address).unwrap();
        write!(
            stream,
            "POST /v2/r{number}/blobs/uploads/ HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n"
        )
        .unwrap();
        let location = read_header(&mut stream, "location");
        let id = location.rsplit('/').next().unwrap();
        let uploads = format!("docker/registry/v2/repositories/r{number}/_uploads/{id}/data");
        files.push(root.path().join(uploads));
        let len = 2 * SENT_BYTES;
        write!(
            stream,
            "PATCH {location} HTTP/1.1\r\nhost: x\r\ncontent-length: {len}\r\n\r\n"
        )
        .unwrap();
        stream.write_all(&bytes).unwrap();
        streams.push(stream);
    }
    // The bytes are written although the bodies are not complete.
    let len = |file: &PathBuf| std::fs::metadata(file).map_or(0, |metadata| metadata.len());
    wait_until("the bytes in the files", || {
        files.iter().all(|file| len(file) == SENT_BYTES as u64)
    });
    let peak = server.peak_resident_kib();
    assert!(peak < 100 * KIB_PER_MIB, "{} MiB", peak / KIB_PER_MIB);
}

#[tokio::test]
async fn slow_downloads_share_a_budget_of_buffers() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path());
    let blob = bytes(12_000_000);
    let digest = server.push_blob("a", &blob).await;
    let mut streams = Vec::new();
    for _ in 0..CLIENTS {
        let mut stream = TcpStream::connect(&server.address).unwrap();
        set_socket_recv_buffer_size(&stream, 64 * 1024).unwrap();
        write!(
            stream,
            "GET /v2/a/blobs/{digest} HTTP/1.1\r\nhost: x\r\n\r\n"
        )
        .unwrap();
        let len = read_header(&mut stream, "content-length");
        assert_eq!(len, blob.len().to_string());
        streams.push(stream);
    }
    // A blob can be pulled while no buffer is free.
    let whole = server.get(&format!("/v2/a/blobs/{digest}")).await;
    let whole = whole.bytes().await.unwrap();
    assert!(whole == blob);
    let peak = server.peak_resident_kib();
    assert!(peak < 110 * KIB_PER_MIB, "{} MiB", peak / KIB_PER_MIB);
    drop(streams);
    wait_until("the memory", || server.resident_kib() < 50 * KIB_PER_MIB);
}
