//! Tests that abandoned upload sessions do not use up the limit of open sessions.

use std::fs::File;
use std::time::{Duration, SystemTime};

use crate::support::prelude::*;
use tokio::io::AsyncWriteExt as _;

const VARIABLES: &[(&str, &str)] = &[
    // One client may have four of them.
    ("REGISTRY_IMGSYNC_LIMITS_OPENUPLOADS", "5"),
    (
        "REGISTRY_STORAGE_MAINTENANCE_UPLOADPURGING_ENABLED",
        "false",
    ),
];

fn id(location: &str) -> &str {
    location.rsplit('/').next().unwrap()
}

/// Sets the time of the last change of a session to `minutes` ago.
fn set_idle(root: &Path, location: &str, minutes: u64) {
    let path = root.join(format!("imgsync/uploads/{}.json", id(location)));
    let modified = SystemTime::now() - Duration::from_secs(minutes * 60);
    let state = File::options().write(true).open(path).unwrap();
    state.set_modified(modified).unwrap();
}

#[tokio::test]
async fn the_oldest_idle_sessions_are_discarded_at_the_limit() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let server = Server::start_with(root, VARIABLES);
    let open = async || {
        let request = client().post(server.url("/v2/a/blobs/uploads/"));
        request.send().await.unwrap().status().as_u16()
    };
    let exists = |location: &str| {
        let uploads = root.join("docker/registry/v2/repositories/a/_uploads");
        uploads.join(id(location)).exists()
    };
    let empty = server.start_upload("a").await;
    let busy = server.start_upload("a").await;
    let old = server.start_upload("a").await;
    let finished = server.start_upload("a").await;
    server.patch(&old, 0, b"01234").await;

    // A stock registry has finished this session. It does not delete the state of this server.
    let uploads = root.join("docker/registry/v2/repositories/a/_uploads");
    std::fs::remove_dir_all(uploads.join(id(&finished))).unwrap();
    assert_eq!(open().await, 202);

    let mut stream = tokio::net::TcpStream::connect(&server.address)
        .await
        .unwrap();
    let head = format!("PATCH {busy} HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n01234");
    stream.write_all(head.as_bytes()).await.unwrap();
    server.wait_until_busy(&busy).await;
    set_idle(root, &busy, 24 * 60);
    set_idle(root, &old, 61);
    set_idle(root, &empty, 11);
    assert_eq!(open().await, 202);
    assert_eq!(
        [&busy, &old, &empty].map(|location| exists(location)),
        [true, false, true]
    );
    assert_eq!(open().await, 202);
    assert!(!exists(&empty) && exists(&busy));
    // The remaining sessions are new, or are being written.
    let refused = client().post(server.url("/v2/a/blobs/uploads/"));
    let refused = refused.send().await.unwrap();
    assert_eq!(refused.status(), 429);
    assert!(!header(&refused, "retry-after").is_empty());
    assert!(exists(&busy));
}

#[tokio::test]
async fn sessions_with_shorter_pauses_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start_with(folder.path(), VARIABLES);
    for minutes in [9, 59, 59, 59] {
        let location = server.start_upload("a").await;
        if minutes > 9 {
            server.patch(&location, 0, b"01234").await;
        }
        set_idle(folder.path(), &location, minutes);
    }
    let request = client().post(server.url("/v2/a/blobs/uploads/"));
    assert_eq!(request.send().await.unwrap().status(), 429);
}

#[tokio::test]
async fn sessions_that_a_stock_registry_finished_are_forgotten_without_purging() {
    let folder = tempfile::tempdir().unwrap();
    let id = "00000000-0000-4000-8000-000000000000";
    let states = folder.path().join("imgsync/uploads");
    std::fs::create_dir_all(&states).unwrap();
    let path = states.join(format!("{id}.json"));
    std::fs::write(&path, "{\"repository\":\"a/b\"}").unwrap();
    set_idle(folder.path(), id, 8 * 24 * 60);
    let _server = Server::start_with(folder.path(), VARIABLES);
    while path.exists() {
        tokio::task::yield_now().await;
    }
}
