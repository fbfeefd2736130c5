//! The trash: content that was removed and can be restored for some time.
//!
//! The trash has a part for each period of [`PART_SECONDS`]. A part is a folder with a log of what
//! was removed and with the bytes of the removed blobs. A line is durable before the thing that it
//! names is removed, so a line can name something that was not removed. Start reading at
//! [`Store::log_to_trash`].

use std::collections::BTreeSet;
use std::io;

use imgsync_oci::Digest;

use super::derived_log::append_lines;
use super::error::{IoContext, Result};
use super::{ObjectKey, ObjectReader, Store, TrashEntry, Walk};
use crate::wall_clock;

/// The length of the period whose removals share a part of the trash.
const PART_SECONDS: u64 = 600;

/// A part of the trash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TrashPart {
    /// The start of its period in Unix seconds.
    start: u64,
}

impl TrashPart {
    /// Returns the part for removals at `now` (Unix seconds).
    pub(crate) fn at(now: u64) -> Self {
        Self {
            start: now - now % PART_SECONDS,
        }
    }

    /// Returns when everything in this part has been there for `seconds`, in Unix seconds.
    pub(crate) fn expires_at(self, seconds: u64) -> u64 {
        self.start
            .saturating_add(PART_SECONDS)
            .saturating_add(seconds)
    }
}

impl Store {
    /// Adds entries to the log of a part, durably. Must be called before the content is removed.
    ///
    /// # Errors
    /// The errors of the disk. Then nothing may be removed.
    pub(crate) fn log_to_trash(&self, part: TrashPart, entries: &[TrashEntry]) -> Result<()> {
        if entries.is_empty() {
            return Ok(());
        }
        let path = self.paths.trash_log(part.start);
        let folder = self.paths.trash_part(part.start);
        let lines: String = entries.iter().map(|entry| format!("{entry}\n")).collect();
        let _lock = self.log_write_lock.lock();
        let (file, is_new) = match self.disk.open(&path)? {
            Some(file) => (file, false),
            None => {
                self.folders.ensure(&folder)?;
                (self.disk.create(&path).context("create", &path)?, true)
            }
        };
        append_lines(&file, &lines)?;
        file.sync().context("sync", &path)?;
        if is_new {
            self.disk.sync_folder(&folder)?;
        }
        Ok(())
    }

