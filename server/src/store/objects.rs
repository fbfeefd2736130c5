//! Writes objects whole, and reads objects whole or in parts.
//!
//! An object is a link, a manifest or a blob. Large blobs are written by `ingest`. Start reading at
//! [`Store::put_all`] and [`ObjectReader`].

use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use imgsync_oci::{Algorithm, Digest};

use super::disk::{DiskFile, FileIdentity};
use super::entries::entry_digest;
use super::error::{IoContext, Result};
use super::ingest::hash_prefix;
use super::{ObjectKey, Store};

/// Bounds how often a folder is created again when others remove it while it is empty.
pub(super) const MAX_FOLDER_RETRIES: usize = 100;

/// How many bytes of two objects are compared at a time.
const COMPARED_BYTES: usize = 64 * 1024;

/// An object in a temporary file, durable, that is not at its path yet.
struct PreparedObject {
    temporary: PathBuf,
    target: PathBuf,
}

/// Reads the bytes of an object.
pub(crate) struct ObjectReader(DiskFile);

impl ObjectReader {
    /// Reads up to `len` bytes from `offset`; fewer only at the end of the object.
    pub(crate) fn read(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        self.0.read(offset, len)
    }

    /// Reads from `offset` until `bytes` is full; returns the number of bytes read, which is less
    /// only at the end of the object.
    pub(crate) fn read_into(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        self.0.read_into(offset, bytes)
    }

    /// Returns the identity of the file, which tells it from a later one under the same key.
    pub(crate) fn identity(&self) -> Result<FileIdentity> {
        self.0.identity()
    }

    /// Returns whether the first `len` bytes are the same as those of another object.
    pub(crate) fn has_same_start(&self, other: &Self, len: u64) -> Result<bool> {
        let mut offset = 0;
        while offset < len {
            let rest = usize::try_from(len - offset).unwrap_or(usize::MAX);
            let count = rest.min(COMPARED_BYTES);
            let read = |file: &DiskFile| file.read(offset, count).context("read", file.path());
            if read(&self.0)? != read(&other.0)? {
                return Ok(false);
            }
            offset += count as u64;
        }
        Ok(true)
    }

    /// Hashes the whole object.
    pub(crate) fn hash(&self, algorithm: Algorithm) -> Result<Digest> {
        Ok(hash_prefix(&self.0, algorithm, u64::MAX)?.finish())
    }

    /// Returns whether the file at `path` is the one that was opened.
    pub(super) fn is_at(&self, path: &Path) -> Result<bool> {
        self.0.is_at(path)
    }
}

impl Store {
    /// Writes an object, replacing the one that was there. It is durable when this returns.
    ///
    /// # Errors
    /// Returns the error of the disk. Either the old or the new object is there then, complete.
    pub(crate) fn put(&self, key: ObjectKey<'_>, bytes: &[u8]) -> Result<()> {
        self.put_all(&[(key, bytes)])
    }

