//! Tests uploads of blobs whose connection breaks, that two clients write, and whose server is killed.

use super::uploads::assert_blob;
use crate::support::assert_offset;
use crate::support::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Sends the head of a request and a part of its body, and leaves the connection open.
async fn send_part(
    server: &Server,
    location: &str,
    head: &str,
    part: &[u8],
) -> tokio::net::TcpStream {
    let mut stream = tokio::net::TcpStream::connect(&server.address)
        .await
        .unwrap();
    let head = format!("PATCH {location} HTTP/1.1\r\nhost: x\r\n{head}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(part).await.unwrap();
    stream
}

#[tokio::test]
async fn a_connection_that_breaks_keeps_what_arrived() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path());
    let content = bytes(3_000_000);
    let location = server.start_upload("a").await;
    let head = "content-length: 3000000\r\ncontent-range: 0-2999999";
    let mut stream = send_part(&server, &location, head, &content[..2_000_000]).await;
    stream.shutdown().await.unwrap();
    // The server has written the bytes before it answers or closes the connection.
    let _ = stream.read_to_end(&mut Vec::new()).await;
    drop(stream);
    let mut offset = 0;
    // The server may notice the lost connection later than this client.
    while offset == 0 {
        let response = server.patch(&location, 2_999_999, b"x").await;
        assert_eq!(response.status(), 416);
        offset = header(&response, "imgsync-upload-offset").parse().unwrap();
    }
    assert_eq!(offset, 2_000_000);
    let rest = &content[2_000_000..];
    assert_eq!(server.patch(&location, offset, rest).await.status(), 202);
    assert_eq!(
        server
            .put(&location, &Digest::of(&content), b"")
            .await
            .status(),
        201
    );
    assert_blob(&server, "a", &content).await;
}

#[tokio::test]
async fn a_second_writer_gets_the_offset_of_the_session() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path());
    let location = server.start_upload("a").await;
    assert_eq!(server.patch(&location, 0, b"0123").await.status(), 202);
    let head = "content-length: 8\r\ncontent-range: 4-11";
    let mut first = send_part(&server, &location, head, b"4567").await;
    server.wait_until_busy(&location).await;
    let refused = server.put(&location, &Digest::of(b"no"), b"").await;
    assert_eq!(refused.status(), 416);
    assert_offset(&refused, 4);
    let refused = client().delete(server.url(&location)).send().await.unwrap();
    assert_eq!(refused.status(), 416);
    assert_eq!(server.offset(&location).await, 4);
    first.write_all(b"89ab").await.unwrap();
    let mut answer = [0; 12];
    first.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 202");
    assert_eq!(server.offset(&location).await, 12);
    let response = server
        .put(&location, &Digest::of(b"0123456789ab"), b"")
        .await;
    assert_eq!(response.status(), 201);
}

#[tokio::test]
async fn an_upload_continues_after_the_server_was_killed() {
    let root = tempfile::tempdir().unwrap();
    let mut server = Server::start(root.path());
    let content = bytes(3_000_000);
    let location = server.start_upload("a").await;
    server.kill_and_restart();
    assert_eq!(server.offset(&location).await, 0);
    assert_eq!(
        server
            .patch(&location, 0, &content[..1_000_000])
            .await
            .status(),
        202
    );
    server.kill_and_restart();
    assert_eq!(server.offset(&location).await, 1_000_000);
    // A kill in the middle of a chunk: the session has the acknowledged bytes only.
    let head = "content-length: 1500000\r\ncontent-range: 1000000-2499999";
    let part = &content[1_000_000..2_400_000];
    let stream = send_part(&server, &location, head, part).await;
    let data = find_file(root.path(), "data");
    while std::fs::metadata(&data).unwrap().len() <= 1_000_000 {
        tokio::task::yield_now().await;
    }
    server.kill_and_restart();
    drop(stream);
    assert_eq!(server.offset(&location).await, 1_000_000);
    assert_eq!(
        server
            .patch(&location, 1_000_000, &content[1_000_000..])
            .await
            .status(),
        202
    );
    server.kill_and_restart();
    assert_eq!(
        server
            .put(&location, &Digest::of(&content), b"")
            .await
            .status(),
        201
    );
    server.kill_and_restart();
    assert_blob(&server, "a", &content).await;
}

/// Returns the only file with this name below a folder.
fn find_file(folder: &Path, name: &str) -> PathBuf {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.ends_with(name) {
                return path;
            }
        }
    }
    panic!("no {name}");
}
