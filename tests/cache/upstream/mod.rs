//! The pull-through cache: imgsync-server before a registry that misbehaves on order.

mod fetching;
mod freshness;
mod logins;
mod names;
mod pushes;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use crate::support::http::{Response, get};
use crate::support::prelude::*;
use crate::support::upstream::PublishedImage;

/// What names of the upstream begin with here.
const PREFIX: &str = "up.example";
const FRESH: &str = "1h";
const STALE: &str = "0s";

/// A cache before an upstream.
struct CacheFixture {
    scratch: Scratch,
    server: Server,
}

impl CacheFixture {
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
        let server = Server::start_configured(&scratch.path("config.yml"), &root);
        Self { scratch, server }
    }

    fn address(&self) -> SocketAddr {
        self.server.address()
    }

    fn get(&self, target: &str) -> Response {
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

/// Pulls all of an image as a client does, and checks every byte.
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
        assert!(reply.body == *bytes, "{name} came with other bytes");
    }
}

/// An answer that is read bit by bit.
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

    /// All that comes, complete or not.
    fn rest(mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let _ = self.stream.read_to_end(&mut bytes);
        bytes
    }
}

fn open(address: SocketAddr, target: &str, headers: &str) -> RawResponse {
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

/// An address where nobody listens.
fn nowhere() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}
