//! Where bytes wait that do not fit in memory and come only once.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// A folder for spool files. The files have no names, so that the kernel takes them back however
/// the process ends.
#[derive(Debug, Clone)]
pub struct Spool {
    folder: PathBuf,
}

impl Spool {
    /// A spool in `folder`, which must exist.
    pub fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
        }
    }

    /// The folder, for messages.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A new empty file, for reading and writing.
    ///
    /// # Errors
    /// The folder is missing, full, or not ours to write.
    pub fn file(&self) -> io::Result<File> {
        tempfile::tempfile_in(&self.folder)
    }
}

impl Default for Spool {
    /// The system's folder for temporary files (`TMPDIR`, else `/tmp`).
    fn default() -> Self {
        Self::new(&std::env::temp_dir())
    }
}
