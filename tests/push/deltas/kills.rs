//! Tests delta pushes whose client or server is killed at random moments, also while the server
//! assembles the layer.

use std::process::{Child, ExitStatus};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::{DeltaFixture, LIMITED};
use crate::support::archive::{Entry, tar_of};
use crate::support::kills::{kill_client, kill_server};
use crate::support::prelude::*;
use crate::support::{Random, Trigger};

/// How many times a process is killed, unless `IMGSYNC_TESTS_DELTA_KILLS` sets another number.
const KILLS: usize = 8;
/// More bytes than the delta of one version against the one before has.
const MAX_DELTA_BYTES: u64 = 100_000;

struct KilledPushes {
    server: Arc<Mutex<Server>>,
    relay: Relay,
    home: PathBuf,
    random: Random,
    kills: Arc<AtomicUsize>,
    /// Dropped last: the server must have stopped before its folder is deleted.
    scratch: Scratch,
}

/// Returns a version of a layer of 1.8 MB that does not compress. One file of it is not in the
/// version before.
fn version(number: u64) -> Vec<u8> {
    let files = (0..300).map(|file| {
        let seed = if file == number % 300 {
            1_000 + number
        } else {
            file
        };
        Entry::new(format!("lib/file{file}"), noise(seed, 6_000))
    });
    tar_of(&files.collect::<Vec<_>>())
}

impl KilledPushes {
    fn kills(&self) -> usize {
        self.kills.load(Ordering::SeqCst)
    }

    /// Starts a push that sends small chunks, so that there are many moments to kill at.
    fn start(&self, image: &Path, name: &str) -> Arc<Mutex<Child>> {
        let mut command = DeltaFixture::command(&self.home);
        command.args(["push", "--chunk-size", "4KiB"]).args(LIMITED);
        command
            .arg(image)
            .arg(format!("{}/{name}", self.relay.address()));
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Arc::new(Mutex::new(child.expect("imgsync starts")))
    }

    /// Kills a process at a random moment of a push. A killed server is started again.
    fn kill_at_some_moment(&mut self, client: &Arc<Mutex<Child>>) {
        let traffic = self.relay.traffic();
        let moment = match self.random.below(3) {
            0 => {
                let requests = self.random.below(30) as usize;
                Trigger::RequestsStarted(self.relay.request_count() + requests)
            }
            1 => Trigger::BytesReceived(traffic.down + self.random.below(20_000)),
            _ => Trigger::BytesSent(traffic.up + self.random.below(30_000)),
        };
        if self.random.below(2) == 0 {
            self.relay
                .run_at(moment, kill_server(&self.server, &self.relay, &self.kills));
        } else {
            self.relay.run_at(moment, kill_client(client, &self.kills));
        }
    }

    /// Runs one push to its end, with one kill after another.
    fn push(&mut self, image: &Path, name: &str) -> ExitStatus {
        let mut before = self.kills();
        let client = self.start(image, name);
        self.kill_at_some_moment(&client);
        wait_until("the end of a push", || {
            let kills = self.kills();
            if kills > before {
                before = kills;
                self.kill_at_some_moment(&client);
            }
            client.lock().unwrap().try_wait().expect("its status")
        })
    }
}

#[test]
fn killed_delta_pushes_complete_in_the_next_run() {
    let number = std::env::var("IMGSYNC_TESTS_DELTA_KILLS");
    let wanted = number.map_or(KILLS, |text| text.parse().expect("a number"));
    let fixture = DeltaFixture::new();
    let whole = fixture.archive("image", &[&version(0)]);
    let first = fixture.push(&[], &whole, "app:v0").sent();
    let DeltaFixture {
        server,
        relay,
        home,
        scratch,
    } = fixture;
    let mut pushes = KilledPushes {
        server: Arc::new(Mutex::new(server)),
        relay,
        home,
        random: Random::new(),
        kills: Arc::default(),
        scratch,
    };
    let mut images = 0;
    while pushes.kills() < wanted {
        images += 1;
        let image = Image::new(vec![version(images)]);
        let path = pushes.scratch.path("image.tar");
        archive::write_tar(&image.docker_archive("app:v1"), &path);
        let name = format!("app:v{images}");
        loop {
            let status = pushes.push(&path, &name);
            if status.success() {
                break;
            }
            // Only a kill may make a push fail.
            assert_eq!(status.code(), None, "a push failed by itself");
        }
        let server = pushes.server.lock().unwrap();
        let found = check::at_registry(server.address(), &name);
        assert_eq!(found.config, image.id());
    }
    let requests = pushes.relay.requests();
    let writes = || requests.iter().filter(|request| request.writes_blob());
    let sent: u64 = writes().map(|request| request.body).sum();
    let lost = writes().filter(|request| !request.was_accepted());
    let lost: u64 = lost.map(|request| request.body).sum();
    eprintln!(
        "{} kills, {images} images: sent {sent}, {lost} may be lost",
        pushes.kills()
    );
    assert!(
        sent <= first + images * MAX_DELTA_BYTES + lost,
        "{sent}, {lost} lost"
    );
    let spool = archive::read_folder(&pushes.home.join("cache/imgsync/spool"));
    let left = spool
        .iter()
        .find(|file| !file.name.starts_with("imgsync-gzip-1/"));
    assert!(left.is_none(), "{:?}", left.map(|file| &file.name));
}
