//! Tests rules, configuration files, and the logins of both sides.

use std::os::unix::ffi::OsStrExt;

use super::{MirrorFixture, last_line, line_of, push_image, tag_digest};
use crate::support::prelude::*;

/// The user alice with the password `secret`, from `htpasswd -Bbn alice secret`.
const HTPASSWD: &str = "alice:$2y$05$QPa1xegaJPiCtMHwmQ.0x.Tp5gZebiXTQONeDUdL3y1Fn8AElzEdK\n";

#[test]
fn rules_select_tags_and_a_dry_run_prints_the_reasons() {
    let all_tags = [
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
    let fixture = MirrorFixture::with_tags(&all_tags);
    let options = ["--semver", "^1", "--newest", "2", "--exclude", "1.1.*"];
    let dry = fixture
        .mirror(&[&options[..], &["--dry-run"]].concat())
        .succeeded();
    assert!(fixture.target_tags().is_empty(), "{dry}");
    for (tag, expected) in [
        ("1.10.0", "would be copied"),
        ("1.2.0", "would be copied"),
        ("1.1.0", "not selected: excluded by 1.1.*"),
        ("1.0.0", "not among the 2 newest"),
        ("2.0.0", "not in ^1"),
        ("2.0.0-rc1", "variant or pre-release"),
        ("1.10.0-alpine3.20", "variant or pre-release"),
        ("latest", "is not a version"),
    ] {
        assert!(line_of(&dry, tag).contains(expected), "{tag}: {dry}");
    }
    assert!(
        last_line(&dry).contains("2 copied, 8 not selected"),
        "{dry}"
    );

    let outcome = fixture.mirror(&options).succeeded();
    assert_eq!(fixture.target_tags(), ["1.10.0", "1.2.0"]);
    assert!(
        line_of(&outcome, "1.10.0").starts_with("copied, sent "),
        "{outcome}"
    );
    assert!(!outcome.stdout.contains("not selected:"), "{outcome}");
    for tag in fixture.target_tags() {
        let source = tag_digest(fixture.source.address(), "team/app", &tag);
        assert_eq!(
            tag_digest(fixture.target.address(), "copy/app", &tag),
            source
        );
    }
    let again = fixture.mirror(&options).succeeded();
    assert_eq!(line_of(&again, "1.2.0"), "unchanged");
    assert!(
        last_line(&again).starts_with("2 unchanged, 8 not selected; sent 0 B"),
        "{again}"
    );

    fixture
        .mirror(&["--tag", "*-alpine*", "--newest", "1"])
        .succeeded();
    fixture
        .mirror(&["--tag", "night*", "--tag-regex", "2\\.\\d+\\.\\d+"])
        .succeeded();
    let expected = ["1.10.0", "1.10.0-alpine3.20", "1.2.0", "2.0.0", "nightly"];
    assert_eq!(fixture.target_tags(), expected);

    // One tag, under another name.
    let (from, to) = (
        format!("{}:latest", fixture.from()),
        format!("{}:stable", fixture.to()),
    );
    fixture.run(&["mirror", &from, &to]).succeeded();
    assert!(fixture.target_tags().contains(&"stable".to_owned()));
}

#[test]
fn dates_select_tags() {
    let fixture = MirrorFixture::new();
    let address = fixture.source.address();
    for (tag, created) in [
        ("a", "2021-01-01T00:00:00Z"),
        ("b", "2024-06-01T12:00:00.5+02:00"),
        ("c", "2023-01-01T00:00:00Z"),
        ("future", "2999-01-01T00:00:00Z"),
    ] {
        push_image(address, tag, tag, created);
    }
    let outcome = fixture.mirror(&["--newest", "2", "--by", "date", "--min-age", "7d", "-v"]);
    let outcome = outcome.succeeded();
    assert_eq!(fixture.target_tags(), ["b", "c"]);
    assert!(
        line_of(&outcome, "future").contains("younger than 7 d"),
        "{outcome}"
    );
    assert!(
        line_of(&outcome, "a").contains("not among the 2 newest"),
        "{outcome}"
    );
}

#[test]
fn mirrors_from_a_configuration_file() {
    let fixture = MirrorFixture::with_tags(&["1.0", "1.1", "2.0"]);
    let users = fixture.file("users", HTPASSWD);
    let root = fixture.scratch.folder("secured");
    let config = fixture.file(
        "server.yml",
        &format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: '{}'}}}}\nhttp: {{addr: \
             '127.0.0.1:0'}}\nauth: {{htpasswd: {{realm: r, path: '{}'}}}}\n",
            root.display(),
            users.display()
        ),
    );
    let secured_server = Server::start_configured(&config, &root);
    fixture.file("password", "secret\n");
    let (from, to, secured_server) = (fixture.from(), fixture.to(), secured_server.address());
    let mirrors = |password: &str, extra: &str| {
        format!(
            "defaults:\n  newest: 1\nregistries:\n  '{secured_server}':\n    username: alice\n    \
             {password}\nmirrors:\n  - source: {from}\n    target: {to}\n  - source: {from}\n    \
             target: {secured_server}/deep/app\n    semver: ^1\n{extra}"
        )
    };
    let file = fixture.file("mirrors.yaml", &mirrors("passwordFile: password", ""));
    let file = file.to_str().unwrap();
    let outcome = fixture.run(&["mirror", "--config", file]).succeeded();
    assert_eq!(fixture.target_tags(), ["2.0"]);
    assert!(
        outcome
            .stdout
            .contains(&format!("{secured_server}/deep/app:1.1: copied")),
        "{outcome}"
    );
    assert!(last_line(&outcome).starts_with("2 copied"), "{outcome}");
    assert!(!format!("{outcome}").contains("secret"), "{outcome}");

    // A source that cannot be reached does not affect the other mirrors.
    fixture.mirror(&["--tag", "1.0"]).succeeded();
    let extra = format!(
        "  - {{source: '127.0.0.1:9/x', target: '{to}'}}\n  - source: {from}:1.0\n    target: {to}:other\n"
    );
    let file = fixture.file("more.yaml", &mirrors("passwordFile: password", &extra));
    let partial = fixture.run(&["mirror", "--config", file.to_str().unwrap()]);
    let partial = partial.failed(7, &["1 of 4 tags failed"]);
    assert!(partial.stdout.contains("failed: source"), "{partial}");
    assert_eq!(fixture.target_tags(), ["1.0", "2.0", "other"]);

    // A wrong password, a missing one, and one in the wrong place.
    let wrong = fixture.file("wrong", "wrong");
    let name = wrong.file_name().unwrap().to_str().unwrap();
    let file = fixture.file("c.yaml", &mirrors(&format!("passwordFile: {name}"), ""));
    fixture
        .run(&["mirror", "--config", file.to_str().unwrap()])
        .failed(7, &["failed"]);
    let file = fixture.file("d.yaml", &mirrors("passwordEnv: NOT_SET", ""));
    let words = ["mirror", "--config", file.to_str().unwrap()];
    let problem = "d.yaml: line 5: passwordEnv: NOT_SET: the variable is not set";
    fixture.run(&words).failed(2, &[problem]);
    let mut command = fixture.imgsync.command();
    run(command.args(words).env("NOT_SET", "secret")).succeeded();
    let mut command = fixture.imgsync.command();
    let password = std::ffi::OsStr::from_bytes(b"hunter2\xff");
    let outcome = run(command.args(words).env("NOT_SET", password)).failed(2, &["NOT_SET"]);
    assert!(!format!("{outcome}").contains("hunter2"), "{outcome}");
    let file = fixture.file("e.yaml", &mirrors("password: hunter2", ""));
    let outcome = fixture.run(&["mirror", "--config", file.to_str().unwrap()]);
    let outcome = outcome.failed(2, &["e.yaml", "line 6", "passwordFile"]);
    assert!(!format!("{outcome}").contains("hunter2"), "{outcome}");
    let file = fixture.file(
        "f.yaml",
        "mirrors:\n  - {source: nginx, target: a.io, tagz: [x]}\n",
    );
    let outcome = fixture.run(&["mirror", "--config", file.to_str().unwrap()]);
    outcome.failed(2, &["line 2", "did you mean tags?"]);
}

