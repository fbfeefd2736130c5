//! Tests layers that are sent while an export is still being read: the daemon holds the rest of a
//! layer back until the registry has got some of it.

use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use super::{EXIT_SOURCE, FakeDaemon, SpoolFixture, inspect_classic, sent_bytes};
use crate::support::archive::{Entry, tar_of};
use crate::support::fake::{FakeServer, status};
use crate::support::prelude::*;
use crate::support::{Trigger, store};

/// The size of the layer in bytes.
const LAYER_BYTES: usize = 6_000_000;
/// The number of bytes that the daemon sends before it waits.
const FIRST_BYTES: usize = 4_000_000;
/// The number of bytes that the registry gets before the daemon goes on.
const EARLY_BYTES: u64 = 1_000_000;

fn image() -> Image {
    Image::new(vec![layer("data", noise(300, LAYER_BYTES))])
}

/// Returns an export as Docker 25 and later write it: the entry of a layer is named by its diffID.
/// `layer` is its content.
fn export(image: &Image, layer: &[u8]) -> Vec<u8> {
    tar_of(&[
        Entry::new(image::blob_name(&image.layers[0]), layer),
        Entry::new(image::blob_name(&image.config), image.config.clone()),
    ])
}

/// Starts a daemon with a classic store that calls `wait` after the first bytes of each export.
fn start_daemon(
    image: &Image,
    export: impl Fn() -> Vec<u8> + Send + Sync + 'static,
    wait: impl Fn() + Send + Sync + 'static,
) -> FakeDaemon {
    let (inspected, wait) = (
        inspect_classic(image).to_string(),
        std::sync::Arc::new(wait),
    );
    let fake = FakeServer::start(move |request| {
        let line = request.line();
        let wait = std::sync::Arc::clone(&wait);
        if line.ends_with("/info") {
            status(200).body("{}")
        } else if line.ends_with("/json") {
            status(200).body(inspected.clone())
        } else if line.ends_with("/get") {
            let reply = status(200).body(export());
            reply.pause_after(FIRST_BYTES, move || wait())
        } else {
            status(404)
        }
    });
    FakeDaemon { fake }
}

/// Calls the returned function's receiver once the registry has got some bytes of the layer.
fn notify_when_sent(fixture: &SpoolFixture, sender: Sender<()>) {
    fixture
        .relay
        .run_at(Trigger::BytesSent(EARLY_BYTES), move || {
            // The daemon has stopped waiting if the push has failed.
            let _ = sender.send(());
        });
}

fn command(fixture: &SpoolFixture, daemon: &FakeDaemon) -> Command {
    let mut command = daemon.command(&fixture.imgsync);
    command.args(["push", "--chunk-size", "256KiB", "app:v1"]);
    command.arg(fixture.remote("app"));
    command
}

#[test]
fn a_layer_is_sent_while_it_is_read_and_finished_only_if_it_is_right() {
    let fixture = SpoolFixture::new();
    let image = image();
    let mut damaged = image.layers[0].clone();
    *damaged.last_mut().unwrap() ^= 1;
    let (sender, sent) = channel();
    notify_when_sent(&fixture, sender);
    let (sent, damaged) = (std::sync::Mutex::new(sent), export(&image, &damaged));
    let daemon = start_daemon(
        &image,
        move || damaged.clone(),
        move || {
            let sent = sent.lock().unwrap();
            let waited = sent.recv_timeout(Duration::from_secs(60));
            waited.expect("bytes of a layer that is not read to its end");
        },
    );
    let outcome = run(&mut command(&fixture, &daemon));
    outcome.failed(EXIT_SOURCE, &["error: source", &digest(&image.layers[0])]);
    let files = store::list_files(fixture.server.root());
    let is_blob = |file: &String| file.contains("/blobs/");
    assert!(!files.iter().any(is_blob), "{files:#?}");

    let right = export(&image, &image.layers[0]);
    let daemon = start_daemon(&image, move || right.clone(), || ());
    run(&mut command(&fixture, &daemon)).succeeded();
    assert_eq!(fixture.check_image("app").config, image.id());
    assert_eq!(fixture.spooled(), []);
}

/// The first push is killed before it has read the layer, so the second one reads it again.
#[test]
fn a_layer_that_was_sent_in_part_is_not_sent_again() {
    let fixture = SpoolFixture::new();
    let image = image();
    let (sender, sent) = channel();
    notify_when_sent(&fixture, sender);
    let right = export(&image, &image.layers[0]);
    let bytes = right.clone();
    // The first export ends only when the push is killed.
    let (killed, wait_for_kill) = channel::<()>();
    let wait_for_kill = std::sync::Mutex::new(wait_for_kill);
    let daemon = start_daemon(
        &image,
        move || bytes.clone(),
        move || {
            // The sender is dropped after the kill.
            let _ = wait_for_kill.lock().unwrap().recv();
        },
    );
    // Dropped before the daemon, also after a panic.
    let killed = killed;
    let mut first = command(&fixture, &daemon);
    let mut first = first.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let first = first.as_mut().expect("imgsync starts");
    sent.recv_timeout(Duration::from_secs(60))
        .expect("bytes of a layer that is not read to its end");
    first.kill().expect("the status of the child");
    first.wait().expect("the status of the child");
    drop(killed);

    let daemon = start_daemon(&image, move || right.clone(), || ());
    run(&mut command(&fixture, &daemon)).succeeded();
    let size = fixture.check_image("app").size();
    let requests = fixture.relay.requests();
    let broken = requests.iter().filter(|request| !request.complete);
    let wasted: u64 = broken.filter_map(|request| request.content_length).sum();
    let sent = sent_bytes(&requests);
    assert!(
        sent <= size + wasted,
        "{sent} sent of {size}, {wasted} lost"
    );
}
