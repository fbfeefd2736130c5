//! Tests which tags a mirror selects and prunes, its output and its exit codes.

mod output;
mod prune;
mod rules;

use crate::support::prelude::*;
use serde_json::json;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Two registries and the tool.
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

    /// Creates the registries and pushes a different image under each of these tags to the source.
    fn with_tags(tags: &[&str]) -> Self {
        let fixture = Self::new();
        for tag in tags {
            push_image(fixture.source.address(), tag, tag, "2023-11-14T22:13:20Z");
        }
        fixture
    }

    fn from(&self) -> String {
        format!("{}/team/app", self.source.address())
    }

    fn to(&self) -> String {
        format!("{}/copy/app", self.target.address())
    }

    /// Runs `imgsync mirror OPTIONS… SOURCE TARGET`.
    fn mirror(&self, options: &[&str]) -> Outcome {
        let (from, to) = (self.from(), self.to());
        let mut arguments = vec!["mirror"];
        arguments.extend(options);
        arguments.extend([&*from, &*to]);
        self.run(&arguments)
    }

    fn run(&self, arguments: &[&str]) -> Outcome {
        run(self.imgsync.command().args(arguments))
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.scratch.path(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn target_tags(&self) -> Vec<String> {
        tags(self.target.address(), "copy/app")
    }
}

/// Returns the tags of a repository, sorted.
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

/// Returns the digest that a tag points at, or an empty text.
fn tag_digest(address: SocketAddr, repository: &str, tag: &str) -> String {
    let reply = http::get(address, &format!("/v2/{repository}/manifests/{tag}"));
    let header = reply.header("docker-content-digest").unwrap_or_default();
    header.to_owned()
}

/// Pushes an image with this content and creation time under a tag of `team/app`. Returns the
/// digest of its layer.
fn push_image(address: SocketAddr, tag: &str, content: &str, created: &str) -> String {
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
    push_manifest(address, "team/app", tag, manifest.to_string().as_bytes());
    digest(layer.as_bytes())
}

fn upload(address: SocketAddr, repository: &str, blob: &[u8]) {
    let target = format!("/v2/{repository}/blobs/uploads/");
    let opened = http::send(address, "POST", &target, &[], b"");
    assert_eq!(opened.status, 202, "{}", opened.text());
    let location = opened.header("location").unwrap();
    let location = match location.split_once("://") {
        Some((_, rest)) => rest[rest.find('/').unwrap()..].to_owned(),
        None => location.to_owned(),
    };
    let separator = if location.contains('?') { '&' } else { '?' };
    let target = format!("{location}{separator}digest={}", digest(blob));
    let headers = [("Content-Type", "application/octet-stream")];
    let reply = http::send(address, "PUT", &target, &headers, blob);
    assert_eq!(reply.status, 201, "{}", reply.text());
}

fn push_manifest(address: SocketAddr, repository: &str, tag: &str, manifest: &[u8]) {
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

/// Returns the text after `:TAG: ` on the line of stdout for a tag.
fn line_of<'a>(outcome: &'a Outcome, tag: &str) -> &'a str {
    let separator = format!(":{tag}: ");
    let mut lines = outcome
        .stdout
        .lines()
        .filter_map(|line| Some(line.split_once(&separator)?.1));
    lines
        .next()
        .unwrap_or_else(|| panic!("no line of {tag}: {outcome}"))
}

fn last_line(outcome: &Outcome) -> &str {
    outcome.stdout.lines().last().unwrap_or_default()
}
