//! Compares `imgsync push` with `docker push`, `podman push` and `skopeo copy`: the same images are
//! pushed to imgsync-server and to Debian's `docker-registry`. Prints two Markdown tables: the cost
//! of each push, and how imgsync compares with the others.
//!
//!     examples/bench/compare.sh [MEGABYTES [MEGABYTES FOR THE SLOW LINK]] [KEY=VALUE]…
//!
//! All programs run on this machine. A relay between client and registry counts bytes and requests;
//! for the slow link the relay is limited to 20 Mbit/s with a round-trip time of 40 ms. Each client
//! has its own registry and its own engine, and starts with an empty home folder. Compare only
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
mod options;
mod podman;
mod ratios;
mod registry;
mod sample;

use std::path::Path;

use self::client::{Home, PushClient, Source};
use self::measure::Cost;
use self::options::Options;
use self::ratios::RatioTable;
use self::registry::{Kind, Registry};
use self::relay::{Relay, RelayFault, Throttle};
use self::sample::Sample;

/// One push.
#[derive(Clone, Copy)]
struct Step {
    name: &'static str,
    version: Version,
    home: HomeState,
    registry: RegistryState,
}

const NEW: Step = Step {
    name: "everything new",
    version: Version::First,
    home: HomeState::Empty,
    registry: RegistryState::Empty,
};

/// The pushes of a client, in order.
const STEPS: [Step; 4] = [
    NEW,
    Step {
        name: "unchanged",
        home: HomeState::Kept,
        registry: RegistryState::Kept,
        ..NEW
    },
    Step {
        name: "small layer changed",
        version: Version::Second,
        home: HomeState::Kept,
        registry: RegistryState::Kept,
    },
    Step {
        name: "unchanged, empty home",
        version: Version::Second,
        home: HomeState::Empty,
        registry: RegistryState::Kept,
    },
];

/// A further push of layouts and archives, before the last one: to another registry, of an image
/// that is verified already.
const PUSHED_ELSEWHERE: Step = Step {
    name: "everything new, pushed elsewhere before",
    version: Version::Second,
    home: HomeState::Kept,
    registry: RegistryState::Empty,
};

/// Which version of the image is pushed.
#[derive(Clone, Copy)]
enum Version {
    First,
    Second,
}

/// The state of the home folder and the engine before a push.
#[derive(Clone, Copy, PartialEq, Eq)]
enum HomeState {
    /// A new home folder and a new engine.
    Empty,
    /// The home folder and the engine of the previous step.
    Kept,
}

/// The state of the registry before a push.
#[derive(Clone, Copy, PartialEq, Eq)]
enum RegistryState {
    Empty,
    /// The registry of the previous step.
    Kept,
}

fn main() {
    let options = Options::parse(std::env::args().skip(1));
    let folder = tempfile::tempdir().expect("a folder");
    let mut ratios = RatioTable::default();
    println!(
        "| link | registry | step | client | seconds | CPU | CPU of the engine | bytes | requests |"
    );
    println!("|---|---|---|---|---:|---:|---:|---:|---:|");
    for (line, throttle, size) in [
        ("this machine", Throttle::default(), options.megabytes),
        ("20 Mbit/s, 40 ms", Throttle::dsl(), options.megabytes_slow),
    ] {
        if size == 0 {
            continue;
        }
        let sample = Sample::make(folder.path(), size);
        let link = format!("{line}, {size} MB");
        for kind in options.registries() {
            for source in options.sources() {
                let link = format!("{link} | {}", kind.name());
                let measured =
                    measure_source(&options, folder.path(), &sample, (kind, source), throttle);
                for (what, client, cost) in &measured {
                    println!("| {link} | {what} | {} | {cost} |", client.name());
                }
                ratios.add(&link, source, &measured);
            }
        }
    }
    println!("\n{ratios}");
}

/// Runs all steps of all clients of one source, each several times and in turn. Returns the medians.
fn measure_source(
    options: &Options,
    folder: &Path,
    sample: &Sample,
    (kind, source): (Kind, Source),
    throttle: Throttle,
) -> Vec<(&'static str, PushClient, Cost)> {
    let clients = PushClient::present(source);
    let mut rounds = Vec::new();
    for _ in 0..options.rounds {
        for client in &clients {
            let costs = compare(folder, sample, kind, *client, throttle);
            let costs = costs.into_iter().map(|(what, cost)| (what, *client, cost));
            rounds.push(costs.collect::<Vec<_>>());
        }
    }
    let mut medians = Vec::new();
    for step in steps(source) {
        for client in &clients {
            let costs = rounds.iter().flatten();
            let costs = costs.filter(|(what, of, _)| *what == step.name && of == client);
            let costs: Vec<_> = costs.map(|(_, _, cost)| cost.clone()).collect();
            medians.push((step.name, *client, Cost::median(costs)));
        }
    }
    medians
}

/// Returns the pushes of a client, in order.
fn steps(source: Source) -> Vec<Step> {
    let mut steps = STEPS.to_vec();
    if let Source::Layout | Source::Archive = source {
        steps.insert(steps.len() - 1, PUSHED_ELSEWHERE);
    }
    steps
}

/// Runs all steps of one client.
fn compare(
    folder: &Path,
    sample: &Sample,
    kind: Kind,
    client: PushClient,
    throttle: Throttle,
) -> Vec<(&'static str, Cost)> {
    eprintln!("measuring {} to {}", client.name(), kind.name());
    let (mut registry, mut home) = (None, None);
    let mut costs = Vec::new();
    for step in steps(client.source) {
        if step.registry == RegistryState::Empty {
            let empty = Registry::start(kind);
            // The cache identifies a registry by its port, which is the relay's.
            let relay = Relay::start_throttled(empty.address(), RelayFault::None, throttle);
            registry = Some((empty, relay));
        }
        if step.home == HomeState::Empty {
            // The old engine is stopped before the new one starts.
            drop(home.take());
        }
        let home = home.get_or_insert_with(|| Home::new(folder, sample, client));
        let archive = match step.version {
            Version::First => &sample.first,
            Version::Second => &sample.second,
        };
        let (process, relay) = registry.as_ref().expect("the first step starts a registry");
        process.wait_until_idle();
        costs.push((step.name, home.push(client, archive, relay)));
    }
    costs
}
