//! Tests that the daemon is unharmed after the tool has read single layers: it still pushes and
//! saves whole images, and what it has stored about layers is right.

use std::collections::HashMap;

use super::{Engine, SourcesFixture, files, repetitions};
use crate::support::docker::DockerDaemon;
use crate::support::prelude::*;
use crate::support::random::Random;

/// An image has a single tag, and is pushed many times. `IMGSYNC_TESTS_PUSHES` is the number.
#[test]
fn the_daemon_is_unharmed() {
    if !programs_available(&["docker", "dockerd", "docker-registry"]) {
        return;
    }
    let fixture = SourcesFixture::new();
    let folder = fixture.scratch.folder("daemon");
    let Some(daemon) = DockerDaemon::start(&folder, &[]) else {
        return;
    };
    let engine = Engine(Some(&daemon));
    let mut random = Random::new();
    let mut contents = vec![(11, 3_000_000), (12, 40_000), (13, 40_000), (14, 100_000)];
    engine.build(&fixture.scratch, "app:v1", &files(&contents), "0");
    let remote = fixture.remote("app");
    engine
        .push(&fixture.imgsync, &[], "app:v1", &remote)
        .succeeded();
    let pushes = repetitions("IMGSYNC_TESTS_PUSHES", 5);
    let mut ids = Vec::new();
    for step in 1..=pushes {
        let changed: Vec<_> = (1..4).filter(|_| random.below(2) == 0).collect();
        for position in &changed {
            contents[*position].0 += 100;
        }
        engine.push_changed(&fixture, "app:v1", &files(&contents), step, changed.len());
        // The image must still be there, although no other tag has kept it during the push.
        ids.push(engine.id("app:v1"));
        engine.docker(&["tag", "app:v1", &format!("app:step{step}")]);
    }
    let stock = StockRegistry::start(&fixture.scratch.folder("stock"));
    let mut layers = HashMap::new();
    for (step, id) in (1..).zip(&ids) {
        let name = format!("app:step{step}");
        let remote = format!("{}/{name}", stock.address());
        engine.docker(&["tag", &name, &remote]);
        engine.docker(&["push", "--quiet", &remote]);
        let pushed = check::at_registry(stock.address(), &name);
        assert_eq!(pushed.config, *id);
        let digests = pushed.blobs[1..].iter().map(|(digest, _)| digest.clone());
        layers.extend(pushed.diff_ids.into_iter().zip(digests));
    }
    assert_stored_digests_are_right(&daemon, &layers);
    let archive = fixture.scratch.path("saved.tar");
    let archive = archive.to_str().expect("a path in UTF-8");
    engine.docker(&["save", "--output", archive, "app:v1"]);
    assert_eq!(fixture.push("saved", &[], archive).config, ids[pushes - 1]);
}

/// Compares the digests of compressed layers that the daemon has stored with those of the blobs that
/// it has pushed. `layers` has the digests by diffID.
fn assert_stored_digests_are_right(daemon: &DockerDaemon, layers: &HashMap<String, String>) {
    let entries = |folder: &str| {
        let folder = daemon.digests().join(folder).join("sha256");
        let entries = std::fs::read_dir(&folder).expect("a folder of the daemon");
        let read = |entry: std::io::Result<std::fs::DirEntry>| {
            let entry = entry.expect("an entry");
            let name = entry.file_name().into_string().expect("a digest");
            let content = std::fs::read_to_string(entry.path()).expect("a file");
            (format!("sha256:{name}"), content)
        };
        entries.map(read).collect::<Vec<_>>()
    };
    let by_diff_id = entries("v2metadata-by-diffid");
    assert!(by_diff_id.len() >= layers.len(), "{by_diff_id:?}");
    for (diff_id, records) in by_diff_id {
        let records: serde_json::Value = serde_json::from_str(&records).expect("JSON");
        for record in records.as_array().expect("a list") {
            let expected = layers.get(&diff_id).map(String::as_str);
            assert_eq!(record["Digest"].as_str(), expected, "{diff_id}: {record}");
        }
    }
    for (digest, diff_id) in entries("diffid-by-digest") {
        assert_eq!(layers.get(&diff_id), Some(&digest));
    }
}
