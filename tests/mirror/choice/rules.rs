//! Rules, files of mirrors, and the logins of each side.

use super::{MirrorFixture, last_line, line, named, put};
use crate::support::prelude::*;

/// `secret`, by `htpasswd -Bbn alice secret`.
const HTPASSWD: &str = "alice:$2y$05$QPa1xegaJPiCtMHwmQ.0x.Tp5gZebiXTQONeDUdL3y1Fn8AElzEdK\n";

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
    let fixture = MirrorFixture::with(&all);
    let options = ["--semver", "^1", "--newest", "2", "--exclude", "1.1.*"];
    let dry = fixture
        .mirror(&[&options[..], &["--dry-run"]].concat())
        .succeeded();
    assert!(fixture.at_target().is_empty(), "{dry}");
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

    let done = fixture.mirror(&options).succeeded();
    assert_eq!(fixture.at_target(), ["1.10.0", "1.2.0"]);
    assert!(line(&done, "1.10.0").starts_with("copied, sent "), "{done}");
    assert!(!done.stdout.contains("left out:"), "{done}");
    for tag in fixture.at_target() {
        let source = named(fixture.source.address(), "team/app", &tag);
        assert_eq!(named(fixture.target.address(), "copy/app", &tag), source);
    }
    let again = fixture.mirror(&options).succeeded();
    assert_eq!(line(&again, "1.2.0"), "unchanged");
    assert!(
        last_line(&again).starts_with("2 unchanged, 8 left out; sent 0 B"),
        "{again}"
    );

    fixture
        .mirror(&["--tag", "*-alpine*", "--newest", "1"])
        .succeeded();
    fixture
        .mirror(&["--tag", "night*", "--tag-regex", "2\\.\\d+\\.\\d+"])
        .succeeded();
    let expected = ["1.10.0", "1.10.0-alpine3.20", "1.2.0", "2.0.0", "nightly"];
    assert_eq!(fixture.at_target(), expected);

    // One tag by itself, under another name.
    let (from, to) = (
        format!("{}:latest", fixture.from()),
        format!("{}:stable", fixture.to()),
    );
    fixture.run(&["mirror", &from, &to]).succeeded();
    assert!(fixture.at_target().contains(&"stable".to_owned()));
}

#[test]
fn dates_choose() {
    let fixture = MirrorFixture::new();
    let address = fixture.source.address();
    for (tag, created) in [
        ("a", "2021-01-01T00:00:00Z"),
        ("b", "2024-06-01T12:00:00.5+02:00"),
        ("c", "2023-01-01T00:00:00Z"),
        ("future", "2999-01-01T00:00:00Z"),
    ] {
        put(address, tag, tag, created);
    }
    let done = fixture.mirror(&["--newest", "2", "--by", "date", "--min-age", "7d", "-v"]);
    let done = done.succeeded();
    assert_eq!(fixture.at_target(), ["b", "c"]);
    assert!(line(&done, "future").contains("younger than 7 d"), "{done}");
    assert!(
        line(&done, "a").contains("not among the 2 newest"),
        "{done}"
    );
}

#[test]
fn a_file_of_mirrors() {
    let fixture = MirrorFixture::with(&["1.0", "1.1", "2.0"]);
    let secured = fixture.file("users", HTPASSWD);
    let root = fixture.scratch.folder("secured");
    let config = fixture.file(
        "server.yml",
        &format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: '{}'}}}}\nhttp: {{addr: \
             '127.0.0.1:0'}}\nauth: {{htpasswd: {{realm: r, path: '{}'}}}}\n",
            root.display(),
            secured.display()
        ),
    );
    let safe = Server::start_configured(&config, &root);
    fixture.file("password", "secret\n");
    let (from, to, safe) = (fixture.from(), fixture.to(), safe.address());
    let mirrors = |password: &str, extra: &str| {
        format!(
            "defaults:\n  newest: 1\nregistries:\n  '{safe}':\n    username: alice\n    \
             {password}\nmirrors:\n  - source: {from}\n    target: {to}\n  - source: {from}\n    \
             target: {safe}/deep/app\n    semver: ^1\n{extra}"
        )
    };
    let file = fixture.file("mirrors.yaml", &mirrors("passwordFile: password", ""));
    let file = file.to_str().unwrap();
    let done = fixture.run(&["mirror", "--config", file]).succeeded();
    assert_eq!(fixture.at_target(), ["2.0"]);
    assert!(
        done.stdout
            .contains(&format!("{safe}/deep/app:1.1: copied")),
        "{done}"
    );
    assert!(last_line(&done).starts_with("2 copied"), "{done}");
    assert!(!format!("{done}").contains("secret"), "{done}");

    // One that cannot be reached stops no other.
    fixture.mirror(&["--tag", "1.0"]).succeeded();
    let extra = format!(
        "  - {{source: '127.0.0.1:9/x', target: '{to}'}}\n  - source: {from}:1.0\n    target: {to}:other\n"
    );
    let file = fixture.file("more.yaml", &mirrors("passwordFile: password", &extra));
    let some = fixture.run(&["mirror", "--config", file.to_str().unwrap()]);
    let some = some.failed(7, &["1 of 4 failed"]);
    assert!(some.stdout.contains("failed: source"), "{some}");
    assert_eq!(fixture.at_target(), ["1.0", "2.0", "other"]);

    // A password that is wrong, or missing, or in a wrong place.
    let wrong = fixture.file("wrong", "wrong");
    let name = wrong.file_name().unwrap().to_str().unwrap();
    let file = fixture.file("c.yaml", &mirrors(&format!("passwordFile: {name}"), ""));
    fixture
        .run(&["mirror", "--config", file.to_str().unwrap()])
        .failed(7, &["failed"]);
    let file = fixture.file("d.yaml", &mirrors("passwordEnv: NOT_SET", ""));
    let words = ["mirror", "--config", file.to_str().unwrap()];
    fixture.run(&words).failed(2, &["NOT_SET"]);
    let mut command = fixture.imgsync.command();
    run(command.args(words).env("NOT_SET", "secret")).succeeded();
    let file = fixture.file("e.yaml", &mirrors("password: hunter2", ""));
    let outcome = fixture.run(&["mirror", "--config", file.to_str().unwrap()]);
    let outcome = outcome.failed(2, &["e.yaml", "line 6", "passwordFile"]);
    assert!(!format!("{outcome}").contains("hunter2"), "{outcome}");
    let file = fixture.file(
        "f.yaml",
        "mirrors:\n  - {source: nginx, target: a.io, tagz: [x]}\n",
    );
    let outcome = fixture.run(&["mirror", "--config", file.to_str().unwrap()]);
    outcome.failed(2, &["line 2", "do you mean tags?"]);
}

