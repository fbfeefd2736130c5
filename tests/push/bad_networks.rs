//! Tests pushes over bad networks: stalled connections, a proxy that answers 502 for some time,
//! slow connections. Connections that break are tested in `cuts.rs`.

use std::time::{Duration, Instant};

use crate::support::Throttle;
use crate::support::prelude::*;
use crate::support::request_parser::ObservedRequest;

/// Values of `IMGSYNC_STALL_TIMEOUT` in seconds: the default, and a short one for tests that wait
/// for it.
const DEFAULT_STALL_TIMEOUT: &str = "60";
const SHORT_STALL_TIMEOUT: &str = "2";

/// The statistics of a push.
struct PushStats {
    seconds: f64,
    /// Bytes of blobs that were sent.
    sent: u64,
    /// Size of the image's blobs in bytes.
    size: u64,
    /// Bytes that faults may have lost: chunks that the registry did not acknowledge.
    lost: u64,
    requests: Vec<ObservedRequest>,
    stderr: String,
}

impl PushStats {
    fn describe(&self) -> String {
        let lines: Vec<_> = self.requests.iter().map(ToString::to_string).collect();
        format!("{}\n{}", self.stderr, lines.join("\n"))
    }

    fn assert_little_more_than_the_image(&self) {
        let Self {
            sent, size, lost, ..
        } = self;
        assert!(
            *sent <= size + lost,
            "{sent} bytes sent of {size}, and {lost} may be lost\n{}",
            self.describe()
        );
    }
}

/// Writes an archive with three layers that do not compress, 12 MB together.
fn write_archive(scratch: &Scratch) -> (Image, PathBuf) {
    let sizes = [6_000_000, 4_000_000, 2_000_000];
    let layers = sizes.iter().zip(90..);
    let layers = layers.map(|(size, seed)| layer("data", noise(seed, *size)));
    let image = Image::new(layers.collect());
    let path = scratch.path("image.tar");
    archive::write_tar(&image.docker_archive("app:v1"), &path);
    (image, path)
}

/// Pushes through the relay to the registry at `address`, and checks the image there.
fn push(
    scratch: &Scratch,
    relay: &Relay,
    address: SocketAddr,
    stall_timeout: &str,
    options: &[&str],
) -> PushStats {
    let imgsync = Imgsync::new(&scratch.folder("home"));
    let (image, path) = write_archive(scratch);
    let mut command = imgsync.command();
    command.env("IMGSYNC_STALL_TIMEOUT", stall_timeout);
    command.args(["push", "--verbose"]).args(options).arg(path);
    command.arg(format!("{}/app:v1", relay.address()));
    let start = Instant::now();
    let stderr = run(&mut command).succeeded().stderr;
    let seconds = start.elapsed().as_secs_f64();

    let found = check::at_registry(address, "app:v1");
    assert_eq!(found.config, image.id());
    let requests = relay.requests();
    let writes = || requests.iter().filter(|request| request.writes_blob());
    let not_taken = writes().filter(|request| !request.was_accepted());
    PushStats {
        seconds,
        sent: writes().map(|request| request.body).sum(),
        size: found.size(),
        lost: not_taken.filter_map(|request| request.content_length).sum(),
        requests,
        stderr,
    }
}

#[test]
fn stalled_connections_are_closed_and_the_upload_continues() {
    let scratch = Scratch::new();
    let server = Server::start(&scratch.folder("root"));
    // Connections stall in the middle of a chunk and are not closed, so the registry keeps waiting
    // for the rest.
    let relay = Relay::start(
        server.address(),
        RelayFault::Stall(vec![3_000_000, 2_000_000, 1_500_000]),
    );
    let options = ["--jobs", "1", "--chunk-size", "1MiB"];
    let stats = push(
        &scratch,
        &relay,
        server.address(),
        SHORT_STALL_TIMEOUT,
        &options,
    );
    assert!(
        relay.fault_count() >= 2,
        "{} connections stalled",
        relay.fault_count()
    );
    stats.assert_little_more_than_the_image();
}

