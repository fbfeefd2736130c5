//! Which tags a mirror brings and prunes, what it says, and how it ends: the real tool between real
//! servers.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test may panic, and says what it skips"
)]

mod support;

use std::net::SocketAddr;
use std::path::PathBuf;

use serde_json::{Value, json};
use support::bytes::digest;
use support::docker::unique;
use support::peers::present;
use support::process::Process;
use support::run::{Outcome, run};
use support::{DockerImage, Imgsync, Scratch, Server, http};

/// `secret`, by `htpasswd -Bbn alice secret`.
const HTPASSWD: &str = "alice:$2y$05$QPa1xegaJPiCtMHwmQ.0x.Tp5gZebiXTQONeDUdL3y1Fn8AElzEdK\n";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Two registries and a user.
struct World {
    scratch: Scratch,
    imgsync: Imgsync,
    source: Server,
    target: Server,
}

impl World {
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
        let world = Self::new();
        for tag in tags {
            put(world.source.address(), tag, tag, "2023-11-14T22:13:20Z");
        }
        world
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

fn untag(address: SocketAddr, repository: &str, tag: &str) {
    let target = format!("/v2/{repository}/manifests/{tag}");
    let reply = http::send(address, "DELETE", &target, &[], b"");
    assert_eq!(reply.status, 202, "{}", reply.text());
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

#[test]
fn rules_choose_and_a_dry_run_says_why() {
    let all = [
        "1.0.0",
        "1.1.0",
        "1.2.0",
        "1.10.0",
        "2.0.0-rc1",
        "2.0.0",
        "1.10.0-alpine3.20",
        "1.2.0-alpine3.19",
        "latest",
        "nightly",
    ];
    let world = World::with(&all);
    let options = ["--semver", "^1", "--newest", "2", "--exclude", "1.1.*"];
    let dry = world
        .mirror(&[&options[..], &["--dry-run"]].concat())
        .succeeded();
    assert!(world.at_target().is_empty(), "{dry}");
    for (tag, says) in [
        ("1.10.0", "would be copied"),
        ("1.2.0", "would be copied"),
        ("1.1.0", "left out: excluded by 1.1.*"),
        ("1.0.0", "not among the 2 newest"),
        ("2.0.0", "not in ^1"),
        ("2.0.0-rc1", "variant or pre-release"),
        ("1.10.0-alpine3.20", "variant or pre-release"),
        ("latest", "is no version"),
    ] {
        assert!(line(&dry, tag).contains(says), "{tag}: {dry}");
    }
    assert!(last_line(&dry).contains("2 copied, 8 left out"), "{dry}");

    let done = world.mirror(&options).succeeded();
    assert_eq!(world.at_target(), ["1.10.0", "1.2.0"]);
    assert!(line(&done, "1.10.0").starts_with("copied, sent "), "{done}");
    assert!(!done.stdout.contains("left out:"), "{done}");
    for tag in world.at_target() {
        let source = named(world.source.address(), "team/app", &tag);
        assert_eq!(named(world.target.address(), "copy/app", &tag), source);
    }
    let again = world.mirror(&options).succeeded();
    assert_eq!(line(&again, "1.2.0"), "unchanged");
    assert!(
        last_line(&again).starts_with("2 unchanged, 8 left out; sent 0 B"),
        "{again}"
    );

    world
        .mirror(&["--tag", "*-alpine*", "--newest", "1"])
        .succeeded();
    world
        .mirror(&["--tag", "night*", "--tag-regex", "2\\.\\d+\\.\\d+"])
        .succeeded();
    let expected = ["1.10.0", "1.10.0-alpine3.20", "1.2.0", "2.0.0", "nightly"];
    assert_eq!(world.at_target(), expected);

    // One tag by itself, under another name.
    let (from, to) = (
        format!("{}:latest", world.from()),
        format!("{}:stable", world.to()),
    );
    world.run(&["mirror", &from, &to]).succeeded();
    assert!(world.at_target().contains(&"stable".to_owned()));
}

#[test]
fn dates_choose() {
    let world = World::new();
    let address = world.source.address();
    for (tag, created) in [
        ("a", "2021-01-01T00:00:00Z"),
        ("b", "2024-06-01T12:00:00.5+02:00"),
        ("c", "2023-01-01T00:00:00Z"),
        ("future", "2999-01-01T00:00:00Z"),
    ] {
        put(address, tag, tag, created);
    }
    let done = world.mirror(&["--newest", "2", "--by", "date", "--min-age", "7d", "-v"]);
    let done = done.succeeded();
    assert_eq!(world.at_target(), ["b", "c"]);
    assert!(line(&done, "future").contains("younger than 7 d"), "{done}");
    assert!(
        line(&done, "a").contains("not among the 2 newest"),
        "{done}"
    );
}

#[test]
fn only_what_the_mirror_brought_is_pruned() {
    let world = World::with(&["1.0", "1.1", "1.2"]);
    let (source, target) = (world.source.address(), world.target.address());
    // Somebody's own, which the rules do not want either.
    let theirs = |tag: &str| {
        let manifest = http::get(source, "/v2/team/app/manifests/1.0").body;
        let parts: Value = serde_json::from_slice(&manifest).unwrap();
        for part in [&parts["config"], &parts["layers"][0]] {
            let digest = part["digest"].as_str().unwrap();
            let blob = http::get(source, &format!("/v2/team/app/blobs/{digest}")).body;
            upload(target, "copy/app", &blob);
        }
        tag_as(target, "copy/app", tag, &manifest);
    };
    theirs("0.9");
    let options = ["--newest", "2", "--prune"];
    let first = world.mirror(&options).succeeded();
    assert!(
        first
            .stderr
            .contains("nothing is pruned: there is no record yet"),
        "{first}"
    );
    assert_eq!(world.at_target(), ["0.9", "1.1", "1.2"]);

    put(source, "1.3", "1.3", "2024-01-01T00:00:00Z");
    put(source, "1.4", "1.4", "2024-01-01T00:00:00Z");
    // A tag of ours becomes somebody else's.
    theirs("1.2");
    let dry = world
        .mirror(&["--newest", "2", "--prune", "--dry-run"])
        .succeeded();
    assert_eq!(
        line(&dry, "1.1"),
        "would be pruned: is not among the 2 newest"
    );
    assert_eq!(world.at_target(), ["0.9", "1.1", "1.2"]);
    let second = world.mirror(&options).succeeded();
    assert_eq!(line(&second, "1.1"), "pruned: is not among the 2 newest");
    assert!(
        line(&second, "1.2").contains("somebody moved it"),
        "{second}"
    );
    assert!(
        last_line(&second).starts_with("2 copied, 1 pruned, 1 kept"),
        "{second}"
    );
    assert_eq!(world.at_target(), ["0.9", "1.2", "1.3", "1.4"]);

    // Another user, without the record, prunes nothing.
    let other = Imgsync::new(&world.scratch.folder("other"));
    let (from, to) = (world.from(), world.to());
    let words = ["mirror", "--tag", "1.4", "--prune", &from, &to];
    let outcome = run(other.command().args(words)).succeeded();
    assert!(outcome.stderr.contains("nothing is pruned"), "{outcome}");
    assert_eq!(world.at_target(), ["0.9", "1.2", "1.3", "1.4"]);

    // Where nothing is wanted, something is wrong.
    let empty = world.mirror(&["--tag", "none", "--prune"]).succeeded();
    assert!(empty.stderr.contains("nothing is pruned"), "{empty}");
    assert_eq!(world.at_target(), ["0.9", "1.2", "1.3", "1.4"]);

    // What the source no longer has goes too; what was kept once is not ours any more.
    untag(source, "team/app", "1.3");
    let third = world.mirror(&["--prune"]).succeeded();
    assert_eq!(line(&third, "1.3"), "pruned: the source no longer has it");
    assert_eq!(world.at_target(), ["0.9", "1.0", "1.1", "1.2", "1.4"]);
}

#[test]
fn a_source_that_cannot_be_listed_prunes_nothing() {
    let mut world = World::with(&["1.0", "1.1"]);
    let state = world.scratch.path("state.json");
    let state = state.to_str().unwrap();
    world.mirror(&["--state", state]).succeeded();
    let record: Value = serde_json::from_slice(&std::fs::read(state).unwrap()).unwrap();
    let pair = format!("{} → {}", world.from(), world.to());
    let brought = named(world.source.address(), "team/app", "1.0");
    assert_eq!(record["mirrors"][&pair]["1.0"], json!([brought]));
    let gone = format!("{}/team/other", world.source.address());
    let to = world.to();
    world
        .run(&["mirror", "--prune", "--state", state, &gone, &to])
        .failed(3, &["source", "team/other"]);
    let from = world.from();
    world.source.kill();
    let outcome = world.run(&["mirror", "--prune", "--state", state, &from, &to]);
    outcome.failed(6, &["source"]);
    assert_eq!(world.at_target(), ["1.0", "1.1"]);
}

#[test]
fn exit_codes_tell_all_some_none_and_nothing() {
    let world = World::with(&["1.0", "1.1"]);
    let spoilt = put(world.source.address(), "1.2", "1.2", "2024-01-01T00:00:00Z");
    // The data of one blob is lost: the tag that needs it fails, and only that one.
    let hex = spoilt.trim_start_matches("sha256:");
    let blobs = world.source.root().join("docker/registry/v2/blobs/sha256");
    let data = blobs.join(&hex[..2]).join(hex).join("data");
    std::fs::remove_file(data).unwrap();

    let some = world.mirror(&["--exit-code"]).failed(7, &["1 of 3 failed"]);
    assert_eq!(world.at_target(), ["1.0", "1.1"]);
    assert!(line(&some, "1.2").starts_with("failed: source"), "{some}");
    assert!(last_line(&some).starts_with("2 copied, 1 failed"), "{some}");
    world
        .mirror(&["--tag", "1.2"])
        .failed(3, &["source: ", &hex[..12]]);
    let (from, to) = (format!("{}:1.2", world.from()), world.to());
    let one = world.run(&["mirror", &from, &to]).failed(3, &["source"]);
    assert_eq!(one.stdout, "", "{one}");

    let idle = ["--tag", "1.[01]"];
    assert_eq!(world.mirror(&idle).code, Some(0));
    assert_eq!(
        world.mirror(&[&idle[..], &["--exit-code"]].concat()).code,
        Some(8)
    );
    assert_eq!(
        world.mirror(&["--tag", "none", "--exit-code"]).code,
        Some(8)
    );
    world.mirror(&["--tag", "["]).failed(2, &["--tag", "glob"]);
    world.mirror(&["--semver", "new"]).failed(2, &["--semver"]);
    world
        .run(&["mirror", &from, &to, "--prune"])
        .failed(2, &["prun"]);
    world.run(&["mirror"]).failed(2, &["SOURCE"]);
}

#[test]
fn json_is_one_event_a_line() {
    let world = World::with(&["1.0", "1.1"]);
    world.mirror(&["--tag", "1.0"]).succeeded();
    let done = world.mirror(&["--json"]).succeeded();
    let events: Vec<Value> = done
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let of = |name: &str| -> Vec<&Value> {
        events
            .iter()
            .filter(|event| event["event"] == name)
            .collect()
    };
    let begun = of("mirror");
    assert_eq!((begun.len(), &begun[0]["tags"]), (1, &json!(2)), "{done}");
    let tag = |name: &str| {
        let target = format!("{}:{name}", world.to());
        let found = of("tag")
            .into_iter()
            .find(|event| event["target"] == target.as_str());
        found.unwrap_or_else(|| panic!("{name}: {done}")).clone()
    };
    assert_eq!(tag("1.0")["state"], "unchanged");
    let new = tag("1.1");
    assert_eq!(new["state"], "copied");
    assert_eq!(new["before"], Value::Null);
    assert_eq!(
        new["digest"],
        named(world.target.address(), "copy/app", "1.1").as_str()
    );
    assert!(
        new["sent"].as_u64().unwrap() > 0 && new["dry"] == false,
        "{new}"
    );
    let sum = of("summary");
    assert_eq!(
        (&sum[0]["copied"], &sum[0]["unchanged"]),
        (&json!(1), &json!(1)),
        "{done}"
    );
}

#[test]
fn a_file_of_mirrors() {
    let world = World::with(&["1.0", "1.1", "2.0"]);
    let secured = world.file("users", HTPASSWD);
    let root = world.scratch.folder("secured");
    let config = world.file(
        "server.yml",
        &format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: '{}'}}}}\nhttp: {{addr: \
             '127.0.0.1:0'}}\nauth: {{htpasswd: {{realm: r, path: '{}'}}}}\n",
            root.display(),
            secured.display()
        ),
    );
    let safe = Server::configured(&config, &root);
    world.file("password", "secret\n");
    let (from, to, safe) = (world.from(), world.to(), safe.address());
    let mirrors = |password: &str, extra: &str| {
        format!(
            "defaults:\n  newest: 1\nregistries:\n  '{safe}':\n    username: alice\n    \
             {password}\nmirrors:\n  - source: {from}\n    target: {to}\n  - source: {from}\n    \
             target: {safe}/deep/app\n    semver: ^1\n{extra}"
        )
    };
    let file = world.file("mirrors.yaml", &mirrors("passwordFile: password", ""));
    let file = file.to_str().unwrap();
    let done = world.run(&["mirror", "--config", file]).succeeded();
    assert_eq!(world.at_target(), ["2.0"]);
    assert!(
        done.stdout
            .contains(&format!("{safe}/deep/app:1.1: copied")),
        "{done}"
    );
    assert!(last_line(&done).starts_with("2 copied"), "{done}");
    assert!(!format!("{done}").contains("secret"), "{done}");

    // One that cannot be reached stops no other.
    world.mirror(&["--tag", "1.0"]).succeeded();
    let extra = format!(
        "  - {{source: '127.0.0.1:9/x', target: '{to}'}}\n  - source: {from}:1.0\n    target: {to}:other\n"
    );
    let file = world.file("more.yaml", &mirrors("passwordFile: password", &extra));
    let some = world.run(&["mirror", "--config", file.to_str().unwrap()]);
    let some = some.failed(7, &["1 of 4 failed"]);
    assert!(some.stdout.contains("failed: source"), "{some}");
    assert_eq!(world.at_target(), ["1.0", "2.0", "other"]);

    // A password that is wrong, or missing, or in a wrong place.
    let wrong = world.file("wrong", "wrong");
    let name = wrong.file_name().unwrap().to_str().unwrap();
    let file = world.file("c.yaml", &mirrors(&format!("passwordFile: {name}"), ""));
    world
        .run(&["mirror", "--config", file.to_str().unwrap()])
        .failed(7, &["failed"]);
    let file = world.file("d.yaml", &mirrors("passwordEnv: NOT_SET", ""));
    let words = ["mirror", "--config", file.to_str().unwrap()];
    world.run(&words).failed(2, &["NOT_SET"]);
    let mut command = world.imgsync.command();
    run(command.args(words).env("NOT_SET", "secret")).succeeded();
    let file = world.file("e.yaml", &mirrors("password: hunter2", ""));
    let outcome = world.run(&["mirror", "--config", file.to_str().unwrap()]);
    let outcome = outcome.failed(2, &["e.yaml", "line 6", "passwordFile"]);
    assert!(!format!("{outcome}").contains("hunter2"), "{outcome}");
    let file = world.file(
        "f.yaml",
        "mirrors:\n  - {source: nginx, target: a.io, tagz: [x]}\n",
    );
    let outcome = world.run(&["mirror", "--config", file.to_str().unwrap()]);
    outcome.failed(2, &["line 2", "do you mean tags?"]);
}

