//! What an older version wrote to disk: copies of tests/frozen, at the addresses of the recording.
//!
//! Much in there is known by the address of a registry, so each has the one of the recording. Times
//! are today's: a copied file is new, and what is written in one is renewed.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

use super::http::{self, Response};
use super::run::{Outcome, run, wait_until};
use super::{Imgsync, Scratch, Server};

/// The registry that was pushed to.
pub const REGISTRY: &str = "127.83.77.1:18327";
/// The one that was fetched from, and mirrored.
pub const SOURCE: &str = "127.83.77.2:18327";
/// One that took uploads as one piece only, and one that took small requests only.
pub const STREAM: &str = "127.83.77.3:18327";
pub const LIMITED: &str = "127.83.77.4:18327";

/// One test at a time has these addresses.
static ADDRESSES: Mutex<()> = Mutex::new(());

pub fn frozen(name: &str) -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/frozen");
    tests.join(name)
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("the recording");
    for entry in std::fs::read_dir(from).expect("the recording") {
        let path = entry.expect("the recording").path();
        let target = to.join(path.file_name().expect("the recording"));
        if path.is_dir() {
            copy(&path, &target);
        } else {
            // Not as std::fs::copy does: the time shall be today's, and nothing read-only.
            let bytes = std::fs::read(&path).expect("the recording");
            std::fs::write(&target, bytes).expect("a copy");
        }
    }
}

/// All files below a folder.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.expect("the recording").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found
}

pub fn named<'a>(files: &'a [PathBuf], part: &str) -> Vec<&'a PathBuf> {
    let has = |path: &&PathBuf| path.to_str().expect("the recording").contains(part);
    files.iter().filter(has).collect()
}

/// Copies of what was recorded, as if that had been an hour ago.
pub struct Recorded {
    pub scratch: Scratch,
    _turn: MutexGuard<'static, ()>,
}

impl Recorded {
    pub fn open() -> Self {
        let turn = ADDRESSES.lock().unwrap_or_else(PoisonError::into_inner);
        let scratch = Scratch::new();
        for name in ["server", "home"] {
            copy(&frozen(name), &scratch.path(name));
        }
        let hour_ago = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(1);
        for path in files(&scratch.path("server")) {
            if path.ends_with("startedat") {
                std::fs::write(path, format!("{hour_ago:.0}")).expect("the recording");
            }
        }
        for path in files(&scratch.path("home/cache/imgsync/hosts")) {
            let mut host: Value =
                serde_json::from_slice(&std::fs::read(&path).expect("the recording"))
                    .expect("the recording");
            for fact in ["body", "way"] {
                if host[fact].is_object() {
                    host[fact]["found"] = json!(hour_ago.as_second());
                }
            }
            std::fs::write(path, host.to_string()).expect("the recording");
        }
        Self {
            scratch,
            _turn: turn,
        }
    }

    pub fn root(&self) -> PathBuf {
        self.scratch.path("server")
    }

    pub fn cache(&self) -> PathBuf {
        self.scratch.path("home/cache/imgsync")
    }

    /// Today's server on the recorded folder, with more in its configuration.
    pub fn server(&self, more: &str) -> Server {
        serve(&self.scratch, REGISTRY, &self.root(), more)
    }

    /// Today's tool in the recorded home.
    pub fn run(&self, environment: &[(&str, &str)], arguments: &[&str]) -> Outcome {
        let home = self.scratch.path("home");
        let mut command: Command = Imgsync::new(&home).command();
        command.env("XDG_STATE_HOME", home.join("state"));
        command.envs(environment.iter().copied()).args(arguments);
        run(&mut command)
    }
}

/// An address of the recording, once that is free: another run of the tests may have it.
pub fn listener(address: &str) -> TcpListener {
    wait_until("an address that is free", || {
        TcpListener::bind(address).ok()
    })
}

/// A server at an address of the recording.
pub fn serve(scratch: &Scratch, address: &str, root: &Path, more: &str) -> Server {
    let config = format!(
        "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {root:?}}}, delete: {{enabled: \
         true}}}}\nhttp: {{addr: '{address}', debug: {{addr: '127.0.0.1:0', prometheus: \
         {{enabled: true}}}}}}\n{more}"
    );
    let path = scratch.path(&format!("{address}.yml"));
    std::fs::write(&path, config).expect("the recording");
    drop(listener(address));
    Server::start_configured(&path, root)
}

/// With the upstream of the recording, and more in the section.
pub fn caching(more: &str) -> String {
    format!(
        "imgsync: {{cache: {{upstreams: [{{prefix: up.example, remoteurl: 'http://{SOURCE}'}}]{more}}}}}\n"
    )
}

pub fn get(server: &Server, target: &str) -> Response {
    let reply = http::get(server.address(), target);
    assert_eq!(reply.status, 200, "{target}: {}", reply.text());
    reply
}

/// The sessions of the recording: repository, and path.
pub fn sessions(recorded: &Recorded, repository: &str) -> (PathBuf, String) {
    let repositories = "docker/registry/v2/repositories";
    let uploads = recorded
        .root()
        .join(repositories)
        .join(repository)
        .join("_uploads");
    let mut found = std::fs::read_dir(uploads).expect("the recording");
    let folder = found
        .next()
        .expect("the recording")
        .expect("the recording")
        .path();
    let id = folder
        .file_name()
        .expect("the recording")
        .to_str()
        .expect("the recording");
    let location = format!("/v2/{repository}/blobs/uploads/{id}");
    (folder, location)
}

/// A file in which these users are known, each with the password `secret`.
pub fn htpasswd(scratch: &Scratch, users: &[&str]) -> PathBuf {
    let (file, password) = (scratch.path("htpasswd"), scratch.path("password"));
    std::fs::write(&password, "secret\n").expect("a file");
    for user in users {
        let mut command = Command::new(super::server::binary());
        command
            .args(["htpasswd", "--cost", "4"])
            .arg(&file)
            .arg(user);
        command.stdin(std::fs::File::open(&password).expect("a password"));
        run(&mut command).succeeded();
    }
    file
}
