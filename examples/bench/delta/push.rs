//! Runs `imgsync push` with a home folder of its own.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::pair::{IMAGES, Pair};
use super::registry::workspace_program;
use super::relay::{Relay, Traffic};

/// The home folder of a user: a laptop that pushed before, or an empty CI runner.
pub(super) struct Home(tempfile::TempDir);

impl Home {
    pub(super) fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    /// Returns a command with this home folder.
    pub(super) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("HOME", self.0.path());
        command.env("XDG_CACHE_HOME", self.0.path().join("cache"));
        command
    }

    /// Returns a path in the folder.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Returns the command that pushes a version of the image through a relay.
    pub(super) fn push(&self, pair: &Pair, version: usize, relay: &Relay) -> Command {
        let program = workspace_program("imgsync");
        let mut command = self.command(&program.display().to_string());
        let archive = format!("docker-archive:{}", pair.archives[version].display());
        command.args(["push", "--quiet", &archive]);
        command.arg(remote(IMAGES[version], relay));
        command
    }
}

/// Returns the name of an image at the registry behind a relay.
pub(super) fn remote(image: &str, relay: &Relay) -> String {
    format!("{}/{image}", relay.address())
}

/// Runs a command, which must succeed. Returns the bytes that went through the relay meanwhile.
pub(super) fn traffic(command: &mut Command, relay: &Relay) -> Traffic {
    let before = relay.traffic();
    let output = command.output().expect("a program that starts");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {stderr}");
    let after = relay.traffic();
    Traffic {
        up: after.up - before.up,
        down: after.down - before.down,
    }
}

/// Returns the size of a file in bytes.
pub(super) fn file_size(path: &Path) -> u64 {
    std::fs::metadata(path).expect("a file").len()
}
