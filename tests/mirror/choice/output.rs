//! Exit codes and JSON events.

use super::{MirrorFixture, last_line, line, named, put};
use serde_json::{Value, json};

#[test]
fn exit_codes_tell_all_some_none_and_nothing() {
    let fixture = MirrorFixture::with(&["1.0", "1.1"]);
    let spoilt = put(
        fixture.source.address(),
        "1.2",
        "1.2",
        "2024-01-01T00:00:00Z",
    );
    // The data of one blob is lost: the tag that needs it fails, and only that one.
    let hex = spoilt.trim_start_matches("sha256:");
    let blobs = fixture
        .source
        .root()
        .join("docker/registry/v2/blobs/sha256");
    let data = blobs.join(&hex[..2]).join(hex).join("data");
    std::fs::remove_file(data).unwrap();

    let some = fixture
        .mirror(&["--exit-code"])
        .failed(7, &["1 of 3 failed"]);
    assert_eq!(fixture.at_target(), ["1.0", "1.1"]);
    assert!(line(&some, "1.2").starts_with("failed: source"), "{some}");
    assert!(last_line(&some).starts_with("2 copied, 1 failed"), "{some}");
    fixture
        .mirror(&["--tag", "1.2"])
        .failed(3, &["source: ", &hex[..12]]);
    let (from, to) = (format!("{}:1.2", fixture.from()), fixture.to());
    let one = fixture.run(&["mirror", &from, &to]).failed(3, &["source"]);
    assert_eq!(one.stdout, "", "{one}");

    let idle = ["--tag", "1.[01]"];
    assert_eq!(fixture.mirror(&idle).code, Some(0));
    assert_eq!(
        fixture.mirror(&[&idle[..], &["--exit-code"]].concat()).code,
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
fn json_is_one_event_a_line() {
    let fixture = MirrorFixture::with(&["1.0", "1.1"]);
    fixture.mirror(&["--tag", "1.0"]).succeeded();
    let done = fixture.mirror(&["--json"]).succeeded();
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
        let target = format!("{}:{name}", fixture.to());
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
        named(fixture.target.address(), "copy/app", "1.1").as_str()
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
