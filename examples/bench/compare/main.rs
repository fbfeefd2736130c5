//! Compares `imgsync push` with `docker push` and `skopeo copy`: the same images are pushed to
//! imgsync-server and to Debian's `docker-registry`. Prints one Markdown table.
//!
//!     examples/bench/compare.sh [MEGABYTES [MEGABYTES OF THE IMAGE FOR THE SLOW LINK]]
//!
//! All programs run on this machine. A relay between client and registry counts bytes and requests;
//! for the slow link the relay is limited to 20 Mbit/s with a round-trip time of 40 ms. Each client
//! has its own registry and its own Docker daemon, and starts with an empty home folder. Compare only
//! figures of one run.
#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a benchmark may panic and print"
)]

// The archives, images and the relay are those of the tests.
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

/// The pushes to one registry, in order: the name of the step, the image, and the state of the home.
const STEPS: [(&str, Version, HomeState); 4] = [
    ("everything new", Version::First, HomeState::Empty),
    ("unchanged", Version::First, HomeState::Kept),
    ("small layer changed", Version::Second, HomeState::Kept),
    ("unchanged, empty home", Version::Second, HomeState::Empty),
];

/// Which version of the image is pushed.
#[derive(Clone, Copy)]
enum Version {
    First,
    Second,
}

/// The state of the home folder and the Docker daemon before a push.
#[derive(Clone, Copy, PartialEq, Eq)]
enum HomeState {
    /// A new home folder and a new daemon.
    Empty,
    /// The home folder and the daemon of the previous step.
    Kept,
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
        "| link | registry | step | client | seconds | CPU | CPU of dockerd | bytes | requests |"
    );
    println!("|---|---|---|---|---:|---:|---:|---:|---:|");
    for (line, throttle, size) in [
        ("this machine", Throttle::default(), large),
        ("20 Mbit/s, 40 ms", Throttle::dsl(), small),
    ] {
        let sample = Sample::make(folder.path(), size);
        let link = format!("{line}, {size} MB");
        for kind in Kind::present() {
            for client in Client::present() {
                let rows = compare(folder.path(), &sample, kind, client, throttle);
                for (what, cost) in rows {
                    println!(
                        "| {link} | {} | {what} | {} | {cost} |",
                        kind.name(),
                        client.name()
                    );
                }
            }
        }
    }
}

/// Runs all steps of one client with a new registry.
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
    let steps = STEPS.map(|(name, version, state)| {
        if state == HomeState::Empty {
            // The old daemon is stopped before the new one starts.
            drop(home.take());
        }
        let home = home.get_or_insert_with(|| Home::new(folder, sample, client));
        let archive = match version {
            Version::First => &sample.first,
            Version::Second => &sample.second,
        };
        (name, home.push(client, archive, &relay))
    });
    steps.into()
}
