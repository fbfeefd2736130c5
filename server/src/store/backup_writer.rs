//! Writes objects to a backup, many of them between two syncs.
//!
//! No object is at its path before its bytes are durable, and before everything is durable that was
//! published earlier. So the caller publishes what an object needs before it adds the object. Start
//! reading at [`BackupWriter`].

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};

use imgsync_oci::Digest;

use super::error::{IoContext as _, Result};
use super::{ObjectKey, Store};

/// How many files wait in the temporary folder for the next sync.
const MAX_PENDING_FILES: usize = if cfg!(test) { 7 } else { 1024 };
/// How many copied bytes wait for the next sync, so that the disk gets work early.
const MAX_PENDING_BYTES: u64 = 256 * 1024 * 1024;

/// Writes objects to the store of a backup.
pub(crate) struct BackupWriter<'a> {
    store: &'a Store,
    /// Files with their paths in the store, in the order in which they get there.
    pending: Vec<(PathBuf, PathBuf)>,
    /// The paths in the store of the blobs among them, and their bytes in total.
    pending_blobs: HashSet<PathBuf>,
    pending_bytes: u64,
    /// Whether something may have been moved to its path since the last sync, also by an earlier
    /// process that was killed.
    is_unsynced: bool,
    /// Whether hard links to the files of the source were possible so far.
    can_link: bool,
}

/// How the bytes of a blob came into a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BlobTransfer {
    /// They were there.
    Unchanged,
    /// As a hard link to the file of the source. The number of bytes.
    Linked(u64),
    /// As a copy. The number of bytes.
    Copied(u64),
}

impl<'a> BackupWriter<'a> {
    pub(crate) fn new(store: &'a Store) -> Self {
        Self {
            store,
            pending: Vec::new(),
            pending_blobs: HashSet::new(),
            pending_bytes: 0,
            is_unsynced: true,
            can_link: true,
        }
    }

    /// Writes a link. Links are never shared with the source: a stock registry overwrites them in
    /// place.
    pub(crate) fn put_link(&mut self, key: ObjectKey<'_>, target: &Digest) -> Result<()> {
        let temporary = self.store.temporary_path();
        let path = self.store.paths.object(key);
        let written = self.store.disk.create(&temporary);
        let written = written.and_then(|file| file.write(0, target.to_string().as_bytes()));
        if let Err(error) = written {
            self.store.discard_file(&temporary);
            return Err(error).context("write", &path);
        }
        self.add_pending(temporary, path)
    }

    /// Adds the bytes of a blob or manifest of `source`, as a hard link if that is possible; `None`
    /// if the source does not have it. A blob file is never written to after it got its name.
    pub(crate) fn put_blob(
        &mut self,
        digest: &Digest,
        source: &Store,
    ) -> Result<Option<BlobTransfer>> {
        let key = ObjectKey::Blob(digest);
        let (from, to) = (source.paths.object(key), self.store.paths.object(key));
        let Some(stamp) = source.disk.stamp(&from)? else {
            return Ok(None);
        };
        let existing = self.store.disk.stamp(&to)?;
        if existing == Some(stamp) || self.pending_blobs.contains(&to) {
            return Ok(Some(BlobTransfer::Unchanged));
        }
        if self.can_link && self.link(&from, &to, existing.is_some())? {
            return Ok(Some(BlobTransfer::Linked(stamp.len)));
        }
        let temporary = self.store.temporary_path();
        if let Err(error) = self.store.disk.copy(&from, &temporary) {
            self.store.discard_file(&temporary);
            return Err(error).context("copy", &from);
        }
        self.pending_bytes += stamp.len;
        self.pending_blobs.insert(to.clone());
        self.add_pending(temporary, to)?;
        Ok(Some(BlobTransfer::Copied(stamp.len)))
    }

    /// Returns whether the file could be linked.
    fn link(&mut self, from: &Path, to: &Path, replaces: bool) -> Result<bool> {
        let folder = to.parent().unwrap_or(to);
        self.store.folders.ensure_unsynced(folder)?;
        let temporary = self.store.temporary_path();
        // The bytes are durable already, so only a file that is replaced needs another name first.
        let name = if replaces { &temporary } else { to };
        match self.store.disk.hard_link(from, name) {
            Ok(()) if replaces => {
                self.pending_blobs.insert(to.to_owned());
                self.add_pending(temporary, to.to_owned())?;
            }
            Ok(()) => self.is_unsynced = true,
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                return Err(error).context("link", to);
            }
            Err(error) => {
                // One file can have too many names; other reasons hold for all files.
                self.can_link = error.kind() == io::ErrorKind::TooManyLinks;
                tracing::debug!(%error, ?from, "cannot link a file; copying it");
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn add_pending(&mut self, temporary: PathBuf, path: PathBuf) -> Result<()> {
        self.pending.push((temporary, path));
        if self.pending.len() >= MAX_PENDING_FILES || self.pending_bytes >= MAX_PENDING_BYTES {
            self.publish()?;
        }
        Ok(())
    }

    /// Makes everything that was added durable, then moves the new files to their paths. That they are
    /// there is durable only after the next call, or after [`BackupWriter::settle`].
    ///
    /// # Errors
    /// The error of the disk.
    pub(crate) fn publish(&mut self) -> Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let store = self.store;
        store.disk.sync_filesystem(&store.paths.temporary())?;
        self.is_unsynced = true;
        for (temporary, path) in self.pending.drain(..) {
            store
                .folders
                .ensure_unsynced(path.parent().unwrap_or(&path))?;
            store
                .disk
                .rename(&temporary, &path)
                .context("write", &path)?;
        }
        self.pending_blobs.clear();
        self.pending_bytes = 0;
        Ok(())
    }

    /// Makes everything that was added durable, at its path.
    ///
    /// # Errors
    /// The error of the disk.
    pub(crate) fn settle(&mut self) -> Result<()> {
        self.publish()?;
        if self.is_unsynced {
            let store = self.store;
            store.disk.sync_filesystem(&store.paths.temporary())?;
            self.is_unsynced = false;
        }
        Ok(())
    }
}
