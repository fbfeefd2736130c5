//! Rules, files of mirrors, and the logins of each side.

use super::{World, last_line, line, named, put};
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
    let world = World::with(&all);
    let options = ["--semver", "^1", "--newest", "2", "--exclude", "1.1.*"];
    let dry = world
        .mirror(&[&options[..], &["--dry-run"]].concat())
        .succeeded();
    assert!(world.at_target().is_empty(), "{dry}");
    for (tag, says) in [
        ("1.10.0", "would be copied"),
        ("1.2.0", "would be copied"),
        ("1.1.0", "not selected: excluded by 1.1.*"),
        ("1.0.0", "not among the 2 newest"),
        ("2.0.0", "not in ^1"),
        ("2.0.0-rc1", "variant or pre-release"),
        ("1.10.0-alpine3.20", "variant or pre-release"),
        ("latest", "is no version"),
    ] {
        assert!(line(&dry, tag).contains(says), "{tag}: {dry}");
    }
    assert!(
        last_line(&dry).contains("2 copied, 8 not selected"),
        "{dry}"
    );

    let done = world.mirror(&options).succeeded();
    assert_eq!(world.at_target(), ["1.10.0", "1.2.0"]);
    assert!(line(&done, "1.10.0").starts_with("copied, sent "), "{done}");
    assert!(!done.stdout.contains("not selected:"), "{done}");
    for tag in world.at_target() {
        let source = named(world.source.address(), "team/app", &tag);
        assert_eq!(named(world.target.address(), "copy/app", &tag), source);
    }
    let again = world.mirror(&options).succeeded();
    assert_eq!(line(&again, "1.2.0"), "unchanged");
    assert!(
        last_line(&again).starts_with("2 unchanged, 8 not selected; sent 0 B"),
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
fn pull_is_a_word_for_a_mirror_into_docker() {
    if !present(&["docker", "busybox"]) {
        return;
    }
    let _docker = serial::docker();
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
