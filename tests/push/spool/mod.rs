//! What a push puts aside outlives it: a daemon is not asked twice for the same export, a layer is
//! not compressed twice, and a small disk is told of in numbers.

mod daemon;
mod limits;
mod stdin;

use std::sync::{Arc, Mutex};

use crate::support::archive::{Entry, tar_of, write_tar};
use crate::support::fake::{FakeServer, status};
use crate::support::prelude::*;
use crate::support::request_parser::ObservedRequest;
use serde_json::json;

const SOURCE: i32 = 3;
const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";

/// A server, and the tool with a home of its own.
struct SpoolFixture {
    server: Server,
    /// What goes to the server goes through here.
    relay: Relay,
    imgsync: Imgsync,
    home: PathBuf,
    /// Last, for it goes last: the server must be dead by then.
    scratch: Scratch,
}

impl SpoolFixture {
    fn new() -> Self {
        let scratch = Scratch::new();
        let home = scratch.folder("home");
        Self::at(scratch, home)
    }

    fn at(scratch: Scratch, home: PathBuf) -> Self {
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

    /// The files in the spool, with their sizes in bytes.
    fn spooled(&self) -> Vec<(PathBuf, u64)> {
        files(&self.spool())
    }

    fn remote(&self, name: &str) -> String {
        format!("{}/{name}:v1", self.relay.address())
    }

    fn written(&self, name: &str, entries: &[Entry]) -> PathBuf {
        let path = self.scratch.path(name);
        write_tar(entries, &path);
        path
    }

    /// Runs a push and kills it when it has sent so many bytes.
    fn killed(&self, mut command: Command, image: &str, name: &str, bytes: u64) {
        let relay = &self.relay;
        let bytes = sent(&relay.requests()) + bytes;
        let child = Arc::new(Mutex::new(None::<std::process::Child>));
        let victim = Arc::clone(&child);
        // Before the first byte, so that the moment is not missed.
        relay.run_after_bytes_sent(bytes, move || {
            wait_until("the push that is to be killed", || {
                let mut victim = victim.lock().unwrap();
                victim
                    .as_mut()
                    .map(|child| child.kill().expect("a child of ours"))
            });
        });
        // Slow enough to be in the middle then.
        command.args(["push", "--limit-rate", "4MiB", "--chunk-size", "256KiB"]);
        command.args([image, &self.remote(name)]);
        let started = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        *child.lock().unwrap() = Some(started.expect("imgsync starts"));
        let ended = wait_until("the end of the push", || {
            let mut child = child.lock().unwrap();
            child.as_mut().unwrap().try_wait().expect("a child of ours")
        });
        assert_eq!(ended.code(), None, "killed in the middle");
    }

    /// Pushes to the end.
    fn push(&self, mut command: Command, image: &str, name: &str) -> Outcome {
        command.args(["push", image, &self.remote(name)]);
        run(&mut command)
    }

    fn found(&self, name: &str) -> check::StoredImage {
        check::at_registry(self.server.address(), &format!("{name}:v1"))
    }
}

fn files(folder: &Path) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push((path, entry.metadata().expect("a file").len())),
        }
    }
    found
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

fn sent(requests: &[ObservedRequest]) -> u64 {
    let writes = requests.iter().filter(|request| request.writes_blob());
    writes.map(|request| request.body).sum()
}

/// Three layers, and a small one that stays in memory where it can.
fn large_and_small(seed: u64) -> Image {
    let layers = (seed..seed + 3).map(|seed| layer("data", noise(seed, 3_000_000)));
    let small = layer("small", noise(seed, 30_000));
    Image::new(layers.chain([small]).collect())
}

/// A daemon with one image. What an export consists of is decided for each anew.
struct FakeDaemon {
    fake: FakeServer,
}

impl FakeDaemon {
    fn start(
        inspected: serde_json::Value,
        export: impl Fn(usize) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        let count = Mutex::new(0);
        let fake = FakeServer::start(move |request| {
            let line = request.line();
            if line.ends_with("/info") {
                status(200).body("{}")
            } else if line.ends_with("/json") {
                status(200).body(inspected.to_string())
            } else if line.ends_with("/get") {
                let mut count = count.lock().unwrap();
                *count += 1;
                status(200).body(export(*count))
            } else {
                status(404)
            }
        });
        Self { fake }
    }

    /// With a classic store.
    fn classic(image: &Image) -> Self {
        let export = tar_of(&image.docker_archive("app:v1"));
        Self::start(classic(image), move |_| export.clone())
    }

    /// With containerd's store: layers come compressed, and go as they are.
    fn containerd(image: &Image) -> Self {
        Self::layout(containerd(image), image.oci_layout("v1"))
    }

    /// The same, with another layout to export.
    fn layout(inspected: serde_json::Value, mut entries: Vec<Entry>) -> Self {
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        let export = tar_of(&entries);
        Self::start(inspected, move |_| export.clone())
    }

    fn exports(&self) -> usize {
        let lines = self.fake.lines();
        lines.iter().filter(|line| line.ends_with("/get")).count()
    }

    /// The tool, on this daemon; without a scheme, as Docker's own client takes it.
    fn command(&self, imgsync: &Imgsync) -> Command {
        let mut command = imgsync.command();
        command.env("DOCKER_HOST", self.fake.address());
        command
    }
}

fn classic(image: &Image) -> serde_json::Value {
    let diff_ids: Vec<_> = image.layers.iter().map(|layer| digest(layer)).collect();
    json!({
        "Id": image.id(), "RepoTags": ["app:v1"], "Os": "linux", "Architecture": "amd64",
        "Size": image.layers.iter().map(Vec::len).sum::<usize>(),
        "RootFS": {"Type": "layers", "Layers": diff_ids},
    })
}

fn containerd(image: &Image) -> serde_json::Value {
    let manifest = digest(&image.oci_manifest(&image.compressed()));
    rooted(image, MANIFEST_TYPE, &manifest)
}

fn rooted(image: &Image, media_type: &str, root: &str) -> serde_json::Value {
    let mut inspected = classic(image);
    inspected["Id"] = json!(root);
    inspected["Descriptor"] = json!({"mediaType": media_type, "digest": root});
    inspected
}