#[test]
fn each_side_has_its_own_login() {
    let world = World::with(&["1.0"]);
    let secured = world.file("users", HTPASSWD);
    let root = world.scratch.folder("secured");
    let config = world.file(
        "server.yml",
        &format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: '{}'}}}}\nhttp: {{addr: \
             '127.0.0.1:0'}}\nauth: {{htpasswd: {{realm: r, path: '{}'}}}}\n",
            root.display(),
            secured.display()
        ),
    );
    let safe = Server::configured(&config, &root);
    let to = format!("{}/deep/app", safe.address());
    let from = world.from();
    world.run(&["mirror", &from, &to]).failed(5, &["target"]);
    let command = || {
        let mut command = world.imgsync.command();
        command.arg("mirror");
        command
    };
    let login = |command: &mut std::process::Command, side: &str, password: &str| {
        command.env(format!("IMGSYNC{side}_USERNAME"), "alice");
        command.env(format!("IMGSYNC{side}_PASSWORD"), password);
    };
    // The target's password is nobody's business at the source, which would refuse it.
    let mut inward = command();
    login(&mut inward, "", "secret");
    run(inward.args([&*from, &*to])).succeeded();
    let mut outward = command();
    login(&mut outward, "", "wrong");
    login(&mut outward, "_SOURCE", "secret");
    run(outward.args([&*to, &*world.to()])).succeeded();
    assert_eq!(world.at_target(), ["1.0"]);
    let mut refused = command();
    login(&mut refused, "", "secret");
    let words = [&*to, &*world.to(), "--tag", "*"];
    run(refused.args(words)).failed(5, &["source"]);
    let words = [&*from, "oci:x", "--username", "alice", "--password-stdin"];
    run(command().args(words)).failed(2, &["--source-username"]);
}

