//! Copies the recorded folders of an older version (`tests/frozen`) for a test.
//!
//! The recorded files contain addresses of registries, so the tests use the same addresses. Times
//! are updated: the copied files are new, and times inside files are set to an hour ago.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

use super::http::{self, Response};
use super::run::{Outcome, run, wait_until};
use super::{Imgsync, Scratch, Server};

/// The registry to which the recorded tool pushed.
pub const REGISTRY: &str = "127.83.77.1:18327";
/// The registry that was the upstream of the cache and the source of the mirror.
pub const SOURCE: &str = "127.83.77.2:18327";
/// A registry that refuses chunks with `Content-Range`.
pub const STREAM: &str = "127.83.77.3:18327";
/// A registry that refuses large requests.
pub const LIMITED: &str = "127.83.77.4:18327";

/// Only one test at a time can use the addresses.
static ADDRESSES: Mutex<()> = Mutex::new(());

/// Returns a path in `tests/frozen`.
pub fn frozen_path(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/frozen");
    folder.join(name)
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("the recording");
    for entry in std::fs::read_dir(from).expect("the recording") {
        let path = entry.expect("the recording").path();
        let target = to.join(path.file_name().expect("the recording"));
        if path.is_dir() {
            copy_folder(&path, &target);
        } else {
            // `std::fs::copy` would also copy the permissions, and the checkout may be read-only.
            let bytes = std::fs::read(&path).expect("the recording");
            std::fs::write(&target, bytes).expect("a copy");
        }
    }
}

/// Returns all files below a folder.
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

/// Returns the paths that contain `part`.
pub fn paths_containing<'a>(files: &'a [PathBuf], part: &str) -> Vec<&'a PathBuf> {
    let is_match = |path: &&PathBuf| path.to_str().expect("the recording").contains(part);
    files.iter().filter(is_match).collect()
}

/// Copies of the recorded folders, as if they had been written an hour ago.
pub struct RecordedFolders {
    pub scratch: Scratch,
    _addresses: MutexGuard<'static, ()>,
}

impl RecordedFolders {
    /// Copies the folders of the server and of the user.
    pub fn copy() -> Self {
        let addresses = ADDRESSES.lock().unwrap_or_else(PoisonError::into_inner);
        let scratch = Scratch::new();
        for name in ["server", "home"] {
            copy_folder(&frozen_path(name), &scratch.path(name));
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
            _addresses: addresses,
        }
    }

    /// Returns the storage folder of the server.
    pub fn root(&self) -> PathBuf {
        self.scratch.path("server")
    }

    /// Returns the cache folder of the tool.
    pub fn cache(&self) -> PathBuf {
        self.scratch.path("home/cache/imgsync")
    }

    /// Starts the current server on the recorded storage folder, with additional configuration.
    pub fn start_server(&self, more: &str) -> Server {
        start_server(&self.scratch, REGISTRY, &self.root(), more)
    }

    /// Runs the current tool with the recorded home folder.
    pub fn run_tool(&self, environment: &[(&str, &str)], arguments: &[&str]) -> Outcome {
        let home = self.scratch.path("home");
        let mut command: Command = Imgsync::new(&home).command();
        command.env("XDG_STATE_HOME", home.join("state"));
        command.envs(environment.iter().copied()).args(arguments);
        run(&mut command)
    }
}

/// Listens on an address of the recording. Waits while another run of the tests uses it.
pub fn listen(address: &str) -> TcpListener {
    wait_until("an address that is free", || {
        TcpListener::bind(address).ok()
    })
}

/// Starts a server on an address of the recording, with additional configuration.
pub fn start_server(scratch: &Scratch, address: &str, root: &Path, more: &str) -> Server {
    let config = format!(
        "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {root:?}}}, delete: {{enabled: \
         true}}}}\nhttp: {{addr: '{address}', debug: {{addr: '127.0.0.1:0', prometheus: \
         {{enabled: true}}}}}}\n{more}"
    );
    let path = scratch.path(&format!("{address}.yml"));
    std::fs::write(&path, config).expect("the recording");
    drop(listen(address));
    Server::start_configured(&path, root)
}

/// Returns a `cache` section with the upstream of the recording and additional keys.
pub fn cache_config(more: &str) -> String {
    format!(
        "imgsync: {{cache: {{upstreams: [{{prefix: up.example, remoteurl: 'http://{SOURCE}'}}]{more}}}}}\n"
    )
}

/// Sends a `GET` request that must succeed.
pub fn get(server: &Server, target: &str) -> Response {
    let response = http::get(server.address(), target);
    assert_eq!(response.status, 200, "{target}: {}", response.text());
    response
}

/// Returns the folder and the URL path of the upload session in a recorded repository.
pub fn upload_session(recorded: &RecordedFolders, repository: &str) -> (PathBuf, String) {
    let repositories = "docker/registry/v2/repositories";
    let uploads = recorded
        .root()
        .join(repositories)
        .join(repository)
        .join("_uploads");
    let mut entries = std::fs::read_dir(uploads).expect("the recording");
    let folder = entries
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

/// Writes an htpasswd file with these users and the password `secret`, and returns its path.
pub fn write_htpasswd(scratch: &Scratch, users: &[&str]) -> PathBuf {
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
