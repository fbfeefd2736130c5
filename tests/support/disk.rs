//! A disk that fills up soon.

use std::path::PathBuf;
use std::process::Command;

use super::peers;
use super::run::run;
use super::scratch::Scratch;

/// A small filesystem; unmounted when this goes.
pub struct SmallDisk(Scratch);

impl SmallDisk {
    /// `None` where this process may not mount.
    pub fn mount(size: &str) -> Option<Self> {
        let folder = Scratch::new();
        let options = format!("size={size},mode=777");
        let mut command = Command::new(peers::program("mount"));
        command.args(["-t", "tmpfs", "-o", &options, "tmpfs"]);
        let mounted = run(command.arg(folder.root()));
        if mounted.code != Some(0) {
            let why = mounted.stderr.trim();
            peers::report_missing(&format!(
                "the right to mount a small disk is missing ({why})"
            ));
            return None;
        }
        Some(Self(folder))
    }

    /// A new folder on it.
    pub fn folder(&self, name: &str) -> PathBuf {
        self.0.folder(name)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let mut command = Command::new(peers::program("umount"));
        // The folder stays where this fails, and its name says whose it was.
        let _ = command.arg(self.0.root()).output();
    }
}
