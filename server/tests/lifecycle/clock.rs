//! Tests jumps of the system clock, as after the sleep of a laptop or the migration of a virtual
//! machine: nothing is deleted too early, and sessions, tokens and logins stay valid.
//!
//! libfaketime (Debian package `faketime`) changes the system time of the server. The monotonic
//! clock is not changed.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use imgsync_oci::{Digest, media};
use jiff::{SignedDuration, Timestamp};
use reqwest::{RequestBuilder, Response, StatusCode};

use crate::support::launch::{Running, Setup};
use crate::support::{Server, assert_offset, client, header, manifest};

/// The offsets that the clock jumps to.
const JUMPS: [&str; 4] = ["+400d", "+0", "-400d", "+0"];
/// The log message of the server about a jump.
const JUMP_MESSAGE: &str = "the system clock jumped";

/// Returns the path of libfaketime. If it is not installed, prints a message and returns `None`.
fn library() -> Option<String> {
    let output = Command::new("faketime")
        .args(["-f", "+0", "sh", "-c", "echo \"$LD_PRELOAD\""])
        .stdin(Stdio::null())
        .output();
    let library = output
        .ok()
        .filter(|output| output.status.success())
        .map(|output| crate::support::launch::stdout(&output).trim().to_owned());
    if library.is_none() {
        let required = std::env::var("IMGSYNC_TESTS_PEERS").is_ok_and(|value| value == "required");
        assert!(!required, "faketime is missing; run tests/peers.sh");
        let advice = "tests/peers.sh installs and starts what the tests need";
        let _ = writeln!(std::io::stderr(), "SKIPPED: faketime is missing; {advice}");
    }
    library
}

/// A server whose system time can be changed.
struct FakeTimeServer {
    server: Running,
    clock_file: PathBuf,
}

impl FakeTimeServer {
    /// Starts a server with this configuration; `None` if `faketime` is not installed. `prepare` runs
    /// before the start.
    fn start(config: &str, prepare: impl FnOnce(&Setup)) -> Option<Self> {
        let library = library()?;
        let setup = Setup::new(config)
            .with("LD_PRELOAD", &library)
            .with("DONT_FAKE_MONOTONIC", "1")
            .with("FAKETIME_NO_CACHE", "1")
            .with("FAKETIME_TIMESTAMP_FILE", "{folder}/clock");
        prepare(&setup);
        let clock_file = setup.path("clock");
        std::fs::write(&clock_file, "+0\n").unwrap();
        let server = setup.serve();
        Some(Self { server, clock_file })
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.server.url)
    }

    fn root(&self) -> PathBuf {
        self.server.setup().path("registry")
    }

    /// Sets the offset of the system time.
    fn set_clock(&self, offset: &str) {
        // Renamed, because the server reads the file all the time and must not see half of it.
        let next = self.clock_file.with_extension("next");
        std::fs::write(&next, format!("{offset}\n")).unwrap();
        std::fs::rename(next, &self.clock_file).unwrap();
    }

    /// Checks that the server has logged each jump away from the right time.
    fn assert_jumps_logged(&self) {
        let log = self.server.log();
        let jumps = JUMPS.iter().filter(|offset| **offset != "+0").count();
        assert_eq!(log.matches(JUMP_MESSAGE).count(), jumps, "{log}");
    }

    /// Sends a chunk to a session.
    async fn patch(&self, location: &str, first: usize, bytes: &[u8]) -> Response {
        let range = format!("{first}-{}", first + bytes.len() - 1);
        let request = client()
            .patch(self.url(location))
            .header("content-range", range);
        request.body(bytes.to_vec()).send().await.unwrap()
    }

    async fn start_upload(&self) -> String {
        let request = client().post(self.url("/v2/team/app/blobs/uploads/"));
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 202);
        header(&response, "location")
    }
}

async fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed().as_secs() < 60, "waited too long: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Creates an upload session of a stock registry that started `days` ago, and returns its folder.
fn create_old_session(root: &Path, number: usize, days: i64) -> PathBuf {
    let uploads = root.join("docker/registry/v2/repositories/team/app/_uploads");
    let folder = uploads.join(format!("00000000-0000-4000-8000-{number:012}"));
    std::fs::create_dir_all(&folder).unwrap();
    let began = Timestamp::now() - SignedDuration::from_hours(24 * days);
    // The data is written first: a session with a start time and no data could be purged between the
    // two writes.
    std::fs::write(folder.join("data"), b"old").unwrap();
    std::fs::write(folder.join("startedat"), format!("{began:.0}")).unwrap();
    folder
}

const PURGING: &str = "\
version: 0.1
storage:
  filesystem: {rootdirectory: '{folder}/registry'}
  maintenance: {uploadpurging: {enabled: true, age: 168h, interval: 1s, dryrun: false}}
http: {addr: '127.0.0.1:0'}
";

#[tokio::test]
async fn uploads_continue_and_only_old_ones_are_purged() {
    let Some(server) = FakeTimeServer::start(PURGING, |_| {}) else {
        return;
    };
    let (empty, started) = (server.start_upload().await, server.start_upload().await);
    let mut sent = b"begun".to_vec();
    assert_eq!(server.patch(&started, 0, &sent).await.status(), 202);
    let mut later_sessions = Vec::new();
    for (number, offset) in JUMPS.into_iter().enumerate() {
        server.set_clock(offset);
        later_sessions.push(server.start_upload().await);
        // When the old session is deleted, the server has checked all sessions.
        let old = create_old_session(&server.root(), number, 9);
        wait_until("an old upload is purged", || !old.exists()).await;
        let young = create_old_session(&server.root(), 100 + number, 5);
        let chunk = offset.as_bytes();
        let patched = server.patch(&started, sent.len(), chunk).await;
        assert_eq!(patched.status(), 202, "the clock at {offset}");
        sent.extend_from_slice(chunk);
        assert_offset(&patched, sent.len() as u64);
        let status = client().get(server.url(&empty)).send().await.unwrap();
        assert_eq!(status.status(), 204, "the clock at {offset}");
        let old = create_old_session(&server.root(), number, 9);
        wait_until("an old upload is purged", || !old.exists()).await;
        assert!(young.exists(), "the clock at {offset}");
    }
    for location in later_sessions {
        let status = client().get(server.url(&location)).send().await.unwrap();
        assert_eq!(status.status(), 204, "{location}");
        let id = location.rsplit('/').next().unwrap();
        let uploads = "docker/registry/v2/repositories/team/app/_uploads";
        let path = server.root().join(uploads).join(id).join("startedat");
        let start: Timestamp = std::fs::read_to_string(path).unwrap().parse().unwrap();
        let age = Timestamp::now().duration_since(start).abs();
        assert!(age < SignedDuration::from_hours(1), "{start}");
    }
    let url = server.url(&format!("{started}?digest={}", Digest::of(&sent)));
    let done = client().put(url).send().await.unwrap();
    assert_eq!(done.status(), 201);
    server.assert_jumps_logged();
}

/// Pushes another image as `app:v1` to the upstream, and returns its manifest.
async fn publish(upstream: &Server, word: &str) -> Vec<u8> {
    upstream.push_image("app", "v1", word).await
}

async fn pull(server: &FakeTimeServer, path: &str) -> Response {
    let url = server.url(&format!("/v2/up.example/app/{path}"));
    client().get(url).send().await.unwrap()
}

/// The cache may hold one byte, so it evicts every image except the recently used ones.
/// The first image fits into the cache, and the manifests that follow do not.
const CACHING: &str = "\
version: 0.1
storage: {filesystem: {rootdirectory: '{folder}/registry'}}
http: {addr: '127.0.0.1:0'}
imgsync:
  cache:
    upstreams: [{prefix: up.example, remoteurl: '{upstream}'}]
    freshness: 2s
    maxage: 24h
    maxbytes: 1000
";

