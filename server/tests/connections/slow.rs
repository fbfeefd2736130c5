//! Clients that are slow, silent or too talkative, on real connections.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::Child;
use std::time::{Duration, Instant};

use crate::support::prelude::*;
use rustix::net::sockopt::set_socket_recv_buffer_size;

/// A server with the environment as given, and its log in a file.
struct Told {
    process: Child,
    address: String,
    log: PathBuf,
}

impl Told {
    fn start(folder: &Path, variables: &[(&str, &str)]) -> Self {
        let log = folder.join("log");
        let mut command = crate::support::command(&folder.join("data"));
        command
            .envs(variables.iter().copied())
            .stdout(Stdio::piped());
        let file = std::fs::File::create(&log).unwrap();
        let mut process = command.stderr(file).spawn().unwrap();
        let mut line = String::new();
        let stdout = process.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        let address = line.trim().rsplit('/').next().unwrap().to_owned();
        Self {
            process,
            address,
            log,
        }
    }

    fn connect(&self) -> TcpStream {
        TcpStream::connect(&self.address).unwrap()
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    async fn push(&self, blob: &[u8]) -> Digest {
        let digest = Digest::of(blob);
        let url = self.url(&format!("/v2/a/blobs/uploads/?digest={digest}"));
        let sent = client().post(url).body(blob.to_vec()).send().await.unwrap();
        assert_eq!(sent.status(), 201);
        digest
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Waits until it has logged something, and leaves the processor to others meanwhile.
    fn wait_for_log(&self, what: &str) -> String {
        let began = Instant::now();
        loop {
            let log = self.log();
            let lines = log.rsplit_once('\n').map_or("", |(lines, _)| lines);
            if lines.contains(what) {
                return lines.to_owned();
            }
            assert!(began.elapsed().as_secs() < 60, "no {what:?} in {log}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test]
async fn who_takes_nothing_of_an_answer_is_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let server = Told::start(folder.path(), &[("REGISTRY_IMGSYNC_WRITESTALL", "1s")]);
    // More than the system's buffers hold, with the client's made small.
    let blob = bytes(12_000_000);
    let digest = server.push(&blob).await;
    let mut stream = server.connect();
    set_socket_recv_buffer_size(&stream, 64 * 1024).unwrap();
    write!(
        stream,
        "GET /v2/a/blobs/{digest} HTTP/1.1\r\nhost: x\r\n\r\n"
    )
    .unwrap();
    // Nothing is read until the server says that it has given up.
    server.wait_for_log("the client read nothing for 1 s");
    let mut got = 0;
    let mut buffer = vec![0; 1 << 20];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        got += count;
    }
    assert!(got < blob.len(), "{got} bytes came");
    // Others are served as before.
    let whole = client().get(server.url(&format!("/v2/a/blobs/{digest}")));
    let whole = whole.send().await.unwrap().bytes().await.unwrap();
    assert_eq!(whole.len(), blob.len());
}

#[tokio::test]
async fn a_body_that_comes_byte_by_byte_is_taken_and_one_that_stops_is_kept_so_far() {
    let folder = tempfile::tempdir().unwrap();
    let server = Told::start(folder.path(), &[("REGISTRY_IMGSYNC_STALL", "2s")]);
    let opened = client()
        .post(server.url("/v2/a/blobs/uploads/"))
        .send()
        .await
        .unwrap();
    let location = header(&opened, "location");
    let mut stream = server.connect();
    write!(
        stream,
        "PATCH {location} HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n"
    )
    .unwrap();
    for byte in 0..20_u8 {
        stream.write_all(&[byte]).unwrap();
        tokio::task::yield_now().await;
    }
    // The answer to a body that fell silent.
    let mut answer = String::new();
    BufReader::new(&stream).read_line(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    let held = client().get(server.url(&location)).send().await.unwrap();
    assert_eq!(header(&held, "imgsync-upload-offset"), "20");
}

#[tokio::test]
async fn oversized_heads_are_refused() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path());
    let mut stream = TcpStream::connect(&server.address).unwrap();
    write!(stream, "GET /v2/ HTTP/1.1\r\nhost: x\r\n").unwrap();
    let line = format!("x-large: {}\r\n", "x".repeat(8000));
    let mut sent = 0;
    // The server may close before all is sent.
    while sent < 100 && stream.write_all(line.as_bytes()).is_ok() {
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
async fn more_connections_than_allowed_wait_for_their_turn() {
    let folder = tempfile::tempdir().unwrap();
    let server = Told::start(
        folder.path(),
        &[("REGISTRY_IMGSYNC_LIMITS_CONNECTIONS", "2")],
    );
    let ask = |stream: &mut TcpStream| {
        write!(stream, "GET /v2/ HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        let mut head = [0; 12];
        stream.read_exact(&mut head).unwrap();
        assert_eq!(&head, b"HTTP/1.1 200");
    };
    let (mut first, mut second) = (server.connect(), server.connect());
    ask(&mut first);
    ask(&mut second);
    let mut third = server.connect();
    write!(third, "GET /v2/ HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    third.set_nonblocking(true).unwrap();
    let early = third.read(&mut [0]).unwrap_err();
    assert_eq!(early.kind(), std::io::ErrorKind::WouldBlock);
    drop(first);
    third.set_nonblocking(false).unwrap();
    let mut head = [0; 12];
    third.read_exact(&mut head).unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");
}

#[tokio::test]
async fn more_open_uploads_than_allowed_are_asked_to_come_again() {
    let folder = tempfile::tempdir().unwrap();
    let server = Told::start(
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
    faults(refused, 429.try_into().unwrap(), "TOOMANYREQUESTS").await;
    let location = server.url(&header(&first, "location"));
    assert_eq!(
        client().delete(location).send().await.unwrap().status(),
        204
    );
    assert_eq!(open().await.unwrap().status(), 202);
}

#[tokio::test]
async fn lines_of_the_log_are_json_where_that_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let variables = [
        ("REGISTRY_LOG_FORMATTER", "json"),
        ("REGISTRY_LOG_LEVEL", "error"),
        ("REGISTRY_LOG_FIELDS_SERVICE", "images"),
    ];
    let server = Told::start(folder.path(), &variables);
    let digest = server.push(b"0123456789").await;
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
async fn old_uploads_go_at_the_start_and_young_ones_stay() {
    let folder = tempfile::tempdir().unwrap();
    let server = Told::start(folder.path(), &[]);
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
    // A stock registry whose disk was full left one without its start, long ago.
    std::fs::remove_file(uploads.join(&sessions[1]).join("startedat")).unwrap();
    let old = std::time::SystemTime::now() - Duration::from_secs(8 * 24 * 3600);
    let left = std::fs::File::open(uploads.join(&sessions[1])).unwrap();
    left.set_modified(old).unwrap();
    // A stock registry finished one of ours, long ago.
    let lost = state("00000000-0000-4000-8000-000000000000");
    std::fs::write(&lost, "{\"repository\":\"a/b\"}").unwrap();
    std::fs::File::options()
        .write(true)
        .open(&lost)
        .unwrap()
        .set_modified(old)
        .unwrap();

    let dry = [("REGISTRY_STORAGE_MAINTENANCE_UPLOADPURGING_DRYRUN", "true")];
    let server = Told::start(folder.path(), &dry);
    server.wait_for_log("checked abandoned uploads");
    assert_eq!(server.log().matches("would be purged").count(), 2);
    drop(server);
    assert!(sessions.iter().all(|id| uploads.join(id).exists()));

    let server = Told::start(folder.path(), &[]);
    server.wait_for_log("checked abandoned uploads");
    let there: Vec<bool> = sessions
        .iter()
        .map(|id| uploads.join(id).exists())
        .collect();
    assert_eq!(there, [false, false, true]);
    let known: Vec<bool> = sessions.iter().map(|id| state(id).exists()).collect();
    assert_eq!(known, [false, false, true]);
    assert!(!lost.exists());
}
