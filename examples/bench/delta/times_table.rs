//! The time that the push of a rebuilt layer takes, beside other tools.

use std::process::Command;

use super::daemon::Daemon;
use super::measure::{Cost, measured};
use super::pair::{IMAGES, Pair};
use super::push::{Home, file_size, remote, traffic};
use super::registry::{Kind, Registry};
use super::relay::{Relay, RelayFault, Throttle};
use super::rsync::RsyncServer;

/// Prints a Markdown table with one row for each link and client.
pub(super) fn print(pair: &Pair) {
    println!("| link | client | seconds | CPU | CPU of the engine | bytes | requests |");
    println!("|---|---|---:|---:|---:|---:|---:|");
    for (link, throttle) in [
        ("this machine", Throttle::default()),
        ("20 Mbit/s, 40 ms", Throttle::dsl()),
    ] {
        let size = file_size(&pair.archives[1]) / 1_000_000;
        let row = |client: &str, cost: Cost| {
            println!("| {link}, {} of {size} MB | {client} | {cost} |", pair.kind);
        };
        eprintln!("measuring the time over: {link}");
        row("imgsync push", imgsync(pair, throttle, true));
        row("imgsync push, empty home", imgsync(pair, throttle, false));
        row("docker push", docker(pair, throttle));
        row("skopeo copy", skopeo(pair, throttle));
        row("rsync of docker save", RsyncServer::push(pair, throttle));
    }
}

/// Starts a registry behind a relay.
fn start(throttle: Throttle) -> (Registry, Relay) {
    let registry = Registry::start(Kind::Imgsync);
    let relay = Relay::start_throttled(registry.address(), RelayFault::None, throttle);
    (registry, relay)
}

/// Pushes the old version to a registry, and waits until it has examined the layer.
fn push_old(pair: &Pair, home: &Home, registry: &Registry, relay: &Relay) {
    traffic(&mut home.push(pair, 0, relay), relay);
    registry.wait_until_idle();
}

fn imgsync(pair: &Pair, throttle: Throttle, has_old_layer: bool) -> Cost {
    let (laptop, runner) = (Home::new(), Home::new());
    let (registry, relay) = start(throttle);
    // Over the same link, so that this home knows how fast it is.
    push_old(pair, &laptop, &registry, &relay);
    let home = if has_old_layer { &laptop } else { &runner };
    measured(&mut home.push(pair, 1, &relay), &relay, None)
}

/// Starts a registry that holds the old version.
fn registry_with_old(pair: &Pair, throttle: Throttle) -> (Registry, Relay) {
    let (registry, relay) = start(throttle);
    let direct = Relay::start(registry.address(), RelayFault::None);
    push_old(pair, &Home::new(), &registry, &direct);
    (registry, relay)
}

fn docker(pair: &Pair, throttle: Throttle) -> Cost {
    let daemon = Daemon::start().expect("dockerd starts (it needs root)");
    pair.archives.iter().for_each(|path| daemon.load(path));
    let (_registry, relay) = registry_with_old(pair, throttle);
    let remote = remote(IMAGES[1], &relay);
    let mut tag = daemon.docker();
    let status = tag.args(["tag", IMAGES[1], &remote]).status();
    assert!(status.is_ok_and(|status| status.success()), "docker tag");
    let mut command = daemon.docker();
    measured(
        command.args(["push", "--quiet", &remote]),
        &relay,
        Some(daemon.id()),
    )
}

fn skopeo(pair: &Pair, throttle: Throttle) -> Cost {
    let home = Home::new();
    let (_registry, relay) = registry_with_old(pair, throttle);
    let mut command: Command = home.command("skopeo");
    command.args([
        "--insecure-policy",
        "copy",
        "--quiet",
        "--dest-tls-verify=false",
    ]);
    command.arg(format!("docker-archive:{}", pair.archives[1].display()));
    command.arg(format!("docker://{}", remote(IMAGES[1], &relay)));
    measured(&mut command, &relay, None)
}
