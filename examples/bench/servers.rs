//! Starts the servers that are measured.

#[path = "../../tests/support/reserved_port.rs"]
#[allow(
    clippy::duplicate_mod,
    unreachable_pub,
    reason = "shared with the tests, one of which runs a benchmark"
)]
mod reserved_port;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use self::reserved_port::ReservedPort;

/// The program of Debian's docker-registry.
pub(super) const STOCK_PROGRAM: &str = "/usr/bin/docker-registry";

/// A running server. It is killed when the value is dropped.
pub(super) struct Server {
    name: &'static str,
    program: PathBuf,
    process: Child,
    address: SocketAddr,
    /// The folder with the configuration of the stock registry.
    _folder: Option<tempfile::TempDir>,
    /// The port of the stock registry, which does not report one that it has chosen.
    _port: Option<ReservedPort>,
}

impl Server {
    /// Starts imgsync-server from the parent of this program's folder, with its data in `root`.
    pub(super) fn start_imgsync_server(root: &Path) -> Self {
        let program = imgsync_server_program();
        let mut process = Command::new(&program)
            .args(["serve", "--addr", "127.0.0.1:0", "--root"])
            .arg(root)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{program:?}: {error}; build it with --release"));
        let mut line = String::new();
        let stdout = process.stdout.take().expect("its output");
        BufReader::new(stdout).read_line(&mut line).expect("a line");
        let address = line.rsplit("http://").next().unwrap_or_default().trim();
        let address = address.parse().expect("an address");
        Self {
            name: "imgsync-server",
            program,
            process,
            address,
            _folder: None,
            _port: None,
        }
    }

    /// Starts Debian's docker-registry with its data in `root`; `None` if it is not installed.
    pub(super) fn start_stock(root: &Path) -> Option<Self> {
        let program = Path::new(STOCK_PROGRAM);
        if !program.exists() {
            return None;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let port = ReservedPort::new();
        let address = port.address();
        let config = folder.path().join("config.yml");
        write_stock_config(&config, root, address);
        let process = Command::new(program)
            .arg("serve")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("to start");
        while std::net::TcpStream::connect(address).is_err() {
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(Self {
            name: "docker-registry",
            program: program.to_owned(),
            process,
            address,
            _folder: Some(folder),
            _port: Some(port),
        })
    }

    pub(super) fn name(&self) -> &str {
        self.name
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the size of the program file in bytes.
    pub(super) fn program_bytes(&self) -> u64 {
        std::fs::metadata(&self.program).expect("a program").len()
    }

    /// Returns the resident memory in bytes.
    pub(super) fn memory(&self) -> u64 {
        self.status_bytes("VmRSS:")
    }

    /// Returns the peak of the resident memory since the start in bytes.
    pub(super) fn peak_memory(&self) -> u64 {
        self.status_bytes("VmHWM:")
    }

    fn status_bytes(&self, field: &str) -> u64 {
        status_bytes(&self.process, field).expect("a number")
    }
}

/// Returns a size in bytes from the status of a process; `None` once it has ended.
pub(super) fn status_bytes(process: &Child, field: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id()));
    let status = status.ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024)
}

/// Returns the path of imgsync-server, in the parent of this program's folder.
pub(super) fn imgsync_server_program() -> PathBuf {
    let own_path = std::env::current_exe().expect("a path");
    let folder = own_path.ancestors().nth(2).expect("a folder");
    folder.join("imgsync-server")
}

/// Writes a configuration of the stock registry with its data in `root`.
pub(super) fn write_stock_config(path: &Path, root: &Path, address: SocketAddr) {
    let text = format!(
        "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
         storage: {{filesystem: {{rootdirectory: {root:?}}}, cache: {{blobdescriptor: inmemory}}}}\n\
         http: {{addr: '{address}', secret: bench}}\n",
    );
    std::fs::write(path, text).expect("a config");
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
