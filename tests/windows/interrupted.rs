//! Tests pushes that end in the middle: killed, and by Ctrl-C.

use std::process::Child;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};

use super::{WindowsFixture, last_event};
use crate::support::kills::kill_client;
use crate::support::prelude::*;
use crate::support::{Trigger, wine};

const SIZE: usize = 4_000_000;

/// A push of 4 MB in small chunks, through a relay that can act in the middle.
struct SlowPush {
    fixture: WindowsFixture,
    relay: Relay,
    archive: String,
}

impl SlowPush {
    fn new() -> Self {
        let mut fixture = WindowsFixture::new();
        fixture.image = Image::new(vec![layer("data", noise(77, SIZE))]);
        let (archive, _) = fixture.write_image();
        Self {
            relay: Relay::start(fixture.server.address(), RelayFault::None),
            archive: wine::path(&archive),
            fixture,
        }
    }

    fn arguments(&self) -> Vec<String> {
        let remote = format!("{}/app:v1", self.relay.address());
        let options = ["push", "--json", "--chunk-size", "64KiB"];
        let options = options.into_iter().map(str::to_owned);
        options.chain([self.archive.clone(), remote]).collect()
    }

    fn start(&self) -> Arc<Mutex<Child>> {
        let mut command = self.fixture.command();
        command.args(self.arguments());
        let stdout = std::fs::File::create(self.stdout()).unwrap();
        let child = command.stdout(stdout).stderr(Stdio::null()).spawn();
        let child = child.unwrap();
        Arc::new(Mutex::new(child))
    }

    fn stdout(&self) -> PathBuf {
        self.fixture.scratch.path("stdout")
    }

    /// Runs the same command again, which must continue where the first run ended.
    fn assert_continues(&self) {
        let again = run(self.fixture.command().args(self.arguments())).succeeded();
        let outcome = last_event(&again);
        let number = |field: &str| outcome[field].as_u64().unwrap();
        assert!(number("resumed") > 500_000, "{again}");
        let found = check::at_registry(self.fixture.server.address(), "app:v1");
        assert_eq!(number("sent") + number("resumed"), found.size(), "{again}");
        self.fixture.assert_pushed("app:v1");
    }
}

#[test]
#[ignore = "tests/targets.sh runs it"]
fn a_killed_push_continues() {
    let push = SlowPush::new();
    let child = push.start();
    let kills = Arc::new(AtomicUsize::new(0));
    push.relay
        .run_at(Trigger::BytesSent(1_500_000), kill_client(&child, &kills));
    let status = wait_until("the end of a push", || {
        child.lock().unwrap().try_wait().unwrap()
    });
    assert_eq!(status.code(), None, "the push ended by itself");
    wine::stop_server(&push.fixture.scratch.path("home"));
    push.assert_continues();
}

#[test]
#[ignore = "tests/targets.sh runs it"]
fn a_push_that_ctrl_c_ends_continues() {
    let push = SlowPush::new();
    let child = push.start();
    let id = child.lock().unwrap().id().to_string();
    // wine turns this signal into Ctrl-C of a console.
    push.relay.run_at(Trigger::BytesSent(1_500_000), move || {
        must(Command::new("sh").args(["-c", &format!("kill -INT {id}")]));
    });
    let status = wait_until("the end of a push", || {
        child.lock().unwrap().try_wait().unwrap()
    });
    let stdout = std::fs::read_to_string(push.stdout()).unwrap();
    assert_eq!(status.code(), Some(130), "{stdout}");
    assert!(stdout.contains("interrupted"), "{stdout}");
    push.assert_continues();
}
