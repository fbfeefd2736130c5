//! The pull-through cache: imgsync-server before a registry that misbehaves on order.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test that cannot go on panics"
)]

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Barrier;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use support::archive::write_tar;
use support::bytes::{digest, noise};
use support::http::{Reply, get, send};
use support::image::{Image, layer};
use support::run::until;
use support::upstream::{Published, SECRET};
use support::{Imgsync, Scratch, Server, Upstream};

/// What names of the upstream begin with here.
const PREFIX: &str = "up.example";
const FRESH: &str = "1h";
const STALE: &str = "0s";

/// A cache before an upstream.
struct Cache {
    scratch: Scratch,
    server: Server,
}

impl Cache {
    /// Its tags count for `freshness`; `more` stands beside, in the upstream's entry.
    fn before(upstream: &Upstream, freshness: &str, more: &str) -> Self {
        Self::at(upstream.address(), freshness, more)
    }

    fn at(upstream: SocketAddr, freshness: &str, more: &str) -> Self {
        let entry = format!(
            "{{prefix: {PREFIX}, remoteurl: 'http://{upstream}', freshness: {freshness}{more}}}"
        );
        Self::with(&format!("imgsync: {{cache: {{upstreams: [{entry}]}}}}\n"))
    }

    fn with(more: &str) -> Self {
        let scratch = Scratch::new();
        let root = scratch.path("registry");
        let config = format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {root:?}}}, delete: {{enabled: true}}}}\n\
             http:\n  addr: 127.0.0.1:0\n  draintimeout: 10s\n  debug:\n    addr: 127.0.0.1:0\n    prometheus: {{enabled: true}}\n{more}"
        );
        std::fs::write(scratch.path("config.yml"), config).unwrap();
        let server = Server::configured(&scratch.path("config.yml"), &root);
        Self { scratch, server }
    }

    fn address(&self) -> SocketAddr {
        self.server.address()
    }

    fn get(&self, target: &str) -> Reply {
        get(self.address(), target)
    }

    /// What it tells of itself, by name and labels.
    fn metric(&self, name: &str) -> u64 {
        let log = self.server.log();
        let (_, rest) = log.split_once("health check at http://").unwrap();
        let (address, _) = rest.split_once("/debug/health").unwrap();
        let page = get(address.parse().unwrap(), "/metrics").text();
        let line = page
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {page}"))
            .parse()
            .unwrap()
    }

    /// Starts it again, so that nothing may change.
    fn read_only(&mut self) {
        let path = self.scratch.path("config.yml");
        let config = std::fs::read_to_string(&path).unwrap();
        let storage = "storage: {maintenance: {readonly: {enabled: true}}, ";
        std::fs::write(path, config.replace("storage: {", storage)).unwrap();
        self.restart();
    }

    fn restart(&mut self) {
        let root = self.scratch.path("registry");
        self.server = Server::configured(&self.scratch.path("config.yml"), &root);
    }
}

fn image(seed: u64, size: usize) -> Image {
    Image::new(vec![
        layer("one", noise(seed, size)),
        layer("two", noise(seed + 1, size / 2)),
    ])
}

fn manifest(reference: &str) -> String {
    format!("/v2/{PREFIX}/team/app/manifests/{reference}")
}

fn blob(digest: &str) -> String {
    format!("/v2/{PREFIX}/team/app/blobs/{digest}")
}

/// Pulls all of an image as a client does, and checks every byte.
fn pull(address: SocketAddr, published: &Published) {
    let reply = get(address, &manifest("v1"));
    assert_eq!(
        (reply.status, &reply.body),
        (200, &published.manifest),
        "{}",
        reply.text()
    );
    assert_eq!(
        reply.header("docker-content-digest"),
        Some(published.digest.as_str())
    );
    for (name, bytes) in &published.blobs {
        let reply = get(address, &blob(name));
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert!(reply.body == *bytes, "{name} came with other bytes");
    }
}

/// An answer that is read bit by bit.
struct Answer {
    stream: BufReader<TcpStream>,
    status: u16,
    length: usize,
    head: String,
}

fn open(address: SocketAddr, target: &str, headers: &str) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    let request =
        format!("GET {target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut stream = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(stream.read_line(&mut head).unwrap(), 0, "no answer: {head}");
    }
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let lower = head.to_lowercase();
    let (_, length) = lower.split_once("content-length: ").unwrap();
    let length = length.split("\r\n").next().unwrap().parse().unwrap();
    Answer {
        stream,
        status,
        length,
        head,
    }
}

impl Answer {
    fn take(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.stream.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// All that comes, complete or not.
    fn rest(mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let _ = self.stream.read_to_end(&mut bytes);
        bytes
    }
}

/// An address where nobody listens.
fn nowhere() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}

