//! A blob on its way into a layout's folder: a file beside the blobs until it is whole.

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use imgsync_oci::{Digest, Hasher};

use crate::mirror::ends::plain::{self, Locked};

/// How much is read at a time.
const PIECE: usize = 256 * 1024;

/// A part of a blob, on the disk, under a lock.
#[derive(Debug)]
pub(super) struct Part {
    locked: Locked,
}

impl Part {
    /// The part that an earlier run left, or an empty one. Waits while somebody else brings the
    /// same blob.
    ///
    /// # Errors
    /// The system's.
    pub(super) async fn open(path: &Path) -> io::Result<Self> {
        let locked = Locked::open(path).await?;
        Ok(Self { locked })
    }

    /// Reads again what is there of a blob of `size` bytes; what cannot be its beginning goes.
    /// Yields the hash of those bytes, and their number.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn begin(&mut self, digest: &Digest, size: u64) -> io::Result<(Hasher, u64)> {
        let hasher = || Hasher::new(digest.algorithm());
        let len = self.locked.file.metadata()?.len();
        if len > size {
            self.empty()?;
            return Ok((hasher(), 0));
        }
        let mut hashed = hasher();
        let mut buffer = vec![0; PIECE];
        self.locked.file.seek(SeekFrom::Start(0))?;
        let mut read = 0;
        loop {
            let got = self.locked.file.read(&mut buffer)?;
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
    pub(super) fn empty(&mut self) -> io::Result<()> {
        self.locked.file.set_len(0)?;
        self.locked.file.seek(SeekFrom::Start(0))?;
        Ok(())
    }

    /// Puts bytes at the end.
    ///
    /// # Errors
    /// The system's, above all a full disk.
    pub(super) fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        let written = self.locked.file.write_all(piece);
        written.map_err(|error| plain::at(&self.locked.path, &error))
    }

    /// Makes the part, now whole and verified, the blob under `path`. It is on the disk then.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn keep(self, path: &Path) -> io::Result<()> {
        let whole = || {
            self.locked.file.sync_all()?;
            std::fs::rename(&self.locked.path, path)?;
            plain::sync(plain::parent(path))
        };
        whole().map_err(|error| plain::at(path, &error))
    }

    /// Throws it away.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn discard(self) -> io::Result<()> {
        self.locked.remove()
    }
}
