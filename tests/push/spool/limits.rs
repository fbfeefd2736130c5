//! A full disk, a cache that cannot be written, and images without layers.

use super::{FakeDaemon, SOURCE, SpoolFixture, classic, large_and_small, text};
use crate::support::SmallDisk;
use crate::support::fake::{FakeServer, status};
use crate::support::prelude::*;

/// The text of a disk that is too small, and what makes way before it comes to that.
#[test]
fn a_full_spool_disk_is_told_in_numbers_after_leftovers_have_made_way() {
    let Some(disk) = SmallDisk::mount("16m") else {
        return;
    };
    let fixture = SpoolFixture::at(Scratch::new(), disk.folder("home"));
    let leftover = fixture.written(
        "leftover.tar",
        &large_and_small(70).docker_archive("left:v1"),
    );
    fixture.killed(
        fixture.imgsync.command(),
        text(&leftover),
        "left",
        5_000_000,
    );
    let left = fixture.spooled();
    let size: u64 = left.iter().map(|(_, len)| len).sum();
    assert!(size > 3_000_000, "{left:?}");

    let fits = Image::new(vec![layer("data", noise(80, 13_000_000))]);
    let path = fixture.written("fits.tar", &fits.docker_archive("fits:v1"));
    fixture
        .imgsync
        .push(text(&path), &fixture.remote("fits"))
        .succeeded();
    assert_eq!(fixture.found("fits").config, fits.id());
    // It took the room of some.
    assert!(fixture.spooled().len() < left.len(), "{left:?}");

    let large = Image::new(vec![layer("data", noise(90, 25_000_000))]);
    let path = fixture.written("large.tar", &large.docker_archive("large:v1"));
    let folder = fixture.spool();
    let words = [
        "error: source",
        "the disk is full",
        "MB or more are needed in",
        text(&folder),
        "are free there",
        "hint: make room",
    ];
    let outcome = fixture.imgsync.push(text(&path), &fixture.remote("large"));
    outcome.failed(SOURCE, &words);
    assert_eq!(fixture.spooled(), []);

    // Of an export the size is known before it is asked for: about, of all of it; of single
    // layers in it exactly.
    let daemon = FakeDaemon::classic(&large);
    let outcome = fixture.push(daemon.command(&fixture.imgsync), "app:v1", "large");
    outcome.failed(SOURCE, &["MB or more are needed in", "are free there"]);
    assert_eq!(daemon.exports(), 0);
    let daemon = FakeDaemon::containerd(&large);
    let outcome = fixture.push(daemon.command(&fixture.imgsync), "app:v1", "large");
    let needed = large.compressed()[0].len() as f64 / 1e6;
    let needed = format!("{needed:.1} MB or more are needed in");
    outcome.failed(SOURCE, &["error: source", &needed, "are free there"]);
    assert_eq!(fixture.spooled(), []);
}

#[test]
fn an_image_without_layers_goes_from_everywhere() {
    let fixture = SpoolFixture::new();
    let image = Image::new(Vec::new());
    for (name, daemon) in [
        ("classic", FakeDaemon::classic(&image)),
        ("stored", FakeDaemon::containerd(&image)),
    ] {
        let outcome = fixture.push(daemon.command(&fixture.imgsync), "app:v1", name);
        outcome.succeeded();
        assert_eq!(fixture.found(name).config, image.id());
    }
    let path = fixture.written("image.tar", &image.docker_archive("app:v1"));
    let remote = fixture.remote("archive");
    let plan = fixture
        .imgsync
        .push_with(&["--dry-run"], text(&path), &remote);
    let plan = plan.succeeded().stdout;
    assert!(plan.contains("the image has no layers"), "{plan}");
    fixture.imgsync.push(text(&path), &remote).succeeded();
    assert_eq!(fixture.found("archive").config, image.id());
}

/// As Docker's classic store has it.
#[test]
fn an_image_without_layers_that_a_daemon_does_not_export_is_explained() {
    let fixture = SpoolFixture::new();
    let inspected = classic(&Image::new(Vec::new())).to_string();
    let fake = FakeServer::start(move |request| match request.line().rsplit('/').next() {
        Some("info") => status(200).body("{}"),
        Some("json") => status(200).body(inspected.clone()),
        _ => status(500).body(r#"{"message":"empty export - not implemented"}"#),
    });
    let mut command = fixture.imgsync.command();
    command.env("DOCKER_HOST", format!("tcp://{}", fake.address()));
    let outcome = fixture.push(command, "app:v1", "app");
    let words = [
        "an image without layers",
        "not implemented",
        "hint: let the build",
    ];
    outcome.failed(SOURCE, &words);
}

/// What cannot be kept is no reason not to push: a cache is a hint, and the spool a convenience.
#[test]
fn a_cache_that_cannot_be_written_stops_no_push() {
    let fixture = SpoolFixture::new();
    let image = large_and_small(900);
    let path = fixture.written("image.tar", &image.docker_archive("app:v1"));
    let file = fixture.scratch.path("no folder");
    std::fs::write(&file, "").unwrap();
    let command = || {
        let mut command = fixture.imgsync.command();
        command.env("XDG_CACHE_HOME", file.join("cache"));
        command
    };
    for _ in ["everything", "nothing is missing"] {
        let outcome = fixture.push(command(), text(&path), "app").succeeded();
        let told = "nothing can be kept in";
        assert_eq!(outcome.stderr.matches(told).count(), 1, "{outcome}");
    }
    assert_eq!(fixture.found("app").config, image.id());
}