#[test]
fn eight_cold_pulls_fetch_each_blob_once_and_read_along() {
    let upstream = Upstream::start();
    let published = upstream.put("team/app", "v1", &image(1, 3 << 20));
    let cache = Cache::before(&upstream, FRESH, "");
    upstream.behave(|manners| manners.hold = Some(100_000));
    let address = cache.address();
    let large: Vec<_> = published
        .blobs
        .iter()
        .filter(|(_, blob)| blob.len() > 200_000)
        .collect();
    assert_eq!(large.len(), 2);
    let reading = Barrier::new(9);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let reply = get(address, &manifest("v1"));
                assert_eq!(reply.body, published.manifest, "{}", reply.text());
                let answers = large.iter().map(|(digest, bytes)| {
                    let mut answer = open(address, &blob(digest), "");
                    assert_eq!((answer.status, answer.length), (200, bytes.len()));
                    let start = answer.take(1000);
                    (answer, start, bytes)
                });
                let answers: Vec<_> = answers.collect();
                // All have their first bytes, while the upstream holds the last ones back.
                reading.wait();
                for (answer, mut bytes, expected) in answers {
                    bytes.extend(answer.rest());
                    assert!(bytes == *expected);
                }
            });
        }
        reading.wait();
        upstream.behave(|manners| manners.hold = None);
    });
    pull(address, &published);
    for (digest, _) in &published.blobs {
        assert_eq!(upstream.count("GET", digest), 1, "{digest}");
    }
    assert_eq!(upstream.count("GET", "/manifests/v1"), 1);
    let misses = cache.metric("imgsync_cache_requests_total{subject=\"blob\",answer=\"miss\"}");
    assert!(misses >= 3, "{misses}");
    let received = cache.metric(&format!(
        "imgsync_upstream_bytes_total{{upstream=\"{PREFIX}\"}}"
    ));
    let sizes: usize = published.blobs.iter().map(|(_, blob)| blob.len()).sum();
    assert_eq!(received, (sizes + published.manifest.len()) as u64);
}

#[test]
fn ranges_are_served_while_a_blob_fills_and_who_leaves_stops_nothing() {
    let upstream = Upstream::start();
    let published = upstream.put("team/app", "v1", &image(3, 1 << 20));
    let cache = Cache::before(&upstream, FRESH, "");
    upstream.behave(|manners| manners.hold = Some(200_000));
    let (name, bytes) = &published.blobs[0];
    let part = |range: &str| {
        open(
            cache.address(),
            &blob(name),
            &format!("Range: bytes={range}\r\n"),
        )
    };
    let mut first = part("1000-1999");
    assert_eq!((first.status, first.length), (206, 1000));
    let range = format!("content-range: bytes 1000-1999/{}", bytes.len());
    assert!(first.head.to_lowercase().contains(&range), "{}", first.head);
    assert!(first.take(1000) == bytes[1000..2000]);
    let beyond = part(&format!("{}-", bytes.len()));
    assert_eq!(beyond.status, 416);
    // These come once the upstream goes on; the first reader goes away before.
    let last = part("-5000");
    assert_eq!((last.status, last.length), (206, 5000));
    drop((first, part("0-").take(10)));
    upstream.behave(|manners| manners.hold = None);
    assert!(last.rest() == bytes[bytes.len() - 5000..]);
    until("the blob to be kept", || {
        let reply = send(cache.address(), "HEAD", &blob(name), &[], b"");
        let is_kept =
            cache.metric("imgsync_cache_requests_total{subject=\"blob\",answer=\"hit\"}") > 0;
        let whole = get(cache.address(), &blob(name));
        assert!(reply.status == 200 && whole.body == *bytes);
        is_kept.then_some(())
    });
    assert_eq!(upstream.count("GET", name), 1);
}

#[test]
fn the_server_starts_with_every_upstream_down_and_never_says_not_found() {
    let cache = Cache::at(nowhere(), FRESH, "");
    assert_eq!(cache.get("/v2/").status, 200);
    for target in [manifest("v1"), manifest(&digest(b"x")), blob(&digest(b"x"))] {
        let reply = cache.get(&target);
        reply.refused(502, "UNAVAILABLE");
        assert!(
            reply.text().contains("up.example cannot be reached"),
            "{}",
            reply.text()
        );
        assert!(!reply.text().contains("127.0.0.1"), "{}", reply.text());
    }
    let tags = cache.get(&format!("/v2/{PREFIX}/team/app/tags/list"));
    tags.refused(502, "UNAVAILABLE");
    // What is not behind it is not there, and that is known.
    cache
        .get("/v2/team/app/manifests/v1")
        .refused(404, "MANIFEST_UNKNOWN");
    // But whoever pushes sends what is not here, and is not held up.
    let target = blob(&digest(b"x"));
    assert_eq!(send(cache.address(), "HEAD", &target, &[], b"").status, 404);
    // The same for the stock registry's own section.
    let proxy = Cache::with(&format!("proxy: {{remoteurl: 'http://{}'}}\n", nowhere()));
    proxy
        .get("/v2/team/app/manifests/v1")
        .refused(502, "UNAVAILABLE");
}

