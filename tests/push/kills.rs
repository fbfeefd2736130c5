//! Tests pushes whose client or server is killed at random moments: the next push continues at the
//! offset of the registry, and little more than the images is sent.

use std::process::{Child, ExitStatus};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::support::kills::{kill_client, kill_server};
use crate::support::prelude::*;
use crate::support::request_parser::ObservedRequest;
use crate::support::{Random, Trigger, store};

/// How many times each test kills a process.
const KILLS: usize = 200;
/// The chunk size: small, so that there are many moments to kill at.
const CHUNK_SIZE: &str = "64KiB";

/// The file with the stderr of the last push.
const STDERR_FILE: &str = "push.stderr";

/// Which process is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum KilledProcess {
    Client,
    Server,
    /// Either of them, chosen at random for each kill.
    Either,
}

/// Starts a push that writes its stderr to `stderr`.
fn start_push(imgsync: &Imgsync, image: &str, remote: &str, stderr: Stdio) -> Arc<Mutex<Child>> {
    let mut command = imgsync.command();
    command.args([
        "push",
        "--verbose",
        "--chunk-size",
        CHUNK_SIZE,
        image,
        remote,
    ]);
    let child = command.stdout(Stdio::null()).stderr(stderr).spawn();
    Arc::new(Mutex::new(child.expect("imgsync starts")))
}

/// Waits until the push has ended. Does not hold the lock meanwhile, because the killer needs it.
fn wait_for_end(child: &Mutex<Child>) -> ExitStatus {
    wait_until("the end of a push", || {
        child
            .lock()
            .unwrap()
            .try_wait()
            .expect("the status of the child")
    })
}

/// Returns the bytes of blobs that were sent.
fn sent_bytes(requests: &[ObservedRequest]) -> u64 {
    let writes = requests.iter().filter(|request| request.writes_blob());
    writes.map(|request| request.body).sum()
}

/// Returns the bytes that kills may have lost: the chunks that the registry did not acknowledge.
/// Each kill loses at most one chunk for each open upload.
fn lost_bytes(requests: &[ObservedRequest]) -> u64 {
    let not_taken = requests
        .iter()
        .filter(|request| request.writes_blob() && !request.was_accepted());
    not_taken.map(|request| request.body).sum()
}

/// Returns how many sessions may have been opened at the moment of a kill. In this case the request
/// is the last one of its connection, and the client may not have read the answer.
fn orphaned_sessions(requests: &[ObservedRequest]) -> usize {
    let last = |request: &&ObservedRequest| {
        let same = |other: &&ObservedRequest| other.connection == request.connection;
        requests.iter().rfind(same).map(ToString::to_string) == Some(request.to_string())
    };
    let opened = requests.iter().filter(|request| request.opens_upload());
    opened.filter(last).count()
}

struct KillFixture {
    server: Arc<Mutex<Server>>,
    imgsync: Imgsync,
    relay: Relay,
    random: Random,
    kills: Arc<AtomicUsize>,
    /// Prints the stderr of the last push if the test fails.
    _stderr: StderrOnPanic,
    /// Dropped last: the server must have stopped before its folder is deleted.
    scratch: Scratch,
}

struct StderrOnPanic(PathBuf);

impl Drop for StderrOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let stderr = std::fs::read_to_string(&self.0).unwrap_or_default();
            let lines: Vec<_> = stderr.lines().collect();
            let last = &lines[lines.len().saturating_sub(60)..];
            eprintln!("-- the last lines of imgsync's stderr\n{}", last.join("\n"));
        }
    }
}

impl KillFixture {
    fn new() -> Self {
        let scratch = Scratch::new();
        let server = Server::start(&scratch.folder("root"));
        Self {
            imgsync: Imgsync::new(&scratch.folder("home")),
            relay: Relay::start(server.address(), RelayFault::None),
            server: Arc::new(Mutex::new(server)),
            random: Random::new(),
            kills: Arc::default(),
            _stderr: StderrOnPanic(scratch.path(STDERR_FILE)),
            scratch,
        }
    }

    fn kills(&self) -> usize {
        self.kills.load(Ordering::SeqCst)
    }

    /// Writes an archive with four new layers that do not compress, 5 MB together.
    fn image(&mut self, number: usize) -> (Image, PathBuf) {
        let sizes = [2_400_000, 1_500_000, 900_000, 200_000];
        let first = self.random.seed() + 10 * number as u64;
        let layers = sizes.iter().zip(first..);
        let layers = layers.map(|(size, seed)| layer("data", noise(seed, *size)));
        let image = Image::new(layers.collect());
        let path = self.scratch.path("image.tar");
        archive::write_tar(&image.docker_archive("app:v1"), &path);
        (image, path)
    }

    /// Returns a random moment of the push that is running or about to start: during a request, an
    /// upload or an answer.
    fn random_moment(&mut self) -> Trigger {
        let traffic = self.relay.traffic();
        match self.random.below(4) {
            0 => Trigger::RequestsStarted(
                self.relay.request_count() + self.random.below(40) as usize,
            ),
            1 => Trigger::BytesReceived(traffic.down + self.random.below(8_000)),
            _ => Trigger::BytesSent(traffic.up + self.random.below(700_000)),
        }
    }

