//! Docker: its client and daemon.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::peers::{program, report_missing};
use super::process::Process;
use super::run::must;

/// `docker …`, which must succeed; yields what it printed.
pub fn docker(arguments: &[&str]) -> String {
    must(Command::new("docker").args(arguments))
}

/// The command that prints an image as `docker save` does.
pub fn save(image: &str) -> Command {
    let mut command = Command::new("docker");
    command.args(["save", image]);
    command
}

/// An image in the daemon; removed when this goes.
pub struct DockerImage {
    reference: String,
}

impl DockerImage {
    /// Builds `tests/images/app` as `NAME:VERSION`. Other names share no layers with it.
    pub fn build(name: &str, version: &str) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/images/build.sh");
        must(Command::new("bash").arg(script).args([name, version, name]));
        Self::existing(format!("{name}:{version}"))
    }

    /// One that is there, or will be.
    pub fn existing(reference: impl Into<String>) -> Self {
        Self {
            reference: reference.into(),
        }
    }

    /// Pulls one.
    pub fn pull(reference: impl Into<String>) -> Self {
        let image = Self::existing(reference);
        docker(&["pull", image.reference()]);
        image
    }

    /// Gives it another name.
    pub fn tag(&self, reference: impl Into<String>) -> Self {
        let other = Self::existing(reference);
        docker(&["tag", &self.reference, &other.reference]);
        other
    }

    /// What it is called.
    pub fn reference(&self) -> &str {
        &self.reference
    }

    /// Its ID.
    pub fn id(&self) -> String {
        docker(&["image", "inspect", "--format", "{{.Id}}", &self.reference])
    }

    /// What a container of it prints.
    pub fn container_output(&self) -> String {
        docker(&["run", "--rm", "--network", "none", &self.reference])
    }

    /// Writes it to a file as `docker save` does.
    pub fn save(&self, path: PathBuf) -> PathBuf {
        let file = path.to_str().expect("a path in UTF-8");
        docker(&["save", "--output", file, &self.reference]);
        path
    }

    /// Takes it out of the daemon, with all layers that no other image has.
    pub fn remove(self) {
        drop(self);
    }
}

impl Drop for DockerImage {
    fn drop(&mut self) {
        let mut command = Command::new("docker");
        command.args(["image", "rm", "--force", &self.reference]);
        // A failing test may not have come as far as making it.
        let _ = command.output();
    }
}

/// A name that no other test has, nor any other run.
pub fn unique(name: &str) -> String {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("imgsync-tests/{name}-{}-{count}", std::process::id())
}

/// A daemon of a test's own, beside the one that all share.
pub struct DockerDaemon {
    process: Process,
    folder: PathBuf,
}

impl DockerDaemon {
    /// Starts one with further flags, its data in a folder that is not used otherwise; `None` where
    /// this user, or this system, cannot.
    pub fn start(folder: &Path, flags: &[&str]) -> Option<Self> {
        // Docker's clients know registries on loopback as insecure ones.
        std::fs::write(folder.join("daemon.json"), "{}").expect("a file");
        let flag = |name: &str, file: &str| format!("--{name}={}", folder.join(file).display());
        let mut command = Command::new(program("dockerd"));
        command
            .arg(format!("--host=unix://{}", folder.join("sock").display()))
            .args([flag("data-root", "data"), flag("exec-root", "exec")])
            .args([flag("pidfile", "pid"), flag("config-file", "daemon.json")])
            .args(["--bridge=none", "--iptables=false", "--ip-masq=false"])
            .args(["--ip-forward=false", "--storage-driver=vfs"])
            .args(flags);
        let process = Process::start("dockerd", &mut command, folder);
        let folder = folder.to_owned();
        let mut daemon = Self { process, folder };
        for _ in 0..300 {
            if daemon
                .command()
                .arg("version")
                .output()
                .is_ok_and(|it| it.status.success())
            {
                return Some(daemon);
            }
            if daemon.process.has_ended() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        report_missing(&format!("no second dockerd: {}", daemon.process.stderr()));
        None
    }

    /// `docker` as its client, with a configuration of its own.
    pub fn command(&self) -> Command {
        let mut command = Command::new("docker");
        let host = format!("unix://{}", self.folder.join("sock").display());
        command.env("DOCKER_HOST", host);
        command.env("DOCKER_CONFIG", self.folder.join("config"));
        command
    }

    /// Runs a command of its client, which must succeed; yields what it printed.
    pub fn docker(&self, arguments: &[&str]) -> String {
        must(self.command().args(arguments))
    }
}

impl Drop for DockerDaemon {
    fn drop(&mut self) {
        self.process.terminate();
        // It leaves its data mounted on itself.
        let mut command = Command::new("umount");
        let _ = command.arg(self.folder.join("data")).output();
    }
}
