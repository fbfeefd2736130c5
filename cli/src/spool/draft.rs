//! Spool files that are still being written.
//!
//! This module does not verify the bytes. Start reading at [`Spool::create_draft`].

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use imgsync_oci::Digest;

use super::{DRAFT_PREFIX, Spool, SpoolKind};
use crate::disk::{self, TemporaryFile};

/// A file that is written from start to end, and then kept as an entry or used without a name. If
/// the disk is full, leftovers of other images are deleted.
#[derive(Debug)]
pub struct Draft {
    pub(super) spool: Spool,
    temporary: TemporaryFile,
    len: u64,
}

impl Spool {
    /// Creates an empty file to write to.
    ///
    /// # Errors
    /// Fails if the folder is missing, full or not writable.
    pub fn create_draft(&self) -> io::Result<Draft> {
        let temporary = if self.is_persistent {
            TemporaryFile::named(&self.folder, DRAFT_PREFIX)?
        } else {
            TemporaryFile::unnamed(&self.folder)?
        };
        // Where locks do not work, other runs may remove the name. The file can be used without it.
        disk::mark_being_written(&temporary.file);
        Ok(Draft {
            spool: self.clone(),
            temporary,
            len: 0,
        })
    }
}

impl Draft {
    /// Returns the number of bytes written.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Returns whether no bytes were written.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns another handle for reading what was written.
    ///
    /// # Errors
    /// Fails if the process has too many open files.
    pub(super) fn share_file(&self) -> io::Result<Arc<File>> {
        self.temporary.file.try_clone().map(Arc::new)
    }

    /// Returns the file without a name. The kernel frees it when it is closed.
    pub fn into_file(self) -> Arc<File> {
        Arc::new(self.temporary.file)
    }

    /// Keeps the file as an entry for this run and the next, and returns it. Must be called only
    /// after the bytes were verified. If the entry cannot be kept, the file is returned without a
    /// name.
    pub fn persist(self, kind: SpoolKind, digest: &Digest) -> Arc<File> {
        let path = self.spool.path(kind, digest);
        self.persist_at(kind, &path)
    }

    pub(super) fn persist_at(self, kind: SpoolKind, path: &Path) -> Arc<File> {
        if self.spool.is_persistent {
            // If the folder cannot be created, the file cannot be renamed either.
            let _ = self.spool.create_folder(kind);
        }
        disk::mark_in_use(&self.temporary.file);
        let (file, _) = self.temporary.rename(path);
        Arc::new(file)
    }
}

impl Write for Draft {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            // Others read at offsets meanwhile, so the position of the file is not used.
            match disk::write_at(&self.temporary.file, bytes, self.len) {
                Ok(written) => {
                    self.len += written as u64;
                    return Ok(written);
                }
                Err(error) if disk::is_disk_full(&error) => {
                    let needed = self.len + bytes.len() as u64;
                    self.spool.make_space(self.len, needed, error)?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.temporary.file.flush()
    }
}
