//! Tests layers that are mounted from another repository, and mounts that fail.

use super::{QuirksFixture, text};
use crate::support::fake::Request;
use crate::support::prelude::*;
use crate::support::quirky::{MountSupport, QuirkyRegistry, RegistryQuirks};

/// Pushes the image to `team/base` and then to `app` of the same registry. Returns the outcome of
/// the second push.
fn push_twice(quirks: RegistryQuirks) -> (QuirksFixture, QuirkyRegistry, Outcome) {
    let fixture = QuirksFixture::new();
    let registry = QuirkyRegistry::start(quirks);
    let address = registry.address();
    fixture
        .push_image(&fixture.image, address, "team/base:v1")
        .succeeded();
    let before = registry.count("PATCH", "");
    let outcome = fixture.push(address).succeeded();
    let found = check::at_registry(address, "app:v1");
    assert_eq!(found.config, fixture.image.id());
    registry.assert_valid_requests();
    let sent = registry.count("PATCH", "") - before;
    assert_eq!(
        registry.mounted_digests().len(),
        if sent > 3 { 0 } else { 3 }
    );
    (fixture, registry, outcome)
}

/// The blobs are mounted from the repository where an earlier push saw them, with a token that may
/// read it.
#[test]
fn blobs_of_another_repository_are_mounted() {
    for requires_token in [false, true] {
        let (_, registry, outcome) = push_twice(RegistryQuirks {
            mount_support: MountSupport::Yes,
            requires_token,
            ..RegistryQuirks::default()
        });
        assert_eq!(registry.mounted_digests().len(), 3, "{outcome}");
        let text = "already exists (";
        assert_eq!(outcome.stderr.matches(text).count(), 3, "{outcome}");
        assert!(
            outcome.stderr.contains("mounted from team/base"),
            "{outcome}"
        );
        assert_eq!(registry.open_sessions(), 0);
    }
}

/// If the registry opens a session instead of a mount, the push uses the session. No session is
/// left open.
#[test]
fn a_session_instead_of_a_mount_is_used() {
    let (_, registry, outcome) = push_twice(RegistryQuirks {
        mount_support: MountSupport::No,
        ..RegistryQuirks::default()
    });
    assert_eq!(registry.mounted_digests().len(), 0, "{outcome}");
    // Four blobs in each push; the second push asks for three mounts.
    let posts = registry.requests();
    let opens =
        |request: &&Request| request.method == "POST" && request.target.contains("/uploads/");
    let posts: Vec<_> = posts.iter().filter(opens).collect();
    assert_eq!(posts.len(), 4 + 4, "{outcome}");
    assert_eq!(
        posts
            .iter()
            .filter(|request| request.target.contains("mount="))
            .count(),
        3
    );
    assert_eq!(registry.open_sessions(), 0);
}

#[test]
fn a_push_succeeds_after_a_refused_or_failed_mount() {
    for mount_support in [MountSupport::Refused, MountSupport::FalseSuccess] {
        let (_, registry, outcome) = push_twice(RegistryQuirks {
            mount_support,
            ..RegistryQuirks::default()
        });
        assert_eq!(registry.mounted_digests().len(), 0, "{outcome}");
    }
}

#[test]
fn a_dry_run_prints_mounts_and_does_not_mount() {
    let fixture = QuirksFixture::new();
    let registry = QuirkyRegistry::start(RegistryQuirks {
        mount_support: MountSupport::Yes,
        ..RegistryQuirks::default()
    });
    let address = registry.address();
    fixture
        .push_image(&fixture.image, address, "team/base:v1")
        .succeeded();
    let before = registry.requests().len();
    let path = fixture.write_archive("image.tar", &fixture.image);
    let remote = format!("{address}/app:v1");
    let plan = |options: &[&str]| {
        let outcome = fixture.imgsync.push_with(options, text(&path), &remote);
        outcome.succeeded().stdout
    };
    let output = plan(&["--dry-run"]);
    let text = "try to mount from team/base, otherwise read";
    assert_eq!(output.matches(text).count(), 3, "{output}");
    let output = plan(&["--dry-run", "--json"]);
    let first = output.lines().next().expect("the plan");
    let output: serde_json::Value = serde_json::from_str(first).unwrap();
    for layer in output["layers"].as_array().unwrap() {
        assert_eq!(layer["mount"], "team/base", "{output}");
        assert_eq!(layer["step"], "send", "{output}");
    }
    let later = &registry.requests()[before..];
    assert!(
        later
            .iter()
            .all(|request| matches!(&*request.method, "GET" | "HEAD")
                || request.target.contains("resolve"))
    );
}

/// Docker records the repositories that an image was pulled from or pushed to. The layers are
/// mounted from there without a cache and without an export.
#[test]
fn layers_are_mounted_from_a_repository_that_docker_recorded() {
    if !programs_available(&["docker", "docker-registry"]) {
        return;
    }
    let _docker = serial::docker();
    let scratch = Scratch::new();
    let mut stock = StockRegistry::start(&scratch.folder("root"));
    let address = stock.address();
    let imgsync = Imgsync::new(&scratch.folder("home"));
    let built = DockerImage::build(&unique("mounts"), "v1");
    let named = built.tag(format!("{address}/team/base:v1"));
    docker(&["push", named.reference()]);

    let remote = format!("{address}/team/app:v1");
    let outcome = imgsync.push_with(&["--trust-registry"], built.reference(), &remote);
    let outcome = outcome.succeeded();
    assert!(
        outcome.stderr.contains("mounted from team/base"),
        "{outcome}"
    );
    assert!(outcome.stdout.contains(": sent 0 B"), "{outcome}");
    assert!(!outcome.stderr.contains("exporting"), "{outcome}");
    let found = check::at_registry(address, "team/app:v1");
    let base = check::at_registry(address, "team/base:v1");
    assert_eq!(found.config, base.config);
    assert_eq!(found.blobs, base.blobs, "{outcome}");
    stock.stop();
}
