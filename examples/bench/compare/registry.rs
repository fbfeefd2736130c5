//! Starts the registries that images are pushed to.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::measure::cpu_of;

/// The program of a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Imgsync,
    Stock,
}

impl Kind {
    /// Returns the registries that are installed.
    pub(super) fn present() -> Vec<Self> {
        if Path::new(STOCK).exists() {
            vec![Self::Imgsync, Self::Stock]
        } else {
            vec![Self::Imgsync]
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Imgsync => "imgsync-server",
            Self::Stock => "docker-registry",
        }
    }
}

/// A registry is idle that uses little CPU time for this long.
const IDLE_TIME: Duration = Duration::from_millis(500);
const MAX_IDLE_CPU_SECONDS: f64 = 0.015;

const STOCK: &str = "/usr/bin/docker-registry";

/// Returns the path of a program of this workspace, in the parent of this program's folder.
pub(super) fn workspace_program(name: &str) -> PathBuf {
    let own_path = std::env::current_exe().expect("a path");
    let path = own_path.ancestors().nth(2).expect("a folder").join(name);
    assert!(
        path.exists(),
        "{path:?} is missing: build it with --release"
    );
    path
}

/// A running registry. It is killed and its folder is deleted when the value is dropped.
pub(super) struct Registry {
    process: Child,
    address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Registry {
    pub(super) fn start(kind: Kind) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (process, address) = match kind {
            Kind::Imgsync => start_imgsync_server(folder.path()),
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

    /// Waits until the registry has done what it does after a push, such as computing diffIDs. Real
    /// pushes are further apart than those of the benchmark.
    pub(super) fn wait_until_idle(&self) {
        let mut before = cpu_of(self.process.id());
        loop {
            std::thread::sleep(IDLE_TIME);
            let now = cpu_of(self.process.id());
            if now - before < MAX_IDLE_CPU_SECONDS {
                return;
            }
            before = now;
        }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn start_imgsync_server(folder: &Path) -> (Child, SocketAddr) {
    let mut command = Command::new(workspace_program("imgsync-server"));
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
    // The stock registry does not report the port it listens on, so a free port is chosen here.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
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
