//! A small disk, for tests of a full one.

use std::path::Path;
use std::process::Command;

/// The names of the files that take the free space.
const FILLER: &str = "filler";

/// A tmpfs of 4 MiB, which is unmounted when the value is dropped.
pub(crate) struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// Mounts the disk; `None` if this process is not allowed to mount.
    pub(crate) fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"]);
        let is_mounted = command
            .arg(folder.path())
            .output()
            .unwrap()
            .status
            .success();
        let required = std::env::var("IMGSYNC_TESTS_PEERS").is_ok_and(|value| value == "required");
        assert!(is_mounted || !required, "a small disk cannot be mounted");
        is_mounted.then_some(Self(folder))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Takes all free space.
    pub(crate) fn fill(&self) {
        for size in [1 << 20, 1 << 16, 1 << 12] {
            for count in 0.. {
                let filler = self.path().join(format!("{FILLER}-{size}-{count}"));
                if std::fs::write(&filler, vec![1; size]).is_err() {
                    std::fs::remove_file(&filler).unwrap();
                    break;
                }
            }
        }
    }

    /// Gives the space back that [`SmallDisk::fill`] took.
    pub(crate) fn remove_filler(&self) {
        for entry in std::fs::read_dir(self.path()).unwrap() {
            let entry = entry.unwrap();
            if entry.file_name().to_str().unwrap().starts_with(FILLER) {
                std::fs::remove_file(entry.path()).unwrap();
            }
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.path()).output();
    }
}
