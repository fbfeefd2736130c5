//! Reads and writes open files.

use std::fs;
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use super::{Disk, DiskChange, FileIdentity};
use crate::store::error::{IoContext as _, Result};

/// An open file.
pub(in crate::store) struct DiskFile {
    pub(super) file: fs::File,
    pub(super) path: PathBuf,
    pub(super) disk: Disk,
}

impl DiskFile {
    /// Returns the path at which the file was opened.
    pub(in crate::store) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes all of `bytes` at `offset`.
    pub(in crate::store) fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let change = DiskChange::Write {
            path: &self.path,
            offset,
            bytes,
        };
        let permitted = self.disk.permit(&change);
        #[cfg(test)]
        if permitted.is_err() {
            // A full disk writes a part of the bytes, too.
            self.file.write_all_at(&bytes[..bytes.len() / 2], offset)?;
        }
        permitted?;
        self.file.write_all_at(bytes, offset)
    }

    /// Makes the content of the file durable.
    pub(in crate::store) fn sync(&self) -> io::Result<()> {
        self.disk.permit(&DiskChange::Sync(&self.path))?;
        self.file.sync_data()
    }

    /// Truncates the file to `len` bytes.
    pub(in crate::store) fn truncate(&self, len: u64) -> Result<()> {
        let path = &self.path;
        self.disk
            .permit(&DiskChange::Truncate { path, len })
            .and_then(|()| self.file.set_len(len))
            .context("truncate", path)
    }

    fn metadata(&self) -> Result<fs::Metadata> {
        self.file.metadata().context("stat", &self.path)
    }

    /// Returns the length in bytes.
    pub(in crate::store) fn len(&self) -> Result<u64> {
        self.metadata().map(|metadata| metadata.len())
    }

    /// Returns the identity of the file and its content.
    pub(in crate::store) fn identity(&self) -> Result<FileIdentity> {
        Ok(FileIdentity::of(&self.metadata()?))
    }

    /// Returns whether the file at `path` is this file.
    pub(in crate::store) fn is_at(&self, path: &Path) -> Result<bool> {
        let metadata = self.metadata()?;
        let inode = (metadata.dev(), metadata.ino());
        let other = self.disk.metadata(path)?;
        Ok(other.is_some_and(|other| (other.dev(), other.ino()) == inode))
    }

    /// Reads up to `len` bytes from `offset`; fewer only at the end of the file.
    pub(in crate::store) fn read(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        let read = self.read_into(offset, &mut bytes)?;
        bytes.truncate(read);
        Ok(bytes)
    }

    /// Reads from `offset` until `bytes` is full; returns the number of bytes read, which is less
    /// only at the end of the file.
    pub(in crate::store) fn read_into(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        let mut read = 0;
        while read < bytes.len() {
            match self.file.read_at(&mut bytes[read..], offset + read as u64) {
                Ok(0) => break,
                Ok(count) => read += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(read)
    }
}
