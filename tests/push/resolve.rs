//! Which layers our server holds, whoever pushed them and to whichever server: told as the images'
//! own configs tell it.

use crate::support::check::StoredImage;
use crate::support::prelude::*;
use imgsync_oci::ext::resolve::{ResolveRequest, ResolveResponse, ResolvedLayer};
use serde_json::Value;

/// Asks about an image until everything has been looked at.
fn ask(address: SocketAddr, repository: &str, image: &StoredImage) -> ResolveResponse {
    // A layer that nobody has is pending for as long as the server looks at anything.
    let nothing = digest(b"of nothing");
    let diff_ids = image.diff_ids.iter().chain([&nothing]);
    let request = ResolveRequest {
        config: Some(image.config.parse().unwrap()),
        diff_ids: diff_ids.map(|id| id.parse().unwrap()).collect(),
        mount: false,
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

/// Every diffID of an image is held as the very blob that its manifest names.
fn is_told(address: SocketAddr, repository: &str, tag: &str) {
    let image = check::at_registry(address, &format!("{repository}:{tag}"));
    let answer = ask(address, repository, &image);
    let told: Vec<(String, u64)> = answer.layers.iter().map(blob).collect();
    assert_eq!(told, image.blobs[1..], "{repository}");
    let manifests = answer.manifests.iter().map(|it| it.digest.to_string());
    assert_eq!(
        manifests.collect::<Vec<_>>(),
        [image.manifest],
        "{repository}"
    );
}

fn blob(layer: &ResolvedLayer) -> (String, u64) {
    match layer {
        ResolvedLayer::Held { blob } => (blob.digest.to_string(), blob.size),
        other => panic!("{other:?}"),
    }
}

#[test]
fn layers_are_told_whoever_pushed_them() {
    if !programs_available(&["docker", "busybox", "skopeo"]) {
        return;
    }
    let _docker = serial::docker();
    let scratch = Scratch::new();
    let mut server = Server::start(&scratch.folder("root"));
    let image = DockerImage::build(&unique("resolve"), "v1");
    let at = |server: &Server, name: &str| format!("{}/by/{name}:v1", server.address());

    let tagged = image.tag(at(&server, "docker"));
    docker(&["push", tagged.reference()]);
    let archive = image.save(scratch.path("image.tar"));
    let source = format!("docker-archive:{}", archive.display());
    skopeo::copy(&source, &format!("docker://{}", at(&server, "skopeo")));
    let imgsync = Imgsync::new(&scratch.folder("home"));
    imgsync
        .push(image.reference(), &at(&server, "imgsync"))
        .succeeded();

    let pushers = ["by/docker", "by/skopeo", "by/imgsync"];
    for repository in pushers {
        is_told(server.address(), repository, "v1");
    }
    server.kill();
    server.restart();
    for repository in pushers {
        is_told(server.address(), repository, "v1");
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
    is_told(server.address(), "old", "v1");
    let old = check::at_registry(server.address(), "old:v1");
    assert!(server.stop().success());

    let mut stock = StockRegistry::start(&root);
    push(stock.address(), "new");
    // A registry that does not know the question.
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
    is_told(server.address(), "new", "v1");
    let answer = ask(server.address(), "old", &old);
    assert!(answer.manifests.is_empty());
    for layer in answer.layers {
        let told: Value = serde_json::to_value(&layer).unwrap();
        assert_eq!(
            (&told["state"], &told["repository"]),
            (&"elsewhere".into(), &"new".into())
        );
    }
}