#[test]
fn each_side_has_its_own_login() {
    let fixture = MirrorFixture::with_tags(&["1.0"]);
    let users = fixture.file("users", HTPASSWD);
    let root = fixture.scratch.folder("secured");
    let config = fixture.file(
        "server.yml",
        &format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: '{}'}}}}\nhttp: {{addr: \
             '127.0.0.1:0'}}\nauth: {{htpasswd: {{realm: r, path: '{}'}}}}\n",
            root.display(),
            users.display()
        ),
    );
    let secured_server = Server::start_configured(&config, &root);
    let to = format!("{}/deep/app", secured_server.address());
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
    // The target's password is not sent to the source, which would refuse it.
    let mut to_target = command();
    login(&mut to_target, "", "secret");
    run(to_target.args([&*from, &*to])).succeeded();
    let mut from_target = command();
    login(&mut from_target, "", "wrong");
    login(&mut from_target, "_SOURCE", "secret");
    run(from_target.args([&*to, &*fixture.to()])).succeeded();
    assert_eq!(fixture.target_tags(), ["1.0"]);
    let mut refused = command();
    login(&mut refused, "", "secret");
    let words = [&*to, &*fixture.to(), "--tag", "*"];
    run(refused.args(words)).failed(5, &["source"]);
    let words = [&*from, "oci:x", "--username", "alice", "--password-stdin"];
    run(command().args(words)).failed(2, &["--source-username"]);
}

