//! The registries.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Which registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Ours,
    Stock,
}

impl Kind {
    /// Those that are installed.
    pub(super) fn present() -> Vec<Self> {
        match Path::new(STOCK).exists() {
            true => vec![Self::Ours, Self::Stock],
            false => vec![Self::Ours],
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ours => "imgsync-server",
            Self::Stock => "docker-registry",
        }
    }
}

const STOCK: &str = "/usr/bin/docker-registry";

/// A program of this workspace, from beside this program's folder.
pub(super) fn ours(name: &str) -> PathBuf {
    let here = std::env::current_exe().expect("a path");
    let path = here.ancestors().nth(2).expect("a folder").join(name);
    assert!(
        path.exists(),
        "{path:?} is missing: build it with --release"
    );
    path
}

/// A running registry with a folder of its own; both go with it.
pub(super) struct Registry {
    process: Child,
    address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Registry {
    pub(super) fn start(kind: Kind) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (process, address) = match kind {
            Kind::Ours => start_ours(folder.path()),
            Kind::Stock => start_stock(folder.path()),
        };
        Self {
            process,
            address,
            _folder: folder,
        }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn start_ours(folder: &Path) -> (Child, SocketAddr) {
    let mut command = Command::new(ours("imgsync-server"));
    command.args(["serve", "--addr", "127.0.0.1:0", "--root"]);
    command.arg(folder).stderr(Stdio::null());
    let mut process = command.stdout(Stdio::piped()).spawn().expect("to start");
    let mut line = String::new();
    let stdout = process.stdout.take().expect("its output");
    BufReader::new(stdout).read_line(&mut line).expect("a line");
    let address = line.rsplit("http://").next().unwrap_or_default().trim();
    (process, address.parse().expect("an address"))
}

fn start_stock(folder: &Path) -> (Child, SocketAddr) {
    // It cannot say which port it took.
    let free = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = free.local_addr().expect("an address");
    drop(free);
    let config = folder.join("config.yml");
    let text = format!(
        "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
         storage: {{filesystem: {{rootdirectory: {:?}}}, cache: {{blobdescriptor: inmemory}}}}\n\
         http: {{addr: '{address}', secret: bench}}\n",
        folder.join("data")
    );
    std::fs::write(&config, text).expect("a config");
    let mut command = Command::new(STOCK);
    command.arg("serve").arg(&config);
    let process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    while TcpStream::connect(address).is_err() {
        std::thread::sleep(Duration::from_millis(20));
    }
    (process.expect("to start"), address)
}
