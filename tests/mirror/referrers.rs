//! Tests referrers and signature tags of mirrored images: they are copied completely, they stay as
//! long as their image is selected, and a missing one does not block the image.

use crate::support::prelude::*;
use crate::support::seed;
use crate::support::seed::{OCI_INDEX, RemoteRepository};

const FROM: &str = "team/app";
const TO: &str = "copy/app";

fn make_image(seed: u64) -> Image {
    Image::new(vec![layer("data", noise(seed, 2000))])
}

/// Returns the tags of a repository, sorted.
fn tags(address: SocketAddr, repository: &str) -> Vec<String> {
    let list = http::get(address, &format!("/v2/{repository}/tags/list")).json();
    let tags = list["tags"].as_array().into_iter().flatten();
    let mut tags: Vec<_> = tags.map(|tag| tag.as_str().unwrap().to_owned()).collect();
    tags.sort();
    tags
}

fn delete(address: SocketAddr, reference: &str) {
    let target = format!("/v2/{FROM}/manifests/{reference}");
    let reply = http::send(address, "DELETE", &target, &[], b"");
    assert_eq!(reply.status, 202, "{target}: {}", reply.text());
}

/// Returns the tag `sha256-…` with this suffix, which belongs to a manifest.
fn companion_tag(manifest: &[u8], suffix: &str) -> String {
    format!("{}{suffix}", digest(manifest).replace(':', "-"))
}

/// Runs `imgsync mirror OPTIONS… SOURCE TARGET`.
fn mirror(imgsync: &Imgsync, (from, to): (SocketAddr, SocketAddr), options: &[&str]) -> Outcome {
    let (from, to) = (format!("{from}/{FROM}"), format!("{to}/{TO}"));
    run(imgsync
        .command()
        .arg("mirror")
        .args(options)
        .args([&from, &to]))
}

#[test]
fn a_signature_of_a_child_manifest_stays_while_its_index_is_selected() {
    let scratch = Scratch::new();
    let source = Server::start(&scratch.folder("source"));
    let target = Server::start(&scratch.folder("target"));
    let imgsync = Imgsync::new(&scratch.folder("home"));
    let source_repository = RemoteRepository {
        address: source.address(),
        repository: FROM,
    };
    let child = source_repository.push_image(None, &make_image(1));
    source_repository.push_image(Some("v2"), &make_image(2));
    source_repository.push_manifest("v1", OCI_INDEX, &seed::index(&[("linux/amd64", &child)]));
    let signature = companion_tag(&child, ".sig");
    source_repository.push_artifact(Some(&signature), &child, b"of the part");
    let addresses = (source.address(), target.address());
    for _ in 0..3 {
        mirror(&imgsync, addresses, &["--prune"]).succeeded();
        let all = [signature.as_str(), "v1", "v2"];
        assert_eq!(tags(target.address(), TO), all);
    }
    mirror(&imgsync, addresses, &["--prune", "--exclude", "v1"]).succeeded();
    assert_eq!(tags(target.address(), TO), ["v2"]);
}

#[test]
fn a_tag_that_the_registry_cannot_delete_alone_is_kept_without_an_error() {
    if !programs_available(&["docker-registry"]) {
        return;
    }
    let scratch = Scratch::new();
    let source = Server::start(&scratch.folder("source"));
    let target = StockRegistry::start(&scratch.folder("target"));
    let imgsync = Imgsync::new(&scratch.folder("home"));
    let source_repository = RemoteRepository {
        address: source.address(),
        repository: FROM,
    };
    let manifest = source_repository.push_image(Some("v1"), &make_image(1));
    source_repository.push_artifact(None, &manifest, b"of v1");
    source_repository.push_image(Some("v2"), &make_image(2));
    let addresses = (source.address(), target.address());
    mirror(&imgsync, addresses, &["--prune"]).succeeded();
    // The target has no referrers API, so the mirror keeps the list of referrers of v1 under a tag.
    let all = [
        companion_tag(&manifest, ""),
        "v1".to_owned(),
        "v2".to_owned(),
    ];
    assert_eq!(tags(target.address(), TO), all);
    delete(source.address(), "v2");
    for _ in 0..2 {
        let outcome = mirror(&imgsync, addresses, &["--prune"]).succeeded();
        let lines = outcome.stdout.lines();
        let lines: Vec<_> = lines.filter(|line| line.contains(": kept: ")).collect();
        assert!(
            matches!(lines[..], [line] if line.contains(":v2: ") && line.ends_with("cannot delete a single tag")),
            "{outcome}"
        );
        assert!(outcome.stderr.contains("imgsync rm --digest"), "{outcome}");
    }
    let unchanged = mirror(&imgsync, addresses, &["--prune", "--exit-code"]);
    assert_eq!(unchanged.code, Some(8), "{unchanged}");
    assert_eq!(tags(target.address(), TO), all);
}

#[test]
fn a_deleted_referrer_in_a_list_does_not_block_the_image() {
    if !programs_available(&["docker-registry"]) {
        return;
    }
    let scratch = Scratch::new();
    let delete_config = ", delete: {enabled: true}";
    let source = StockRegistry::start_configured(&scratch.folder("source"), delete_config, "", "");
    let target = Server::start(&scratch.folder("target"));
    let imgsync = Imgsync::new(&scratch.folder("home"));
    let source_repository = RemoteRepository {
        address: source.address(),
        repository: FROM,
    };
    let manifest = source_repository.push_image(Some("v1"), &make_image(1));
    let deleted = source_repository.push_artifact(None, &manifest, b"gone");
    let remaining = source_repository.push_artifact(None, &manifest, b"stays");
    let (tag, list) = seed::referrers_tag(&manifest, &[&deleted, &remaining]);
    source_repository.push_manifest(&tag, OCI_INDEX, &list);
    delete(source.address(), &digest(&deleted));
    let addresses = (source.address(), target.address());
    let outcome = mirror(&imgsync, addresses, &[]).succeeded();
    assert!(outcome.stderr.contains(&digest(&deleted)), "{outcome}");
    let path = format!("/v2/{TO}/manifests/{}", digest(&remaining));
    assert_eq!(http::get(target.address(), &path).status, 200);
}

#[test]
fn an_index_without_one_of_its_children_is_explained() {
    let scratch = Scratch::new();
    let source = Server::start(&scratch.folder("source"));
    let target = Server::start(&scratch.folder("target"));
    let imgsync = Imgsync::new(&scratch.folder("home"));
    let source_repository = RemoteRepository {
        address: source.address(),
        repository: FROM,
    };
    let (one, other) = (
        source_repository.push_image(None, &make_image(1)),
        source_repository.push_image(None, &make_image(2)),
    );
    let index = seed::index(&[("linux/amd64", &one), ("linux/arm64", &other)]);
    source_repository.push_manifest("v1", OCI_INDEX, &index);
    delete(source.address(), &digest(&other));
    let addresses = (source.address(), target.address());
    mirror(&imgsync, addresses, &[]).failed(3, &["linux/arm64", &digest(&other), "--platform"]);
    assert!(tags(target.address(), TO).is_empty());
    mirror(&imgsync, addresses, &["--platform", "linux/amd64"]).succeeded();
    assert_eq!(tags(target.address(), TO), ["v1"]);
}
