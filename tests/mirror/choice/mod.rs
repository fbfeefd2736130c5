//! Which tags a mirror brings and prunes, what it says, and how it ends: the real tool between real
//! servers.

mod output;
mod prune;
mod rules;

use crate::support::prelude::*;
use serde_json::json;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Two registries and a user.
struct MirrorFixture {
    scratch: Scratch,
    imgsync: Imgsync,
    source: Server,
    target: Server,
}

impl MirrorFixture {
    fn new() -> Self {
        let scratch = Scratch::new();
        Self {
            imgsync: Imgsync::new(&scratch.folder("home")),
            source: Server::start(&scratch.folder("source")),
            target: Server::start(&scratch.folder("target")),
            scratch,
        }
    }

    /// Puts an image of its own under each of these tags at the source.
    fn with(tags: &[&str]) -> Self {
        let fixture = Self::new();
        for tag in tags {
            put(fixture.source.address(), tag, tag, "2023-11-14T22:13:20Z");
        }
        fixture
    }

    fn from(&self) -> String {
        format!("{}/team/app", self.source.address())
    }

    fn to(&self) -> String {
        format!("{}/copy/app", self.target.address())
    }

    /// `imgsync mirror OPTIONS… SOURCE TARGET`
    fn mirror(&self, options: &[&str]) -> Outcome {
        let (from, to) = (self.from(), self.to());
        let mut words = vec!["mirror"];
        words.extend(options);
        words.extend([&*from, &*to]);
        self.run(&words)
    }

    fn run(&self, words: &[&str]) -> Outcome {
        run(self.imgsync.command().args(words))
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.scratch.path(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn at_target(&self) -> Vec<String> {
        tags(self.target.address(), "copy/app")
    }
}

/// A repository's tags, sorted.
fn tags(address: SocketAddr, repository: &str) -> Vec<String> {
    let reply = http::get(address, &format!("/v2/{repository}/tags/list"));
    if reply.status == 404 {
        return Vec::new();
    }
    let list = reply.json();
    let tags = list["tags"].as_array().into_iter().flatten();
    let mut tags: Vec<_> = tags.map(|tag| tag.as_str().unwrap().to_owned()).collect();
    tags.sort();
    tags
}

/// The digest that a tag names; empty for none.
fn named(address: SocketAddr, repository: &str, tag: &str) -> String {
    let reply = http::get(address, &format!("/v2/{repository}/manifests/{tag}"));
    let header = reply.header("docker-content-digest").unwrap_or_default();
    header.to_owned()
}

/// Puts an image made of this content, at this time, under a tag of `team/app`; yields its layer's
/// digest.
fn put(address: SocketAddr, tag: &str, content: &str, created: &str) -> String {
    let layer = format!("no tar, but nobody looks into it here: {content}");
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "created": created,
        "rootfs": {"type": "layers", "diff_ids": [digest(layer.as_bytes())]},
    });
    let config = config.to_string();
    let descriptor = |kind: &str, bytes: &str| {
        let media_type = format!("application/vnd.oci.image.{kind}");
        json!({"mediaType": media_type, "digest": digest(bytes.as_bytes()), "size": bytes.len()})
    };
    for blob in [&layer, &config] {
        upload(address, "team/app", blob.as_bytes());
    }
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor("config.v1+json", &config),
        "layers": [descriptor("layer.v1.tar", &layer)],
    });
    tag_as(address, "team/app", tag, manifest.to_string().as_bytes());
    digest(layer.as_bytes())
}

fn upload(address: SocketAddr, repository: &str, blob: &[u8]) {
    let target = format!("/v2/{repository}/blobs/uploads/");
    let opened = http::send(address, "POST", &target, &[], b"");
    assert_eq!(opened.status, 202, "{}", opened.text());
    let place = opened.header("location").unwrap();
    let place = match place.split_once("://") {
        Some((_, rest)) => rest[rest.find('/').unwrap()..].to_owned(),
        None => place.to_owned(),
    };
    let mark = if place.contains('?') { '&' } else { '?' };
    let target = format!("{place}{mark}digest={}", digest(blob));
    let headers = [("Content-Type", "application/octet-stream")];
    let reply = http::send(address, "PUT", &target, &headers, blob);
    assert_eq!(reply.status, 201, "{}", reply.text());
}

fn tag_as(address: SocketAddr, repository: &str, tag: &str, manifest: &[u8]) {
    let target = format!("/v2/{repository}/manifests/{tag}");
    let reply = http::send(
        address,
        "PUT",
        &target,
        &[("Content-Type", MANIFEST)],
        manifest,
    );
    assert_eq!(reply.status, 201, "{}", reply.text());
}

/// The lines of stdout that speak of these tags, by their ends.
fn line<'a>(outcome: &'a Outcome, tag: &str) -> &'a str {
    let end = format!(":{tag}: ");
    let mut lines = outcome
        .stdout
        .lines()
        .filter_map(|line| Some(line.split_once(&end)?.1));
    lines
        .next()
        .unwrap_or_else(|| panic!("no line of {tag}: {outcome}"))
}

fn last_line(outcome: &Outcome) -> &str {
    outcome.stdout.lines().last().unwrap_or_default()
}
