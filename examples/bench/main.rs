//! Measures the server: memory, the size of the program, requests per second and bytes per second.
//! Measures Debian's `docker-registry` in the same run, if it is installed.
//!
//!     cargo build --release --workspace --bins
//!     cargo run --release -p imgsync-server --example bench
//!
//! Client and server run on the same machine. Compare only figures of one run.
#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a benchmark may panic and print"
)]

mod http;
mod load;
mod pushes;
#[allow(dead_code, reason = "not all of it is used here")]
mod servers;

use std::time::Duration;

use imgsync_oci::Digest;

use self::http::Connection;
use self::load::{mib_per_second, requests_per_second};
use self::pushes::{bytes, push};
use self::servers::Server;

/// The duration of each measurement.
const TIME: Duration = Duration::from_secs(5);
/// The number of concurrent connections.
const CONNECTIONS: usize = 16;
const LARGE_BYTES: usize = 100 * 1000 * 1000;
const SMALL_BYTES: usize = 5 * 1000;

fn main() {
    println!("| | imgsync-server | docker-registry |");
    println!("|---|---|---|");
    let folder = tempfile::tempdir().expect("a folder");
    let root = |name: &str| folder.path().join(name);
    let imgsync = measure(Server::start_imgsync_server(&root("imgsync")));
    let stock = Server::start_stock(&root("stock"));
    let stock = stock.map(measure).unwrap_or_default();
    for (row, (name, value)) in imgsync.iter().enumerate() {
        let stock_value = stock.get(row).map_or("", |(_, value)| value);
        println!("| {name} | {value} | {stock_value} |");
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
    let rate = |method, target: &str| {
        let rate = requests_per_second(server.address(), method, target, CONNECTIONS, TIME);
        format!("{rate:.0}/s")
    };
    rows.push(("HEAD of a blob", rate("HEAD", &blob)));
    rows.push((
        "GET of a manifest by tag",
        rate("GET", "/v2/bench/manifests/v1"),
    ));
    rows.push(("GET of a manifest by digest", rate("GET", &manifest)));
    rows.push(("GET of a 5 kB blob", rate("GET", &blob)));

    let large = bytes(LARGE_BYTES, 2);
    let digest = push(server.address(), "bench", &large);
    let target = format!("/v2/bench/blobs/{digest}");
    for count in [1, 4] {
        let speed = mib_per_second(server.address(), &target, count, TIME);
        let row = if count == 1 {
            "GET of a 100 MB blob"
        } else {
            "GET of a 100 MB blob, 4 at a time"
        };
        rows.push((row, format!("{speed:.0} MiB/s")));
    }
    rows.push(("memory after the downloads", mib(server.memory())));
    let peak = peak_memory(&server, &target);
    rows.push((
        "memory, 8 pushes and 16 pulls of 100 MB at a time",
        mib(peak),
    ));
    std::thread::sleep(Duration::from_secs(10));
    rows.push(("memory, ten seconds later", mib(server.memory())));
    rows
}

/// Returns the peak memory in bytes during 8 pushes and 16 pulls of large blobs.
fn peak_memory(server: &Server, target: &str) -> u64 {
    let blobs: Vec<Vec<u8>> = (0..8).map(|seed| bytes(LARGE_BYTES, 100 + seed)).collect();
    let mut peak = 0;
    std::thread::scope(|scope| {
        let pushes: Vec<_> = blobs
            .iter()
            .enumerate()
            .map(|(number, blob)| {
                scope.spawn(move || push(server.address(), &format!("load{number}"), blob))
            })
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

/// Pushes an image with this config and without layers, and returns the digest of its manifest.
fn push_image(server: &Server, config: &[u8]) -> Digest {
    let digest = push(server.address(), "bench", config);
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
    let response = Connection::open(server.address()).send("PUT", target, head, &bytes);
    assert_eq!(response.status, 201);
    Digest::of(&bytes)
}
