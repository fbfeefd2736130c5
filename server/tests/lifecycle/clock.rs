//! The system's clock jumps ahead and back under a running server, as on a laptop that slept or on
//! a virtual machine that was moved: nothing young is deleted, and what is open goes on.
//!
//! The clock is libfaketime's (Debian package `faketime`); only the system's time is turned, the
//! monotonic clock runs as ever.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use imgsync_oci::{Digest, media};
use jiff::{SignedDuration, Timestamp};
use reqwest::{RequestBuilder, Response, StatusCode};

use crate::support::launch::{Running, Setup};
use crate::support::{Server, assert_offset, client, header, manifest};

/// Where the clock jumps to, and back each time.
const JUMPS: [&str; 4] = ["+400d", "+0", "-400d", "+0"];
/// What the server says when it has noticed.
const NOTICED: &str = "the system clock jumped";

/// Returns the library that turns a program's clock; `None`, and a word on it, where there is none.
fn library() -> Option<String> {
    let asked = Command::new("faketime")
        .args(["-f", "+0", "sh", "-c", "echo \"$LD_PRELOAD\""])
        .stdin(Stdio::null())
        .output();
    let library = asked
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

/// A server whose clock a test turns.
struct Turned {
    server: Running,
    file: PathBuf,
}

impl Turned {
    /// Starts a server as this configuration says, where there is `faketime`.
    fn start(config: &str, prepare: impl FnOnce(&Setup)) -> Option<Self> {
        let library = library()?;
        let setup = Setup::new(config)
            .with("LD_PRELOAD", &library)
            .with("DONT_FAKE_MONOTONIC", "1")
            .with("FAKETIME_NO_CACHE", "1")
            .with("FAKETIME_TIMESTAMP_FILE", "{folder}/clock");
        prepare(&setup);
        let file = setup.path("clock");
        std::fs::write(&file, "+0\n").unwrap();
        let server = setup.serve();
        Some(Self { server, file })
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.server.url)
    }

    fn root(&self) -> PathBuf {
        self.server.setup().path("registry")
    }

    /// Turns the clock.
    fn turn(&self, to: &str) {
        // In one step, for the clock is read all the time.
        let next = self.file.with_extension("next");
        std::fs::write(&next, format!("{to}\n")).unwrap();
        std::fs::rename(next, &self.file).unwrap();
    }

    /// Panics unless the server has seen each jump away from the right time.
    fn assert_noticed(&self) {
        let log = self.server.log();
        let jumps = JUMPS.iter().filter(|to| **to != "+0").count();
        assert_eq!(log.matches(NOTICED).count(), jumps, "{log}");
    }

    /// Sends a chunk to a session; yields the answer.
    async fn patch(&self, location: &str, first: usize, bytes: &[u8]) -> Response {
        let range = format!("{first}-{}", first + bytes.len() - 1);
        let request = client()
            .patch(self.url(location))
            .header("content-range", range);
        request.body(bytes.to_vec()).send().await.unwrap()
    }

    async fn open(&self) -> String {
        let request = client().post(self.url("/v2/team/app/blobs/uploads/"));
        let opened = request.send().await.unwrap();
        assert_eq!(opened.status(), 202);
        header(&opened, "location")
    }
}

