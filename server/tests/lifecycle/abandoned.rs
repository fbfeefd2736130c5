//! Uploads that nobody goes on with keep nobody else out.

use std::fs::File;
use std::time::{Duration, SystemTime};

use crate::support::prelude::*;
use tokio::io::AsyncWriteExt as _;

const LIMIT: &[(&str, &str)] = &[
    ("REGISTRY_IMGSYNC_LIMITS_OPENUPLOADS", "4"),
    (
        "REGISTRY_STORAGE_MAINTENANCE_UPLOADPURGING_ENABLED",
        "false",
    ),
];

fn id(location: &str) -> &str {
    location.rsplit('/').next().unwrap()
}

/// Makes it look as if nothing came to a session for so long.
fn idle(root: &Path, location: &str, minutes: u64) {
    let path = root.join(format!("imgsync/uploads/{}.json", id(location)));
    let then = SystemTime::now() - Duration::from_secs(minutes * 60);
    let state = File::options().write(true).open(path).unwrap();
    state.set_modified(then).unwrap();
}

#[tokio::test]
async fn the_oldest_make_room_when_there_are_too_many() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let server = Server::start_with(root, LIMIT);
    let open = async || {
        let request = client().post(server.url("/v2/a/blobs/uploads/"));
        request.send().await.unwrap().status().as_u16()
    };
    let is_there = |location: &str| {
        let uploads = root.join("docker/registry/v2/repositories/a/_uploads");
        uploads.join(id(location)).exists()
    };
    let empty = server.start_upload("a").await;
    let busy = server.start_upload("a").await;
    let old = server.start_upload("a").await;
    let lost = server.start_upload("a").await;
    server.patch(&old, 0, b"01234").await;

    // Ended by a stock registry, which knows nothing of ours.
    let uploads = root.join("docker/registry/v2/repositories/a/_uploads");
    std::fs::remove_dir_all(uploads.join(id(&lost))).unwrap();
    assert_eq!(open().await, 202);

    let mut stream = tokio::net::TcpStream::connect(&server.address)
        .await
        .unwrap();
    let head = format!("PATCH {busy} HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n01234");
    stream.write_all(head.as_bytes()).await.unwrap();
    server.wait_until_busy(&busy).await;
    idle(root, &busy, 24 * 60);
    idle(root, &old, 61);
    idle(root, &empty, 11);
    assert_eq!(open().await, 202);
    assert_eq!(
        [&busy, &old, &empty].map(|location| is_there(location)),
        [true, false, true]
    );
    assert_eq!(open().await, 202);
    assert!(!is_there(&empty) && is_there(&busy));
    // What is left is young, or being written to.
    let refused = client().post(server.url("/v2/a/blobs/uploads/"));
    let refused = refused.send().await.unwrap();
    assert_eq!(refused.status(), 429);
    assert!(!header(&refused, "retry-after").is_empty());
    assert!(is_there(&busy));
}

#[tokio::test]
async fn who_pauses_for_less_keeps_their_session() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start_with(folder.path(), LIMIT);
    for minutes in [9, 59, 59, 59] {
        let location = server.start_upload("a").await;
        if minutes > 9 {
            server.patch(&location, 0, b"01234").await;
        }
        idle(folder.path(), &location, minutes);
    }
    let request = client().post(server.url("/v2/a/blobs/uploads/"));
    assert_eq!(request.send().await.unwrap().status(), 429);
}

#[tokio::test]
async fn what_a_stock_registry_ended_is_forgotten_also_without_purging() {
    let folder = tempfile::tempdir().unwrap();
    let lost = "00000000-0000-4000-8000-000000000000";
    let states = folder.path().join("imgsync/uploads");
    std::fs::create_dir_all(&states).unwrap();
    let path = states.join(format!("{lost}.json"));
    std::fs::write(&path, "{\"repository\":\"a/b\"}").unwrap();
    idle(folder.path(), lost, 8 * 24 * 60);
    let _server = Server::start_with(folder.path(), LIMIT);
    while path.exists() {
        tokio::task::yield_now().await;
    }
}