#[test]
fn what_speaks_about_a_pruned_image_goes_with_it() {
    let world = World::with(&["1.0", "1.1"]);
    let source = world.source.address();
    let signature = |tag: &str| {
        let name = named(source, "team/app", tag).replace(':', "-");
        format!("{name}.sig")
    };
    let signatures = ["1.0", "1.1"].map(|tag| {
        let signature = signature(tag);
        put(source, &signature, &signature, "2023-11-14T22:13:20Z");
        signature
    });
    let done = world.mirror(&["--tag", "1.*"]).succeeded();
    let mut expected = vec!["1.0".to_owned(), "1.1".to_owned()];
    expected.extend(signatures.clone());
    expected.sort();
    assert_eq!(world.at_target(), expected, "{done}");
    assert!(last_line(&done).starts_with("2 copied;"), "{done}");
    let pruned = world.mirror(&["--tag", "1.1", "--prune"]).succeeded();
    assert!(
        line(&pruned, &signatures[0]).starts_with("pruned: "),
        "{pruned}"
    );
    expected.retain(|tag| *tag != "1.0" && *tag != signatures[0]);
    assert_eq!(world.at_target(), expected, "{pruned}");
}

#[test]
fn one_image_by_itself_is_nobody_s_to_prune() {
    let world = World::with(&["1.0", "1.1"]);
    world.mirror(&[]).succeeded();
    let (from, to) = (
        format!("{}:1.0", world.from()),
        format!("{}:stable", world.to()),
    );
    world.run(&["mirror", &from, &to]).succeeded();
    let pruned = world.mirror(&["--tag", "1.1", "--prune"]).succeeded();
    assert_eq!(line(&pruned, "1.0"), "pruned: no pattern takes it");
    assert_eq!(world.at_target(), ["1.1", "stable"]);
}