#[test]
fn what_was_fetched_is_served_while_the_upstream_is_down_or_limits_and_marked_stale() {
    let upstream = Upstream::start();
    let published = upstream.put("team/app", "v1", &image(5, 50_000));
    let cache = Cache::before(&upstream, STALE, "");
    pull(cache.address(), &published);
    let warning = |reply: &Reply| reply.header("warning").map(str::to_owned);
    let fresh = cache.get(&manifest("v1"));
    assert_eq!((fresh.status, warning(&fresh)), (200, None));

    upstream.behave(|manners| manners.is_down = true);
    pull(cache.address(), &published);
    let stale = cache.get(&manifest("v1"));
    assert_eq!((stale.status, &stale.body), (200, &published.manifest));
    assert!(warning(&stale).unwrap().starts_with("110 "), "{stale:?}");
    // By digest nothing can be stale.
    assert_eq!(warning(&cache.get(&manifest(&published.digest))), None);
    cache.get(&manifest("v2")).refused(502, "UNAVAILABLE");
    let tags = cache.get(&format!("/v2/{PREFIX}/team/app/tags/list"));
    assert_eq!(
        (tags.status, tags.json()["tags"][0].as_str()),
        (200, Some("v1"))
    );
    assert!(warning(&tags).unwrap().starts_with("110 "));
    assert!(
        cache
            .server
            .log()
            .contains("stale answers are served: up.example")
    );

    upstream.behave(|manners| {
        manners.is_down = false;
        manners.status = Some((429, Some(60)));
    });
    upstream.forget();
    let limited = cache.get(&manifest("v2"));
    limited.refused(503, "UNAVAILABLE");
    assert_eq!(limited.header("retry-after"), Some("60"));
    // It asked for peace, and gets it.
    let again = cache.get(&manifest("v3"));
    again.refused(503, "UNAVAILABLE");
    let seconds: u64 = again.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&seconds), "{seconds}");
    assert_eq!(warning(&cache.get(&manifest("v1"))).unwrap()[..3], *"110");
    assert_eq!(upstream.seen().len(), 1, "{:?}", upstream.seen());
    let stale = cache.metric("imgsync_cache_requests_total{subject=\"manifest\",answer=\"stale\"}");
    assert!(stale >= 3, "{stale}");
}

#[test]
fn a_tag_is_asked_for_anew_after_its_time_and_only_what_changed_is_fetched() {
    let upstream = Upstream::start();
    let first = upstream.put("team/app", "v1", &image(7, 50_000));
    let cache = Cache::before(&upstream, STALE, "");
    pull(cache.address(), &first);
    upstream.forget();
    pull(cache.address(), &first);
    assert_eq!(
        (upstream.count("HEAD", "/v1"), upstream.seen().len()),
        (1, 1)
    );

    let second = upstream.put("team/app", "v1", &image(8, 50_000));
    assert_ne!(first.digest, second.digest);
    pull(cache.address(), &second);
    // What others hold by digest is still there.
    assert_eq!(cache.get(&manifest(&first.digest)).body, first.manifest);

    upstream.remove("team/app", "v1");
    cache.get(&manifest("v1")).refused(404, "MANIFEST_UNKNOWN");

    let fresh = Cache::before(&upstream, FRESH, "");
    upstream.put("team/app", "v1", &image(7, 50_000));
    pull(fresh.address(), &first);
    upstream.put("team/app", "v1", &image(8, 50_000));
    upstream.forget();
    pull(fresh.address(), &first);
    assert!(upstream.seen().is_empty(), "{:?}", upstream.seen());
}

#[test]
fn what_is_not_there_is_asked_for_once_and_soon_again() {
    let upstream = Upstream::start();
    let cache = Cache::before(&upstream, FRESH, "");
    for _ in 0..5 {
        cache.get(&manifest("v1")).refused(404, "MANIFEST_UNKNOWN");
        cache.get(&blob(&digest(b"x"))).refused(404, "BLOB_UNKNOWN");
    }
    assert_eq!(upstream.count("GET", "/manifests/v1"), 1);
    assert!(upstream.count("GET", &digest(b"x")) <= 2);
    let published = upstream.put("team/app", "v1", &image(9, 5_000));
    until("the tag to be found", || {
        (cache.get(&manifest("v1")).status == 200).then_some(())
    });
    pull(cache.address(), &published);
}

#[test]
fn a_download_that_breaks_off_goes_on_from_its_offset() {
    let upstream = Upstream::start();
    let published = upstream.put("team/app", "v1", &image(11, 1 << 20));
    let cache = Cache::before(&upstream, FRESH, "");
    let (name, bytes) = &published.blobs[0];
    upstream.behave(|manners| manners.cut = Some(300_000));
    let reply = cache.get(&blob(name));
    assert!(reply.status == 200 && reply.body == *bytes);
    let ranges: Vec<_> = upstream
        .seen()
        .into_iter()
        .filter(|it| it.method == "GET")
        .collect();
    let ranges: Vec<_> = ranges.iter().map(|it| it.header("range")).collect();
    assert_eq!(ranges, [None, Some("bytes=300000-")]);

    // One that ignores ranges sends it all again, and no caller sees anything twice.
    let (name, bytes) = &published.blobs[1];
    upstream.behave(|manners| {
        manners.cut = Some(100_000);
        manners.ignores_ranges = true;
    });
    let reply = cache.get(&blob(name));
    assert!(reply.status == 200 && reply.body == *bytes);
}

#[test]
fn an_upstream_that_cannot_go_on_within_a_blob_gives_it_from_its_beginning() {
    let upstream = Upstream::start();
    let published = upstream.put("team/app", "v1", &image(12, 1 << 20));
    let cache = Cache::before(&upstream, FRESH, "");
    upstream.behave(|manners| {
        manners.cut = Some(300_000);
        manners.refuses_ranges = true;
    });
    let (name, bytes) = &published.blobs[0];
    let reply = cache.get(&blob(name));
    assert!(reply.status == 200 && reply.body == *bytes);
}

