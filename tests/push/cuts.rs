//! Tests pushes over connections that break repeatedly, and with a server that restarts: one run
//! succeeds and sends little more than the image.

use std::sync::mpsc;

use crate::support::prelude::*;
use crate::support::request_parser::ObservedRequest;

const MIB: u64 = 1024 * 1024;

/// Writes an archive with four layers that do not compress, about 60 MB together.
fn large_image(folder: &Path) -> (Image, PathBuf) {
    let sizes = [22_000_000, 19_000_000, 13_000_000, 6_000_000];
    let layers = sizes.iter().zip(40..);
    let layers = layers.map(|(size, seed)| layer("data", noise(seed, *size)));
    let image = Image::new(layers.collect());
    let path = folder.join("image.tar");
    archive::write_tar(&image.docker_archive("app:v1"), &path);
    (image, path)
}

/// Pushes over connections that break, and checks the image and the number of sent bytes.
fn assert_push_survives_cuts(cut: RelayFault, options: &[&str]) {
    let scratch = Scratch::new();
    let server = Server::start(&scratch.folder("root"));
    let imgsync = Imgsync::new(&scratch.folder("home"));
    let (image, path) = large_image(scratch.root());
    let relay = Relay::start(server.address(), cut);

    let remote = format!("{}/app:v1", relay.address());
    let path = path.to_str().expect("a path in UTF-8");
    imgsync.push_with(options, path, &remote).succeeded();

    let found = check::at_registry(server.address(), "app:v1");
    assert_eq!(found.config, image.id());
    assert!(found.size() > 60_000_000, "the layers do not compress");

    let requests = relay.requests();
    let writes: Vec<_> = requests
        .iter()
        .filter(|request| request.writes_blob())
        .collect();
    let sent: u64 = writes.iter().map(|request| request.body).sum();
    let broken: Vec<_> = writes.iter().filter(|request| !request.complete).collect();
    // A cut loses at most one chunk for each open upload.
    let wasted: u64 = broken
        .iter()
        .filter_map(|request| request.content_length)
        .sum();
    assert!(
        relay.fault_count() >= 10,
        "the connection broke only {} times",
        relay.fault_count()
    );
    assert!(
        sent <= found.size() + wasted,
        "{sent} bytes sent of {}, {} cuts\n{}",
        found.size(),
        relay.fault_count(),
        shown(&requests)
    );
    eprintln!(
        "{} cuts, {} broken requests; {} bytes, {sent} sent, {} at most",
        relay.fault_count(),
        broken.len(),
        found.size(),
        found.size() + wasted
    );
}

fn shown(requests: &[ObservedRequest]) -> String {
    let lines: Vec<_> = requests.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

/// Returns the bytes after which connections break: about 3 MB, and no multiple of a chunk.
fn cut_sizes() -> Vec<u64> {
    vec![
        3 * MIB,
        2 * MIB + 77_777,
        4 * MIB - 1,
        3 * MIB + 500_001,
        MIB + 13,
    ]
}

#[test]
fn every_connection_breaks_after_some_megabytes() {
    assert_push_survives_cuts(RelayFault::CutEach(cut_sizes()), &[]);
}

#[test]
fn every_connection_breaks_after_some_megabytes_with_small_chunks() {
    assert_push_survives_cuts(RelayFault::CutEach(cut_sizes()), &["--chunk-size", "4MiB"]);
}

#[test]
fn all_connections_break_after_some_megabytes() {
    assert_push_survives_cuts(RelayFault::CutAll(cut_sizes()), &[]);
}

#[test]
fn all_connections_break_after_some_megabytes_with_small_chunks() {
    assert_push_survives_cuts(RelayFault::CutAll(cut_sizes()), &["--chunk-size", "4MiB"]);
}

/// The server is killed during a push and started again. It must have every byte that it
/// acknowledged, so the push continues there.
#[test]
fn the_server_is_killed_and_started_again_during_a_push() {
    let scratch = Scratch::new();
    let mut server = Server::start(&scratch.folder("root"));
    let imgsync = Imgsync::new(&scratch.folder("home"));
    let (image, path) = large_image(scratch.root());
    let relay = Relay::start(server.address(), RelayFault::None);
    let (reached, halfway) = mpsc::channel();
    // The relay forwards nothing until the server is dead.
    let (killed, dead) = mpsc::channel::<()>();
    relay.run_after_bytes_sent(18_000_000, move || {
        reached.send(()).expect("the test receives");
        dead.recv().expect("the test answers");
    });

    let remote = format!("{}/app:v1", relay.address());
    let path = path.to_str().expect("a path in UTF-8").to_owned();
    // One blob at a time, so that only one chunk is being sent when the server dies.
    let options = ["--jobs", "1", "--chunk-size", "2MiB"];
    let push = std::thread::spawn(move || imgsync.push_with(&options, &path, &remote));
    halfway.recv().expect("a push that sends 18 MB");
    let before = relay.requests();
    server.kill();
    killed.send(()).expect("the relay receives");
    server.restart();
    relay.forward_to(server.address());
    push.join().expect("the push").succeeded();

    let found = check::at_registry(server.address(), "app:v1");
    assert_eq!(found.config, image.id());
    let requests = relay.requests();
    let unfinished = before.iter().rfind(|request| !request.complete);
    let chunk = unfinished.and_then(|request| request.content_length);
    let chunk = chunk.expect("a chunk that the server did not get");
    let writes = || requests.iter().filter(|request| request.writes_blob());
    let sent: u64 = writes().map(|request| request.body).sum();
    assert!(
        sent <= found.size() + chunk,
        "{sent} bytes sent of {}, and {chunk} may be lost\n{}",
        found.size(),
        shown(&requests)
    );
    // Each blob had one session, so no session was lost.
    let opened = writes().filter(|request| request.method == "POST").count();
    assert_eq!(opened, found.blobs.len(), "{}", shown(&requests));
}
