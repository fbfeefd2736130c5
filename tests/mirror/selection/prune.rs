//! Tests which tags are pruned, and which are kept.

use super::{MirrorFixture, last_line, line_of, push_image, push_manifest, tag_digest, upload};
use crate::support::prelude::*;
use crate::support::process::Process;
use serde_json::{Value, json};

fn delete_tag(address: SocketAddr, repository: &str, tag: &str) {
    let target = format!("/v2/{repository}/manifests/{tag}");
    let reply = http::send(address, "DELETE", &target, &[], b"");
    assert_eq!(reply.status, 202, "{}", reply.text());
}

#[test]
fn only_mirrored_tags_are_pruned() {
    let fixture = MirrorFixture::with_tags(&["1.0", "1.1", "1.2"]);
    let (source, target) = (fixture.source.address(), fixture.target.address());
    // Pushes a tag to the target without the mirror. The rules do not select it.
    let push_foreign_tag = |tag: &str| {
        let manifest = http::get(source, "/v2/team/app/manifests/1.0").body;
        let parts: Value = serde_json::from_slice(&manifest).unwrap();
        for part in [&parts["config"], &parts["layers"][0]] {
            let digest = part["digest"].as_str().unwrap();
            let blob = http::get(source, &format!("/v2/team/app/blobs/{digest}")).body;
            upload(target, "copy/app", &blob);
        }
        push_manifest(target, "copy/app", tag, &manifest);
    };
    push_foreign_tag("0.9");
    let options = ["--newest", "2", "--prune"];
    let first = fixture.mirror(&options).succeeded();
    assert!(
        first
            .stderr
            .contains("nothing is pruned: there is no record yet"),
        "{first}"
    );
    assert_eq!(fixture.target_tags(), ["0.9", "1.1", "1.2"]);

    push_image(source, "1.3", "1.3", "2024-01-01T00:00:00Z");
    push_image(source, "1.4", "1.4", "2024-01-01T00:00:00Z");
    // A mirrored tag is moved by somebody else.
    push_foreign_tag("1.2");
    let dry = fixture
        .mirror(&["--newest", "2", "--prune", "--dry-run"])
        .succeeded();
    assert_eq!(
        line_of(&dry, "1.1"),
        "would be pruned: is not among the 2 newest"
    );
    assert_eq!(fixture.target_tags(), ["0.9", "1.1", "1.2"]);
    let second = fixture.mirror(&options).succeeded();
    assert_eq!(line_of(&second, "1.1"), "pruned: is not among the 2 newest");
    assert!(
        line_of(&second, "1.2").contains("somebody else changed it"),
        "{second}"
    );
    assert!(
        last_line(&second).starts_with("2 copied, 1 pruned, 1 kept"),
        "{second}"
    );
    assert_eq!(fixture.target_tags(), ["0.9", "1.2", "1.3", "1.4"]);

    // Without the record, another user prunes nothing.
    let other = Imgsync::new(&fixture.scratch.folder("other"));
    let (from, to) = (fixture.from(), fixture.to());
    let arguments = ["mirror", "--tag", "1.4", "--prune", &from, &to];
    let outcome = run(other.command().args(arguments)).succeeded();
    assert!(outcome.stderr.contains("nothing is pruned"), "{outcome}");
    assert_eq!(fixture.target_tags(), ["0.9", "1.2", "1.3", "1.4"]);

    // If the rules select nothing, nothing is pruned.
    let empty = fixture.mirror(&["--tag", "none", "--prune"]).succeeded();
    assert!(empty.stderr.contains("nothing is pruned"), "{empty}");
    assert_eq!(fixture.target_tags(), ["0.9", "1.2", "1.3", "1.4"]);

    // A tag that the source deleted is pruned. A tag that was kept because it was moved stays.
    delete_tag(source, "team/app", "1.3");
    let third = fixture.mirror(&["--prune"]).succeeded();
    assert_eq!(
        line_of(&third, "1.3"),
        "pruned: the source no longer has it"
    );
    assert_eq!(fixture.target_tags(), ["0.9", "1.0", "1.1", "1.2", "1.4"]);
}