#[tokio::test]
async fn a_cache_keeps_used_content_and_revalidates_tags() {
    let folder = tempfile::tempdir().unwrap();
    let upstream = Server::start(folder.path());
    let config = CACHING.replace("{upstream}", &format!("http://{}", upstream.address));
    let Some(server) = FakeTimeServer::start(&config, |_| {}) else {
        return;
    };
    let first = publish(&upstream, "first").await;
    assert_eq!(
        pull(&server, "manifests/v1").await.bytes().await.unwrap(),
        first
    );
    let layer = Digest::of(b"the layer of first");
    let pulled = pull(&server, &format!("blobs/{layer}")).await;
    assert_eq!(pulled.bytes().await.unwrap(), "the layer of first");
    let hex = layer.hex();
    let data = format!("docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2]);
    let data = server.root().join(data);
    for offset in JUMPS {
        server.set_clock(offset);
        let next = publish(&upstream, offset).await;
        let began = Instant::now();
        // The cached tag is used for two seconds, its `freshness`; a slow machine needs longer.
        loop {
            let pulled = pull(&server, "manifests/v1").await;
            assert_eq!(pulled.status(), 200, "the clock at {offset}");
            if pulled.bytes().await.unwrap() == next {
                break;
            }
            assert!(
                began.elapsed().as_secs() < 60,
                "the clock at {offset}: not asked again"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        // The eviction runs every two seconds.
        tokio::time::sleep(Duration::from_millis(2500)).await;
        assert!(
            data.exists(),
            "the clock at {offset}: what was just used is evicted"
        );
    }
    server.assert_jumps_logged();
}

const AUTH: &str = "\
version: 0.1
storage: {filesystem: {rootdirectory: '{folder}/registry'}}
http: {addr: '127.0.0.1:0'}
auth: {htpasswd: {realm: here, path: '{folder}/htpasswd'}}
imgsync: {anonymous: {pull: [public/*]}}
";

/// Adds the user alice to the htpasswd file.
fn add_alice(setup: &Setup) {
    let file = setup.path("htpasswd");
    let mut process = setup
        .program(&["htpasswd", "--cost", "4", file.to_str().unwrap(), "alice"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = process.stdin.take().unwrap();
    stdin.write_all(b"secret\n").unwrap();
    drop(stdin);
    assert!(process.wait().unwrap().success());
}

#[tokio::test]
async fn tokens_and_logins_stay_valid() {
    let Some(server) = FakeTimeServer::start(AUTH, add_alice) else {
        return;
    };
    let as_alice = |request: RequestBuilder| request.basic_auth("alice", Some("secret"));
    let catalog = || client().get(server.url("/v2/_catalog"));
    let status = async |request: RequestBuilder| request.send().await.unwrap().status();
    let token = async || {
        let answer = as_alice(client().get(server.url("/v2/_imgsync/token")))
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 200);
        let answer: serde_json::Value = answer.json().await.unwrap();
        answer["token"].as_str().unwrap().to_owned()
    };
    let mut tokens = vec![token().await];
    for offset in JUMPS {
        server.set_clock(offset);
        tokens.push(token().await);
        for token in &tokens {
            let status = status(catalog().bearer_auth(token)).await;
            assert_eq!(status, StatusCode::OK, "the clock at {offset}");
        }
        assert_eq!(status(as_alice(catalog())).await, StatusCode::OK);
        assert_eq!(status(catalog()).await, StatusCode::UNAUTHORIZED);
        // No token is valid for longer than about five minutes of the right time.
        let expiries: Vec<i64> = tokens
            .iter()
            .map(|token| token.split('.').nth(1).unwrap().parse().unwrap())
            .collect();
        let now = Timestamp::now().as_second();
        assert!(
            expiries.iter().all(|time| (now..now + 400).contains(time)),
            "{expiries:?}"
        );
    }
    // The first token is still valid for a push.
    let image = manifest(b"{}", &[]);
    let blob = server.url(&format!(
        "/v2/a/blobs/uploads/?digest={}",
        Digest::of(b"{}")
    ));
    let pushed = client().post(blob).bearer_auth(&tokens[0]).body("{}");
    assert_eq!(status(pushed).await, StatusCode::CREATED);
    let put = client()
        .put(server.url("/v2/a/manifests/v1"))
        .bearer_auth(&tokens[0])
        .header("content-type", media::OCI_MANIFEST)
        .body(image);
    assert_eq!(status(put).await, StatusCode::CREATED);
    server.assert_jumps_logged();
}
