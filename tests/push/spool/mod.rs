//! Tests the spool: a later push reuses its layers, so the daemon is not asked for another export
//! and nothing is compressed twice. A full disk is reported.

mod daemon;
mod limits;
mod stdin;
mod streamed;

use std::sync::{Arc, Mutex};

use crate::support::archive::{Entry, tar_of, write_tar};
use crate::support::engine::{inspect_classic, inspect_containerd, inspect_with_root};
use crate::support::fake::{FakeServer, status};
use crate::support::prelude::*;
use crate::support::request_parser::ObservedRequest;

const EXIT_SOURCE: i32 = 3;

/// A server behind a relay, and the tool with its own home folder.
struct SpoolFixture {
    server: Server,
    /// All requests to the server go through this relay.
    relay: Relay,
    imgsync: Imgsync,
    home: PathBuf,
    /// Dropped last: the server must have stopped before its folder is deleted.
    scratch: Scratch,
}

impl SpoolFixture {
    fn new() -> Self {
        let scratch = Scratch::new();
        let home = scratch.folder("home");
        Self::with_home(scratch, home)
    }

    fn with_home(scratch: Scratch, home: PathBuf) -> Self {
        let server = Server::start(&scratch.folder("root"));
        Self {
            relay: Relay::start(server.address(), RelayFault::None),
            server,
            imgsync: Imgsync::new(&home),
            home,
            scratch,
        }
    }

    fn spool(&self) -> PathBuf {
        self.home.join("cache/imgsync/spool")
    }

    /// Returns the files in the spool with their sizes in bytes.
    fn spooled(&self) -> Vec<(PathBuf, u64)> {
        files(&self.spool())
    }

    fn remote(&self, name: &str) -> String {
        format!("{}/{name}:v1", self.relay.address())
    }

    fn write_archive(&self, name: &str, entries: &[Entry]) -> PathBuf {
        let path = self.scratch.path(name);
        write_tar(entries, &path);
        path
    }

    /// Runs a push and kills it after it has sent this many bytes.
    fn kill_during_push(&self, mut command: Command, image: &str, name: &str, bytes: u64) {
        let relay = &self.relay;
        let bytes = sent_bytes(&relay.requests()) + bytes;
        let child = Arc::new(Mutex::new(None::<std::process::Child>));
        let victim = Arc::clone(&child);
        // Set before the push starts, so that the moment is not missed.
        relay.run_after_bytes_sent(bytes, move || {
            wait_until("the push that is to be killed", || {
                let mut victim = victim.lock().unwrap();
                victim
                    .as_mut()
                    .map(|child| child.kill().expect("the status of the child"))
            });
        });
        // The rate limit makes sure that the push is still running at that moment.
        command.args(["push", "--limit-rate", "4MiB", "--chunk-size", "256KiB"]);
        command.args([image, &self.remote(name)]);
        let result = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        *child.lock().unwrap() = Some(result.expect("imgsync starts"));
        let status = wait_until("the end of the push", || {
            let mut child = child.lock().unwrap();
            child
                .as_mut()
                .unwrap()
                .try_wait()
                .expect("the status of the child")
        });
        assert_eq!(status.code(), None, "the push was not killed");
    }

    /// Runs a push to its end.
    fn push(&self, mut command: Command, image: &str, name: &str) -> Outcome {
        command.args(["push", image, &self.remote(name)]);
        run(&mut command)
    }

    fn check_image(&self, name: &str) -> check::StoredImage {
        check::at_registry(self.server.address(), &format!("{name}:v1"))
    }
}

fn files(folder: &Path) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push((path, entry.metadata().expect("a file").len()));
        }
    }
    found
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

fn sent_bytes(requests: &[ObservedRequest]) -> u64 {
    let writes = requests.iter().filter(|request| request.writes_blob());
    writes.map(|request| request.body).sum()
}

/// Returns an image with three large layers and a small one, which is kept in memory if possible.
fn large_and_small(seed: u64) -> Image {
    let layers = (seed..seed + 3).map(|seed| layer("data", noise(seed, 3_000_000)));
    let small = layer("small", noise(seed, 30_000));
    Image::new(layers.chain([small]).collect())
}

/// A fake daemon with one image.
struct FakeDaemon {
    fake: FakeServer,
}

impl FakeDaemon {
    /// Starts a daemon. `export` returns the archive of an export, given the number of the export.
    fn start(
        inspected: serde_json::Value,
        export: impl Fn(usize) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        let count = Mutex::new(0);
        let fake = FakeServer::start(move |request| {
            let request_line = request.line();
            if request_line.ends_with("/info") {
                status(200).body("{}")
            } else if request_line.ends_with("/json") {
                status(200).body(inspected.to_string())
            } else if request_line.ends_with("/get") {
                let mut count = count.lock().unwrap();
                *count += 1;
                status(200).body(export(*count))
            } else {
                status(404)
            }
        });
        Self { fake }
    }

    /// A daemon with Docker's classic image store.
    fn classic(image: &Image) -> Self {
        let export = tar_of(&image.docker_archive("app:v1"));
        Self::start(inspect_classic(image), move |_| export.clone())
    }

    /// A daemon with the containerd image store: layers are compressed, and exported unchanged.
    fn containerd(image: &Image) -> Self {
        Self::layout(inspect_containerd(image), image.oci_layout("v1"))
    }

    /// A daemon with the containerd image store that exports these entries.
    fn layout(inspected: serde_json::Value, mut entries: Vec<Entry>) -> Self {
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        let export = tar_of(&entries);
        Self::start(inspected, move |_| export.clone())
    }

    fn exports(&self) -> usize {
        let lines = self.fake.lines();
        lines
            .iter()
            .filter(|request_line| request_line.ends_with("/get"))
            .count()
    }

    /// The tool with the address of this daemon. The address has no scheme, as Docker's client
    /// accepts it.
    fn command(&self, imgsync: &Imgsync) -> Command {
        let mut command = imgsync.command();
        command.env("DOCKER_HOST", self.fake.address());
        command
    }
}
