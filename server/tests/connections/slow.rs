//! Tests slow and stalled clients, limits on requests and connections, the JSON log, and purging.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use crate::support::launch::Setup;
use crate::support::prelude::*;
use rustix::net::sockopt::set_socket_recv_buffer_size;

/// Starts a server on `folder/data`.
fn start(folder: &Path, variables: &[(&str, &str)]) -> Server {
    Server::start_with(&folder.join("data"), variables)
}

fn connect(server: &Server) -> TcpStream {
    TcpStream::connect(&server.address).unwrap()
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_disconnected() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(folder.path(), &[("REGISTRY_IMGSYNC_WRITESTALL", "1s")]);
    // More than the socket buffers hold; the receive buffer of the client is made small.
    let blob = bytes(12_000_000);
    let digest = server.push_blob("a", &blob).await;
    let mut stream = connect(&server);
    set_socket_recv_buffer_size(&stream, 64 * 1024).unwrap();
    write!(
        stream,
        "GET /v2/a/blobs/{digest} HTTP/1.1\r\nhost: x\r\n\r\n"
    )
    .unwrap();
    // The client reads nothing until the server has closed the connection.
    server.wait_for_log("the client read nothing for 1 s");
    let mut received = 0;
    let mut buffer = vec![0; 1 << 20];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        received += count;
    }
    assert!(received < blob.len(), "{received} bytes came");
    // Other clients are served.
    let whole = client().get(server.url(&format!("/v2/a/blobs/{digest}")));
    let whole = whole.send().await.unwrap().bytes().await.unwrap();
    assert_eq!(whole.len(), blob.len());
}

#[tokio::test]
async fn a_slow_body_is_accepted_and_a_stalled_one_is_kept_so_far() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(folder.path(), &[("REGISTRY_IMGSYNC_STALL", "2s")]);
    let opened = client()
        .post(server.url("/v2/a/blobs/uploads/"))
        .send()
        .await
        .unwrap();
    let location = header(&opened, "location");
    let mut stream = connect(&server);
    write!(
        stream,
        "PATCH {location} HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n"
    )
    .unwrap();
    for byte in 0..20_u8 {
        stream.write_all(&[byte]).unwrap();
        tokio::task::yield_now().await;
    }
    // The response after the body has stalled.
    let mut answer = String::new();
    BufReader::new(&stream).read_line(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    let status = client().get(server.url(&location)).send().await.unwrap();
    assert_eq!(header(&status, "imgsync-upload-offset"), "20");
}

#[tokio::test]
async fn oversized_heads_are_refused() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path());
    let mut stream = connect(&server);
    write!(stream, "GET /v2/ HTTP/1.1\r\nhost: x\r\n").unwrap();
    let header = format!("x-large: {}\r\n", "x".repeat(8000));
    let mut sent = 0;
    // The server may close the connection before the whole head is sent.
    while sent < 100 && stream.write_all(header.as_bytes()).is_ok() {
        sent += 1;
    }
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer);
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 431"),
        "{answer}"
    );
    let many = (0..200).fold(client().get(server.url("/v2/")), |request, number| {
        request.header(format!("x-{number}"), "x")
    });
    assert_eq!(many.send().await.unwrap().status(), 431);
    assert_eq!(server.get("/v2/").await.status(), 200);
}

#[tokio::test]
async fn more_open_uploads_than_allowed_are_refused_with_429() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(
        folder.path(),
        &[("REGISTRY_IMGSYNC_LIMITS_OPENUPLOADS", "2")],
    );
    let open = || client().post(server.url("/v2/a/blobs/uploads/")).send();
    let first = open().await.unwrap();
    assert_eq!(
        (
            first.status().as_u16(),
            open().await.unwrap().status().as_u16()
        ),
        (202, 202)
    );
    let refused = open().await.unwrap();
    assert!(!header(&refused, "retry-after").is_empty());
    assert_error(refused, 429.try_into().unwrap(), "TOOMANYREQUESTS").await;
    let location = server.url(&header(&first, "location"));
    assert_eq!(
        client().delete(location).send().await.unwrap().status(),
        204
    );
    assert_eq!(open().await.unwrap().status(), 202);
}

