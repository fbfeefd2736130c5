//! A blob on its way into a layout's folder: a file beside the blobs until it is whole.

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use imgsync_oci::{Digest, Hasher};

use crate::disk::{self, LockedFile};

/// How much is read at a time.
const READ_BUFFER_BYTES: usize = 256 * 1024;

/// A part of a blob, on the disk, under a lock.
#[derive(Debug)]
pub(super) struct PartialFile {
    locked_file: LockedFile,
}

impl PartialFile {
    /// The part that an earlier run left, or an empty one. Waits while somebody else brings the
    /// same blob.
    ///
    /// # Errors
    /// The system's.
    pub(super) async fn open(path: &Path) -> io::Result<Self> {
        let locked = LockedFile::open_waiting(path).await?;
        Ok(Self {
            locked_file: locked,
        })
    }

    /// Reads again what is there of a blob of `size` bytes; what cannot be its beginning goes.
    /// Yields the hash of those bytes, and their number.
    ///
    /// # Errors
    /// The system's.
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

    /// Starts over.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn truncate(&mut self) -> io::Result<()> {
        self.locked_file.file.set_len(0)?;
        self.locked_file.file.seek(SeekFrom::Start(0))?;
        Ok(())
    }

    /// Puts bytes at the end.
    ///
    /// # Errors
    /// The system's, above all a full disk.
    pub(super) fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        let written = self.locked_file.file.write_all(piece);
        written.map_err(|error| disk::with_path(&self.locked_file.path, &error))
    }

    /// Makes the part, now whole and verified, the blob under `path`. It is on the disk then.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn commit(self, path: &Path) -> io::Result<()> {
        self.locked_file.rename(path)
    }

    /// Throws it away.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn discard(self) -> io::Result<()> {
        self.locked_file.remove()
    }
}
