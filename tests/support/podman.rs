//! podman, with a storage of its own instead of the user's.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::Scratch;
use super::run::{Outcome, must, run};

/// A storage for podman's images; gone with this.
pub struct Podman {
    root: PathBuf,
    _scratch: Scratch,
}

impl Podman {
    /// An empty storage.
    pub fn new() -> Self {
        let scratch = Scratch::new();
        Self {
            root: scratch.folder("storage"),
            _scratch: scratch,
        }
    }

    /// `podman …`, which must succeed; yields what it printed.
    pub fn run(&self, arguments: &[&str]) -> String {
        must(self.command().args(arguments))
    }

    /// `podman …`, whatever becomes of it.
    pub fn attempt(&self, arguments: &[&str]) -> Outcome {
        run(self.command().args(arguments).stdin(Stdio::null()))
    }

    /// Takes over an image from an archive of `docker save`.
    pub fn load(&self, archive: &str) {
        self.run(&["load", "--input", archive]);
    }

    /// Pulls an image without TLS.
    pub fn pull(&self, reference: &str) {
        self.run(&["pull", "--tls-verify=false", reference]);
    }

    /// Pushes an image without TLS.
    pub fn push(&self, image: &str, remote: &str) {
        let remote = format!("docker://{remote}");
        self.run(&["push", "--tls-verify=false", image, &remote]);
    }

    /// An image's ID: `sha256:…`.
    pub fn id(&self, image: &str) -> String {
        let hex = self.run(&["image", "inspect", "--format", "{{.Id}}", image]);
        format!("sha256:{hex}")
    }

    /// `podman`, ready for arguments.
    pub fn command(&self) -> Command {
        let mut command = Command::new("podman");
        // vfs works everywhere, also where the folder lies on an overlay.
        command.args(["--storage-driver", "vfs"]);
        command.arg("--root").arg(&self.root);
        command
            .arg("--runroot")
            .arg(self.root.with_file_name("run"));
        command.arg("--tmpdir").arg(self.root.with_file_name("tmp"));
        command
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        // Without root, files belong to users that only podman's own namespace can remove.
        let _ = run(self.command().args(["system", "reset", "--force"]));
    }
}
