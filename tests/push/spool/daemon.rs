//! Exports of a daemon: kept after a push was killed or an export broke off, checked, and read no
//! further than needed.

use super::{
    FakeDaemon, MANIFEST_TYPE, SOURCE, SpoolFixture, classic, containerd, large_and_small, rooted,
    sent,
};
use crate::support::SmallDisk;
use crate::support::archive::{Entry, tar_of};
use crate::support::prelude::*;
use serde_json::json;

const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";

/// As containerd's store has an image that was loaded: its layers are not compressed.
fn loaded(image: &Image) -> FakeDaemon {
    let manifest = image.oci_manifest(&image.layers);
    let manifest = String::from_utf8(manifest)
        .expect("JSON")
        .replace("+gzip", "");
    let blobs = image.layers.iter().chain([&image.config]);
    let entries = image::layout(manifest.as_bytes(), blobs, "v1");
    let root = digest(manifest.as_bytes());
    FakeDaemon::layout(rooted(image, MANIFEST_TYPE, &root), entries)
}

/// As containerd's store has an image for two platforms.
fn indexed(images: &[Image; 2]) -> FakeDaemon {
    let mut entries = Vec::new();
    let mut children = Vec::new();
    for (image, architecture) in images.iter().zip(["amd64", "arm64"]) {
        let layers = image.compressed();
        let manifest = image.oci_manifest(&layers);
        let blobs = layers.iter().chain([&image.config, &manifest]);
        entries.extend(blobs.map(|bytes| Entry::new(image::blob_name(bytes), bytes.clone())));
        children.push(json!({
            "mediaType": MANIFEST_TYPE, "digest": digest(&manifest), "size": manifest.len(),
            "platform": {"os": "linux", "architecture": architecture},
        }));
    }
    let index = json!({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": children});
    let index = index.to_string();
    entries.push(Entry::new(
        image::blob_name(index.as_bytes()),
        index.clone(),
    ));
    let root = digest(index.as_bytes());
    FakeDaemon::layout(rooted(&images[0], INDEX_TYPE, &root), entries)
}

/// Killed while uploading, then run again: nothing is exported or sent twice, and nothing stays.
fn assert_goes_on(fixture: &SpoolFixture, daemon: &FakeDaemon, name: &str) {
    let command = || daemon.command(&fixture.imgsync);
    fixture.killed(command(), "app:v1", name, 5_000_000);
    assert_eq!(daemon.exports(), 1);
    let spooled = fixture.spooled();
    assert!(!spooled.is_empty());
    if name == "classic" {
        let mut dry = command();
        dry.args(["push", "--dry-run", "app:v1", &fixture.remote(name)]);
        let plan = run(&mut dry).succeeded().stdout;
        assert!(
            plan.contains("kept from an earlier run: send ") && !plan.contains("compress"),
            "{plan}"
        );
        assert_eq!(fixture.spooled(), spooled);
    }
    let outcome = fixture.push(command(), "app:v1", name).succeeded();
    assert_eq!(daemon.exports(), 1, "{outcome}");
    let size = fixture.found(name).size();
    let requests = fixture.relay.requests();
    let path = format!("/v2/{name}/");
    let own = requests
        .into_iter()
        .filter(|it| it.target.starts_with(&path));
    let own: Vec<_> = own.collect();
    // Of each open upload the chunk that was on its way.
    let broken = own.iter().filter(|request| !request.complete);
    let wasted: u64 = broken.filter_map(|request| request.content_length).sum();
    let sent = sent(&own);
    assert!(
        sent <= size + wasted,
        "{sent} sent of {size}, {wasted} lost"
    );
    assert_eq!(fixture.spooled(), [], "{outcome}");
}

#[test]
fn a_killed_push_from_a_daemon_goes_on_without_another_export() {
    let fixture = SpoolFixture::new();
    let image = large_and_small(10);
    assert_goes_on(&fixture, &FakeDaemon::classic(&image), "classic");
    assert_eq!(fixture.found("classic").config, image.id());
    let image = large_and_small(20);
    assert_goes_on(&fixture, &FakeDaemon::containerd(&image), "stored");
    assert_eq!(fixture.found("stored").config, image.id());
    let image = large_and_small(180);
    assert_goes_on(&fixture, &loaded(&image), "loaded");
    assert_eq!(fixture.found("loaded").config, image.id());
    let images = [large_and_small(190), large_and_small(200)];
    assert_goes_on(&fixture, &indexed(&images), "indexed");
    assert_eq!(fixture.found("indexed").children.len(), 2);
}

/// All layers as they come, and one of them packed: so much is on the disk at a time.
#[test]
fn a_raw_layer_gives_its_room_back_once_it_is_packed() {
    let Some(disk) = SmallDisk::mount("14m") else {
        return;
    };
    let fixture = SpoolFixture::at(Scratch::new(), disk.folder("home"));
    let image = large_and_small(210);
    let daemon = FakeDaemon::classic(&image);
    let outcome = fixture.push(daemon.command(&fixture.imgsync), "app:v1", "app");
    outcome.succeeded();
    assert_eq!(fixture.found("app").config, image.id());
    assert_eq!(fixture.spooled(), []);
}

#[test]
fn what_was_damaged_in_the_spool_is_found_out_and_read_anew() {
    let fixture = SpoolFixture::new();
    for (name, image) in [
        ("classic", large_and_small(30)),
        ("stored", large_and_small(40)),
    ] {
        let daemon = match name {
            "classic" => FakeDaemon::classic(&image),
            _ => FakeDaemon::containerd(&image),
        };
        let command = || daemon.command(&fixture.imgsync);
        fixture.killed(command(), "app:v1", name, 5_000_000);
        let spooled = fixture.spooled();
        assert!(!spooled.is_empty());
        for (path, len) in spooled {
            let mut bytes = std::fs::read(&path).expect("a spool file");
            bytes[len as usize / 2] ^= 1;
            std::fs::write(&path, bytes).expect("a spool file");
        }
        let outcome = fixture.push(command(), "app:v1", name);
        outcome.succeeded();
        assert_eq!(daemon.exports(), 2);
        assert_eq!(fixture.found(name).config, image.id());
        assert_eq!(fixture.spooled(), []);
    }
}

/// The second export lacks the first layer's bytes: whoever needed them again would fail.
#[test]
fn layers_of_an_export_that_broke_off_are_kept() {
    let fixture = SpoolFixture::new();
    let image = large_and_small(50);
    let whole = tar_of(&image.docker_archive("app:v1"));
    let mut spoilt = image.clone();
    spoilt.layers[0].fill(0);
    let spoilt = tar_of(&spoilt.docker_archive("app:v1"));
    let daemon = FakeDaemon::start(classic(&image), move |count| match count {
        1 => whole[..5_000_000].to_vec(),
        _ => spoilt.clone(),
    });
    let outcome = fixture.push(daemon.command(&fixture.imgsync), "app:v1", "app");
    outcome.failed(SOURCE, &["error: source", "cut short"]);
    let outcome = fixture.push(daemon.command(&fixture.imgsync), "app:v1", "app");
    outcome.succeeded();
    assert_eq!(daemon.exports(), 2);
    assert_eq!(fixture.found("app").config, image.id());
    assert_eq!(fixture.spooled(), []);
}

#[test]
fn two_pushes_from_one_daemon_at_once_do_not_hurt_one_another() {
    let fixture = SpoolFixture::new();
    let image = large_and_small(60);
    let daemon = FakeDaemon::classic(&image);
    let mut pushes = ["one", "two"].map(|name| {
        let mut command = daemon.command(&fixture.imgsync);
        command.args(["push", "app:v1", &fixture.remote(name)]);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        child.expect("imgsync starts")
    });
    for push in &mut pushes {
        assert!(push.wait().expect("a child of ours").success());
    }
    for name in ["one", "two"] {
        assert_eq!(fixture.found(name).config, image.id());
    }
    assert_eq!(fixture.spooled(), []);
}

/// An export that ends behind the last blob, and one that ends in it.
#[test]
fn an_export_is_read_no_further_than_needed() {
    let fixture = SpoolFixture::new();
    let image = large_and_small(170);
    let mut entries = image.oci_layout("v1");
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    let is_blob = |entry: &&Entry| entry.name.starts_with("blobs/");
    let blobs: Vec<_> = entries.iter().filter(is_blob).cloned().collect();
    assert!(blobs.len() < entries.len(), "the index comes last");
    // Without the two blocks of zeros at the end.
    let needed = tar_of(&blobs).len() - 1024;
    for (name, len, is_enough) in [("enough", needed, true), ("short", needed - 2048, false)] {
        let export = tar_of(&entries)[..len].to_vec();
        let daemon = FakeDaemon::start(containerd(&image), move |_| export.clone());
        let outcome = fixture.push(daemon.command(&fixture.imgsync), "app:v1", name);
        if is_enough {
            outcome.succeeded();
            assert_eq!(fixture.found(name).config, image.id());
        } else {
            outcome.failed(SOURCE, &["error: source", "cut short"]);
        }
    }
}

#[test]
fn a_dry_run_tells_what_it_can_without_an_export() {
    let fixture = SpoolFixture::new();
    let image = large_and_small(160);
    let daemon = FakeDaemon::containerd(&image);
    let plan = |tags: &[&str]| {
        let mut command = daemon.command(&fixture.imgsync);
        command.args(["push", "--dry-run"]).args(tags);
        command.args(["app:v1", &fixture.remote("app")]);
        run(&mut command).succeeded().stdout
    };
    let before = plan(&["--tag", "latest", "--tag", "v1.2"]);
    assert!(before.contains("is missing or incomplete"), "{before}");
    assert!(before.contains("only by exporting"), "{before}");
    assert!(before.contains("tagged too: latest, v1.2"), "{before}");
    assert_eq!(before.matches("layer ").count(), 4, "{before}");
    assert_eq!(daemon.exports(), 0);
    assert_eq!(fixture.spooled(), []);
    let tags = http::get(fixture.server.address(), "/v2/app/tags/list");
    assert_eq!(tags.status, 404, "{}", tags.text());

    let outcome = fixture.push(daemon.command(&fixture.imgsync), "app:v1", "app");
    outcome.succeeded();
    let after = plan(&[]);
    assert!(after.contains("v1 names the manifest sha256:"), "{after}");
    assert!(after.contains("send 0 B"), "{after}");
    assert_eq!(daemon.exports(), 1);
}
