//! A Docker daemon that remembers nothing: its data are in a folder of its own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A running dockerd; its data go with it. Takes root.
pub(super) struct Daemon {
    process: Child,
    socket: PathBuf,
    folder: tempfile::TempDir,
}

impl Daemon {
    /// `None` where none can be started.
    pub(super) fn start() -> Option<Self> {
        // The usual storage, else the one that also works where this is a container.
        Self::with(&[]).or_else(|| Self::with(&["--storage-driver=vfs"]))
    }

    fn with(flags: &[&str]) -> Option<Self> {
        // A socket's path must be short.
        let folder = tempfile::Builder::new().prefix("bench-").tempdir_in("/tmp");
        let folder = folder.ok()?;
        let below = |name: &str| folder.path().join(name).display().to_string();
        let socket = folder.path().join("docker.sock");
        std::fs::write(below("daemon.json"), "{}").ok()?;
        let mut command = Command::new("dockerd");
        command.arg(format!("--host=unix://{}", socket.display()));
        command.arg(format!("--data-root={}", below("data")));
        command.arg(format!("--exec-root={}", below("exec")));
        command.arg(format!("--pidfile={}", below("pid")));
        command.arg(format!("--config-file={}", below("daemon.json")));
        command.args(["--bridge=none", "--iptables=false", "--ip-masq=false"]);
        command
            .args(["--ip-forward=false", "--log-level=fatal"])
            .args(flags);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let process = command.stderr(Stdio::null()).spawn().ok()?;
        let mut daemon = Self {
            process,
            socket,
            folder,
        };
        daemon.answers().then_some(daemon)
    }

    fn answers(&mut self) -> bool {
        let deadline = Instant::now() + Duration::from_secs(60);
        while Instant::now() < deadline {
            if self.process.try_wait().is_ok_and(|ended| ended.is_some()) {
                return false;
            }
            let mut asking = self.docker();
            asking.args(["version", "--format", "{{.Server.Version}}"]);
            if asking.output().is_ok_and(|output| output.status.success()) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        false
    }

    /// `docker`, ready for arguments.
    pub(super) fn docker(&self) -> Command {
        let mut command = Command::new("docker");
        command.args(["--host", &self.address()]);
        command.stdin(Stdio::null());
        command
    }

    /// Takes in the images of an archive.
    pub(super) fn load(&self, archive: &Path) {
        let loaded = self
            .docker()
            .args(["load", "--input"])
            .arg(archive)
            .output();
        let loaded = loaded.expect("docker");
        assert!(loaded.status.success(), "docker load: {loaded:?}");
    }

    /// `unix://…`
    pub(super) fn address(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// Its process id.
    pub(super) fn id(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Asked, it unmounts what it mounted and ends the containerd that it started.
        let _ = Command::new("kill").arg(self.id().to_string()).status();
        let _ = self.process.wait();
        // It leaves its data folder mounted on itself, where the storage needs that.
        let data = self.folder.path().join("data");
        let _ = Command::new("umount").args(["--quiet"]).arg(data).output();
    }
}
