//! Tests the pull-through cache with an upstream whose faults each test selects.

mod fetching;
mod freshness;
mod logins;
mod names;
mod pushes;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::support::http::{Response, get};
use crate::support::prelude::*;
use crate::support::upstream::PublishedImage;

/// The prefix of the upstream.
const PREFIX: &str = "up.example";
const LONG_FRESHNESS: &str = "1h";
const NO_FRESHNESS: &str = "0s";

/// A server with a cache of an upstream.
struct CacheFixture {
    scratch: Scratch,
    server: Server,
}

impl CacheFixture {
    /// Starts a cache of this upstream. `extra_config` is added to the upstream's entry.
    fn start(upstream: &Upstream, freshness: &str, extra_config: &str) -> Self {
        Self::start_at(upstream.address(), freshness, extra_config)
    }

    fn start_at(upstream: SocketAddr, freshness: &str, extra_config: &str) -> Self {
        let entry = format!(
            "{{prefix: {PREFIX}, remoteurl: 'http://{upstream}', freshness: {freshness}{extra_config}}}"
        );
        Self::start_with(&format!("imgsync: {{cache: {{upstreams: [{entry}]}}}}\n"))
    }

    fn start_with(extra_config: &str) -> Self {
        let scratch = Scratch::new();
        let root = scratch.path("registry");
        let config = format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {root:?}}}, delete: {{enabled: true}}}}\n\
             http:\n  addr: 127.0.0.1:0\n  draintimeout: 10s\n  debug:\n    addr: 127.0.0.1:0\n    prometheus: {{enabled: true}}\n{extra_config}"
        );
        std::fs::write(scratch.path("config.yml"), config).unwrap();
        let server = Server::start_configured(&scratch.path("config.yml"), &root);
        Self { scratch, server }
    }

    fn address(&self) -> SocketAddr {
        self.server.address()
    }

    fn get(&self, target: &str) -> Response {
        get(self.address(), target)
    }

    /// Returns a metric by its name and labels.
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

    /// Restarts the server in read-only mode.
    fn restart_read_only(&mut self) {
        let path = self.scratch.path("config.yml");
        let config = std::fs::read_to_string(&path).unwrap();
        let storage = "storage: {maintenance: {readonly: {enabled: true}}, ";
        std::fs::write(path, config.replace("storage: {", storage)).unwrap();
        self.restart();
    }

    fn restart(&mut self) {
        let root = self.scratch.path("registry");
        self.server = Server::start_configured(&self.scratch.path("config.yml"), &root);
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

/// Pulls an image and checks every byte.
fn pull(address: SocketAddr, published: &PublishedImage) {
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
        assert!(reply.body == *bytes, "{name} has wrong bytes");
    }
}

/// A response that is read in pieces.
struct RawResponse {
    stream: BufReader<TcpStream>,
    status: u16,
    length: usize,
    head: String,
}

impl RawResponse {
    fn take(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.stream.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// Returns the rest of the body, even if it is incomplete.
    fn rest(mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let _ = self.stream.read_to_end(&mut bytes);
        bytes
    }
}

fn open_get(address: SocketAddr, target: &str, headers: &str) -> RawResponse {
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
    RawResponse {
        stream,
        status,
        length,
        head,
    }
}
