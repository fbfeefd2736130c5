//! Runs podman with a temporary image storage.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::Scratch;
use super::run::{Outcome, must, run};

/// podman with an image storage that is deleted on drop.
pub struct Podman {
    root: PathBuf,
    _scratch: Scratch,
}

impl Podman {
    /// Creates an empty storage.
    pub fn new() -> Self {
        let scratch = Scratch::new();
        Self {
            root: scratch.folder("storage"),
            _scratch: scratch,
        }
    }

    /// Runs `podman`, which must succeed, and returns its output.
    pub fn run(&self, arguments: &[&str]) -> String {
        must(self.command().args(arguments))
    }

    /// Runs `podman`, and returns the outcome also when it fails.
    pub fn attempt(&self, arguments: &[&str]) -> Outcome {
        run(self.command().args(arguments).stdin(Stdio::null()))
    }

    /// Loads an image from an archive of `docker save`.
    pub fn load(&self, archive: &str) {
        self.run(&["load", "--input", archive]);
    }

    /// Pulls an image without TLS verification.
    pub fn pull(&self, reference: &str) {
        self.run(&["pull", "--tls-verify=false", reference]);
    }

    /// Pushes an image without TLS verification.
    pub fn push(&self, image: &str, remote: &str) {
        let remote = format!("docker://{remote}");
        self.run(&["push", "--tls-verify=false", image, &remote]);
    }

    /// Returns an image's ID (`sha256:…`).
    pub fn id(&self, image: &str) -> String {
        let hex = self.run(&["image", "inspect", "--format", "{{.Id}}", image]);
        format!("sha256:{hex}")
    }

    /// Returns the `podman` command with the options for the storage.
    pub fn command(&self) -> Command {
        let mut command = Command::new("podman");
        // vfs also works on overlay file systems, such as in a container.
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
        // Without root, other users own some files; only podman's user namespace can delete them.
        let _ = run(self.command().args(["system", "reset", "--force"]));
    }
}
