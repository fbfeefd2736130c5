//! A folder for one test, gone with it.

use std::path::{Path, PathBuf};

/// A temporary folder.
pub struct Scratch(tempfile::TempDir);

impl Scratch {
    /// A new, empty one.
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("imgsync-tests-").tempdir();
        Self(folder.expect("a temporary folder"))
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        self.0.path()
    }

    /// A path in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root().join(name)
    }

    /// A folder in it, made if it is not there.
    pub fn folder(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(&path).expect("a folder");
        path
    }
}
