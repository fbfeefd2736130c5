//! Runs the commands of the CI examples, each in an empty home, with a real Docker daemon and a real
//! registry. Only what a user fills in is replaced, and what a runner provides is provided.

mod containers;
mod github;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use super::document::read;
use crate::support::fake::{self, FakeServer};
use crate::support::prelude::*;

/// The output of `htpasswd -Bbn alice secret`.
const HTPASSWD: &str = "alice:$2y$05$QPa1xegaJPiCtMHwmQ.0x.Tp5gZebiXTQONeDUdL3y1Fn8AElzEdK\n";

/// The needs of a pipeline: a registry with a login, a web server with the program, and the sources
/// of an image.
struct CiFixture {
    server: Server,
    /// Clients reach the registry through this relay.
    relay: Relay,
    files: FakeServer,
    checksum: String,
    /// Dropped last: the server must have stopped before its folder is deleted.
    scratch: Scratch,
}

impl CiFixture {
    fn new() -> Self {
        let scratch = Scratch::new();
        let (root, logins) = (scratch.folder("root"), scratch.path("htpasswd"));
        std::fs::write(&logins, HTPASSWD).unwrap();
        let config = scratch.path("config.yml");
        let text = format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {root:?}}}}}\n\
             http: {{addr: '127.0.0.1:0'}}\nauth: {{htpasswd: {{path: {logins:?}}}}}\n"
        );
        std::fs::write(&config, text).unwrap();
        let server = Server::start_configured(&config, &root);
        let relay = Relay::start(server.address(), RelayFault::None);
        let program = env!("CARGO_BIN_EXE_imgsync");
        let checksum = must(Command::new("sha256sum").arg(program));
        let (checksum, _) = checksum.split_once(' ').expect("a checksum");
        let bytes = std::fs::read(program).unwrap();
        Self {
            files: FakeServer::start(move |_| fake::status(200).body(bytes.clone())),
            checksum: checksum.to_owned(),
            scratch,
            server,
            relay,
        }
    }

    /// Returns the name of the registry for clients.
    fn registry(&self) -> String {
        format!("localhost:{}", self.relay.address().port())
    }

    /// Returns an example in which the addresses and the checksum are filled in.
    fn filled_in(&self, path: &str) -> String {
        let program = format!("http://{}/imgsync", self.files.address());
        let no_checksum = "0".repeat(64);
        let changes = [
            ("registry.example.com", &self.registry()),
            ("https://files.example.com/imgsync", &program),
            (&*no_checksum, &self.checksum),
        ];
        changes.into_iter().fold(read(path), |text, (from, to)| {
            assert!(text.contains(from), "{path} has no {from}");
            text.replace(from, to)
        })
    }

    /// Creates the sources of an image: a large layer that depends on `base`, and a small one.
    fn checkout(&self, name: &str, base: u64) -> Checkout {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let folder = self.scratch.folder(name);
        let dockerfile = "FROM scratch\nCOPY base /base\nCOPY app /app\n";
        std::fs::write(folder.join("Dockerfile"), dockerfile).unwrap();
        std::fs::write(folder.join("base"), noise(base, LARGE_LAYER)).unwrap();
        std::fs::write(folder.join("app"), name).unwrap();
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let commit = format!("{:016x}{number:024x}", std::process::id());
        Checkout { folder, commit }
    }

    /// Panics unless the registry has exactly these tags of the image.
    fn assert_tags(&self, expected: &[&str]) {
        let imgsync = Imgsync::new(&self.scratch.folder("reader"));
        let mut command = imgsync.command();
        command.envs([
            ("IMGSYNC_USERNAME", "alice"),
            ("IMGSYNC_PASSWORD", "secret"),
        ]);
        let address = self.server.address();
        let tags = must(command.args(["ls", &format!("{address}/team/app")]));
        let found: BTreeSet<_> = tags.lines().collect();
        assert_eq!(found, expected.iter().copied().collect());
    }
}

/// The size of the large layer of an image, in bytes.
const LARGE_LAYER: usize = 6_000_000;

/// A checked-out repository with a Dockerfile.
struct Checkout {
    folder: PathBuf,
    commit: String,
}

/// Returns a command in an empty environment, except for the Docker daemon of the tests.
fn clean_command(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().stdin(Stdio::null());
    command.envs(std::env::var_os("DOCKER_HOST").map(|value| ("DOCKER_HOST", value)));
    // The classic builder is in every daemon; BuildKit needs a plugin for the client.
    command.env("DOCKER_BUILDKIT", "0");
    command
}

/// Parses an example in YAML.
fn parse<T: serde::de::DeserializeOwned>(text: &str) -> T {
    serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Variables of a job. Their order in the file does not matter.
type Variables<T = String> = BTreeMap<String, T>;
