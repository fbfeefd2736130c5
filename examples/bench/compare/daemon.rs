//! Starts Docker daemons with empty data folders.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A running dockerd. It is stopped and its data are deleted when the value is dropped. Needs root.
pub(super) struct Daemon {
    process: Child,
    socket: PathBuf,
    folder: tempfile::TempDir,
}

impl Daemon {
    /// Starts a daemon; `None` if that is not possible.
    pub(super) fn start() -> Option<Self> {
        // The overlay driver does not work in some containers; vfs does.
        Self::start_with(&[]).or_else(|| Self::start_with(&["--storage-driver=vfs"]))
    }

    fn start_with(flags: &[&str]) -> Option<Self> {
        // The path of a Unix socket is limited to about 100 bytes.
        let folder = tempfile::Builder::new().prefix("bench-").tempdir_in("/tmp");
        let folder = folder.ok()?;
        let path = |name: &str| folder.path().join(name).display().to_string();
        let socket = folder.path().join("docker.sock");
        std::fs::write(path("daemon.json"), "{}").ok()?;
        let mut command = Command::new("dockerd");
        command.arg(format!("--host=unix://{}", socket.display()));
        command.arg(format!("--data-root={}", path("data")));
        command.arg(format!("--exec-root={}", path("exec")));
        command.arg(format!("--pidfile={}", path("pid")));
        command.arg(format!("--config-file={}", path("daemon.json")));
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
        daemon.wait_until_ready().then_some(daemon)
    }

    /// Waits until the daemon answers. Returns false if it has ended or does not answer for a minute.
    fn wait_until_ready(&mut self) -> bool {
        let deadline = Instant::now() + Duration::from_secs(60);
        while Instant::now() < deadline {
            if self.process.try_wait().is_ok_and(|ended| ended.is_some()) {
                return false;
            }
            let mut version = self.docker();
            version.args(["version", "--format", "{{.Server.Version}}"]);
            if version.output().is_ok_and(|output| output.status.success()) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        false
    }

    /// Returns a `docker` command for this daemon, without its arguments.
    pub(super) fn docker(&self) -> Command {
        let mut command = Command::new("docker");
        command.args(["--host", &self.address()]);
        command.stdin(Stdio::null());
        command
    }

    /// Loads the images of an archive.
    pub(super) fn load(&self, archive: &Path) {
        let output = self
            .docker()
            .args(["load", "--input"])
            .arg(archive)
            .output();
        let output = output.expect("docker");
        assert!(output.status.success(), "docker load: {output:?}");
    }

    /// Returns the address as `unix://…`.
    pub(super) fn address(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// Returns the process ID.
    pub(super) fn id(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // After SIGTERM the daemon unmounts its file systems and stops its containerd.
        let _ = Command::new("kill").arg(self.id().to_string()).status();
        let _ = self.process.wait();
        // Some storage drivers leave the data folder mounted on itself.
        let data = self.folder.path().join("data");
        let _ = Command::new("umount").args(["--quiet"]).arg(data).output();
    }
}