#[test]
fn who_was_told_a_wrong_size_never_gets_what_looks_like_a_whole_blob() {
    let upstream = Upstream::start();
    let published = upstream.put("team/app", "v1", &image(14, 1 << 20));
    let cache = Cache::before(&upstream, FRESH, "");
    let announced = 300_000;
    upstream.behave(|manners| manners.announces = Some(announced));
    let (name, bytes) = &published.blobs[0];
    let answer = open(cache.address(), &blob(name), "");
    assert_eq!((answer.status, answer.length), (200, announced));
    assert!(answer.rest().len() < announced);
    let reply = cache.get(&blob(name));
    assert!(reply.status == 200 && reply.body == *bytes);
}

#[test]
fn a_registry_that_is_read_only_serves_what_it_has_and_asks_nobody() {
    let upstream = Upstream::start();
    let published = upstream.put("team/app", "v1", &image(16, 5_000));
    let mut cache = Cache::before(&upstream, STALE, "");
    pull(cache.address(), &published);
    assert!(cache.server.stop().success());
    upstream.forget();
    cache.read_only();
    pull(cache.address(), &published);
    let stale = cache.get(&manifest("v1"));
    assert!(stale.status == 200 && stale.header("warning").is_some());
    cache.get(&manifest("v2")).refused(503, "UNAVAILABLE");
    cache
        .get(&blob(&digest(b"not here")))
        .refused(503, "UNAVAILABLE");
    assert_eq!(upstream.seen().len(), 0);
}

#[test]
fn after_a_restart_of_the_server_a_download_goes_on_too() {
    let upstream = Upstream::start();
    let published = upstream.put("team/app", "v1", &image(13, 1 << 20));
    let mut cache = Cache::before(&upstream, FRESH, "");
    let (name, bytes) = &published.blobs[0];
    upstream.behave(|manners| manners.hold = Some(300_000));
    let mut answer = open(cache.address(), &blob(name), "");
    answer.take(299_000);
    drop(answer);
    assert!(cache.server.stop().success());
    upstream.behave(|manners| manners.hold = None);
    upstream.forget();
    cache.restart();
    let reply = cache.get(&blob(name));
    assert!(reply.status == 200 && reply.body == *bytes);
    let asked = upstream.seen();
    let range = asked
        .iter()
        .find(|it| it.method == "GET")
        .unwrap()
        .header("range");
    let first: usize = range.unwrap()["bytes=".len()..]
        .trim_end_matches('-')
        .parse()
        .unwrap();
    assert!((299_000..=300_000).contains(&first), "{first}");
}

#[test]
fn wrong_bytes_are_never_kept_and_no_caller_gets_them_whole() {
    let upstream = Upstream::start();
    let published = upstream.put("team/app", "v1", &image(15, 200_000));
    let cache = Cache::before(&upstream, FRESH, "");
    upstream.behave(|manners| manners.is_wrong = true);
    let (name, bytes) = &published.blobs[0];
    let answer = open(cache.address(), &blob(name), "");
    assert_eq!((answer.status, answer.length), (200, bytes.len()));
    assert!(answer.rest().len() < bytes.len());
    cache
        .get(&manifest(&published.digest))
        .refused(502, "UNAVAILABLE");
    upstream.behave(|manners| manners.is_wrong = false);
    pull(cache.address(), &published);
    let failures = format!("imgsync_upstream_failures_total{{upstream=\"{PREFIX}\",kind=\"odd\"}}");
    assert_eq!(cache.metric(&failures), 2);
}

#[test]
fn logins_of_clients_and_of_this_server_never_meet() {
    let upstream = Upstream::start();
    let published = upstream.put("team/app", "v1", &image(17, 100_000));
    // Every token is good for one request only.
    upstream.behave(|manners| {
        manners.tokens = Some(("cache", "hunter2", 1));
        manners.limits = Some((100, 76));
    });
    let cache = Cache::before(&upstream, STALE, ", username: cache, password: hunter2");
    let client = [
        ("Authorization", "Basic Y2xpZW50OnN3b3JkZmlzaA=="),
        ("Cookie", "session=clients-own"),
    ];
    for (target, body) in [
        (manifest("v1"), &published.manifest),
        (blob(&published.blobs[0].0), &published.blobs[0].1),
    ] {
        let reply = send(cache.address(), "GET", &target, &client, b"");
        assert!(
            reply.status == 200 && reply.body == *body,
            "{}",
            reply.text()
        );
        for (name, value) in &reply.headers {
            assert!(
                !value.contains(SECRET) && !value.contains("token-"),
                "{name}: {value}"
            );
        }
    }
    let own = format!("Basic {}", STANDARD.encode("cache:hunter2"));
    for request in upstream.seen() {
        assert_eq!(request.header("cookie"), None);
        let said = request.authorization();
        match request.target.starts_with("/token") {
            true => assert_eq!(said, own),
            false => assert!(
                said.is_empty() || said.starts_with("Bearer token-"),
                "{said}"
            ),
        }
    }
    assert_eq!(
        cache.metric(&format!(
            "imgsync_upstream_ratelimit_remaining{{upstream=\"{PREFIX}\"}}"
        )),
        76
    );
    // A login that is refused there is not the client's.
    upstream.behave(|manners| manners.tokens = Some(("other", "x", 1)));
    let refused = cache.get(&manifest("v2"));
    refused.refused(502, "UNAVAILABLE");
    assert_eq!(refused.header("www-authenticate"), None);
    assert!(!refused.text().contains("hunter2") && !cache.server.log().contains("hunter2"));
}

