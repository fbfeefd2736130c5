//! Measures pushes: imgsync beside `docker push` and `skopeo copy`, with the same images, to
//! imgsync-server and to Debian's `docker-registry`. Prints one Markdown table.
//!
//!     examples/bench/compare.sh [MEGABYTES [MEGABYTES OF THE IMAGE FOR THE SLOW LINE]]
//!
//! Everything runs on this machine, a counting relay between client and registry; the slow line is
//! that relay, held to 20 Mbit/s and 40 ms there and back. Each client begins with an empty home and a Docker
//! daemon of its own, and each has a registry to itself. Figures are for comparing, not for keeping.
#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a program that measures may panic and talk"
)]

// What the tests stand on serves here too.
#[allow(dead_code, unreachable_pub, reason = "not all of it is used here")]
#[path = "../../../tests/support/archive.rs"]
mod archive;
#[allow(dead_code, unreachable_pub, reason = "not all of it is used here")]
#[path = "../../../tests/support/bytes.rs"]
mod bytes;
#[allow(dead_code, unreachable_pub, reason = "not all of it is used here")]
#[path = "../../../tests/support/image.rs"]
mod image;
#[allow(dead_code, unreachable_pub, reason = "not all of it is used here")]
#[path = "../../../tests/support/relay/mod.rs"]
mod relay;
#[allow(dead_code, unreachable_pub, reason = "not all of it is used here")]
#[path = "../../../tests/support/request_parser.rs"]
mod request_parser;

mod client;
mod daemon;
mod measure;
mod registry;
mod sample;

use std::path::Path;

use self::client::{Client, Home};
use self::measure::Cost;
use self::registry::{Kind, Registry};
use self::relay::{Relay, RelayFault, Throttle};
use self::sample::Sample;

const MEGABYTES: u64 = 300;
const MEGABYTES_SLOW: u64 = 20;

/// What is done to the registry, one after the other.
const STEPS: [(&str, Version, Begins); 4] = [
    ("everything new", Version::First, Begins::Empty),
    ("unchanged", Version::First, Begins::AsItIs),
    ("small layer changed", Version::Second, Begins::AsItIs),
    ("unchanged, empty home", Version::Second, Begins::Empty),
];

/// Which version of the image is pushed.
#[derive(Clone, Copy)]
enum Version {
    First,
    Second,
}

/// What the client knows of earlier runs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Begins {
    /// Nothing: neither it nor the Docker daemon.
    Empty,
    AsItIs,
}

fn main() {
    let mut sizes = std::env::args().skip(1).map(|word| {
        let size = word.parse::<u64>();
        size.unwrap_or_else(|_| panic!("{word:?} is no number of megabytes"))
    });
    let large = sizes.next().unwrap_or(MEGABYTES);
    let small = sizes.next().unwrap_or(MEGABYTES_SLOW);
    let folder = tempfile::tempdir().expect("a folder");
    println!(
        "| line | registry | what | client | seconds | CPU | CPU of dockerd | bytes | requests |"
    );
    println!("|---|---|---|---|---:|---:|---:|---:|---:|");
    for (line, throttle, size) in [
        ("this machine", Throttle::default(), large),
        ("20 Mbit/s, 40 ms", Throttle::dsl(), small),
    ] {
        let sample = Sample::make(folder.path(), size);
        let line = format!("{line}, {size} MB");
        for kind in Kind::present() {
            for client in Client::present() {
                let rows = compare(folder.path(), &sample, kind, client, throttle);
                for (what, cost) in rows {
                    println!(
                        "| {line} | {} | {what} | {} | {cost} |",
                        kind.name(),
                        client.name()
                    );
                }
            }
        }
    }
}

/// All steps of one client with a registry of its own.
fn compare(
    folder: &Path,
    sample: &Sample,
    kind: Kind,
    client: Client,
    throttle: Throttle,
) -> Vec<(&'static str, Cost)> {
    eprintln!("measuring {} to {}", client.name(), kind.name());
    let registry = Registry::start(kind);
    // One for all steps: what is remembered of a registry goes by its port.
    let relay = Relay::start_throttled(registry.address(), RelayFault::None, throttle);
    let mut home: Option<Home> = None;
    let steps = STEPS.map(|(what, version, begins)| {
        if begins == Begins::Empty {
            // The old one has to be gone before the new one comes.
            drop(home.take());
        }
        let home = home.get_or_insert_with(|| Home::new(folder, sample, client));
        let archive = match version {
            Version::First => &sample.first,
            Version::Second => &sample.second,
        };
        (what, home.push(client, archive, &relay))
    });
    steps.into()
}
