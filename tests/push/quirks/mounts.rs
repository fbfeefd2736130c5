//! Layers that are mounted from another repository, and mounts that do not come about.

use super::{Stage, text};
use crate::support::fake::Request;
use crate::support::prelude::*;
use crate::support::quirky::{Manners, Mounts, Quirky};

/// A registry that was pushed to once, and another repository there.
fn pushed_twice(manners: Manners) -> (Stage, Quirky, Outcome) {
    let stage = Stage::new();
    let registry = Quirky::start(manners);
    let address = registry.address();
    stage
        .push_image(&stage.image, address, "team/base:v1")
        .succeeded();
    let before = registry.count("PATCH", "");
    let outcome = stage.push(address).succeeded();
    let found = check::at_registry(address, "app:v1");
    assert_eq!(found.config, stage.image.id());
    registry.assert_content();
    let sent = registry.count("PATCH", "") - before;
    assert_eq!(registry.mounted().len(), if sent > 3 { 0 } else { 3 });
    (stage, registry, outcome)
}

/// What an earlier push saw in another repository is linked, with a token that allows to read there.
#[test]
fn what_another_repository_holds_is_mounted() {
    for has_tokens in [false, true] {
        let (_, registry, outcome) = pushed_twice(Manners {
            mounts: Mounts::Yes,
            has_tokens,
            ..Manners::default()
        });
        assert_eq!(registry.mounted().len(), 3, "{outcome}");
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
    let (_, registry, outcome) = pushed_twice(Manners {
        mounts: Mounts::No,
        ..Manners::default()
    });
    assert_eq!(registry.mounted().len(), 0, "{outcome}");
    // Four blobs, of which three were asked for.
    let posts = registry.seen();
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
    for mounts in [Mounts::Refused, Mounts::Lies] {
        let (_, registry, outcome) = pushed_twice(Manners {
            mounts,
            ..Manners::default()
        });
        assert_eq!(registry.mounted().len(), 0, "{outcome}");
    }
}

#[test]
fn a_dry_run_says_from_where_it_would_mount_and_does_not() {
    let stage = Stage::new();
    let registry = Quirky::start(Manners {
        mounts: Mounts::Yes,
        ..Manners::default()
    });
    let address = registry.address();
    stage
        .push_image(&stage.image, address, "team/base:v1")
        .succeeded();
    let before = registry.seen().len();
    let path = stage.written("image.tar", &stage.image);
    let remote = format!("{address}/app:v1");
    let plan = |options: &[&str]| {
        let outcome = stage.imgsync.push_with(options, text(&path), &remote);
        outcome.succeeded().stdout
    };
    let said = plan(&["--dry-run"]);
    let text = "try to mount from team/base, else read";
    assert_eq!(said.matches(text).count(), 3, "{said}");
    let said: serde_json::Value = serde_json::from_str(&plan(&["--dry-run", "--json"])).unwrap();
    for layer in said["layers"].as_array().unwrap() {
        assert_eq!(layer["mount"], "team/base", "{said}");
        assert_eq!(layer["step"], "send", "{said}");
    }
    let later = &registry.seen()[before..];
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
    if !present(&["docker", "docker-registry"]) {
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
