//! Tags that are pruned, and tags that are not.

use super::{World, last_line, line, named, put, tag_as, upload};
use crate::support::prelude::*;
use crate::support::process::Process;
use serde_json::{Value, json};

fn untag(address: SocketAddr, repository: &str, tag: &str) {
    let target = format!("/v2/{repository}/manifests/{tag}");
    let reply = http::send(address, "DELETE", &target, &[], b"");
    assert_eq!(reply.status, 202, "{}", reply.text());
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
        line(&second, "1.2").contains("somebody else changed it"),
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
