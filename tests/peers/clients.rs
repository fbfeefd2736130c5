//! Tests that an image pushed by one client is pulled unchanged by all clients.

use crate::support::prelude::*;

const REQUIRED_PROGRAMS: [&str; 4] = ["docker", "busybox", "podman", "skopeo"];

/// Builds an image, pushes it with `push`, and pulls it with every client. `push` gets the image,
/// its archive and the target.
fn assert_everyone_pulls(name: &str, push: impl FnOnce(&DockerImage, &str, &str)) {
    let scratch = Scratch::new();
    let server = Server::start(&scratch.folder("root"));
    let image = DockerImage::build(&unique(name), "v1");
    let id = image.id();
    let archive = image.save(scratch.path("image.tar"));
    let remote = format!("{}/team/{name}:v1", server.address());
    push(&image, archive.to_str().expect("a path in UTF-8"), &remote);
    image.remove();

    let tag = format!("team/{name}:v1");
    let found = check::at_registry(server.address(), &tag);
    assert_eq!(found.config, id);

    let pulled = DockerImage::pull(&remote);
    assert_eq!(pulled.id(), id, "pulled by docker");
    assert_eq!(pulled.container_output(), "hello from version v1");

    let podman = Podman::new();
    podman.pull(&remote);
    assert_eq!(podman.id(&remote), id, "pulled by podman");

    let folder = scratch.path("folder");
    skopeo::pull(server.address(), &tag, &folder);
    assert_eq!(check::in_folder(&folder), found, "pulled by skopeo");
}

#[test]
fn everyone_pulls_what_docker_pushed() {
    if !programs_available(&REQUIRED_PROGRAMS) {
        return;
    }
    let _docker = serial::docker();
    assert_everyone_pulls("docker", |image, _, remote| {
        let tagged = image.tag(remote);
        docker(&["push", tagged.reference()]);
    });
}

#[test]
fn everyone_pulls_what_podman_pushed() {
    if !programs_available(&REQUIRED_PROGRAMS) {
        return;
    }
    let _docker = serial::docker();
    assert_everyone_pulls("podman", |image, archive, remote| {
        let podman = Podman::new();
        podman.load(archive);
        podman.push(&image.id(), remote);
    });
}

#[test]
fn everyone_pulls_what_skopeo_pushed() {
    if !programs_available(&REQUIRED_PROGRAMS) {
        return;
    }
    let _docker = serial::docker();
    assert_everyone_pulls("skopeo", |_, archive, remote| {
        let source = format!("docker-archive:{archive}");
        skopeo::copy(&source, &format!("docker://{remote}"));
    });
}
