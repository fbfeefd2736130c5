//! Bad lines: one that falls silent, a proxy that does not find its registry for a while, a line
//! that gets slow, and a plain slow one. A push gets through each of them, and says what it took.
//! Lines that break are in `cuts.rs`.

use std::time::{Duration, Instant};

use crate::support::Throttle;
use crate::support::prelude::*;
use crate::support::request_parser::ObservedRequest;

/// How long a line may be silent, in seconds: as the tool has it, and where nothing is to be missed.
const PATIENT: &str = "60";
const IMPATIENT: &str = "2";

/// What a push took.
struct PushStats {
    seconds: f64,
    /// Bytes of blobs that were sent.
    sent: u64,
    /// The size of the image's blobs.
    size: u64,
    /// What faults may have cost: chunks that the registry was not seen to take.
    lost: u64,
    requests: Vec<ObservedRequest>,
    said: String,
}

impl PushStats {
    fn shown(&self) -> String {
        let lines: Vec<_> = self.requests.iter().map(ToString::to_string).collect();
        format!("{}\n{}", self.said, lines.join("\n"))
    }

    fn assert_little_more_than_the_image(&self) {
        let Self {
            sent, size, lost, ..
        } = self;
        assert!(
            *sent <= size + lost,
            "{sent} bytes sent of {size}, and {lost} may be lost\n{}",
            self.shown()
        );
    }
}

/// Some 12 MB in three layers that do not compress.
fn written(scratch: &Scratch) -> (Image, PathBuf) {
    let sizes = [6_000_000, 4_000_000, 2_000_000];
    let layers = sizes.iter().zip(90..);
    let layers = layers.map(|(size, seed)| layer("data", noise(seed, *size)));
    let image = Image::new(layers.collect());
    let path = scratch.path("image.tar");
    archive::write_tar(&image.docker_archive("app:v1"), &path);
    (image, path)
}

/// Pushes through the relay to a registry at `address`, and checks what arrived.
fn pushed(
    scratch: &Scratch,
    relay: &Relay,
    address: SocketAddr,
    patience: &str,
    options: &[&str],
) -> PushStats {
    let imgsync = Imgsync::new(&scratch.folder("home"));
    let (image, path) = written(scratch);
    let mut command = imgsync.command();
    command.env("IMGSYNC_STALL_TIMEOUT", patience);
    command.args(["push", "--verbose"]).args(options).arg(path);
    command.arg(format!("{}/app:v1", relay.address()));
    let began = Instant::now();
    let said = run(&mut command).succeeded().stderr;
    let seconds = began.elapsed().as_secs_f64();

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
        said,
    }
}

#[test]
fn lines_that_fall_silent_are_left_and_the_upload_goes_on() {
    let scratch = Scratch::new();
    let server = Server::start(&scratch.folder("root"));
    // Two connections die in mid-chunk without a word; the registry still waits on them.
    let relay = Relay::start(
        server.address(),
        RelayFault::Stall(vec![3_000_000, 2_000_000, 1_500_000]),
    );
    let options = ["--jobs", "1", "--chunk-size", "1MiB"];
    let took = pushed(&scratch, &relay, server.address(), IMPATIENT, &options);
    assert!(
        relay.fault_count() >= 2,
        "{} connections fell silent",
        relay.fault_count()
    );
    took.assert_little_more_than_the_image();
}

#[test]
fn a_stock_registry_behind_a_line_that_falls_silent_gets_the_image_whole() {
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
    pushed(&scratch, &relay, stock.address(), IMPATIENT, &options);
    assert!(relay.fault_count() >= 1, "no connection fell silent");
}

/// It loses a session whose chunk was cut, so a line that breaks all the time would never do.
#[test]
fn a_stock_registry_behind_a_line_that_breaks_gets_the_image_whole() {
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
    let took = pushed(&scratch, &relay, stock.address(), PATIENT, &options);
    assert_eq!(relay.fault_count(), 1);
    eprintln!(
        "{} cuts: {} sent of {}",
        relay.fault_count(),
        took.sent,
        took.size
    );
}

#[test]
fn a_proxy_that_answers_502_for_a_while_is_outwaited() {
    let scratch = Scratch::new();
    let server = Server::start(&scratch.folder("root"));
    let cut = RelayFault::Outage {
        after: vec![3_000_000, 4_000_000, 2_500_000],
        // Fewer than the tries that a single request has.
        bad_gateways: 6,
    };
    let relay = Relay::start(server.address(), cut);
    let options = ["--chunk-size", "1MiB"];
    let took = pushed(&scratch, &relay, server.address(), PATIENT, &options);
    assert!(relay.fault_count() >= 3, "{} outages", relay.fault_count());
    took.assert_little_more_than_the_image();
}

/// Pushes through a line of that shape, and says what it took.
fn pushed_over(name: &str, throttle: Throttle) {
    let scratch = Scratch::new();
    let server = Server::start(&scratch.folder("root"));
    let relay = Relay::start_throttled(server.address(), RelayFault::None, throttle);
    let took = pushed(&scratch, &relay, server.address(), PATIENT, &[]);
    let (traffic, min_seconds) = (relay.traffic(), throttle.min_seconds(took.size));
    eprintln!(
        "{name}: {:.1} s for {} bytes in {} requests, where the line needs {min_seconds:.1} s: {:.0} % more; \
         {} bytes up and {} down in all",
        took.seconds,
        took.size,
        relay.request_count(),
        (took.seconds / min_seconds - 1.0) * 100.0,
        traffic.up,
        traffic.down
    );
    // No fault, so nothing twice.
    assert_eq!(took.sent, took.size, "{}", took.shown());
    let around = traffic.total() - took.size;
    assert!(around < 60_000, "{around} bytes around {}", took.size);
}

#[test]
fn a_line_of_20_mbit_and_40_ms_carries_the_image_once() {
    pushed_over("20 Mbit/s, 40 ms", Throttle::dsl());
}

#[test]
fn a_line_that_is_throttled_on_the_way_carries_the_image_once() {
    let throttle = Throttle {
        bytes_per_second: Some(1_500_000),
        delay: Duration::from_millis(5),
        burst_bytes: 5_000_000,
    };
    pushed_over("throttled to 12 Mbit/s after 5 MB", throttle);
}
