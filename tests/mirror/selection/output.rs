//! Tests exit codes and JSON events.

use super::{MirrorFixture, last_line, line_of, push_image, tag_digest};
use serde_json::{Value, json};

#[test]
fn exit_codes_for_success_partial_failure_failure_and_no_change() {
    let fixture = MirrorFixture::with_tags(&["1.0", "1.1"]);
    let lost = push_image(
        fixture.source.address(),
        "1.2",
        "1.2",
        "2024-01-01T00:00:00Z",
    );
    // The source lost the data of one blob: only the tag that needs it fails.
    let hex = lost.trim_start_matches("sha256:");
    let blobs = fixture
        .source
        .root()
        .join("docker/registry/v2/blobs/sha256");
    let data = blobs.join(&hex[..2]).join(hex).join("data");
    std::fs::remove_file(data).unwrap();

    let partial = fixture
        .mirror(&["--exit-code"])
        .failed(7, &["1 of 3 tags failed"]);
    assert_eq!(fixture.target_tags(), ["1.0", "1.1"]);
    assert!(
        line_of(&partial, "1.2").starts_with("failed: source"),
        "{partial}"
    );
    assert!(
        last_line(&partial).starts_with("2 copied, 1 failed"),
        "{partial}"
    );
    fixture
        .mirror(&["--tag", "1.2"])
        .failed(3, &["source: ", &hex[..12]]);
    let (from, to) = (format!("{}:1.2", fixture.from()), fixture.to());
    let single = fixture.run(&["mirror", &from, &to]).failed(3, &["source"]);
    assert_eq!(single.stdout, "", "{single}");

    let unchanged_tags = ["--tag", "1.[01]"];
    assert_eq!(fixture.mirror(&unchanged_tags).code, Some(0));
    assert_eq!(
        fixture
            .mirror(&[&unchanged_tags[..], &["--exit-code"]].concat())
            .code,
        Some(8)
    );
    assert_eq!(
        fixture.mirror(&["--tag", "none", "--exit-code"]).code,
        Some(8)
    );
    fixture
        .mirror(&["--tag", "["])
        .failed(2, &["--tag", "glob"]);
    fixture
        .mirror(&["--semver", "new"])
        .failed(2, &["--semver"]);
    fixture
        .run(&["mirror", &from, &to, "--prune"])
        .failed(2, &["prun"]);
    fixture.run(&["mirror"]).failed(2, &["SOURCE"]);
}

#[test]
fn json_output_has_one_event_on_each_line() {
    let fixture = MirrorFixture::with_tags(&["1.0", "1.1"]);
    fixture.mirror(&["--tag", "1.0"]).succeeded();
    let outcome = fixture.mirror(&["--json"]).succeeded();
    let events: Vec<Value> = outcome
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
    let start_events = of("mirror");
    assert_eq!(
        (start_events.len(), &start_events[0]["tags"]),
        (1, &json!(2)),
        "{outcome}"
    );
    let tag = |name: &str| {
        let target = format!("{}:{name}", fixture.to());
        let found = of("tag")
            .into_iter()
            .find(|event| event["target"] == target.as_str());
        found.unwrap_or_else(|| panic!("{name}: {outcome}")).clone()
    };
    assert_eq!(tag("1.0")["state"], "unchanged");
    let copied = tag("1.1");
    assert_eq!(copied["state"], "copied");
    assert_eq!(copied["before"], Value::Null);
    assert_eq!(
        copied["digest"],
        tag_digest(fixture.target.address(), "copy/app", "1.1").as_str()
    );
    assert!(
        copied["sent"].as_u64().unwrap() > 0 && copied["dry"] == false,
        "{copied}"
    );
    let summaries = of("summary");
    assert_eq!(
        (&summaries[0]["copied"], &summaries[0]["unchanged"]),
        (&json!(1), &json!(1)),
        "{outcome}"
    );
}