#[test]
fn pull_copies_an_image_into_docker() {
    if !programs_available(&["docker", "busybox"]) {
        return;
    }
    let _docker = serial::docker();
    let fixture = MirrorFixture::new();
    let built = DockerImage::build(&unique("pulled"), "v1");
    let printed = built.container_output();
    let remote = format!("{}/team/pulled:v1", fixture.source.address());
    fixture
        .run(&["push", built.reference(), &remote])
        .succeeded();
    built.remove();
    let pulled = DockerImage::existing(remote.clone());
    let dry = fixture.run(&["pull", &remote, "--dry-run"]).succeeded();
    assert!(dry.stdout.contains("would be copied, to fetch"), "{dry}");
    let outcome = fixture.run(&["pull", &remote, "--exit-code"]).succeeded();
    assert!(outcome.stdout.contains(": copied, fetched "), "{outcome}");
    assert!(outcome.stderr.contains(": fetching "), "{outcome}");
    let output = format!("{}{}", outcome.stdout, outcome.stderr);
    assert!(
        !output.contains("sen") && !output.contains("1 tag"),
        "{outcome}"
    );
    assert_eq!(pulled.container_output(), printed);
    let again = fixture.run(&["pull", &remote, "--exit-code"]);
    assert_eq!(again.code, Some(8), "{again}");
    let digest = tag_digest(fixture.source.address(), "team/pulled", "v1");
    let by_digest = format!("{}/team/pulled@{digest}", fixture.source.address());
    fixture.run(&["pull", &by_digest]).failed(2, &["name"]);
    let name = unique("by-digest");
    let other = DockerImage::existing(format!("{name}:latest"));
    fixture.run(&["pull", &by_digest, &name]).succeeded();
    assert_eq!(other.id(), pulled.id());
    let missing = format!("{}/team/pulled:v2", fixture.source.address());
    fixture
        .run(&["pull", &missing])
        .failed(3, &["there is no", "imgsync ls"]);
}
