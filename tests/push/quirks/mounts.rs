//! Layers that are mounted from another repository, and mounts that do not come about.

use super::{QuirksFixture, text};
use crate::support::fake::Request;
use crate::support::prelude::*;
use crate::support::quirky::{MountSupport, QuirkyRegistry, RegistryQuirks};

/// A registry that was pushed to once, and another repository there.
fn pushed_twice(quirks: RegistryQuirks) -> (QuirksFixture, QuirkyRegistry, Outcome) {
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

/// What an earlier push saw in another repository is linked, with a token that allows to read there.
#[test]
fn what_another_repository_holds_is_mounted() {
    for requires_token in [false, true] {
        let (_, registry, outcome) = pushed_twice(RegistryQuirks {
            mount_support: MountSupport::Yes,
            requires_token,
            ..RegistryQuirks::default()
        });
        assert_eq!(registry.mounted_digests().len(), 3, "{outcome}");
        let text = "already there (";
        assert_eq!(outcome.stderr.matches(text).count(), 3, "{outcome}");
        assert!(
            outcome.stderr.contains("mounted from team/base"),
            "{outcome}"
        );
        assert_eq!(registry.open_sessions(), 0);
    }
}

/// A registry that does not link opens sessions instead: they are used, and none is left.
#[test]
fn a_session_instead_of_a_mount_is_used() {
    let (_, registry, outcome) = pushed_twice(RegistryQuirks {
        mount_support: MountSupport::No,
        ..RegistryQuirks::default()
    });
    assert_eq!(registry.mounted_digests().len(), 0, "{outcome}");
    // Four blobs, of which three were asked for.
    let posts = registry.requests();
    let opens = |it: &&Request| it.method == "POST" && it.target.contains("/uploads/");
    let posts: Vec<_> = posts.iter().filter(opens).collect();
    assert_eq!(posts.len(), 4 + 4, "{outcome}");
    assert_eq!(
        posts
            .iter()
            .filter(|it| it.target.contains("mount="))
            .count(),
        3
    );
    assert_eq!(registry.open_sessions(), 0);
}

#[test]
fn a_mount_that_is_refused_or_did_not_come_about_is_no_obstacle() {
    for mount_support in [MountSupport::Refused, MountSupport::FalseSuccess] {
        let (_, registry, outcome) = pushed_twice(RegistryQuirks {
            mount_support,
            ..RegistryQuirks::default()
        });
        assert_eq!(registry.mounted_digests().len(), 0, "{outcome}");
    }
}

#[test]
fn a_dry_run_says_from_where_it_would_mount_and_does_not() {
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
    let path = fixture.written("image.tar", &fixture.image);
    let remote = format!("{address}/app:v1");
    let plan = |options: &[&str]| {
        let outcome = fixture.imgsync.push_with(options, text(&path), &remote);
        outcome.succeeded().stdout
    };
    let said = plan(&["--dry-run"]);
    let text = "would try to mount from team/base, else read";
    assert_eq!(said.matches(text).count(), 3, "{said}");
    let said: serde_json::Value = serde_json::from_str(&plan(&["--dry-run", "--json"])).unwrap();
    for layer in said["layers"].as_array().unwrap() {
        assert_eq!(layer["mount"], "team/base", "{said}");
        assert_eq!(layer["step"], "send", "{said}");
    }
    let later = &registry.requests()[before..];
    assert!(
        later
            .iter()
            .all(|it| it.method == "GET" || it.method == "HEAD" || it.target.contains("resolve"))
    );
}

/// Docker says where the image lies that it pulled or pushed: from there its layers are mounted, with
/// an empty cache, and nothing is exported.
#[test]
fn where_docker_knows_the_image_to_lie_it_is_mounted_from() {
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
    let outcome = imgsync.push(built.reference(), &remote).succeeded();
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