#[test]
fn pull_is_a_word_for_a_mirror_into_docker() {
    if !present(&["docker", "busybox"]) {
        return;
    }
    let world = World::new();
    let built = DockerImage::build(&unique("pulled"), "v1");
    let says = built.prints();
    let remote = format!("{}/team/pulled:v1", world.source.address());
    world.run(&["push", built.reference(), &remote]).succeeded();
    built.remove();
    let pulled = DockerImage::known(remote.clone());
    let dry = world.run(&["pull", &remote, "--dry-run"]).succeeded();
    assert!(dry.stdout.contains("would be copied, to fetch"), "{dry}");
    let done = world.run(&["pull", &remote, "--exit-code"]).succeeded();
    assert!(done.stdout.contains(": copied, fetched "), "{done}");
    assert!(done.stderr.contains(": fetching "), "{done}");
    let all = format!("{}{}", done.stdout, done.stderr);
    assert!(!all.contains("sen") && !all.contains("1 tag"), "{done}");
    assert_eq!(pulled.prints(), says);
    let again = world.run(&["pull", &remote, "--exit-code"]);
    assert_eq!(again.code, Some(8), "{again}");
    let digest = named(world.source.address(), "team/pulled", "v1");
    let by_digest = format!("{}/team/pulled@{digest}", world.source.address());
    world.run(&["pull", &by_digest]).failed(2, &["name"]);
    let name = unique("by-digest");
    let other = DockerImage::known(format!("{name}:latest"));
    world.run(&["pull", &by_digest, &name]).succeeded();
    assert_eq!(other.id(), pulled.id());
    let gone = format!("{}/team/pulled:v2", world.source.address());
    world
        .run(&["pull", &gone])
        .failed(3, &["there is no", "imgsync ls"]);
}

#[test]
fn what_a_killed_mirror_brought_is_known_to_the_next() {
    let world = World::with(&["1.0", "1.1"]);
    let source = world.source.address();
    put(
        source,
        "1.2",
        &"x".repeat(2_000_000),
        "2024-01-01T00:00:00Z",
    );
    let (from, to) = (world.from(), world.to());
    let mut command = world.imgsync.command();
    // The last would take half a minute.
    command.args(["mirror", "--jobs", "1", "--limit-rate", "64KiB", &from, &to]);
    let mut mirror = Process::start("mirror", &mut command, world.scratch.root());
    mirror.wait_for("the second tag", |text| {
        text.contains(":1.1: copied").then_some(())
    });
    mirror.kill();
    assert_eq!(world.at_target(), ["1.0", "1.1"]);
    untag(source, "team/app", "1.0");
    let done = world.mirror(&["--prune"]).succeeded();
    assert_eq!(line(&done, "1.0"), "pruned: the source no longer has it");
    assert!(line(&done, "1.2").starts_with("copied"), "{done}");
    assert_eq!(world.at_target(), ["1.1", "1.2"]);
}