    /// Writes several objects, each as [`Store::put`] does, in this order.
    ///
    /// All of them are written to temporary files first, so that a full disk is nearly always
    /// noticed before the first object is visible.
    ///
    /// # Errors
    /// Returns the error of the disk. The objects before the failed one may have been replaced.
    pub(crate) fn put_all(&self, entries: &[(ObjectKey<'_>, &[u8])]) -> Result<()> {
        let prepared = self.prepare_all(entries)?;
        self.publish_all(prepared)
    }

    fn prepare_all(&self, entries: &[(ObjectKey<'_>, &[u8])]) -> Result<Vec<PreparedObject>> {
        let mut prepared = Vec::with_capacity(entries.len());
        for (key, bytes) in entries {
            match self.prepare(self.paths.object(*key), bytes) {
                Ok(object) => prepared.push(object),
                Err(error) => {
                    self.discard_all(prepared);
                    return Err(error);
                }
            }
        }
        Ok(prepared)
    }

    fn publish_all(&self, prepared: Vec<PreparedObject>) -> Result<()> {
        let mut rest = prepared.into_iter();
        while let Some(PreparedObject { temporary, target }) = rest.next() {
            if let Err(error) = self.rename_durably(&temporary, &target) {
                self.discard_file(&temporary);
                self.discard_all(rest);
                return Err(error);
            }
        }
        Ok(())
    }

    fn discard_all(&self, prepared: impl IntoIterator<Item = PreparedObject>) {
        for object in prepared {
            self.discard_file(&object.temporary);
        }
    }

    /// Writes a file of our own as [`Store::put`] writes an object.
    pub(super) fn put_file(&self, path: PathBuf, bytes: &[u8]) -> Result<()> {
        let prepared = self.prepare(path, bytes)?;
        self.publish_all(vec![prepared])
    }

    fn prepare(&self, target: PathBuf, bytes: &[u8]) -> Result<PreparedObject> {
        let temporary = self.temporary_path();
        let written = self.disk.create(&temporary).and_then(|file| {
            file.write(0, bytes)?;
            file.sync()
        });
        if let Err(error) = written {
            self.discard_file(&temporary);
            return Err(error).context("write", &target);
        }
        Ok(PreparedObject { temporary, target })
    }

    /// Removes a temporary file. One that cannot be removed now is removed at the next start.
    pub(super) fn discard_file(&self, temporary: &Path) {
        if let Err(error) = self.disk.unlink(temporary) {
            tracing::warn!(
                ?temporary,
                %error,
                "cannot remove a temporary file; the next start removes it"
            );
        }
    }

    /// Moves a synced file to `to`, durably, and creates the folders that it needs.
    pub(super) fn rename_durably(&self, from: &Path, to: &Path) -> Result<()> {
        let folder = to.parent().unwrap_or(to);
        let mut retries = 1..=MAX_FOLDER_RETRIES;
        loop {
            let created = self.folders.ensure(folder)?;
            match self.disk.rename(from, to) {
                // Another thread found the folder empty and removed it.
                Err(error)
                    if error.kind() == io::ErrorKind::NotFound && retries.next().is_some() => {}
                moved => {
                    let moved = moved
                        .context("write", to)
                        .and_then(|()| self.disk.sync_folder(folder));
                    return moved.inspect_err(|_| self.folders.remove_created(&created));
                }
            }
        }
    }

    /// Reads an object, at most its first `limit` bytes; `None` if there is no such object.
    pub(crate) fn get(&self, key: ObjectKey<'_>, limit: usize) -> Result<Option<Vec<u8>>> {
        let path = self.paths.object(key);
        self.read_file(&path, limit)
    }

    pub(super) fn read_file(&self, path: &Path, limit: usize) -> Result<Option<Vec<u8>>> {
        let Some(file) = self.disk.open_to_read(path)? else {
            return Ok(None);
        };
        let len = file.len()?;
        let len = usize::try_from(len).map_or(limit, |len| len.min(limit));
        file.read(0, len).context("read", path).map(Some)
    }

    /// Returns the length of an object in bytes; `None` if there is no such object.
    pub(crate) fn len(&self, key: ObjectKey<'_>) -> Result<Option<u64>> {
        self.disk.len(&self.paths.object(key))
    }

    /// Returns when an object was written; `None` if there is no such object.
    pub(crate) fn object_time(&self, key: ObjectKey<'_>) -> Result<Option<SystemTime>> {
        self.disk.modified(&self.paths.object(key))
    }

    /// Iterates over the digests of all stored blobs and manifests.
    pub(crate) fn blobs(&self) -> impl Iterator<Item = Result<Digest>> {
        let folder = self.paths.blobs();
        let entries = self.entries_below(&folder, 2);
        entries
            .filter_map(move |entry| entry.map(|entry| entry_digest(&folder, &entry)).transpose())
    }

    /// Opens an object to read parts of it; returns it with its length in bytes, or `None` if there
    /// is no such object.
    pub(crate) fn open_object(&self, key: ObjectKey<'_>) -> Result<Option<(ObjectReader, u64)>> {
        self.open_file(&self.paths.object(key))
    }

    /// Returns whether an object is still the one that was opened.
    pub(crate) fn is_current(&self, key: ObjectKey<'_>, reader: &ObjectReader) -> Result<bool> {
        reader.is_at(&self.paths.object(key))
    }

    pub(super) fn open_file(&self, path: &Path) -> Result<Option<(ObjectReader, u64)>> {
        let Some(file) = self.disk.open_to_read(path)? else {
            return Ok(None);
        };
        let len = file.len()?;
        Ok(Some((ObjectReader(file), len)))
    }
}
