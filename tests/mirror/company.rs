//! What speaks about mirrored images: it comes whole, stays as long as its image is wanted, and
//! what
//! is not there any more keeps nobody from the image.

use crate::support::prelude::*;
use crate::support::seed;
use crate::support::seed::{OCI_INDEX, Place};

const FROM: &str = "team/app";
const TO: &str = "copy/app";

fn numbered(seed: u64) -> Image {
    Image::new(vec![layer("data", noise(seed, 2000))])
}

/// The tags of a repository.
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

/// `sha256-…`, the tag that speaks about a manifest.
fn about(manifest: &[u8], suffix: &str) -> String {
    format!("{}{suffix}", digest(manifest).replace(':', "-"))
}

/// `imgsync mirror OPTIONS… SOURCE TARGET`
fn mirror(imgsync: &Imgsync, (from, to): (SocketAddr, SocketAddr), options: &[&str]) -> Outcome {
    let (from, to) = (format!("{from}/{FROM}"), format!("{to}/{TO}"));
    run(imgsync
        .command()
        .arg("mirror")
        .args(options)
        .args([&from, &to]))
}

#[test]
fn what_speaks_about_a_part_of_an_index_stays_as_long_as_that_is_wanted() {
    let scratch = Scratch::new();
    let source = Server::start(&scratch.folder("source"));
    let target = Server::start(&scratch.folder("target"));
    let imgsync = Imgsync::new(&scratch.folder("home"));
    let place = Place {
        address: source.address(),
        repository: FROM,
    };
    let part = place.image(None, &numbered(1));
    place.image(Some("v2"), &numbered(2));
    place.manifest("v1", OCI_INDEX, &seed::index(&[("linux/amd64", &part)]));
    let signature = about(&part, ".sig");
    place.artifact(Some(&signature), &part, b"of the part");
    let ends = (source.address(), target.address());
    for _ in 0..3 {
        mirror(&imgsync, ends, &["--prune"]).succeeded();
        let all = [signature.as_str(), "v1", "v2"];
        assert_eq!(tags(target.address(), TO), all);
    }
    mirror(&imgsync, ends, &["--prune", "--exclude", "v1"]).succeeded();
    assert_eq!(tags(target.address(), TO), ["v2"]);
}

#[test]
fn a_registry_that_deletes_no_tag_alone_keeps_it_and_that_is_no_failure() {
    if !present(&["docker-registry"]) {
        return;
    }
    let scratch = Scratch::new();
    let source = Server::start(&scratch.folder("source"));
    let target = StockRegistry::start(&scratch.folder("target"));
    let imgsync = Imgsync::new(&scratch.folder("home"));
    let place = Place {
        address: source.address(),
        repository: FROM,
    };
    let manifest = place.image(Some("v1"), &numbered(1));
    place.artifact(None, &manifest, b"of v1");
    place.image(Some("v2"), &numbered(2));
    let ends = (source.address(), target.address());
    mirror(&imgsync, ends, &["--prune"]).succeeded();
    // The target keeps no list of what speaks about v1, so the mirror does, under a tag.
    let all = [about(&manifest, ""), "v1".to_owned(), "v2".to_owned()];
    assert_eq!(tags(target.address(), TO), all);
    delete(source.address(), "v2");
    for _ in 0..2 {
        let kept = mirror(&imgsync, ends, &["--prune"]).succeeded();
        let lines = kept.stdout.lines();
        let lines: Vec<_> = lines.filter(|line| line.contains(": kept: ")).collect();
        assert!(
            matches!(lines[..], [line] if line.contains(":v2: ") && line.ends_with("cannot delete a single tag")),
            "{kept}"
        );
        assert!(kept.stderr.contains("imgsync rm --digest"), "{kept}");
    }
    let idle = mirror(&imgsync, ends, &["--prune", "--exit-code"]);
    assert_eq!(idle.code, Some(8), "{idle}");
    assert_eq!(tags(target.address(), TO), all);
}

#[test]
fn a_list_that_outlived_what_it_names_keeps_nobody_from_the_image() {
    if !present(&["docker-registry"]) {
        return;
    }
    let scratch = Scratch::new();
    let more = ", delete: {enabled: true}";
    let source = StockRegistry::configured(&scratch.folder("source"), more, "", "");
    let target = Server::start(&scratch.folder("target"));
    let imgsync = Imgsync::new(&scratch.folder("home"));
    let place = Place {
        address: source.address(),
        repository: FROM,
    };
    let manifest = place.image(Some("v1"), &numbered(1));
    let gone = place.artifact(None, &manifest, b"gone");
    let stays = place.artifact(None, &manifest, b"stays");
    let (tag, list) = seed::list(&manifest, &[&gone, &stays]);
    place.manifest(&tag, OCI_INDEX, &list);
    delete(source.address(), &digest(&gone));
    let ends = (source.address(), target.address());
    let done = mirror(&imgsync, ends, &[]).succeeded();
    assert!(done.stderr.contains(&digest(&gone)), "{done}");
    let path = format!("/v2/{TO}/manifests/{}", digest(&stays));
    assert_eq!(http::get(target.address(), &path).status, 200);
}

#[test]
fn an_index_that_lacks_a_part_says_which_and_what_to_do() {
    let scratch = Scratch::new();
    let source = Server::start(&scratch.folder("source"));
    let target = Server::start(&scratch.folder("target"));
    let imgsync = Imgsync::new(&scratch.folder("home"));
    let place = Place {
        address: source.address(),
        repository: FROM,
    };
    let (one, other) = (
        place.image(None, &numbered(1)),
        place.image(None, &numbered(2)),
    );
    let index = seed::index(&[("linux/amd64", &one), ("linux/arm64", &other)]);
    place.manifest("v1", OCI_INDEX, &index);
    delete(source.address(), &digest(&other));
    let ends = (source.address(), target.address());
    mirror(&imgsync, ends, &[]).failed(3, &["linux/arm64", &digest(&other), "--platform"]);
    assert!(tags(target.address(), TO).is_empty());
    mirror(&imgsync, ends, &["--platform", "linux/amd64"]).succeeded();
    assert_eq!(tags(target.address(), TO), ["v1"]);
}
