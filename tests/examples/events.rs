//! Tests that the JSON events have only documented fields.

use std::collections::BTreeMap;

use serde_json::Value;

use super::document::read;
use crate::support::prelude::*;

/// Returns the documented fields of each JSON event.
fn documented_fields() -> BTreeMap<String, BTreeSet<String>> {
    let text = read("docs/push.md");
    let (_, text) = text.split_once("### JSON output").unwrap();
    let (text, _) = text.split_once("\n## ").unwrap();
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    let quoted = |cell: &str| -> BTreeSet<String> {
        cell.split('`')
            .skip(1)
            .step_by(2)
            .map(str::to_owned)
            .collect()
    };
    let mut documented: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for row in rows {
        let (events, fields) = row.trim_matches(['|', ' ']).split_once(" | ").unwrap();
        for event in quoted(events) {
            documented.entry(event).or_default().extend(quoted(fields));
        }
    }
    documented
}

/// Adds all keys in a JSON value to `found`, at every depth.
fn collect_keys(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                found.insert(key.clone());
                collect_keys(value, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect_keys(item, found)),
        _ => {}
    }
}

#[test]
fn events_have_only_documented_fields() {
    let scratch = Scratch::new();
    let imgsync = Imgsync::new(&scratch.folder("home"));
    let server = Server::start(&scratch.folder("root"));
    let address = server.address();
    let path = scratch.path("image.tar");
    let layer = layer("data", noise(1, 300_000));
    archive::write_tar(&Image::new(vec![layer]).docker_archive("app:v1"), &path);
    let path = path.to_str().unwrap();
    let team = format!("{address}/team/app:v1");
    let other = format!("{address}/mirror/app");
    let repository = format!("{address}/team/app");
    let mut output = String::new();
    for arguments in [
        &["push", path, &team, "--dry-run"][..],
        &["push", path, &team, "-v"],
        &["push", path, &team, "--dry-run"],
        &["mirror", &repository, &other, "-v"],
        &[
            "mirror",
            &repository,
            &other,
            "--prune",
            "--exclude",
            "v1",
            "-v",
        ],
        &["mirror", &format!("{address}/team/none"), &other],
    ] {
        let outcome = run(imgsync.command().args(arguments).arg("--json"));
        output += &outcome.stdout;
    }
    let documented = documented_fields();
    let mut seen = BTreeSet::new();
    for line in output.lines() {
        let mut event: Value = serde_json::from_str(line).expect(line);
        let name = event.as_object_mut().unwrap().remove("event").unwrap();
        let name = name.as_str().unwrap();
        let fields = documented.get(name).expect(name);
        let mut found = BTreeSet::new();
        collect_keys(&event, &mut found);
        assert!(found.is_subset(fields), "{fields:?} lacks some of {line}");
        seen.insert(name.to_owned());
    }
    for name in [
        "plan", "begin", "progress", "done", "note", "outcome", "failure", "mirror", "tag",
        "summary",
    ] {
        assert!(seen.contains(name), "{name}: {output}");
    }
}
