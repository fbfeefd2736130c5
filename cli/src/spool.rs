//! Where bytes wait that do not fit in memory and come only once.

use std::fs::File;
use std::io::{self, Seek};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

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

/// One spool file that several things are put into, one after the other: an image may have more
/// layers than a process may have open files.
#[derive(Debug, Clone)]
pub struct Shelf {
    spool: Spool,
    file: Arc<Mutex<Option<Arc<File>>>>,
}

impl Shelf {
    /// An empty shelf; its file is made when it is first needed.
    pub fn new(spool: Spool) -> Self {
        Self {
            spool,
            file: Arc::default(),
        }
    }

    /// The folder, for messages.
    pub fn folder(&self) -> &Path {
        self.spool.folder()
    }

    /// The file, ready to be written at its end, and the end's offset in bytes. Only one may write
    /// at a time.
    ///
    /// # Errors
    /// As [`Spool::file`].
    pub fn end(&self) -> io::Result<(Arc<File>, u64)> {
        let mut place = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let file = match &*place {
            Some(file) => Arc::clone(file),
            None => Arc::clone(place.insert(Arc::new(self.spool.file()?))),
        };
        let offset = (&*file).seek(io::SeekFrom::End(0))?;
        Ok((file, offset))
    }
}

impl Default for Spool {
    /// The system's folder for temporary files (`TMPDIR`, else `/tmp`).
    fn default() -> Self {
        Self::new(&std::env::temp_dir())
    }
}
