//! Small things, written whole and read whole; and blobs, as far as they are read.

use std::io;
use std::path::{Path, PathBuf};

use imgsync_oci::{Algorithm, Digest, Hasher};

use super::disk::{DiskFile, FileIdentity};
use super::error::{IoContext, Result};
use super::{ObjectKey, Store};

/// How often a folder is made again that was removed before anything was in it.
pub(super) const MAX_FOLDER_RETRIES: usize = 100;

/// Something small, written and durable, that does not stand in its place yet.
struct PreparedObject {
    temporary: PathBuf,
    to: PathBuf,
}

/// Bytes that are there, open to be read in parts.
pub(crate) struct ObjectReader(DiskFile);

impl ObjectReader {
    /// Reads up to `len` bytes from `offset` on; fewer only where they end.
    ///
    /// # Errors
    /// The disk's.
    pub(crate) fn read(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        self.0.read(offset, len)
    }

    /// Reads from `offset` on until `bytes` is full; yields how many were read, fewer only where
    /// they end.
    ///
    /// # Errors
    /// The disk's.
    pub(crate) fn read_into(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        self.0.read_into(offset, bytes)
    }

    /// What tells these bytes, as they are now, from others.
    fn identity(&self) -> io::Result<FileIdentity> {
        self.0.identity()
    }

    /// Whether this is still what stands at a path.
    pub(super) fn is_at(&self, path: &Path) -> io::Result<bool> {
        self.0.is_at(path)
    }
}

impl Store {
    /// Puts something small under a key, over whatever stood there. When this returns it is
    /// durable; when it fails there is the old or the new, whole.
    pub(crate) fn put(&self, key: ObjectKey<'_>, bytes: &[u8]) -> Result<()> {
        self.put_all(&[(key, bytes)])
    }

    /// Puts several small things, in this order. Nearly all that can run out of space is done
    /// before the first of them shows.
    pub(crate) fn put_all(&self, entries: &[(ObjectKey<'_>, &[u8])]) -> Result<()> {
        let prepared = self.prepare_all(entries)?;
        self.publish_all(prepared)
    }

    fn prepare_all(&self, entries: &[(ObjectKey<'_>, &[u8])]) -> Result<Vec<PreparedObject>> {
        let mut done = Vec::with_capacity(entries.len());
        for (key, bytes) in entries {
            match self.prepare(self.paths.object(*key), bytes) {
                Ok(prepared) => done.push(prepared),
                Err(error) => {
                    self.discard_all(done);
                    return Err(error);
                }
            }
        }
        Ok(done)
    }

    fn publish_all(&self, prepared: Vec<PreparedObject>) -> Result<()> {
        let mut rest = prepared.into_iter();
        while let Some(PreparedObject { temporary, to }) = rest.next() {
            if let Err(error) = self.rename_durably(&temporary, &to) {
                self.discard_file(&temporary);
                self.discard_all(rest);
                return Err(error);
            }
        }
        Ok(())
    }

    fn discard_all(&self, prepared: impl IntoIterator<Item = PreparedObject>) {
        for one in prepared {
            self.discard_file(&one.temporary);
        }
    }

    /// Puts a file of our own in its place.
    pub(super) fn put_file(&self, path: PathBuf, bytes: &[u8]) -> Result<()> {
        let prepared = self.prepare(path, bytes)?;
        self.publish_all(vec![prepared])
    }

    fn prepare(&self, to: PathBuf, bytes: &[u8]) -> Result<PreparedObject> {
        let temporary = self.temporary_path();
        let written = self.disk.create(&temporary).and_then(|file| {
            file.write(0, bytes)?;
            file.sync()
        });
        if let Err(error) = written {
            self.discard_file(&temporary);
            return Err(error).context("write", &to);
        }
        Ok(PreparedObject { temporary, to })
    }

    /// Removes a file in the making; what cannot be removed now is at the next start.
    pub(super) fn discard_file(&self, temporary: &Path) {
        if let Err(error) = self.disk.unlink(temporary) {
            tracing::warn!(?temporary, %error, "a file in the making stays until the next start");
        }
    }

    /// Moves a durable file to where it belongs, making the folders that it needs.
    pub(super) fn rename_durably(&self, from: &Path, to: &Path) -> Result<()> {
        let folder = to.parent().unwrap_or(to);
        let mut tries = 1..=MAX_FOLDER_RETRIES;
        loop {
            let made = self.folders.ensure(folder)?;
            match self.disk.rename(from, to) {
                // Somebody else had it empty, and removed it.
                Err(error) if error.kind() == io::ErrorKind::NotFound && tries.next().is_some() => {
                    continue;
                }
                moved => {
                    let moved = moved
                        .context("write", to)
                        .and_then(|()| self.sync_folder(folder));
                    return moved.inspect_err(|_| self.folders.remove_created(&made));
                }
            }
        }
    }

    pub(super) fn sync_folder(&self, folder: &Path) -> Result<()> {
        self.disk
            .sync_folder(folder)
            .context("sync the folder", folder)
    }

    /// The bytes under a key, at most `limit` of them; `None` where there are none.
    pub(crate) fn get(&self, key: ObjectKey<'_>, limit: usize) -> Result<Option<Vec<u8>>> {
        let path = self.paths.object(key);
        self.read_file(&path, limit)
    }

    pub(super) fn read_file(&self, path: &Path, limit: usize) -> Result<Option<Vec<u8>>> {
        let Some(file) = self.disk.open_to_read(path).context("open", path)? else {
            return Ok(None);
        };
        let len = file.len().context("look at", path)?;
        let len = usize::try_from(len).map_or(limit, |len| len.min(limit));
        file.read(0, len).context("read", path).map(Some)
    }

    /// The length in bytes of what stands under a key; `None` where nothing does.
    pub(crate) fn len(&self, key: ObjectKey<'_>) -> Result<Option<u64>> {
        let path = self.paths.object(key);
        self.disk.len(&path).context("look at", &path)
    }

    /// What tells what was opened under a key from what stands there later.
    pub(crate) fn identity(
        &self,
        key: ObjectKey<'_>,
        bytes: &ObjectReader,
    ) -> Result<FileIdentity> {
        bytes.identity().context("look at", &self.paths.object(key))
    }

    /// The digest of what was opened under a key, read in parts of so many bytes.
    pub(crate) fn hash_object(
        &self,
        key: ObjectKey<'_>,
        bytes: &ObjectReader,
        algorithm: Algorithm,
        part: usize,
    ) -> Result<Digest> {
        let (mut hasher, mut offset) = (Hasher::new(algorithm), 0);
        loop {
            let read = bytes.read(offset, part);
            let read = read.context("read", &self.paths.object(key))?;
            if read.is_empty() {
                return Ok(hasher.finish());
            }
            hasher.update(&read);
            offset += read.len() as u64;
        }
    }

    /// Opens what stands under a key, to be read in parts; with its length in bytes.
    pub(crate) fn open_object(&self, key: ObjectKey<'_>) -> Result<Option<(ObjectReader, u64)>> {
        self.open_file(&self.paths.object(key))
    }

    pub(super) fn open_file(&self, path: &Path) -> Result<Option<(ObjectReader, u64)>> {
        let Some(file) = self.disk.open_to_read(path).context("open", path)? else {
            return Ok(None);
        };
        let len = file.len().context("look at", path)?;
        Ok(Some((ObjectReader(file), len)))
    }
}
