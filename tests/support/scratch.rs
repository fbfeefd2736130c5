//! Temporary folders for tests.

use std::path::{Path, PathBuf};

/// A temporary folder, deleted on drop.
pub struct Scratch(tempfile::TempDir);

impl Scratch {
    /// Creates an empty temporary folder.
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("imgsync-tests-").tempdir();
        Self(folder.expect("a temporary folder"))
    }

    pub fn root(&self) -> &Path {
        self.0.path()
    }

    /// Returns the path of an entry in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root().join(name)
    }

    /// Returns the path of a subfolder, and creates the subfolder if needed.
    pub fn folder(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(&path).expect("a folder");
        path
    }
}
