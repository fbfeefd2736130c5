//! Measures the server: memory, the size of its program, requests a second and bytes a second;
//! beside Debian's `docker-registry` in the same run, where that is installed.
//!
//!     cargo build --release --workspace --bins
//!     cargo run --release -p imgsync-server --example bench
//!
//! Client and server share the machine. Figures are for comparing, not for keeping.
#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a program that measures may panic and talk"
)]

mod http;
mod load;
mod servers;

use std::time::Duration;

use imgsync_oci::Digest;

use self::http::Connection;
use self::load::{Rate, mib_a_second, requests_a_second};
use self::servers::Server;

/// How long each rate is measured.
const TIME: Duration = Duration::from_secs(5);
/// Connections that ask at the same time.
const CONNECTIONS: usize = 16;
const LARGE_BYTES: usize = 100 * 1000 * 1000;
const SMALL_BYTES: usize = 5 * 1000;

fn main() {
    println!("| | imgsync-server | docker-registry |");
    println!("|---|---|---|");
    let ours = measure(Server::ours());
    let stock = Server::stock().map(measure).unwrap_or_default();
    for (row, (name, value)) in ours.iter().enumerate() {
        let beside = stock.get(row).map_or("", |(_, value)| value);
        println!("| {name} | {value} | {beside} |");
    }
}

fn measure(server: Server) -> Vec<(&'static str, String)> {
    eprintln!("measuring {}", server.name());
    let mut rows = Vec::new();
    let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / 1048576.0);
    rows.push(("program", mib(server.program_bytes())));
    Connection::open(server.address()).get("/v2/");
    rows.push(("memory, idle after the start", mib(server.memory())));

    let small = bytes(SMALL_BYTES, 1);
    let manifest = push_image(&server, &small);
    let blob = format!("/v2/bench/blobs/{}", Digest::of(&small));
    let manifest = format!("/v2/bench/manifests/{manifest}");
    let rate = |rate: Rate| format!("{:.0}/s", rate.a_second);
    let ask = |method, target: &str| {
        rate(requests_a_second(
            server.address(),
            method,
            target,
            CONNECTIONS,
            TIME,
        ))
    };
    rows.push(("HEAD of a blob", ask("HEAD", &blob)));
    rows.push((
        "GET of a manifest by tag",
        ask("GET", "/v2/bench/manifests/v1"),
    ));
    rows.push(("GET of a manifest by digest", ask("GET", &manifest)));
    rows.push(("GET of a 5 kB blob", ask("GET", &blob)));

    let large = bytes(LARGE_BYTES, 2);
    let name = push(&server, "bench", &large);
    let target = format!("/v2/bench/blobs/{name}");
    for count in [1, 4] {
        let speed = mib_a_second(server.address(), &target, count, TIME);
        let row = if count == 1 {
            "GET of a 100 MB blob"
        } else {
            "the same, 4 at a time"
        };
        rows.push((row, format!("{speed:.0} MiB/s")));
    }
    rows.push(("memory after that", mib(server.memory())));
    let peak = under_load(&server, &target);
    rows.push((
        "memory, 8 pushes and 16 pulls of 100 MB at a time",
        mib(peak),
    ));
    std::thread::sleep(Duration::from_secs(10));
    rows.push(("memory, ten seconds later", mib(server.memory())));
    rows
}

/// The most memory that was seen while large blobs went in and out.
fn under_load(server: &Server, target: &str) -> u64 {
    let blobs: Vec<Vec<u8>> = (0..8).map(|seed| bytes(LARGE_BYTES, 100 + seed)).collect();
    let mut peak = 0;
    std::thread::scope(|scope| {
        let pushes: Vec<_> = blobs
            .iter()
            .enumerate()
            .map(|(number, blob)| scope.spawn(move || push(server, &format!("load{number}"), blob)))
            .collect();
        for _ in 0..16 {
            scope.spawn(|| {
                for _ in 0..4 {
                    Connection::open(server.address()).get(target);
                }
            });
        }
        while pushes.iter().any(|push| !push.is_finished()) {
            peak = peak.max(server.memory());
            std::thread::sleep(Duration::from_millis(10));
        }
    });
    peak.max(server.memory())
}

/// Pushes an image with a config of these bytes; yields the manifest's digest.
fn push_image(server: &Server, config: &[u8]) -> Digest {
    let digest = push(server, "bench", config);
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": digest,
            "size": config.len(),
        },
        "layers": [],
    });
    let bytes = manifest.to_string().into_bytes();
    let head = "Content-Type: application/vnd.oci.image.manifest.v1+json\r\n";
    let target = "/v2/bench/manifests/v1";
    let answer = Connection::open(server.address()).send("PUT", target, head, &bytes);
    assert_eq!(answer.status, 201);
    Digest::of(&bytes)
}

/// Pushes a blob with two requests, as every registry takes it.
fn push(server: &Server, repository: &str, blob: &[u8]) -> Digest {
    let digest = Digest::of(blob);
    let mut connection = Connection::open(server.address());
    let start = connection.send("POST", &format!("/v2/{repository}/blobs/uploads/"), "", b"");
    assert_eq!(start.status, 202);
    let location = start.location.expect("a Location");
    let path = match location.split_once("://") {
        Some((_, rest)) => rest[rest.find('/').unwrap()..].to_owned(),
        None => location,
    };
    let joint = if path.contains('?') { '&' } else { '?' };
    let head = "Content-Type: application/octet-stream\r\n";
    let target = format!("{path}{joint}digest={digest}");
    let end = connection.send("PUT", &target, head, blob);
    assert_eq!(end.status, 201);
    digest
}

/// Bytes that do not compress.
fn bytes(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(&mut next)
        .flatten()
        .take(len)
        .collect()
}
