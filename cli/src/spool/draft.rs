//! Spool files that are still being written.
//!
//! This module does not verify the bytes. Start reading at [`Draft`].

use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;

use imgsync_oci::Digest;
use tempfile::NamedTempFile;

use super::{Spool, SpoolKind, disk_space};
use crate::disk;

/// The prefix of the name of a file that is still being written.
pub(super) const DRAFT_PREFIX: &str = ".draft-";

/// A file that is written from start to end, and then kept as an entry or used without a name. If
/// the disk is full, leftovers of other images are deleted.
#[derive(Debug)]
pub struct Draft {
    spool: Spool,
    file: DraftFile,
    len: u64,
}

#[derive(Debug)]
enum DraftFile {
    Named(NamedTempFile),
    Anonymous(File),
}

impl Draft {
    pub(super) fn new(spool: &Spool) -> io::Result<Self> {
        let file = if spool.is_persistent {
            let named = tempfile::Builder::new()
                .prefix(DRAFT_PREFIX)
                .tempfile_in(&spool.folder)?;
            // The lock shows other runs that the file is in use. Without the lock they may remove
            // its name, and the file can still be used without one.
            let _ = named.as_file().try_lock_shared();
            DraftFile::Named(named)
        } else {
            DraftFile::Anonymous(tempfile::tempfile_in(&spool.folder)?)
        };
        Ok(Self {
            spool: spool.clone(),
            file,
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
        Arc::new(match self.file {
            DraftFile::Named(named) => named.into_file(),
            DraftFile::Anonymous(file) => file,
        })
    }

    /// Keeps the file as an entry for this run and the next, and returns it. Must be called only
    /// after the bytes were verified. If the entry cannot be kept, the file is returned without a
    /// name.
    pub fn persist(self, room: SpoolKind, digest: &Digest) -> Arc<File> {
        Arc::new(match self.file {
            DraftFile::Anonymous(file) => file,
            DraftFile::Named(named) => {
                // If the folder cannot be created, the next call fails too.
                let _ = self.spool.create_folder(room);
                match named.persist(self.spool.path(room, digest)) {
                    Ok(file) => file,
                    Err(failed) => failed.file.into_file(),
                }
            }
        })
    }

    fn file(&mut self) -> &mut File {
        match &mut self.file {
            DraftFile::Named(named) => named.as_file_mut(),
            DraftFile::Anonymous(file) => file,
        }
    }
}

impl Write for Draft {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.file().write(bytes) {
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
        self.file().flush()
    }
}