#[test]
fn each_side_has_its_own_login() {
    let fixture = MirrorFixture::with(&["1.0"]);
    let secured = fixture.file("users", HTPASSWD);
    let root = fixture.scratch.folder("secured");
    let config = fixture.file(
        "server.yml",
        &format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: '{}'}}}}\nhttp: {{addr: \
             '127.0.0.1:0'}}\nauth: {{htpasswd: {{realm: r, path: '{}'}}}}\n",
            root.display(),
            secured.display()
        ),
    );
    let safe = Server::start_configured(&config, &root);
    let to = format!("{}/deep/app", safe.address());
    let from = fixture.from();
    fixture.run(&["mirror", &from, &to]).failed(5, &["target"]);
    let command = || {
        let mut command = fixture.imgsync.command();
        command.arg("mirror");
        command
    };
    let login = |command: &mut Command, side: &str, password: &str| {
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
    run(outward.args([&*to, &*fixture.to()])).succeeded();
    assert_eq!(fixture.at_target(), ["1.0"]);
    let mut refused = command();
    login(&mut refused, "", "secret");
    let words = [&*to, &*fixture.to(), "--tag", "*"];
    run(refused.args(words)).failed(5, &["source"]);
    let words = [&*from, "oci:x", "--username", "alice", "--password-stdin"];
    run(command().args(words)).failed(2, &["--source-username"]);
}

#[test]
fn pull_is_a_word_for_a_mirror_into_docker() {
    if !programs_available(&["docker", "busybox"]) {
        return;
    }
    let _docker = serial::docker();
    let fixture = MirrorFixture::new();
    let built = DockerImage::build(&unique("pulled"), "v1");
    let says = built.container_output();
    let remote = format!("{}/team/pulled:v1", fixture.source.address());
    fixture
        .run(&["push", built.reference(), &remote])
        .succeeded();
    built.remove();
    let pulled = DockerImage::existing(remote.clone());
    let dry = fixture.run(&["pull", &remote, "--dry-run"]).succeeded();
    assert!(dry.stdout.contains("would be copied, to fetch"), "{dry}");
    let done = fixture.run(&["pull", &remote, "--exit-code"]).succeeded();
    assert!(done.stdout.contains(": copied, fetched "), "{done}");
    assert!(done.stderr.contains(": fetching "), "{done}");
    let all = format!("{}{}", done.stdout, done.stderr);
    assert!(!all.contains("sen") && !all.contains("1 tag"), "{done}");
    assert_eq!(pulled.container_output(), says);
    let again = fixture.run(&["pull", &remote, "--exit-code"]);
    assert_eq!(again.code, Some(8), "{again}");
    let digest = named(fixture.source.address(), "team/pulled", "v1");
    let by_digest = format!("{}/team/pulled@{digest}", fixture.source.address());
    fixture.run(&["pull", &by_digest]).failed(2, &["name"]);
    let name = unique("by-digest");
    let other = DockerImage::existing(format!("{name}:latest"));
    fixture.run(&["pull", &by_digest, &name]).succeeded();
    assert_eq!(other.id(), pulled.id());
    let gone = format!("{}/team/pulled:v2", fixture.source.address());
    fixture
        .run(&["pull", &gone])
        .failed(3, &["there is no", "imgsync ls"]);
}