#[test]
fn a_source_that_cannot_be_listed_prunes_nothing() {
    let mut fixture = MirrorFixture::with_tags(&["1.0", "1.1"]);
    let state = fixture.scratch.path("state.json");
    let state = state.to_str().unwrap();
    fixture.mirror(&["--state", state]).succeeded();
    let record: Value = serde_json::from_slice(&std::fs::read(state).unwrap()).unwrap();
    let pair = format!("{} → {}", fixture.from(), fixture.to());
    let digest = tag_digest(fixture.source.address(), "team/app", "1.0");
    assert_eq!(record["mirrors"][&pair]["1.0"], json!([digest]));
    let missing_source = format!("{}/team/other", fixture.source.address());
    let to = fixture.to();
    fixture
        .run(&["mirror", "--prune", "--state", state, &missing_source, &to])
        .failed(3, &["source", "team/other"]);
    let from = fixture.from();
    fixture.source.kill();
    let outcome = fixture.run(&["mirror", "--prune", "--state", state, &from, &to]);
    outcome.failed(6, &["source"]);
    assert_eq!(fixture.target_tags(), ["1.0", "1.1"]);
}

#[test]
fn signatures_of_a_pruned_image_are_pruned() {
    let fixture = MirrorFixture::with_tags(&["1.0", "1.1"]);
    let source = fixture.source.address();
    let signature = |tag: &str| {
        let name = tag_digest(source, "team/app", tag).replace(':', "-");
        format!("{name}.sig")
    };
    let signatures = ["1.0", "1.1"].map(|tag| {
        let signature = signature(tag);
        push_image(source, &signature, &signature, "2023-11-14T22:13:20Z");
        signature
    });
    let outcome = fixture.mirror(&["--tag", "1.*"]).succeeded();
    let mut expected = vec!["1.0".to_owned(), "1.1".to_owned()];
    expected.extend(signatures.clone());
    expected.sort();
    assert_eq!(fixture.target_tags(), expected, "{outcome}");
    assert!(last_line(&outcome).starts_with("2 copied;"), "{outcome}");
    let pruned = fixture.mirror(&["--tag", "1.1", "--prune"]).succeeded();
    assert!(
        line_of(&pruned, &signatures[0]).starts_with("pruned: "),
        "{pruned}"
    );
    expected.retain(|tag| *tag != "1.0" && *tag != signatures[0]);
    assert_eq!(fixture.target_tags(), expected, "{pruned}");
}

#[test]
fn a_single_mirrored_image_is_not_pruned() {
    let fixture = MirrorFixture::with_tags(&["1.0", "1.1"]);
    fixture.mirror(&[]).succeeded();
    let (from, to) = (
        format!("{}:1.0", fixture.from()),
        format!("{}:stable", fixture.to()),
    );
    fixture.run(&["mirror", &from, &to]).succeeded();
    let pruned = fixture.mirror(&["--tag", "1.1", "--prune"]).succeeded();
    assert_eq!(line_of(&pruned, "1.0"), "pruned: matches no pattern");
    assert_eq!(fixture.target_tags(), ["1.1", "stable"]);
}

#[test]
fn the_next_run_knows_the_tags_of_a_killed_mirror() {
    let fixture = MirrorFixture::with_tags(&["1.0", "1.1"]);
    let source = fixture.source.address();
    push_image(
        source,
        "1.2",
        &"x".repeat(2_000_000),
        "2024-01-01T00:00:00Z",
    );
    let (from, to) = (fixture.from(), fixture.to());
    let mut command = fixture.imgsync.command();
    // With this limit, the last tag takes half a minute.
    command.args(["mirror", "--jobs", "1", "--limit-rate", "64KiB", &from, &to]);
    let mut mirror = Process::start("mirror", &mut command, fixture.scratch.root());
    mirror.wait_for("the second tag", |text| {
        text.contains(":1.1: copied").then_some(())
    });
    mirror.kill();
    assert_eq!(fixture.target_tags(), ["1.0", "1.1"]);
    delete_tag(source, "team/app", "1.0");
    let outcome = fixture.mirror(&["--prune"]).succeeded();
    assert_eq!(
        line_of(&outcome, "1.0"),
        "pruned: the source no longer has it"
    );
    assert!(line_of(&outcome, "1.2").starts_with("copied"), "{outcome}");
    assert_eq!(fixture.target_tags(), ["1.1", "1.2"]);
}