#[test]
fn a_tag_that_was_pushed_here_is_ours() {
    let upstream = Upstream::start();
    upstream.put("team/app", "v1", &image(19, 20_000));
    let cache = Cache::before(&upstream, STALE, "");
    // Its blobs lie upstream, under the same name: the push is told so, and they are fetched.
    let ours = image(20, 20_000);
    let published = upstream.put("team/app", "other", &ours);
    for (name, _) in &published.blobs {
        assert_eq!(
            send(cache.address(), "HEAD", &blob(name), &[], b"").status,
            200
        );
    }
    let media_type = [("Content-Type", "application/vnd.oci.image.manifest.v1+json")];
    let put = send(
        cache.address(),
        "PUT",
        &manifest("v1"),
        &media_type,
        &published.manifest,
    );
    assert_eq!(put.status, 201, "{}", put.text());
    upstream.forget();
    for _ in 0..2 {
        pull(cache.address(), &published);
        upstream.behave(|manners| manners.is_down = true);
    }
    assert!(upstream.seen().is_empty(), "{:?}", upstream.seen());
    let reply = cache.get(&manifest("v1"));
    assert_eq!((reply.status, reply.header("warning")), (200, None));
}

#[test]
fn what_is_pushed_does_not_depend_on_an_upstream() {
    let cache = Cache::at(nowhere(), FRESH, "");
    let image = image(70, 100_000);
    let archive = cache.scratch.path("image.tar");
    write_tar(&image.docker_archive("app:v1"), &archive);
    let tool = Imgsync::new(&cache.scratch.folder("home"));
    let remote = format!("{}/{PREFIX}/team/app:v1", cache.address());
    tool.push(&archive.display().to_string(), &remote)
        .succeeded();
    assert_eq!(cache.get(&manifest("v1")).status, 200);
    assert_eq!(cache.get(&manifest("v2")).status, 502);
}

#[test]
fn only_what_the_operator_allows_is_asked_for() {
    let upstream = Upstream::start();
    upstream.put("secret/app", "v1", &image(21, 5_000));
    let published = upstream.put("team/app", "v1", &image(22, 5_000));
    let cache = Cache::before(&upstream, FRESH, ", repositories: ['team/*']");
    pull(cache.address(), &published);
    upstream.forget();
    for rest in [
        "manifests/v1".to_owned(),
        "tags/list".to_owned(),
        format!("blobs/{}", published.blobs[0].0),
        format!("manifests/{}", published.digest),
    ] {
        let reply = cache.get(&format!("/v2/{PREFIX}/secret/app/{rest}"));
        reply.refused(403, "DENIED");
    }
    assert!(upstream.seen().is_empty(), "{:?}", upstream.seen());
    // No name makes it speak to another host.
    for target in [
        "/v2/team/app/manifests/v1?ns=127.0.0.1:1",
        "/v2/team/app/manifests/v1?ns=evil.example",
        "/v2/evil.example/team/app/manifests/v1",
    ] {
        assert_eq!(cache.get(target).status, 404, "{target}");
    }
    assert!(upstream.seen().is_empty());
}

