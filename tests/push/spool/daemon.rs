//! Tests exports of a daemon: their layers are kept after an interruption and checked, and an
//! export is read only as far as needed.

use super::{
    EXIT_SOURCE, FakeDaemon, SpoolFixture, inspect_classic, inspect_containerd, inspect_with_root,
    large_and_small, sent_bytes,
};
use crate::support::SmallDisk;
use crate::support::archive::{Entry, tar_of};
use crate::support::prelude::*;
use crate::support::seed::{OCI_INDEX, OCI_MANIFEST};
use serde_json::json;

/// Starts a daemon with the containerd image store and a loaded image, whose layers are not
/// compressed.
fn daemon_with_loaded_image(image: &Image) -> FakeDaemon {
    let manifest = image.oci_manifest(&image.layers);
    let manifest = String::from_utf8(manifest)
        .expect("JSON")
        .replace("+gzip", "");
    let blobs = image.layers.iter().chain([&image.config]);
    let entries = image::layout(manifest.as_bytes(), blobs, "v1");
    let root = digest(manifest.as_bytes());
    FakeDaemon::layout(inspect_with_root(image, OCI_MANIFEST, &root), entries)
}

/// Starts a daemon with the containerd image store and an image for two platforms.
fn daemon_with_index(images: &[Image; 2]) -> FakeDaemon {
    let mut entries = Vec::new();
    let mut children = Vec::new();
    for (image, architecture) in images.iter().zip(["amd64", "arm64"]) {
        let layers = image.compressed();
        let manifest = image.oci_manifest(&layers);
        let blobs = layers.iter().chain([&image.config, &manifest]);
        entries.extend(blobs.map(|bytes| Entry::new(image::blob_name(bytes), bytes.clone())));
        children.push(json!({
            "mediaType": OCI_MANIFEST, "digest": digest(&manifest), "size": manifest.len(),
            "platform": {"os": "linux", "architecture": architecture},
        }));
    }
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": children});
    let index = index.to_string();
    entries.push(Entry::new(
        image::blob_name(index.as_bytes()),
        index.clone(),
    ));
    let root = digest(index.as_bytes());
    FakeDaemon::layout(inspect_with_root(&images[0], OCI_INDEX, &root), entries)
}

/// Kills a push while it uploads and runs it again. Panics if the image is exported again, if bytes
/// are sent twice, or if files stay in the spool.
fn assert_push_continues(fixture: &SpoolFixture, daemon: &FakeDaemon, name: &str) {
    let command = || daemon.command(&fixture.imgsync);
    fixture.kill_during_push(command(), "app:v1", name, 5_000_000);
    assert_eq!(daemon.exports(), 1);
    let spooled = fixture.spooled();
    assert!(!spooled.is_empty());
    if name == "classic" {
        let mut dry = command();
        dry.args(["push", "--dry-run", "app:v1", &fixture.remote(name)]);
        let plan = run(&mut dry).succeeded().stdout;
        assert!(
            plan.contains("in the spool, send ") && !plan.contains("compress"),
            "{plan}"
        );
        assert_eq!(fixture.spooled(), spooled);
    }
    let outcome = fixture.push(command(), "app:v1", name).succeeded();
    assert_eq!(daemon.exports(), 1, "{outcome}");
    let size = fixture.check_image(name).size();
    let requests = fixture.relay.requests();
    let path = format!("/v2/{name}/");
    let image_requests = requests
        .into_iter()
        .filter(|request| request.target.starts_with(&path));
    let image_requests: Vec<_> = image_requests.collect();
    // Each open upload may have lost one chunk.
    let broken = image_requests.iter().filter(|request| !request.complete);
    let wasted: u64 = broken.filter_map(|request| request.content_length).sum();
    let sent_bytes = sent_bytes(&image_requests);
    assert!(
        sent_bytes <= size + wasted,
        "{sent_bytes} sent of {size}, {wasted} lost"
    );
    assert_eq!(fixture.spooled(), [], "{outcome}");
}

#[test]
fn a_killed_push_from_a_daemon_continues_without_another_export() {
    let fixture = SpoolFixture::new();
    let image = large_and_small(10);
    assert_push_continues(&fixture, &FakeDaemon::classic(&image), "classic");
    assert_eq!(fixture.check_image("classic").config, image.id());
    let image = large_and_small(20);
    assert_push_continues(&fixture, &FakeDaemon::containerd(&image), "stored");
    assert_eq!(fixture.check_image("stored").config, image.id());
    let image = large_and_small(180);
    assert_push_continues(&fixture, &daemon_with_loaded_image(&image), "loaded");
    assert_eq!(fixture.check_image("loaded").config, image.id());
    let images = [large_and_small(190), large_and_small(200)];
    assert_push_continues(&fixture, &daemon_with_index(&images), "indexed");
    assert_eq!(fixture.check_image("indexed").children.len(), 2);
}

