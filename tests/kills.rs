//! The tool is killed, again and again: the next push goes on where the registry stands, and in all
//! little more is sent than the image.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test may panic, and says what it skips"
)]

mod support;

use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};

use support::framing::Request;
use support::{Cut, Image, Imgsync, Relay, Scratch, Server, archive, bytes, check, image};

/// How often the tool is killed, at the most.
const KILLS: u64 = 20;

fn start(imgsync: &Imgsync, image: &str, remote: &str) -> Arc<Mutex<Child>> {
    let mut command = imgsync.command();
    command.args(["push", image, remote]);
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    Arc::new(Mutex::new(child.expect("imgsync starts")))
}

/// Waits for the end without holding the lock that the killer needs.
fn ended_well(child: &Mutex<Child>) -> bool {
    support::run::until("the end of a push", || {
        let ended = child.lock().unwrap().try_wait().expect("a child of ours");
        ended.map(|status| status.success())
    })
}

fn written(requests: &[Request]) -> u64 {
    let writes = requests.iter().filter(|request| request.writes_blob());
    writes.map(|request| request.body).sum()
}

#[test]
fn a_push_that_is_killed_again_and_again_goes_on_where_it_was() {
    let scratch = Scratch::new();
    let server = Server::start(&scratch.folder("root"));
    let imgsync = Imgsync::new(&scratch.folder("home"));
    let sizes = [9_000_000, 7_000_000, 5_000_000, 3_000_000];
    let layers = sizes.iter().zip(60..);
    let layers = layers.map(|(size, seed)| image::layer("data", bytes::noise(seed, *size)));
    let image = Image::new(layers.collect());
    let path = scratch.path("image.tar");
    archive::write_tar(&image.docker_archive("app:v1"), &path);
    let path = path.to_str().expect("a path in UTF-8");

    let relay = Relay::start(server.address(), Cut::Never);
    let remote = format!("{}/app:v1", relay.address());
    let mut kills = 0;
    let mut sent = 0;
    while kills < KILLS {
        let child = start(&imgsync, path, &remote);
        // Moments that are spread over chunks of all sizes, and some before the first.
        sent += 1 + (kills * 7919 % 23) * 90_000;
        let victim = Arc::clone(&child);
        relay.after(sent, move || {
            // It may have ended.
            let _ = victim.lock().unwrap().kill();
        });
        if ended_well(&child) {
            break;
        }
        kills += 1;
        sent = sent.max(written(&relay.requests()));
    }
    assert!(kills >= 10, "it was killed only {kills} times");
    relay.after(u64::MAX, || {});
    imgsync.push(path, &remote).succeeded();

    let found = check::at_registry(server.address(), "app:v1");
    assert_eq!(found.config, image.id());
    let requests = relay.requests();
    let broken = requests
        .iter()
        .filter(|request| request.writes_blob() && !request.complete);
    // What a kill may cost: the chunk that was on its way on each open upload.
    let wasted: u64 = broken.filter_map(|request| request.announced).sum();
    let (sent, size) = (written(&requests), found.size());
    eprintln!("{kills} kills: sent {sent} of {size}, {wasted} may have been lost");
    assert!(
        sent <= size + wasted,
        "{sent} sent of {size}, {wasted} lost"
    );
    // Most of it: the sessions really went on.
    assert!(sent < 2 * size, "{sent} sent of {size}");
}

#[test]
fn two_pushes_at_once_send_nothing_twice() {
    let scratch = Scratch::new();
    let server = Server::start(&scratch.folder("root"));
    let imgsync = Imgsync::new(&scratch.folder("home"));
    let layers = (80..84).map(|seed| image::layer("data", bytes::noise(seed, 3_000_000)));
    let image = Image::new(layers.collect());
    let path = scratch.path("image.tar");
    archive::write_tar(&image.docker_archive("app:v1"), &path);
    let path = path.to_str().expect("a path in UTF-8");

    let relay = Relay::start(server.address(), Cut::Never);
    let remote = |tag: &str| format!("{}/app:{tag}", relay.address());
    let pushes = ["one", "two"].map(|tag| start(&imgsync, path, &remote(tag)));
    assert!(pushes.iter().all(|push| ended_well(push)));
    let found = check::at_registry(server.address(), "app:one");
    assert_eq!(found, check::at_registry(server.address(), "app:two"));
    assert_eq!(written(&relay.requests()), found.size());
}
