//! Tests a full disk, a cache that is not writable, and images without layers.

use super::{EXIT_SOURCE, FakeDaemon, SpoolFixture, inspect_classic, large_and_small, text};
use crate::support::SmallDisk;
use crate::support::fake::{FakeServer, status};
use crate::support::prelude::*;

/// Spooled layers of another image are deleted before the push fails. The error says how many bytes
/// are needed.
#[test]
fn leftovers_are_deleted_before_a_full_disk_is_reported() {
    let Some(disk) = SmallDisk::mount("16m") else {
        return;
    };
    let fixture = SpoolFixture::with_home(Scratch::new(), disk.folder("home"));
    let leftover = fixture.write_archive(
        "leftover.tar",
        &large_and_small(70).docker_archive("left:v1"),
    );
    fixture.kill_during_push(
        fixture.imgsync.command(),
        text(&leftover),
        "left",
        5_000_000,
    );
    let leftovers = fixture.spooled();
    let size: u64 = leftovers.iter().map(|(_, len)| len).sum();
    assert!(size > 3_000_000, "{leftovers:?}");

    let fits = Image::new(vec![layer("data", noise(80, 13_000_000))]);
    let path = fixture.write_archive("fits.tar", &fits.docker_archive("fits:v1"));
    fixture
        .imgsync
        .push(text(&path), &fixture.remote("fits"))
        .succeeded();
    assert_eq!(fixture.check_image("fits").config, fits.id());
    // Some leftovers were deleted to make space.
    assert!(fixture.spooled().len() < leftovers.len(), "{leftovers:?}");

    let large = Image::new(vec![layer("data", noise(90, 25_000_000))]);
    let path = fixture.write_archive("large.tar", &large.docker_archive("large:v1"));
    let folder = fixture.spool();
    let words = [
        "error: source",
        "the disk is full",
        "MB or more are needed in",
        text(&folder),
        "are free there",
        "hint: free some space",
    ];
    let outcome = fixture.imgsync.push(text(&path), &fixture.remote("large"));
    outcome.failed(EXIT_SOURCE, &words);
    assert_eq!(fixture.spooled(), []);

    // The size of an export is known before it is requested: roughly for the whole export, exactly
    // for single layers.
    let daemon = FakeDaemon::classic(&large);
    let outcome = fixture.push(daemon.command(&fixture.imgsync), "app:v1", "large");
    outcome.failed(EXIT_SOURCE, &["MB or more are needed in", "are free there"]);
    assert_eq!(daemon.exports(), 0);
    let daemon = FakeDaemon::containerd(&large);
    let outcome = fixture.push(daemon.command(&fixture.imgsync), "app:v1", "large");
    let needed = large.compressed()[0].len() as f64 / 1e6;
    let needed = format!("{needed:.1} MB or more are needed in");
    outcome.failed(EXIT_SOURCE, &["error: source", &needed, "are free there"]);
    assert_eq!(fixture.spooled(), []);
}

#[test]
fn an_image_without_layers_is_pushed_from_every_source() {
    let fixture = SpoolFixture::new();
    let image = Image::new(Vec::new());
    for (name, daemon) in [
        ("classic", FakeDaemon::classic(&image)),
        ("stored", FakeDaemon::containerd(&image)),
    ] {
        let outcome = fixture.push(daemon.command(&fixture.imgsync), "app:v1", name);
        outcome.succeeded();
        assert_eq!(fixture.check_image(name).config, image.id());
    }
    let path = fixture.write_archive("image.tar", &image.docker_archive("app:v1"));
    let remote = fixture.remote("archive");
    let plan = fixture
        .imgsync
        .push_with(&["--dry-run"], text(&path), &remote);
    let plan = plan.succeeded().stdout;
    assert!(plan.contains("the image has no layers"), "{plan}");
    fixture.imgsync.push(text(&path), &remote).succeeded();
    assert_eq!(fixture.check_image("archive").config, image.id());
}

/// Docker's classic image store cannot export such an image.
#[test]
fn an_image_without_layers_that_a_daemon_does_not_export_is_explained() {
    let fixture = SpoolFixture::new();
    let inspected = inspect_classic(&Image::new(Vec::new())).to_string();
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
    outcome.failed(EXIT_SOURCE, &words);
}

/// Cache and spool are optional, so the push succeeds.
#[test]
fn a_push_succeeds_without_a_writable_cache() {
    let fixture = SpoolFixture::new();
    let image = large_and_small(900);
    let path = fixture.write_archive("image.tar", &image.docker_archive("app:v1"));
    let file = fixture.scratch.path("no folder");
    std::fs::write(&file, "").unwrap();
    let command = || {
        let mut command = fixture.imgsync.command();
        command.env("XDG_CACHE_HOME", file.join("cache"));
        command
    };
    for _ in ["everything", "nothing is missing"] {
        let outcome = fixture.push(command(), text(&path), "app").succeeded();
        let warning = "cannot write to";
        assert_eq!(outcome.stderr.matches(warning).count(), 1, "{outcome}");
    }
    assert_eq!(fixture.check_image("app").config, image.id());
}
