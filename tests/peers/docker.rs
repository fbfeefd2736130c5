//! Tests pushes from the local Docker to the server, and images that run from there.

use crate::support::DockerSocketProxy;
use crate::support::prelude::*;

#[test]
fn docker_pulls_and_runs_what_was_pushed_from_the_daemon() {
    if !programs_available(&["docker", "busybox"]) {
        return;
    }
    let _docker = serial::docker();
    let scratch = Scratch::new();
    let server = Server::start(&scratch.folder("root"));
    let imgsync = Imgsync::new(&scratch.folder("home"));
    let image = DockerImage::build(&unique("docker"), "v1");
    let id = image.id();

    let remote = format!("{}/team/app:v1", server.address());
    imgsync.push(image.reference(), &remote).succeeded();
    image.remove();

    let found = check::at_registry(server.address(), "team/app:v1");
    let relay = Relay::start(server.address(), RelayFault::None);
    let pulled = DockerImage::pull(format!("{}/team/app:v1", relay.address()));
    assert_eq!(pulled.id(), id);
    assert_eq!(pulled.container_output(), "hello from version v1");
    // The daemon had no layer left, so every blob came from the server.
    let requests = relay.requests();
    let read: BTreeSet<_> = requests
        .iter()
        .filter(|request| request.reads_blob())
        .filter_map(|request| request.target.rsplit('/').next())
        .collect();
    let stored: BTreeSet<_> = found.blobs.iter().map(|(digest, _)| &**digest).collect();
    assert_eq!(read, stored);
}

#[test]
fn an_image_is_pushed_by_its_id() {
    if !programs_available(&["docker", "busybox"]) {
        return;
    }
    let _docker = serial::docker();
    let scratch = Scratch::new();
    let server = Server::start(&scratch.folder("root"));
    let imgsync = Imgsync::new(&scratch.folder("home"));
    let image = DockerImage::build(&unique("by-id"), "v1");
    let id = image.id();

    let hex = id.strip_prefix("sha256:").expect("an ID");
    for (name, form) in [
        ("app:full", &*id),
        ("app:hex", hex),
        ("app:short", &hex[..12]),
    ] {
        let remote = format!("{}/{name}", server.address());
        imgsync.push(form, &remote).succeeded();
        let found = check::at_registry(server.address(), name);
        assert_eq!(found.config, id, "{form}");
    }
    // The daemon reports the name of the image.
    imgsync.push(&id, &server.address().to_string()).succeeded();
    let found = check::at_registry(server.address(), image.reference());
    assert_eq!(found.config, id);
}

#[test]
fn a_remote_without_a_name_keeps_name_and_tag() {
    if !programs_available(&["docker", "busybox"]) {
        return;
    }
    let _docker = serial::docker();
    let scratch = Scratch::new();
    let server = Server::start(&scratch.folder("root"));
    let imgsync = Imgsync::new(&scratch.folder("home"));
    let name = unique("named");
    let image = DockerImage::build(&name, "v7");
    let host = server.address().to_string();

    imgsync.push(image.reference(), &host).succeeded();
    let found = check::at_registry(server.address(), &format!("{name}:v7"));
    assert_eq!(found.config, image.id());

    // The registry in the local name is not the target.
    let elsewhere = image.tag(format!("registry.example.com/{name}:v8"));
    let explicit = format!("docker-daemon:{}", elsewhere.reference());
    imgsync.push(&explicit, &host).succeeded();
    let found = check::at_registry(server.address(), &format!("{name}:v8"));
    assert_eq!(found.config, image.id());
}

#[test]
fn an_image_that_the_daemon_lacks_is_the_sources_fault() {
    if !programs_available(&["docker"]) {
        return;
    }
    let _docker = serial::docker();
    let scratch = Scratch::new();
    let server = Server::start(&scratch.folder("root"));
    let imgsync = Imgsync::new(&scratch.folder("home"));
    let name = unique("nowhere");
    let remote = format!("{}/app:v1", server.address());
    imgsync.push(&name, &remote).failed(3, &["source", &name]);
}

/// Pushes an image that the registry has, without a cache. The daemon must not be asked for an
/// export.
fn assert_not_exported(address: SocketAddr, options: &[&str]) {
    let scratch = Scratch::new();
    let image = DockerImage::build(&unique("there"), "v1");
    let remote = format!("{address}/app:v1");
    Imgsync::new(&scratch.folder("first-home"))
        .push(image.reference(), &remote)
        .succeeded();

    let engine = DockerSocketProxy::start(scratch.root());
    let relay = Relay::start(address, RelayFault::None);
    let imgsync = Imgsync::new(&scratch.folder("empty-home"));
    let mut command = imgsync.command();
    command.env("DOCKER_HOST", engine.host());
    command.arg("push").args(options).arg(image.reference());
    let outcome = run(command.arg(format!("{}/app:v1", relay.address()))).succeeded();
    assert!(outcome.stdout.contains(": sent 0 B"), "{outcome}");
    let engine_requests = engine.requests();
    let lines: Vec<String> = engine_requests.iter().map(ToString::to_string).collect();
    assert!(
        !engine_requests.is_empty(),
        "the daemon was not asked through the socket proxy"
    );
    let is_export = |line: &&String| line.contains("/get");
    assert_eq!(lines.iter().find(is_export), None, "{lines:#?}");
    assert!(lines.len() <= 5, "{lines:#?}");
    let (requests, bytes) = (relay.request_count(), relay.traffic().total());
    assert!(requests <= 10, "{requests} requests");
    assert!(bytes <= 20_000, "{bytes} bytes");
    assert_eq!(check::at_registry(address, "app:v1").config, image.id());
}

#[test]
fn an_image_that_the_server_has_is_not_exported() {
    if !programs_available(&["docker", "busybox"]) {
        return;
    }
    let _docker = serial::docker();
    let scratch = Scratch::new();
    let server = Server::start(&scratch.folder("root"));
    assert_not_exported(server.address(), &[]);
}

#[test]
fn an_image_that_a_stock_registry_has_is_not_exported() {
    if !programs_available(&["docker", "busybox", "docker-registry"]) {
        return;
    }
    let _docker = serial::docker();
    let scratch = Scratch::new();
    let stock = StockRegistry::start(&scratch.folder("root"));
    assert_not_exported(stock.address(), &["--trust-registry"]);
}