#[test]
fn names_mean_what_clients_mean_by_them() {
    let (hub, other) = (Upstream::start(), Upstream::start());
    let nginx = hub.put("library/nginx", "v1", &image(23, 5_000));
    let app = other.put("owner/app", "v1", &image(24, 5_000));
    let cache = Cache::with(&format!(
        "imgsync:\n  cache:\n    upstreams:\n    - {{prefix: docker.io, remoteurl: 'http://{}'}}\n    \
         - {{prefix: ghcr.io, remoteurl: 'http://{}', namespaces: [packages.example]}}\n",
        hub.address(),
        other.address(),
    ));
    let manifest_of = |target: &str| {
        let reply = cache.get(target);
        (
            reply.status,
            reply.header("docker-content-digest").map(str::to_owned),
        )
    };
    for (target, found) in [
        // By the upstream's name.
        (
            "/v2/docker.io/library/nginx/manifests/v1".to_owned(),
            &nginx,
        ),
        ("/v2/docker.io/nginx/manifests/v1".to_owned(), &nginx),
        ("/v2/ghcr.io/owner/app/manifests/v1".to_owned(), &app),
        // As containerd asks.
        (
            "/v2/library/nginx/manifests/v1?ns=docker.io".to_owned(),
            &nginx,
        ),
        ("/v2/owner/app/manifests/v1?ns=ghcr.io".to_owned(), &app),
        (
            "/v2/owner/app/manifests/v1?ns=packages.example".to_owned(),
            &app,
        ),
        (
            format!("/v2/owner/app/manifests/v1?ns={}", other.address()),
            &app,
        ),
        // As Docker's daemon does.
        ("/v2/library/nginx/manifests/v1".to_owned(), &nginx),
    ] {
        assert_eq!(
            manifest_of(&target),
            (200, Some(found.digest.clone())),
            "{target}"
        );
    }
    assert_eq!(manifest_of("/v2/owner/app/manifests/v1").0, 404);
    // A repository of ours counts more than a mirror's.
    let ours = image(25, 5_000);
    let push = |repository: &str, published: &Published| {
        for (name, bytes) in &published.blobs {
            let target = format!("/v2/{repository}/blobs/uploads/?digest={name}");
            assert_eq!(
                send(cache.address(), "POST", &target, &[], bytes).status,
                201
            );
        }
        let media_type = [("Content-Type", "application/vnd.oci.image.manifest.v1+json")];
        let target = format!("/v2/{repository}/manifests/v1");
        let put = send(
            cache.address(),
            "PUT",
            &target,
            &media_type,
            &published.manifest,
        );
        assert_eq!(put.status, 201, "{}", put.text());
    };
    let published = Upstream::start().put("x", "v1", &ours);
    push("library/nginx", &published);
    let found = manifest_of("/v2/library/nginx/manifests/v1");
    assert_eq!(found, (200, Some(published.digest.clone())));
    let found = manifest_of("/v2/docker.io/library/nginx/manifests/v1");
    assert_eq!(found, (200, Some(nginx.digest.clone())));
    // No push of ours depends on whether a mirror's upstream answers.
    hub.behave(|manners| manners.is_down = true);
    let target = format!("/v2/team/new/blobs/{}", published.blobs[0].0);
    assert_eq!(send(cache.address(), "HEAD", &target, &[], b"").status, 404);
    assert_eq!(cache.get("/v2/team/new/manifests/v1").status, 404);
    push("team/new", &published);
}

#[test]
fn a_mirror_can_be_open_to_all_while_everything_else_needs_a_login() {
    let hub = Upstream::start();
    let nginx = hub.put("library/nginx", "v1", &image(27, 5_000));
    let scratch = Scratch::new();
    let users = scratch.path("users");
    // alice, by the password "secret".
    std::fs::write(
        &users,
        "alice:$2y$04$fqgrNXsP1tvyvUnLXZoGcewmGdKRQOXcvKgLmpEqFxMpgMODcRUpa\n",
    )
    .unwrap();
    let cache = Cache::with(&format!(
        "auth: {{htpasswd: {{realm: here, path: {users:?}}}}}\nimgsync:\n  anonymous: {{pull: ['docker.io/**']}}\n  \
         cache: {{upstreams: [{{prefix: docker.io, remoteurl: 'http://{}'}}]}}\n",
        hub.address(),
    ));
    let token = |query: &str, login: Option<&str>| {
        let login = login.map(|login| format!("Basic {}", STANDARD.encode(login)));
        let headers: Vec<_> = login
            .iter()
            .map(|it| ("Authorization", it.as_str()))
            .collect();
        let target = format!("/v2/_imgsync/token?service=here{query}");
        let reply = send(cache.address(), "GET", &target, &headers, b"");
        let token =
            (reply.status == 200).then(|| reply.json()["token"].as_str().unwrap().to_owned());
        (reply.status, token)
    };
    let ask = |target: &str, token: &str| {
        let bearer = format!("Bearer {token}");
        send(
            cache.address(),
            "GET",
            target,
            &[("Authorization", &bearer)],
            b"",
        )
    };
    let pulls = "&scope=repository:library/nginx:pull";
    // Nobody, and somebody whom only the Hub knows.
    for login in [None, Some("hubuser:hubpassword")] {
        let (status, token) = token(pulls, login);
        assert_eq!(status, 200, "{login:?}");
        let token = token.unwrap();
        let reply = ask("/v2/library/nginx/manifests/v1", &token);
        assert_eq!(
            (reply.status, &reply.body),
            (200, &nginx.manifest),
            "{}",
            reply.text()
        );
        for other in [
            "/v2/team/app/tags/list?ns=evil.example",
            "/v2/_catalog",
            "/v2/",
        ] {
            assert_eq!(ask(other, &token).status, 401, "{other}");
        }
    }
    // A login that is wrong is wrong wherever it asks for more, or for nothing.
    for query in [
        "",
        "&scope=repository:library/nginx:pull,push",
        "&scope=registry:catalog:*",
    ] {
        assert_eq!(token(query, Some("hubuser:hubpassword")).0, 401, "{query}");
    }
    // What may not be read answers as what is not there, mirror or not.
    let (_, anonymous) = token(pulls, None);
    let anonymous = anonymous.unwrap();
    assert_eq!(
        ask("/v2/ghcr.io/owner/app/manifests/v1", &anonymous).status,
        404
    );
    assert_eq!(ask("/v2/team/private/manifests/v1", &anonymous).status, 404);
}

