//! The bytes that a rebuilt layer costs.

use super::pair::Pair;
use super::push::{Home, traffic};
use super::registry::{Kind, Registry};
use super::relay::{Relay, RelayFault};

/// Below the rate from which on imgsync sends layers as a whole, also small ones that compress well.
const RATE: &str = "4M";

/// Prints a Markdown table with one row for each pair.
pub(super) fn print(pairs: &[Pair]) {
    println!(
        "| layer | uncompressed | whole layer | new files, compressed | without the old layer | \
         index, received | with the old layer |"
    );
    println!("|---|---:|---:|---:|---:|---:|---:|");
    for pair in pairs {
        eprintln!("measuring the bytes of {}", pair.kind);
        let row = [
            pair.raw_bytes(),
            whole_layer(pair),
            pair.bytes_of_new_files(),
        ];
        let runner = rebuilt_layer(pair, &Home::new());
        let laptop = Home::new();
        let with_old = rebuilt_layer_after_old(pair, &laptop);
        let cells = row.into_iter().chain([runner.0, runner.1, with_old]);
        let cells: Vec<_> = cells.map(format_bytes).collect();
        println!("| {} | {} |", pair.kind, cells.join(" | "));
    }
}

/// Returns the bytes that are sent if the registry has no older layer.
fn whole_layer(pair: &Pair) -> u64 {
    let (_registry, relay) = start();
    traffic(&mut Home::new().push(pair, 1, &relay), &relay).up
}

/// Returns the bytes that are sent and received in a push of the new version, by a home folder that
/// has not pushed the old one.
fn rebuilt_layer(pair: &Pair, home: &Home) -> (u64, u64) {
    let (registry, relay) = start();
    traffic(&mut Home::new().push(pair, 0, &relay), &relay);
    registry.wait_until_idle();
    let traffic = push_new(pair, home, &relay);
    (traffic.up, traffic.down)
}

/// Returns the bytes that are sent in a push of the new version, by the home folder that has pushed
/// the old one.
fn rebuilt_layer_after_old(pair: &Pair, home: &Home) -> u64 {
    let (registry, relay) = start();
    traffic(&mut home.push(pair, 0, &relay), &relay);
    registry.wait_until_idle();
    push_new(pair, home, &relay).up
}

fn push_new(pair: &Pair, home: &Home, relay: &Relay) -> super::relay::Traffic {
    let mut command = home.push(pair, 1, relay);
    traffic(command.args(["--limit-rate", RATE]), relay)
}

fn start() -> (Registry, Relay) {
    let registry = Registry::start(Kind::Imgsync);
    let relay = Relay::start(registry.address(), RelayFault::None);
    (registry, relay)
}

/// Formats a number of bytes as in `1.2 MB`, with powers of ten.
fn format_bytes(bytes: u64) -> String {
    match bytes {
        0..1_000_000 => format!("{:.1} KB", bytes as f64 / 1e3),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}