#[tokio::test]
async fn log_lines_can_be_json() {
    let folder = tempfile::tempdir().unwrap();
    let variables = [
        ("REGISTRY_LOG_FORMATTER", "json"),
        ("REGISTRY_LOG_LEVEL", "error"),
        ("REGISTRY_LOG_FIELDS_SERVICE", "images"),
    ];
    let server = start(folder.path(), &variables);
    let digest = server.push_blob("a", b"0123456789").await;
    let get = client().get(server.url(&format!("/v2/a/blobs/{digest}?secret=swordfish")));
    let get = get
        .header("x-request-id", "from-a-proxy")
        .header("cookie", "swordfish");
    let response = get.send().await.unwrap();
    assert_eq!(
        header(&response, "x-request-id"),
        "from-a-proxy",
        "loopback is trusted"
    );
    assert_eq!(response.bytes().await.unwrap(), "0123456789");
    let log = server.wait_for_log("from-a-proxy");
    assert!(!log.contains("swordfish"), "{log}");
    let lines: Vec<serde_json::Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let [push, pull] = &lines[..] else {
        panic!("{log}")
    };
    for line in &lines {
        assert_eq!(
            (&line["service"], &line["level"]),
            (&"images".into(), &"info".into())
        );
        assert_eq!(line["client"], "127.0.0.1");
    }
    assert_eq!(
        (&push["method"], &push["status"]),
        (&"POST".into(), &201.into())
    );
    assert_eq!((&push["received"], &push["sent"]), (&10.into(), &0.into()));
    assert_eq!((&pull["received"], &pull["sent"]), (&0.into(), &10.into()));
}

#[tokio::test]
async fn old_uploads_are_purged_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(folder.path(), &[]);
    let mut sessions = Vec::new();
    for _ in 0..3 {
        let opened = client()
            .post(server.url("/v2/a/b/blobs/uploads/"))
            .send()
            .await
            .unwrap();
        sessions.push(header(&opened, "docker-upload-uuid"));
    }
    drop(server);
    let repositories = folder.path().join("data/docker/registry/v2/repositories");
    let uploads = repositories.join("a/b/_uploads");
    let state = |id: &str| {
        folder
            .path()
            .join(format!("data/imgsync/uploads/{id}.json"))
    };
    let long_ago = "2020-01-01T00:00:00Z";
    std::fs::write(uploads.join(&sessions[0]).join("startedat"), long_ago).unwrap();
    // A stock registry on a full disk leaves sessions without `startedat`.
    std::fs::remove_file(uploads.join(&sessions[1]).join("startedat")).unwrap();
    let old = std::time::SystemTime::now() - Duration::from_secs(8 * 24 * 3600);
    let folder_of_session = std::fs::File::open(uploads.join(&sessions[1])).unwrap();
    folder_of_session.set_modified(old).unwrap();
    // The state of a session that a stock registry has finished.
    let orphan = state("00000000-0000-4000-8000-000000000000");
    std::fs::write(&orphan, "{\"repository\":\"a/b\"}").unwrap();
    std::fs::File::options()
        .write(true)
        .open(&orphan)
        .unwrap()
        .set_modified(old)
        .unwrap();

    let dry_run = [("REGISTRY_STORAGE_MAINTENANCE_UPLOADPURGING_DRYRUN", "true")];
    let server = start(folder.path(), &dry_run);
    server.wait_for_log("checked abandoned uploads");
    assert_eq!(server.log().matches("would be purged").count(), 2);
    drop(server);
    assert!(sessions.iter().all(|id| uploads.join(id).exists()));

    let server = start(folder.path(), &[]);
    server.wait_for_log("checked abandoned uploads");
    let sessions_exist: Vec<bool> = sessions
        .iter()
        .map(|id| uploads.join(id).exists())
        .collect();
    assert_eq!(sessions_exist, [false, false, true]);
    let states_exist: Vec<bool> = sessions.iter().map(|id| state(id).exists()).collect();
    assert_eq!(states_exist, [false, false, true]);
    assert!(!orphan.exists());
}

#[tokio::test]
async fn idle_connections_do_not_keep_health_checks_out() {
    let config = "version: 0.1\nstorage: {filesystem: {rootdirectory: '{folder}/registry'}}\n\
                  http: {addr: '127.0.0.1:0', debug: {addr: '127.0.0.1:0'}}\n";
    let server = Setup::new(config).serve();
    let url = server.debug_url();
    let address = url.trim_start_matches("http://");
    let mut idle = Vec::new();
    for _ in 0..40 {
        idle.push(TcpStream::connect(address).unwrap());
    }
    for _ in 0..3 {
        let health = client().get(format!("{url}/debug/health")).send().await;
        assert_eq!(health.unwrap().status(), 200);
    }
}