#[test]
fn lists_show_what_is_there_and_what_is_only_here() {
    let upstream = Upstream::start();
    let published = upstream.put("team/app", "v1", &image(29, 5_000));
    upstream.put("team/app", "v2", &image(30, 5_000));
    let cache = Cache::before(&upstream, FRESH, "");
    pull(cache.address(), &published);
    let media_type = [("Content-Type", "application/vnd.oci.image.manifest.v1+json")];
    let put = send(
        cache.address(),
        "PUT",
        &manifest("ours"),
        &media_type,
        &published.manifest,
    );
    assert_eq!(put.status, 201, "{}", put.text());
    let tags = format!("/v2/{PREFIX}/team/app/tags/list");
    assert_eq!(
        cache.get(&tags).json()["tags"],
        serde_json::json!(["ours", "v1", "v2"])
    );
    let page = cache.get(&format!("{tags}?n=2"));
    assert_eq!(page.json()["tags"], serde_json::json!(["ours", "v1"]));
    assert!(page.header("link").unwrap().contains("last=v1"), "{page:?}");

    let signature = serde_json::json!({
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": digest(b"signature"), "size": 9, "artifactType": "application/x.signature",
    });
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [signature]});
    upstream.refer("team/app", &published.digest, index.to_string());
    let referrers = format!("/v2/{PREFIX}/team/app/referrers/{}", published.digest);
    let listed = cache.get(&referrers).json();
    assert_eq!(listed["manifests"], serde_json::json!([signature]));
    let sifted = cache.get(&format!("{referrers}?artifactType=other")).json();
    assert_eq!(sifted["manifests"], serde_json::json!([]));

    // Who cannot be asked is not taken for one who says that nobody signed it.
    upstream.behave(|manners| manners.is_down = true);
    let fetched = upstream.put("team/app", "v3", &image(28, 5_000)).digest;
    let of = |digest: &str| cache.get(&format!("/v2/{PREFIX}/team/app/referrers/{digest}"));
    of(&fetched).refused(502, "UNAVAILABLE");
    let ours = of(&published.digest);
    assert_eq!(ours.json()["manifests"], serde_json::json!([]));
    assert!(ours.header("warning").is_some());
}

#[test]
fn a_blob_is_served_under_those_names_only_that_the_upstream_has_it_under() {
    let upstream = Upstream::start();
    let shared = image(31, 1 << 20);
    let published = upstream.put("team/app", "v1", &shared);
    upstream.put("other/app", "v1", &shared);
    upstream.put("secret/app", "v1", &image(33, 5_000));
    let cache = Cache::before(&upstream, FRESH, "");
    let (name, bytes) = &published.blobs[0];
    let of = |repository: &str| format!("/v2/{PREFIX}/{repository}/blobs/{name}");
    upstream.behave(|manners| manners.hold = Some(100_000));
    let mut first = open(cache.address(), &of("team/app"), "");
    first.take(1000);
    // While it is fetched for another repository, and after.
    let mut second = open(cache.address(), &of("other/app"), "");
    second.take(1000);
    cache.get(&of("secret/app")).refused(404, "BLOB_UNKNOWN");
    upstream.behave(|manners| manners.hold = None);
    assert_eq!(
        (first.rest().len(), second.rest().len()),
        (bytes.len() - 1000, bytes.len() - 1000)
    );
    cache.get(&of("secret/app")).refused(404, "BLOB_UNKNOWN");
    upstream.behave(|manners| manners.is_down = true);
    for repository in ["team/app", "other/app"] {
        assert!(cache.get(&of(repository)).body == *bytes);
    }
    assert_eq!(upstream.count("GET", name), 1);

    // Who asks for a blob as if it were a manifest hides it from nobody.
    upstream.behave(|manners| manners.is_down = false);
    let (config, bytes) = published.blobs.last().unwrap();
    cache
        .get(&manifest(config))
        .refused(404, "MANIFEST_UNKNOWN");
    assert!(cache.get(&blob(config)).body == *bytes);
}

#[test]
fn the_stock_section_works_beside_pushes() {
    let upstream = Upstream::start();
    let theirs = upstream.put("library/nginx", "v1", &image(37, 50_000));
    let (there, ours) = (Upstream::start(), image(38, 50_000));
    let ours = there.put("x", "v1", &ours);
    let cache = Cache::with(&format!(
        "proxy: {{remoteurl: 'http://{}', ttl: 1h}}\n",
        upstream.address()
    ));
    let check = |name: &str, published: &Published| {
        let reply = cache.get(&format!("/v2/{name}/manifests/v1"));
        assert!(reply.body == published.manifest, "{}", reply.text());
        for (digest, bytes) in &published.blobs {
            assert!(cache.get(&format!("/v2/{name}/blobs/{digest}")).body == *bytes);
        }
    };
    check("library/nginx", &theirs);
    for state in ["up", "down"] {
        upstream.behave(|manners| manners.is_down = state == "down");
        let name = format!("team/{state}");
        for (digest, bytes) in &ours.blobs {
            let target = format!("/v2/{name}/blobs/{digest}");
            assert_eq!(send(cache.address(), "HEAD", &target, &[], b"").status, 404);
            let target = format!("/v2/{name}/blobs/uploads/?digest={digest}");
            assert_eq!(
                send(cache.address(), "POST", &target, &[], bytes).status,
                201
            );
        }
        let media_type = [("Content-Type", "application/vnd.oci.image.manifest.v1+json")];
        let target = format!("/v2/{name}/manifests/v1");
        let put = send(cache.address(), "PUT", &target, &media_type, &ours.manifest);
        assert_eq!(put.status, 201, "{}", put.text());
        check(&name, &ours);
        check("library/nginx", &theirs);
    }
}