/// The disk has space for all raw layers and one compressed layer.
#[test]
fn a_raw_layer_is_deleted_once_it_is_compressed() {
    let Some(disk) = SmallDisk::mount("14m") else {
        return;
    };
    let fixture = SpoolFixture::with_home(Scratch::new(), disk.folder("home"));
    let image = large_and_small(210);
    let daemon = FakeDaemon::classic(&image);
    let outcome = fixture.push(daemon.command(&fixture.imgsync), "app:v1", "app");
    outcome.succeeded();
    assert_eq!(fixture.check_image("app").config, image.id());
    assert_eq!(fixture.spooled(), []);
}

#[test]
fn damaged_spool_entries_are_detected_and_read_again() {
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
        fixture.kill_during_push(command(), "app:v1", name, 5_000_000);
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
        assert_eq!(fixture.check_image(name).config, image.id());
        assert_eq!(fixture.spooled(), []);
    }
}

/// The first layer of the second export has wrong bytes, so a push that reads it again fails.
#[test]
fn layers_of_an_incomplete_export_are_kept() {
    let fixture = SpoolFixture::new();
    let image = large_and_small(50);
    let whole = tar_of(&image.docker_archive("app:v1"));
    let mut damaged = image.clone();
    damaged.layers[0].fill(0);
    let damaged = tar_of(&damaged.docker_archive("app:v1"));
    let daemon = FakeDaemon::start(inspect_classic(&image), move |count| match count {
        1 => whole[..5_000_000].to_vec(),
        _ => damaged.clone(),
    });
    let outcome = fixture.push(daemon.command(&fixture.imgsync), "app:v1", "app");
    outcome.failed(EXIT_SOURCE, &["error: source", "truncated"]);
    let outcome = fixture.push(daemon.command(&fixture.imgsync), "app:v1", "app");
    outcome.succeeded();
    assert_eq!(daemon.exports(), 2);
    assert_eq!(fixture.check_image("app").config, image.id());
    assert_eq!(fixture.spooled(), []);
}

#[test]
fn two_pushes_from_one_daemon_at_once_succeed() {
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
        assert!(push.wait().expect("the status of the child").success());
    }
    for name in ["one", "two"] {
        assert_eq!(fixture.check_image(name).config, image.id());
    }
    assert_eq!(fixture.spooled(), []);
}

/// One export ends after the last blob, the other one within it.
#[test]
fn an_export_is_read_no_further_than_needed() {
    let fixture = SpoolFixture::new();
    let image = large_and_small(170);
    let mut entries = image.oci_layout("v1");
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    let is_blob = |entry: &&Entry| entry.name.starts_with("blobs/");
    let blobs: Vec<_> = entries.iter().filter(is_blob).cloned().collect();
    assert!(blobs.len() < entries.len(), "the index comes last");
    // Without the two zero blocks at the end of the tar.
    let needed = tar_of(&blobs).len() - 1024;
    for (name, len, is_enough) in [("enough", needed, true), ("short", needed - 2048, false)] {
        let export = tar_of(&entries)[..len].to_vec();
        let daemon = FakeDaemon::start(inspect_containerd(&image), move |_| export.clone());
        let outcome = fixture.push(daemon.command(&fixture.imgsync), "app:v1", name);
        if is_enough {
            outcome.succeeded();
            assert_eq!(fixture.check_image(name).config, image.id());
        } else {
            outcome.failed(EXIT_SOURCE, &["error: source", "truncated"]);
        }
    }
}

#[test]
fn a_dry_run_prints_what_is_known_without_an_export() {
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
    assert!(before.contains("known only after an export"), "{before}");
    assert!(
        before.contains("would also be tagged: latest, v1.2"),
        "{before}"
    );
    assert_eq!(before.matches("layer ").count(), 4, "{before}");
    assert_eq!(daemon.exports(), 0);
    assert_eq!(fixture.spooled(), []);
    let tags = http::get(fixture.server.address(), "/v2/app/tags/list");
    assert_eq!(tags.status, 404, "{}", tags.text());

    let outcome = fixture.push(daemon.command(&fixture.imgsync), "app:v1", "app");
    outcome.succeeded();
    let after = plan(&[]);
    assert!(
        after.contains("v1 already points at the manifest sha256:"),
        "{after}"
    );
    assert!(after.contains("send 0 B"), "{after}");
    assert_eq!(daemon.exports(), 1);
}
