//! A spool file while it is written.

use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;

use imgsync_oci::Digest;
use tempfile::NamedTempFile;

use super::{Spool, SpoolKind, disk_space};
use crate::disk;

/// How the name of a file begins that is still being written.
pub(super) const DRAFT_PREFIX: &str = ".draft-";

/// A file that is written from its beginning to its end, and then either kept as an entry or just
/// used. Where the disk is full, leftovers of other images make room.
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
            // Tells others that somebody is at it; without it they may take its name away, and it
            // is used without.
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

    /// The number of bytes written.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The file, without a name: it goes when it is closed.
    pub fn into_file(self) -> Arc<File> {
        Arc::new(match self.file {
            DraftFile::Named(named) => named.into_file(),
            DraftFile::Anonymous(file) => file,
        })
    }

    /// The file, now an entry for this run and the next. To be called when the bytes have proved
    /// to be what the name says. An entry that cannot be kept is still of use to this run.
    pub fn persist(self, room: SpoolKind, digest: &Digest) -> Arc<File> {
        Arc::new(match self.file {
            DraftFile::Anonymous(file) => file,
            DraftFile::Named(named) => {
                // Where that fails, so does what follows.
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