/// Makes all that is noted about what was fetched for a repository so much older.
fn age(root: &Path, repository: &str, by: Duration) {
    let mut open = vec![root.join("imgsync")];
    let mut aged = 0;
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path
                .display()
                .to_string()
                .contains(&format!("{repository}/_marks/"))
            {
                let file = std::fs::File::options().append(true).open(&path).unwrap();
                let before = file.metadata().unwrap().modified().unwrap();
                file.set_modified(before - by).unwrap();
                aged += 1;
            }
        }
    }
    assert!(aged > 0, "nothing is noted of {repository}");
}

#[test]
fn a_full_cache_lets_go_of_what_was_used_longest_ago_and_of_nothing_else() {
    let upstream = Upstream::start();
    let with = |seed| {
        Image::new(vec![
            layer("shared", noise(50, 200_000)),
            layer("own", noise(seed, 300_000)),
        ])
    };
    let (old, new) = (with(51), with(52));
    let (old, new) = (
        upstream.put("team/old", "v1", &old),
        upstream.put("team/new", "v1", &new),
    );
    let mut cache = Cache::before(&upstream, FRESH, "");
    let pull = |cache: &Cache, repository: &str, published: &Published| {
        let at = |rest: &str| cache.get(&format!("/v2/{repository}/{rest}"));
        let manifest = at("manifests/v1");
        assert!(manifest.body == published.manifest, "{}", manifest.text());
        for (name, bytes) in &published.blobs {
            assert!(
                at(&format!("blobs/{name}")).body == *bytes,
                "{repository}: {name}"
            );
        }
    };
    pull(&cache, "up.example/team/old", &old);
    pull(&cache, "up.example/team/new", &new);
    // Ours has blobs that were fetched, and more than the cache may have.
    let ours = Upstream::start().put("x", "v1", &with(53));
    for (name, bytes) in &ours.blobs {
        let target = format!("/v2/team/ours/blobs/uploads/?digest={name}");
        assert_eq!(
            send(cache.address(), "POST", &target, &[], bytes).status,
            201
        );
    }
    let media_type = [("Content-Type", "application/vnd.oci.image.manifest.v1+json")];
    let target = "/v2/team/ours/manifests/v1";
    let put = send(cache.address(), "PUT", target, &media_type, &ours.manifest);
    assert_eq!(put.status, 201, "{}", put.text());

    assert!(cache.server.stop().success());
    let root = cache.scratch.path("registry");
    age(&root, "team/old", Duration::from_secs(2 * 3600));
    age(&root, "team/new", Duration::from_secs(3600));
    let config = cache.scratch.path("config.yml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(
        &config,
        text.replace("cache: {", "cache: {maxbytes: 600kB, "),
    )
    .unwrap();
    upstream.behave(|manners| manners.is_down = true);
    cache.restart();
    until("room to be made", || {
        (cache.metric("imgsync_cache_evicted_images_total") > 0).then_some(())
    });
    pull(&cache, "up.example/team/new", &new);
    pull(&cache, "team/ours", &ours);
    let gone = cache.get("/v2/up.example/team/old/manifests/v1");
    gone.refused(502, "UNAVAILABLE");
    upstream.behave(|manners| manners.is_down = false);
    pull(&cache, "up.example/team/old", &old);
}

#[test]
fn an_upstream_that_says_nothing_keeps_nobody_waiting_for_long() {
    let upstream = Upstream::start();
    let published = upstream.put("team/app", "v1", &image(35, 5_000));
    let cache = Cache::before(&upstream, STALE, "");
    pull(cache.address(), &published);
    upstream.behave(|manners| manners.is_silent = true);
    // The client of this test gives up after a minute.
    let stale = cache.get(&manifest("v1"));
    assert_eq!((stale.status, &stale.body), (200, &published.manifest));
    assert!(stale.header("warning").is_some());
    // The next one does not wait at all: it is not asked.
    let asked = upstream.seen().len();
    assert!(cache.get(&manifest("v1")).header("warning").is_some());
    assert_eq!(upstream.seen().len(), asked);
    upstream.behave(|manners| manners.is_silent = false);
}

#[test]
fn memory_stays_small_whatever_is_pulled_and_however_slowly() {
    let upstream = Upstream::start();
    let large = Image::new(
        (0..6)
            .map(|seed| layer("large", noise(40 + seed, 24 << 20)))
            .collect(),
    );
    let published = upstream.put("team/app", "v1", &large);
    let cache = Cache::before(&upstream, FRESH, "");
    let address = cache.address();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            // Readers of all layers at once, all of which begin before any goes on.
            let begun: Vec<_> = published
                .blobs
                .iter()
                .map(|(digest, bytes)| {
                    let mut answer = open(address, &blob(digest), "");
                    let start = answer.take(1);
                    (answer, start, bytes)
                })
                .collect();
            scope.spawn(|| {
                for (answer, mut bytes, expected) in begun {
                    bytes.extend(answer.rest());
                    assert!(bytes == *expected);
                }
            });
        }
    });
    for (digest, _) in &published.blobs {
        assert_eq!(upstream.count("GET", digest), 1);
    }
    let peak = cache.server.peak_memory();
    assert!(peak < 50_000_000, "{peak} bytes at the most");
}
