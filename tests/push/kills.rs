//! The tool is killed, the server is killed, or one of both, again and again and at any moment: the
//! next push goes on where the registry stands, and in all little more is sent than the images.

use std::process::{Child, ExitStatus};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::support::prelude::*;
use crate::support::request_parser::ObservedRequest;
use crate::support::{Random, Trigger, store};

/// How often something is killed.
const KILLS: usize = 200;
/// What most chunks have in these tests: small, so that there are many moments.
const CHUNK: &str = "64KiB";

/// The file that holds what a push said.
const STDERR_FILE: &str = "push.stderr";

/// Who is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum KilledProcess {
    Client,
    Server,
    /// One of both, by chance.
    Either,
}

/// Starts a push; what it says goes to `talk`.
fn start(imgsync: &Imgsync, image: &str, remote: &str, talk: Stdio) -> Arc<Mutex<Child>> {
    let mut command = imgsync.command();
    command.args(["push", "--verbose", "--chunk-size", CHUNK, image, remote]);
    let child = command.stdout(Stdio::null()).stderr(talk).spawn();
    Arc::new(Mutex::new(child.expect("imgsync starts")))
}

/// Waits for the end without holding the lock that the killer needs.
fn ended(child: &Mutex<Child>) -> ExitStatus {
    wait_until("the end of a push", || {
        child.lock().unwrap().try_wait().expect("a child of ours")
    })
}

/// Bytes of blobs that were sent.
fn written(requests: &[ObservedRequest]) -> u64 {
    let writes = requests.iter().filter(|request| request.writes_blob());
    writes.map(|request| request.body).sum()
}

/// What kills may have cost: what was on its way of chunks that the registry was not seen to take,
/// one a kill and open upload.
fn lost(requests: &[ObservedRequest]) -> u64 {
    let not_taken = requests
        .iter()
        .filter(|request| request.writes_blob() && !request.was_accepted());
    not_taken.map(|request| request.body).sum()
}

/// How many sessions may have been opened in the instant of a kill: the connection ended with the
/// question, or with an answer that may not have been read.
fn opened_in_vain(requests: &[ObservedRequest]) -> usize {
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
    /// Shows what the last push said, if the test fails.
    _talk: StderrOnPanic,
    /// Last, for it goes last: the server must be dead by then.
    scratch: Scratch,
}

struct StderrOnPanic(PathBuf);

impl Drop for StderrOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let said = std::fs::read_to_string(&self.0).unwrap_or_default();
            let lines: Vec<_> = said.lines().collect();
            let last = &lines[lines.len().saturating_sub(60)..];
            eprintln!("-- the last that imgsync said\n{}", last.join("\n"));
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
            _talk: StderrOnPanic(scratch.path(STDERR_FILE)),
            scratch,
        }
    }

    fn kills(&self) -> usize {
        self.kills.load(Ordering::SeqCst)
    }

    /// An image of four layers, other ones each time; in all some 5 MB that do not compress.
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

    /// Some moment of the push that is running or about to run: while it asks, while it sends, or
    /// while it is told what became of that.
    fn moment(&mut self) -> Trigger {
        let traffic = self.relay.traffic();
        match self.random.below(4) {
            0 => Trigger::RequestsStarted(
                self.relay.request_count() + self.random.below(40) as usize,
            ),
            1 => Trigger::BytesReceived(traffic.down + self.random.below(8_000)),
            _ => Trigger::BytesSent(traffic.up + self.random.below(700_000)),
        }
    }

    /// Kills at some moment, once; and starts the server again, if it was the server.
    fn kill_at_some_moment(&mut self, victim: KilledProcess, client: &Arc<Mutex<Child>>) {
        let server_dies = match victim {
            KilledProcess::Client => false,
            KilledProcess::Server => true,
            KilledProcess::Either => self.random.below(2) == 0,
        };
        let moment = self.moment();
        let kills = Arc::clone(&self.kills);
        if server_dies {
            let server = Arc::clone(&self.server);
            self.relay.run_at(moment, move || {
                let mut server = server.lock().unwrap();
                server.kill();
                server.restart_on_same_port();
                kills.fetch_add(1, Ordering::SeqCst);
            });
        } else {
            let client = Arc::clone(client);
            self.relay.run_at(moment, move || {
                let mut client = client.lock().unwrap();
                // It may have ended.
                if client.try_wait().expect("a child of ours").is_none() {
                    let _ = client.kill();
                    kills.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
    }

    /// One push, with kills as they come, until it ends.
    fn push(&mut self, victim: KilledProcess, path: &Path, remote: &str) -> ExitStatus {
        let path = path.to_str().expect("a path in UTF-8");
        let talk = std::fs::File::create(self.scratch.path(STDERR_FILE)).expect("a file");
        let mut before = self.kills();
        let client = start(&self.imgsync, path, remote, talk.into());
        self.kill_at_some_moment(victim, &client);
        let status = wait_until("the end of a push", || {
            let kills = self.kills();
            if kills > before {
                before = kills;
                self.kill_at_some_moment(victim, &client);
            }
            client.lock().unwrap().try_wait().expect("a child of ours")
        });
        self.relay.run_after_bytes_sent(u64::MAX, || {});
        status
    }

    /// Pushes image after image until there were enough kills, each again and again until it is
    /// there; then everything is counted.
    fn survives(mut self, victim: KilledProcess) {
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
                // Nothing but a kill keeps a push from its end.
                assert_ne!(victim, KilledProcess::Server, "a push failed with {status}");
                assert_eq!(status.code(), None, "a push failed by itself");
            }
            let found = check::at_registry(self.server.lock().unwrap().address(), &name);
            assert_eq!(found.config, image.id());
            size += found.size();
        }
        let requests = self.relay.requests();
        let (sent, lost) = (written(&requests), lost(&requests));
        let kills = self.kills();
        let server = Arc::try_unwrap(self.server).ok().expect("nobody kills");
        let server = server.into_inner().unwrap();
        let left = store::upload_sessions(server.root());
        let in_vain = opened_in_vain(&requests);
        eprintln!(
            "{kills} kills, {images} images, {runs} pushes: sent {sent} of {size}, {lost} may have \
             been lost; {} sessions left of {in_vain}",
            left.len()
        );
        assert!(sent <= size + lost, "{sent} sent of {size}, {lost} lost");
        assert!(
            left.len() <= in_vain,
            "{} sessions left, {in_vain} opened in vain: {left:?}",
            left.len()
        );
        assert_purged(server, &self.scratch);
    }
}

/// A server whose operator keeps no session for long has none of those that kills left behind.
fn assert_purged(mut server: Server, scratch: &Scratch) {
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
fn a_client_that_is_killed_at_any_moment_goes_on_in_the_next_run() {
    KillFixture::new().survives(KilledProcess::Client);
}

#[test]
fn one_push_survives_that_the_server_is_killed_at_any_moment() {
    KillFixture::new().survives(KilledProcess::Server);
}

#[test]
fn whichever_end_is_killed_the_image_arrives() {
    KillFixture::new().survives(KilledProcess::Either);
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
    let pushes = ["one", "two"].map(|tag| start(&imgsync, path, &remote(tag), Stdio::null()));
    assert!(pushes.iter().all(|push| ended(push).success()));
    let found = check::at_registry(server.address(), "app:one");
    assert_eq!(found, check::at_registry(server.address(), "app:two"));
    assert_eq!(found.config, image.id());
    assert_eq!(written(&relay.requests()), found.size());
}
