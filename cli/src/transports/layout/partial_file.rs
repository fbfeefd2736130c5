//! A partial blob of a layout: a locked file beside the blobs, until it is complete.

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use imgsync_oci::{Digest, Hasher};

use crate::disk::{self, LockedFile};

/// The bytes that are read at a time.
const READ_BUFFER_BYTES: usize = 256 * 1024;

/// A partial blob on the disk, locked.
#[derive(Debug)]
pub(super) struct PartialFile {
    locked_file: LockedFile,
}

impl PartialFile {
    /// Opens the partial blob that an earlier run left, or creates an empty one. Waits while
    /// another process writes the same blob.
    ///
    /// # Errors
    /// Returns the error of the file system.
    pub(super) async fn open(path: &Path) -> io::Result<Self> {
        let locked = LockedFile::open_waiting(path).await?;
        Ok(Self {
            locked_file: locked,
        })
    }

    /// Hashes the bytes of a partial blob whose complete size is `size`, and returns the hasher and
    /// the number of bytes. A longer file is truncated to nothing.
    ///
    /// # Errors
    /// Returns the error of the file system.
    pub(super) fn rehash(&mut self, digest: &Digest, size: u64) -> io::Result<(Hasher, u64)> {
        let hasher = || Hasher::new(digest.algorithm());
        let len = self.locked_file.file.metadata()?.len();
        if len > size {
            self.truncate()?;
            return Ok((hasher(), 0));
        }
        let mut hashed = hasher();
        let mut buffer = vec![0; READ_BUFFER_BYTES];
        self.locked_file.file.seek(SeekFrom::Start(0))?;
        let mut read = 0;
        loop {
            let got = self.locked_file.file.read(&mut buffer)?;
            if got == 0 {
                return Ok((hashed, read));
            }
            hashed.update(&buffer[..got]);
            read += got as u64;
        }
    }

    /// Truncates the file to nothing.
    ///
    /// # Errors
    /// Returns the error of the file system.
    pub(super) fn truncate(&mut self) -> io::Result<()> {
        self.locked_file.file.set_len(0)?;
        self.locked_file.file.seek(SeekFrom::Start(0))?;
        Ok(())
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// Returns the error of the file system, with the path.
    pub(super) fn write(&mut self, chunk: &[u8]) -> io::Result<()> {
        let written = self.locked_file.file.write_all(chunk);
        written.map_err(|error| disk::with_path(&self.locked_file.path, &error))
    }

    /// Renames the complete, verified file to `path`. It is on the disk when this returns.
    ///
    /// # Errors
    /// Returns the error of the file system.
    pub(super) fn commit(self, path: &Path) -> io::Result<()> {
        self.locked_file.rename(path)
    }

    /// Deletes the file.
    ///
    /// # Errors
    /// Returns the error of the file system.
    pub(super) fn discard(self) -> io::Result<()> {
        self.locked_file.remove()
    }
}
