//! A small file system, for tests that need a full disk.

use std::path::PathBuf;
use std::process::Command;

use super::peers;
use super::run::run;
use super::scratch::Scratch;

/// A mounted `tmpfs`, unmounted on drop.
pub struct SmallDisk(Scratch);

impl SmallDisk {
    /// Mounts a file system of this size, such as `1m`. Returns `None` without the right to mount.
    pub fn mount(size: &str) -> Option<Self> {
        let folder = Scratch::new();
        let options = format!("size={size},mode=777");
        let mut command = Command::new(peers::program("mount"));
        command.args(["-t", "tmpfs", "-o", &options, "tmpfs"]);
        let mounted = run(command.arg(folder.root()));
        if mounted.code != Some(0) {
            let error = mounted.stderr.trim();
            peers::report_missing(&format!(
                "the right to mount a small disk is missing ({error})"
            ));
            return None;
        }
        Some(Self(folder))
    }

    /// Creates a folder on the file system.
    pub fn folder(&self, name: &str) -> PathBuf {
        self.0.folder(name)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let mut command = Command::new(peers::program("umount"));
        // A folder that cannot be unmounted stays; its name shows that it belongs to these tests.
        let _ = command.arg(self.0.root()).output();
    }
}