async fn until(what: &str, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed().as_secs() < 60, "waited too long: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Leaves an upload session that began so long ago, as a stock registry does; yields its folder.
fn session_of_before(root: &Path, number: usize, days: i64) -> PathBuf {
    let uploads = root.join("docker/registry/v2/repositories/team/app/_uploads");
    let folder = uploads.join(format!("00000000-0000-4000-8000-{number:012}"));
    std::fs::create_dir_all(&folder).unwrap();
    let began = Timestamp::now() - SignedDuration::from_hours(24 * days);
    // The data first: without its time the session would seem to be new.
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
async fn uploads_go_on_and_only_old_ones_are_purged() {
    let Some(server) = Turned::start(PURGING, |_| {}) else {
        return;
    };
    let (empty, began) = (server.open().await, server.open().await);
    let mut sent = b"begun".to_vec();
    assert_eq!(server.patch(&began, 0, &sent).await.status(), 202);
    let mut opened_meanwhile = Vec::new();
    for (number, to) in JUMPS.into_iter().enumerate() {
        server.turn(to);
        opened_meanwhile.push(server.open().await);
        // Once what is old is gone, all sessions were looked at.
        let old = session_of_before(&server.root(), number, 9);
        until("an old upload is purged", || !old.exists()).await;
        let young = session_of_before(&server.root(), 100 + number, 5);
        let chunk = to.as_bytes();
        let patched = server.patch(&began, sent.len(), chunk).await;
        assert_eq!(patched.status(), 202, "the clock at {to}");
        sent.extend_from_slice(chunk);
        assert_offset(&patched, sent.len() as u64);
        let asked = client().get(server.url(&empty)).send().await.unwrap();
        assert_eq!(asked.status(), 204, "the clock at {to}");
        let old = session_of_before(&server.root(), number, 9);
        until("an old upload is purged", || !old.exists()).await;
        assert!(young.exists(), "the clock at {to}");
    }
    for location in opened_meanwhile {
        let asked = client().get(server.url(&location)).send().await.unwrap();
        assert_eq!(asked.status(), 204, "{location}");
        let id = location.rsplit('/').next().unwrap();
        let uploads = "docker/registry/v2/repositories/team/app/_uploads";
        let started = server.root().join(uploads).join(id).join("startedat");
        let started: Timestamp = std::fs::read_to_string(started).unwrap().parse().unwrap();
        let age = Timestamp::now().duration_since(started).abs();
        assert!(age < SignedDuration::from_hours(1), "{started}");
    }
    let url = server.url(&format!("{began}?digest={}", Digest::of(&sent)));
    let done = client().put(url).send().await.unwrap();
    assert_eq!(done.status(), 201);
    server.assert_noticed();
}

/// Pushes an image under the tag `up/app:v1` whose layer is this word.
async fn publish(upstream: &Server, word: &str) -> Vec<u8> {
    upstream.push_image("app", "v1", word).await
}

async fn pull(server: &Turned, what: &str) -> Response {
    let url = server.url(&format!("/v2/up.example/app/{what}"));
    client().get(url).send().await.unwrap()
}

/// Every image is too much, so that only what was used of late stays.
const CACHING: &str = "\
version: 0.1
storage: {filesystem: {rootdirectory: '{folder}/registry'}}
http: {addr: '127.0.0.1:0'}
imgsync:
  cache:
    upstreams: [{prefix: up.example, remoteurl: '{upstream}'}]
    freshness: 2s
    maxage: 24h
    maxbytes: 1
";

#[tokio::test]
async fn a_cache_keeps_what_is_in_use_and_asks_again_in_time() {
    let folder = tempfile::tempdir().unwrap();
    let upstream = Server::start(folder.path());
    let config = CACHING.replace("{upstream}", &format!("http://{}", upstream.address));
    let Some(server) = Turned::start(&config, |_| {}) else {
        return;
    };
    let first = publish(&upstream, "first").await;
    assert_eq!(
        pull(&server, "manifests/v1").await.bytes().await.unwrap(),
        first
    );
    let layer = Digest::of(b"the layer of first");
    assert_eq!(pull(&server, &format!("blobs/{layer}")).await.status(), 200);
    let hex = layer.hex();
    let kept = format!("docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2]);
    let kept = server.root().join(kept);
    for to in JUMPS {
        server.turn(to);
        let next = publish(&upstream, to).await;
        let began = Instant::now();
        // Two seconds, and what the machine is slow.
        loop {
            let pulled = pull(&server, "manifests/v1").await;
            assert_eq!(pulled.status(), 200, "the clock at {to}");
            if pulled.bytes().await.unwrap() == next {
                break;
            }
            assert!(
                began.elapsed().as_secs() < 60,
                "the clock at {to}: not asked again"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        // It looks for room every two seconds.
        tokio::time::sleep(Duration::from_millis(2500)).await;
        assert!(
            kept.exists(),
            "the clock at {to}: what was just used is evicted"
        );
    }
    server.assert_noticed();
}

const SECURED: &str = "\
version: 0.1
storage: {filesystem: {rootdirectory: '{folder}/registry'}}
http: {addr: '127.0.0.1:0'}
auth: {htpasswd: {realm: here, path: '{folder}/htpasswd'}}
imgsync: {anonymous: {pull: [public/*]}}
";

/// Makes alice known.
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
async fn tokens_and_logins_hold() {
    let Some(server) = Turned::start(SECURED, add_alice) else {
        return;
    };
    let login = |request: RequestBuilder| request.basic_auth("alice", Some("secret"));
    let catalog = || client().get(server.url("/v2/_catalog"));
    let status = async |request: RequestBuilder| request.send().await.unwrap().status();
    let token = async || {
        let answer = login(client().get(server.url("/v2/_imgsync/token")))
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 200);
        let answer: serde_json::Value = answer.json().await.unwrap();
        answer["token"].as_str().unwrap().to_owned()
    };
    let mut tokens = vec![token().await];
    for to in JUMPS {
        server.turn(to);
        tokens.push(token().await);
        for token in &tokens {
            let answered = status(catalog().bearer_auth(token)).await;
            assert_eq!(answered, StatusCode::OK, "the clock at {to}");
        }
        assert_eq!(status(login(catalog())).await, StatusCode::OK);
        assert_eq!(status(catalog()).await, StatusCode::UNAUTHORIZED);
        // Nobody gets one that is good for longer than five minutes of the right time.
        let ends: Vec<i64> = tokens
            .iter()
            .map(|token| token.split('.').nth(1).unwrap().parse().unwrap())
            .collect();
        let now = Timestamp::now().as_second();
        assert!(
            ends.iter().all(|end| (now..now + 400).contains(end)),
            "{ends:?}"
        );
    }
    // A manifest can be put with the first token after all that.
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
    server.assert_noticed();
}