#[test]
fn a_push_to_a_stock_registry_survives_stalled_connections() {
    if !programs_available(&["docker-registry"]) {
        return;
    }
    let scratch = Scratch::new();
    let stock = StockRegistry::start(&scratch.folder("root"));
    let relay = Relay::start(
        stock.address(),
        RelayFault::Stall(vec![3_000_000, 2_000_000]),
    );
    let options = ["--jobs", "1", "--chunk-size", "1MiB"];
    push(
        &scratch,
        &relay,
        stock.address(),
        SHORT_STALL_TIMEOUT,
        &options,
    );
    assert!(relay.fault_count() >= 1, "no connection stalled");
}

/// The stock registry loses a session when a chunk is cut, so this connection breaks only once.
#[test]
fn a_push_to_a_stock_registry_survives_a_cut() {
    if !programs_available(&["docker-registry"]) {
        return;
    }
    let scratch = Scratch::new();
    let stock = StockRegistry::start(&scratch.folder("root"));
    let relay = Relay::start(
        stock.address(),
        RelayFault::CutAll(vec![4_100_001, 30_000_000]),
    );
    let options = ["--chunk-size", "256KiB"];
    let stats = push(
        &scratch,
        &relay,
        stock.address(),
        DEFAULT_STALL_TIMEOUT,
        &options,
    );
    assert_eq!(relay.fault_count(), 1);
    eprintln!(
        "{} cuts: {} sent of {}",
        relay.fault_count(),
        stats.sent,
        stats.size
    );
}

#[test]
fn a_push_survives_a_proxy_that_answers_502_for_some_time() {
    let scratch = Scratch::new();
    let server = Server::start(&scratch.folder("root"));
    let cut = RelayFault::Outage {
        after: vec![3_000_000, 4_000_000, 2_500_000],
        // Fewer than the attempts of a single request.
        bad_gateways: 6,
    };
    let relay = Relay::start(server.address(), cut);
    let options = ["--chunk-size", "1MiB"];
    let stats = push(
        &scratch,
        &relay,
        server.address(),
        DEFAULT_STALL_TIMEOUT,
        &options,
    );
    assert!(relay.fault_count() >= 3, "{} outages", relay.fault_count());
    stats.assert_little_more_than_the_image();
}

/// Pushes over a connection of this shape, and prints the time and the bytes.
fn assert_sent_once(name: &str, throttle: Throttle) {
    let scratch = Scratch::new();
    let server = Server::start(&scratch.folder("root"));
    let relay = Relay::start_throttled(server.address(), RelayFault::None, throttle);
    let stats = push(
        &scratch,
        &relay,
        server.address(),
        DEFAULT_STALL_TIMEOUT,
        &[],
    );
    let (traffic, min_seconds) = (relay.traffic(), throttle.min_seconds(stats.size));
    eprintln!(
        "{name}: {:.1} s for {} bytes in {} requests, where the line needs {min_seconds:.1} s: {:.0} % more; \
         {} bytes up and {} down in all",
        stats.seconds,
        stats.size,
        relay.request_count(),
        (stats.seconds / min_seconds - 1.0) * 100.0,
        traffic.up,
        traffic.down
    );
    // Without faults, nothing is sent twice.
    assert_eq!(stats.sent, stats.size, "{}", stats.describe());
    let overhead = traffic.total() - stats.size;
    assert!(
        overhead < 60_000,
        "{overhead} bytes in addition to {}",
        stats.size
    );
}

#[test]
fn over_20_mbit_with_40_ms_the_image_is_sent_once() {
    assert_sent_once("20 Mbit/s, 40 ms", Throttle::dsl());
}

#[test]
fn over_a_throttled_connection_the_image_is_sent_once() {
    let throttle = Throttle {
        bytes_per_second: Some(1_500_000),
        delay: Duration::from_millis(5),
        burst_bytes: 5_000_000,
    };
    assert_sent_once("throttled to 12 Mbit/s after 5 MB", throttle);
}