    /// Kills a process once at a random moment. A killed server is started again.
    fn kill_at_some_moment(&mut self, victim: KilledProcess, client: &Arc<Mutex<Child>>) {
        let server_dies = match victim {
            KilledProcess::Client => false,
            KilledProcess::Server => true,
            KilledProcess::Either => self.random.below(2) == 0,
        };
        let moment = self.random_moment();
        if server_dies {
            self.relay
                .run_at(moment, kill_server(&self.server, &self.relay, &self.kills));
        } else {
            self.relay.run_at(moment, kill_client(client, &self.kills));
        }
    }

    /// Runs one push to its end, with one kill after another.
    fn push(&mut self, victim: KilledProcess, path: &Path, remote: &str) -> ExitStatus {
        let path = path.to_str().expect("a path in UTF-8");
        let stderr = std::fs::File::create(self.scratch.path(STDERR_FILE)).expect("a file");
        let mut before = self.kills();
        let client = start_push(&self.imgsync, path, remote, stderr.into());
        self.kill_at_some_moment(victim, &client);
        let status = wait_until("the end of a push", || {
            let kills = self.kills();
            if kills > before {
                before = kills;
                self.kill_at_some_moment(victim, &client);
            }
            client
                .lock()
                .unwrap()
                .try_wait()
                .expect("the status of the child")
        });
        self.relay.run_after_bytes_sent(u64::MAX, || {});
        status
    }

    /// Pushes images until `KILLS` kills have happened, and each image until it is complete. Then
    /// checks the number of sent bytes and of leftover sessions.
    fn assert_survives(mut self, victim: KilledProcess) {
        let mut size = 0;
        let mut images = 0;
        let mut runs = 0;
        while self.kills() < KILLS {
            let (image, path) = self.image(images);
            images += 1;
            let name = format!("app:v{images}");
            let remote = format!("{}/{name}", self.relay.address());
            loop {
                runs += 1;
                let status = self.push(victim, &path, &remote);
                if status.success() {
                    break;
                }
                // Only a kill may make a push fail.
                assert_ne!(victim, KilledProcess::Server, "a push failed with {status}");
                assert_eq!(status.code(), None, "a push failed by itself");
            }
            let found = check::at_registry(self.server.lock().unwrap().address(), &name);
            assert_eq!(found.config, image.id());
            size += found.size();
        }
        let requests = self.relay.requests();
        let (sent, lost_bytes) = (sent_bytes(&requests), lost_bytes(&requests));
        let kills = self.kills();
        let server = Arc::try_unwrap(self.server).ok().expect("no more kills");
        let server = server.into_inner().unwrap();
        let leftovers = store::upload_sessions(server.root());
        let orphaned = orphaned_sessions(&requests);
        eprintln!(
            "{kills} kills, {images} images, {runs} pushes: sent {sent} of {size}, {lost_bytes} may have \
             been lost; {} sessions left of {orphaned}",
            leftovers.len()
        );
        assert!(
            sent <= size + lost_bytes,
            "{sent} sent of {size}, {lost_bytes} lost"
        );
        assert!(
            leftovers.len() <= orphaned,
            "{} sessions left, at most {orphaned} allowed: {leftovers:?}",
            leftovers.len()
        );
        assert_sessions_are_purged(server, &self.scratch);
    }
}

/// Panics unless a server with a short purge age deletes the sessions that the kills left behind.
fn assert_sessions_are_purged(mut server: Server, scratch: &Scratch) {
    server.kill();
    let config = scratch.path("config.yml");
    let root = server.root().to_owned();
    let text = format!(
        "version: 0.1\nhttp: {{addr: '127.0.0.1:0'}}\nstorage: {{filesystem: {{rootdirectory: \
         {root:?}}}, maintenance: {{uploadpurging: {{enabled: true, age: 1ms, interval: 1s}}}}}}\n"
    );
    std::fs::write(&config, text).expect("a config file");
    let _server = Server::start_configured(&config, &root);
    wait_until("the purge", || {
        store::upload_sessions(&root).is_empty().then_some(())
    });
}

#[test]
fn a_client_that_is_killed_at_any_moment_continues_in_the_next_run() {
    KillFixture::new().assert_survives(KilledProcess::Client);
}

#[test]
fn a_push_survives_kills_of_the_server_at_any_moment() {
    KillFixture::new().assert_survives(KilledProcess::Server);
}

#[test]
fn an_image_arrives_when_client_and_server_are_killed() {
    KillFixture::new().assert_survives(KilledProcess::Either);
}

#[test]
fn two_pushes_at_once_send_nothing_twice() {
    let scratch = Scratch::new();
    let server = Server::start(&scratch.folder("root"));
    let imgsync = Imgsync::new(&scratch.folder("home"));
    let layers = (80..84).map(|seed| layer("data", noise(seed, 3_000_000)));
    let image = Image::new(layers.collect());
    let path = scratch.path("image.tar");
    archive::write_tar(&image.docker_archive("app:v1"), &path);
    let path = path.to_str().expect("a path in UTF-8");

    let relay = Relay::start(server.address(), RelayFault::None);
    let remote = |tag: &str| format!("{}/app:{tag}", relay.address());
    let pushes = ["one", "two"].map(|tag| start_push(&imgsync, path, &remote(tag), Stdio::null()));
    assert!(pushes.iter().all(|push| wait_for_end(push).success()));
    let found = check::at_registry(server.address(), "app:one");
    assert_eq!(found, check::at_registry(server.address(), "app:two"));
    assert_eq!(found.config, image.id());
    assert_eq!(sent_bytes(&relay.requests()), found.size());
}
