//! Spool files that are still being written.
//!
//! This module does not verify the bytes. Start reading at [`Draft`].

use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;

use imgsync_oci::Digest;

use super::{DRAFT_PREFIX, Spool, SpoolKind, disk_space};
use crate::disk::{self, TemporaryFile};

/// A file that is written from start to end, and then kept as an entry or used without a name. If
/// the disk is full, leftovers of other images are deleted.
#[derive(Debug)]
pub struct Draft {
    spool: Spool,
    temporary: TemporaryFile,
    len: u64,
}

impl Draft {
    pub(super) fn new(spool: &Spool) -> io::Result<Self> {
        let temporary = if spool.is_persistent {
            TemporaryFile::named(&spool.folder, DRAFT_PREFIX)?
        } else {
            TemporaryFile::unnamed(&spool.folder)?
        };
        // Where locks do not work, other runs may remove the name. The file can be used without it.
        disk::mark_in_use(&temporary.file);
        Ok(Self {
            spool: spool.clone(),
            temporary,
            len: 0,
        })
    }

    /// Returns the number of bytes written.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Returns whether no bytes were written.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the file without a name. The kernel frees it when it is closed.
    pub fn into_file(self) -> Arc<File> {
        Arc::new(self.temporary.file)
    }

    /// Keeps the file as an entry for this run and the next, and returns it. Must be called only
    /// after the bytes were verified. If the entry cannot be kept, the file is returned without a
    /// name.
    pub fn persist(self, kind: SpoolKind, digest: &Digest) -> Arc<File> {
        if self.spool.is_persistent {
            // If the folder cannot be created, the file cannot be renamed either.
            let _ = self.spool.create_folder(kind);
        }
        let (file, _) = self.temporary.rename(&self.spool.path(kind, digest));
        Arc::new(file)
    }
}

impl Write for Draft {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.temporary.file.write(bytes) {
                Ok(written) => {
                    self.len += written as u64;
                    return Ok(written);
                }
                Err(error) if disk::is_disk_full(&error) => {
                    let needed = self.len + bytes.len() as u64;
                    disk_space::make_space(&self.spool, self.len, needed, error)?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.temporary.file.flush()
    }
}
