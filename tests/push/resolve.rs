//! Tests the resolve request of the extension, for images that Docker, skopeo, imgsync and the
//! stock registry pushed.

use crate::support::check::StoredImage;
use crate::support::prelude::*;
use imgsync_oci::ext::resolve::{ResolveRequest, ResolveResponse, ResolvedLayer};
use serde_json::Value;

/// Resolves the diffIDs of an image. Repeats the request until no layer is pending.
fn resolve(address: SocketAddr, repository: &str, image: &StoredImage) -> ResolveResponse {
    // A layer that no image has is pending until the server has computed all diffIDs.
    let unknown = digest(b"of nothing");
    let diff_ids = image.diff_ids.iter().chain([&unknown]);
    let request = ResolveRequest {
        config: Some(image.config.parse().unwrap()),
        diff_ids: diff_ids.map(|id| id.parse().unwrap()).collect(),
        ..ResolveRequest::default()
    };
    let body = serde_json::to_vec(&request).unwrap();
    let target = format!("/v2/{repository}/_imgsync/layers/resolve");
    loop {
        let reply = http::send(address, "POST", &target, &[], &body);
        assert_eq!(reply.status, 200, "{}", reply.text());
        let mut answer: ResolveResponse = serde_json::from_slice(&reply.body).unwrap();
        if !answer.layers.contains(&ResolvedLayer::Pending) {
            assert_eq!(answer.layers.pop(), Some(ResolvedLayer::Absent));
            return answer;
        }
    }
}

/// Panics unless the server resolves every diffID to the blob that the manifest names.
fn assert_all_resolved(address: SocketAddr, repository: &str, tag: &str) {
    let image = check::at_registry(address, &format!("{repository}:{tag}"));
    let answer = resolve(address, repository, &image);
    let resolved: Vec<(String, u64)> = answer.layers.iter().map(held_blob).collect();
    assert_eq!(resolved, image.blobs[1..], "{repository}");
    let manifests = answer
        .manifests
        .iter()
        .map(|manifest| manifest.digest.to_string());
    assert_eq!(
        manifests.collect::<Vec<_>>(),
        [image.manifest],
        "{repository}"
    );
}

fn held_blob(layer: &ResolvedLayer) -> (String, u64) {
    match layer {
        ResolvedLayer::Held { blob } => (blob.digest.to_string(), blob.size),
        other => panic!("{other:?}"),
    }
}

#[test]
fn layers_are_resolved_whoever_pushed_them() {
    if !programs_available(&["docker", "busybox", "skopeo"]) {
        return;
    }
    let _docker = serial::docker();
    let scratch = Scratch::new();
    let mut server = Server::start(&scratch.folder("root"));
    let image = DockerImage::build(&unique("resolve"), "v1");
    let remote = |server: &Server, name: &str| format!("{}/by/{name}:v1", server.address());

    let tagged = image.tag(remote(&server, "docker"));
    docker(&["push", tagged.reference()]);
    let archive = image.save(scratch.path("image.tar"));
    let source = format!("docker-archive:{}", archive.display());
    skopeo::copy(&source, &format!("docker://{}", remote(&server, "skopeo")));
    let imgsync = Imgsync::new(&scratch.folder("home"));
    imgsync
        .push(image.reference(), &remote(&server, "imgsync"))
        .succeeded();

    let repositories = ["by/docker", "by/skopeo", "by/imgsync"];
    for repository in repositories {
        assert_all_resolved(server.address(), repository, "v1");
    }
    server.kill();
    server.restart();
    for repository in repositories {
        assert_all_resolved(server.address(), repository, "v1");
    }
}

#[test]
fn what_a_stock_registry_wrote_meanwhile_is_found_and_what_it_deleted_is_not() {
    if !programs_available(&["docker", "busybox", "docker-registry"]) {
        return;
    }
    let _docker = serial::docker();
    let scratch = Scratch::new();
    let root = scratch.folder("root");
    let image = DockerImage::build(&unique("resolve-stock"), "v1");
    let push = |address: SocketAddr, name: &str| {
        let tagged = image.tag(format!("{address}/{name}:v1"));
        docker(&["push", tagged.reference()]);
    };
    let mut server = Server::start(&root);
    push(server.address(), "old");
    assert_all_resolved(server.address(), "old", "v1");
    let old = check::at_registry(server.address(), "old:v1");
    assert!(server.stop().success());

    let mut stock = StockRegistry::start(&root);
    push(stock.address(), "new");
    // The stock registry does not have the extension.
    let reply = http::send(
        stock.address(),
        "POST",
        "/v2/new/_imgsync/layers/resolve",
        &[],
        b"{}",
    );
    assert_eq!(reply.status, 404);
    stock.stop();
    std::fs::remove_dir_all(root.join("docker/registry/v2/repositories/old")).unwrap();

    server.restart();
    assert_all_resolved(server.address(), "new", "v1");
    let answer = resolve(server.address(), "old", &old);
    assert!(answer.manifests.is_empty());
    for layer in answer.layers {
        let layer: Value = serde_json::to_value(&layer).unwrap();
        assert_eq!(
            (&layer["state"], &layer["repository"]),
            (&"elsewhere".into(), &"new".into())
        );
    }
}
