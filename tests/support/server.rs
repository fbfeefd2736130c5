//! Starts the `imgsync-server` binary.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::SystemTime;

use super::process::{Process, peak_memory};

/// A running server, killed on drop.
pub struct Server {
    process: Process,
    root: PathBuf,
    logs: tempfile::TempDir,
    address: SocketAddr,
}

impl Server {
    /// Starts a server on a free port, with its data in `root`.
    pub fn start(root: &Path) -> Self {
        let logs = tempfile::tempdir().expect("a folder for logs");
        let (process, address) = launch(root, logs.path());
        Self {
            process,
            root: root.to_owned(),
            logs,
            address,
        }
    }

    /// Starts a server with a configuration file. `root` is the storage folder that the file names.
    pub fn start_configured(config: &Path, root: &Path) -> Self {
        let logs = tempfile::tempdir().expect("a folder for logs");
        let mut command = Command::new(binary());
        command.arg("serve").arg(config);
        let (process, address) = start_process(&mut command, logs.path());
        Self {
            process,
            root: root.to_owned(),
            logs,
            address,
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the storage folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the log so far.
    pub fn log(&self) -> String {
        self.process.stderr()
    }

    /// Kills the server with SIGKILL.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Stops the server with SIGTERM, and waits for its end.
    pub fn stop(&mut self) -> ExitStatus {
        self.process.terminate()
    }

    /// Starts a stopped server on the same folder, on another port.
    pub fn restart(&mut self) {
        (self.process, self.address) = launch(&self.root, self.logs.path());
    }

    /// Returns the peak resident memory in bytes.
    pub fn peak_memory(&self) -> u64 {
        peak_memory(self.process.id()).expect("the server is alive")
    }
}

fn launch(root: &Path, logs: &Path) -> (Process, SocketAddr) {
    let mut command = Command::new(binary());
    command.args(["serve", "--addr", "127.0.0.1:0", "--root"]);
    start_process(command.arg(root), logs)
}

fn start_process(command: &mut Command, logs: &Path) -> (Process, SocketAddr) {
    let mut process = Process::start("imgsync-server", command, logs);
    let address = process.wait_for("the server's address", |text| {
        let (line, _) = text.split_once('\n')?;
        let url = line.strip_prefix("imgsync-server listening on ")?;
        let (_, address) = url.split_once("://")?;
        Some(address.parse().expect("an address and a port"))
    });
    (process, address)
}

/// Returns the path of the server's binary, next to the tool's. Panics if the binary is older than
/// its sources: cargo builds only the tool for these tests.
pub fn binary() -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_imgsync")).with_file_name("imgsync-server");
    let advice = "run: cargo build --workspace --bins (with the same --profile or --release)";
    let built = std::fs::metadata(&path).and_then(|data| data.modified());
    let built = built.unwrap_or_else(|error| panic!("{}: {error}; {advice}", path.display()));
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for folder in ["server/src", "oci/src"] {
        let (changed, source) = newest(&workspace.join(folder));
        let (path, source) = (path.display(), source.display());
        assert!(built >= changed, "{path} is older than {source}; {advice}");
    }
    path
}

/// Returns the last change below a folder: its time and the file.
fn newest(folder: &Path) -> (SystemTime, PathBuf) {
    let entries = std::fs::read_dir(folder).expect("a folder of sources");
    let times = entries.map(|entry| {
        let path = entry.expect("a source").path();
        if path.is_dir() {
            return newest(&path);
        }
        let data = std::fs::metadata(&path).expect("a source");
        (data.modified().expect("a time"), path)
    });
    times
        .max()
        .unwrap_or((SystemTime::UNIX_EPOCH, folder.to_owned()))
}
