//! Pushes blobs of pseudo-random bytes.

use std::net::SocketAddr;

use imgsync_oci::Digest;

use super::http::Connection;

/// Pushes a blob with POST and PUT, which every registry supports.
pub(super) fn push(address: SocketAddr, repository: &str, blob: &[u8]) -> Digest {
    let digest = Digest::of(blob);
    push_as(address, repository, &digest, blob);
    digest
}

/// Pushes a blob whose digest is known.
pub(super) fn push_as(address: SocketAddr, repository: &str, digest: &Digest, blob: &[u8]) {
    let mut connection = Connection::open(address);
    let session = start_upload(&mut connection, repository);
    let separator = if session.contains('?') { '&' } else { '?' };
    let target = format!("{session}{separator}digest={digest}");
    let head = "Content-Type: application/octet-stream\r\n";
    let response = connection.send("PUT", &target, head, blob);
    assert_eq!(response.status, 201);
}

/// Opens an upload session, and returns its path.
pub(super) fn start_upload(connection: &mut Connection, repository: &str) -> String {
    let start = connection.send("POST", &format!("/v2/{repository}/blobs/uploads/"), "", b"");
    assert_eq!(start.status, 202);
    let location = start.location.expect("a Location");
    match location.split_once("://") {
        Some((_, rest)) => rest[rest.find('/').expect("a path")..].to_owned(),
        None => location,
    }
}

/// Returns pseudo-random bytes, which do not compress.
pub(super) fn bytes(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(&mut next)
        .flatten()
        .take(len)
        .collect()
}