    /// Moves the bytes of a blob to the trash; returns false if there is no such blob. Not durably:
    /// after a power cut, the bytes can be where they were. Call [`Store::settle_trash`] afterwards.
    pub(crate) fn move_blob_to_trash(&self, part: TrashPart, digest: &Digest) -> Result<bool> {
        let from = self.paths.object(ObjectKey::Blob(digest));
        let to = self.paths.trash_blob(part.start, digest);
        match self.disk.rename(&from, &to) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            moved => moved.context("move to the trash", &from)?,
        }
        Ok(true)
    }

    /// Makes moves to the trash durable, and removes the empty folders of these blobs.
    pub(crate) fn settle_trash(&self, part: TrashPart, moved: &[&Digest]) -> Result<()> {
        if moved.is_empty() {
            return Ok(());
        }
        // In this order, so that no file is lost with the folder in which it was.
        self.disk.sync_folder(&self.paths.trash_part(part.start))?;
        for digest in moved {
            self.remove_empty_parent(&self.paths.object(ObjectKey::Blob(digest)));
        }
        Ok(())
    }

    /// Removes an object that is logged in the trash. Not durably: after a power cut, the object can
    /// be there again.
    pub(crate) fn discard(&self, key: ObjectKey<'_>) -> Result<()> {
        let path = self.paths.object(key);
        self.disk.unlink(&path)?;
        self.note_removed(key);
        self.remove_empty_parent(&path);
        Ok(())
    }

    /// Returns the parts of the trash, the oldest first.
    pub(crate) fn trash_parts(&self) -> Result<BTreeSet<TrashPart>> {
        let names = self.disk.subfolders(&self.paths.trash());
        let parts = names.filter_map(|name| match name {
            Ok(name) => name.parse().ok().map(|start| Ok(TrashPart { start })),
            Err(error) => Some(Err(error)),
        });
        parts.collect()
    }

    /// Calls `visit` with each entry of a part, in the order of the removals.
    ///
    /// # Errors
    /// The errors of the disk and of `visit`.
    pub(crate) fn for_each_trash_entry(
        &self,
        part: TrashPart,
        visit: &mut dyn FnMut(TrashEntry) -> Result<()>,
    ) -> Result<()> {
        let path = self.paths.trash_log(part.start);
        self.visit_lines(&path, &mut |line| {
            if let Some(entry) = TrashEntry::parse(line) {
                visit(entry)?;
            }
            Ok(std::ops::ControlFlow::Continue(()))
        })
    }

    /// Returns the number of bytes of a blob in a part of the trash; `None` if it is not there.
    pub(crate) fn trashed_blob_len(&self, part: TrashPart, digest: &Digest) -> Result<Option<u64>> {
        self.disk.len(&self.paths.trash_blob(part.start, digest))
    }

    /// Reads a blob in a part of the trash, at most its first `limit` bytes; `None` if it is not there.
    pub(crate) fn read_trashed_blob(
        &self,
        part: TrashPart,
        digest: &Digest,
        limit: usize,
    ) -> Result<Option<Vec<u8>>> {
        self.read_file(&self.paths.trash_blob(part.start, digest), limit)
    }

    /// Opens a blob in a part of the trash; returns it with its length in bytes, or `None` if it is
    /// not there.
    pub(crate) fn open_trashed_blob(
        &self,
        part: TrashPart,
        digest: &Digest,
    ) -> Result<Option<(ObjectReader, u64)>> {
        self.open_file(&self.paths.trash_blob(part.start, digest))
    }

    /// Deletes a blob from a part of the trash, if it is there, durably.
    pub(crate) fn delete_trashed_blob(&self, part: TrashPart, digest: &Digest) -> Result<()> {
        let path = self.paths.trash_blob(part.start, digest);
        if self.disk.is_file(&path)? {
            self.disk.unlink(&path)?;
            self.disk.sync_folder(&self.paths.trash_part(part.start))?;
        }
        Ok(())
    }

    /// Removes the entries from the log of a part for which `is_kept` is false, durably.
    pub(crate) fn filter_trash_log(
        &self,
        part: TrashPart,
        is_kept: &mut dyn FnMut(&TrashEntry) -> bool,
    ) -> Result<()> {
        let mut is_line_kept =
            |line: &str| TrashEntry::parse(line).is_some_and(|entry| is_kept(&entry));
        let mut is_changed = false;
        let path = self.paths.trash_log(part.start);
        self.visit_lines(&path, &mut |line| {
            is_changed |= !is_line_kept(line);
            Ok(std::ops::ControlFlow::Continue(()))
        })?;
        if is_changed {
            self.filter_lines(&path, &mut is_line_kept)?;
        }
        Ok(())
    }

    /// Returns the size of the blobs in a part of the trash in bytes.
    pub(crate) fn trash_part_len(&self, part: TrashPart, walk: &Walk<'_>) -> Result<u64> {
        let (folder, log) = (
            self.paths.trash_part(part.start),
            self.paths.trash_log(part.start),
        );
        let mut bytes = 0;
        for entry in self.disk.entries(&folder) {
            walk.step()?;
            let path = entry?.path();
            if path != log {
                bytes += self.disk.len(&path)?.unwrap_or(0);
            }
        }
        Ok(bytes)
    }

    /// Moves the bytes of a blob back from the trash, durably, unless the blob is there. The caller
    /// holds the lock of the digest.
    pub(crate) fn restore_blob(&self, part: TrashPart, digest: &Digest) -> Result<()> {
        let to = self.paths.object(ObjectKey::Blob(digest));
        if self.disk.is_file(&to)? {
            return Ok(());
        }
        let from = self.paths.trash_blob(part.start, digest);
        // Counts as written now, so that it is not removed again before it is linked.
        self.disk.touch(&from, wall_clock::now())?;
        self.rename_durably(&from, &to)
    }

    /// Deletes a part of the trash.
    pub(crate) fn delete_trash_part(&self, part: TrashPart) -> Result<()> {
        // The log goes last, so that a part that was deleted halfway can be listed.
        let folder = self.paths.trash_part(part.start);
        let log = self.paths.trash_log(part.start);
        for entry in self.disk.entries(&folder).collect::<Result<Vec<_>>>()? {
            if entry.path() != log {
                self.disk.unlink(&entry.path())?;
            }
        }
        self.disk.unlink(&log)?;
        self.disk.remove_folder(&folder)
    }

    /// Removes the folder of a removed file if it is empty. A stock registry leaves it behind, too.
    fn remove_empty_parent(&self, path: &std::path::Path) {
        let folder = path.parent().unwrap_or(path);
        if let Err(error) = self.disk.remove_folder(folder) {
            tracing::debug!(?folder, %error, "did not remove an empty folder");
        }
    }
}
