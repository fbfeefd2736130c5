//! Lists what is in the trash, and empties the trash.
//!
//! Restoring is up to [`super::restore`].

use std::time::Duration;

use super::super::Registry;
use super::super::error::Result;
use crate::store::{self, ObjectKey, TrashEntry, TrashPart};
use crate::wall_clock::unix_now;

impl Registry {
    /// Calls `visit` with everything in the trash that is not restored, the oldest first, and the time
    /// in Unix seconds at which it is deleted.
    ///
    /// # Errors
    /// Returns an error of the store.
    pub(crate) fn for_each_removed(
        &self,
        undo: Duration,
        visit: &mut dyn FnMut(u64, TrashEntry),
    ) -> Result<()> {
        let mut failed = Ok(());
        for part in self.store.trash_parts()? {
            let expires_at = part.expires_at(undo.as_secs());
            self.store.for_each_trash_entry(part, &mut |entry| {
                match self.is_restored(part, &entry) {
                    Ok(true) => {}
                    Ok(false) => visit(expires_at, entry),
                    Err(error) => failed = Err(error),
                }
                Ok(())
            })?;
        }
        failed
    }

    /// Returns whether something that was removed is there again.
    fn is_restored(&self, part: TrashPart, entry: &TrashEntry) -> Result<bool> {
        let store = &self.store;
        Ok(match entry {
            TrashEntry::Tag {
                repository,
                tag,
                digest,
            } => {
                let current = self.read_link(ObjectKey::TagCurrent(repository, tag))?;
                current.as_ref() == Some(digest)
            }
            TrashEntry::Revision {
                repository, digest, ..
            } => store
                .len(ObjectKey::RevisionLink(repository, digest))?
                .is_some(),
            TrashEntry::Layer {
                repository, digest, ..
            } => store
                .len(ObjectKey::LayerLink(repository, digest))?
                .is_some(),
            TrashEntry::Blob { digest, .. } => store.trashed_blob_len(part, digest)?.is_none(),
        })
    }

    /// Deletes what has been in the trash for `undo` at `now` (Unix seconds), and more, the oldest
    /// first, while the disk is short of space.
    ///
    /// # Errors
    /// Returns an error of the store; the rest is left to the next call.
    pub(crate) fn expire_trash(&self, undo: Duration, now: u64) -> Result<()> {
        for part in self.store.trash_parts()? {
            if undo.is_zero() || part.expires_at(undo.as_secs()) <= now {
                self.store.delete_trash_part(part)?;
            } else if self.is_disk_short()? {
                tracing::info!("the disk is nearly full: emptying a part of the trash");
                self.store.delete_trash_part(part)?;
            }
        }
        Ok(())
    }

    fn is_disk_short(&self) -> Result<bool> {
        let disk = self.store.disk_space()?;
        Ok(disk.free < self.reserve_bytes(disk))
    }

    /// Writes to the trash's log that something is about to be removed.
    pub(in crate::registry) fn log_removal(&self, entries: &[TrashEntry]) -> Result<()> {
        self.log_to_trash(TrashPart::at(unix_now()), entries)?;
        Ok(())
    }

    /// Writes to the log of a part that something is about to be removed. If the disk is full, empties
    /// the trash; returns false if that does not help, and the content cannot be restored.
    pub(super) fn log_to_trash(&self, part: TrashPart, entries: &[TrashEntry]) -> Result<bool> {
        match self.store.log_to_trash(part, entries) {
            Err(store::Error::Full { .. }) => {}
            logged => return Ok(logged.map(|()| true)?),
        }
        tracing::warn!("the disk is full: emptying the trash");
        for part in self.store.trash_parts()? {
            self.store.delete_trash_part(part)?;
        }
        match self.store.log_to_trash(part, entries) {
            Err(store::Error::Full { .. }) => {
                tracing::warn!("the disk is full: what is removed now cannot be restored");
                Ok(false)
            }
            logged => Ok(logged.map(|()| true)?),
        }
    }
}
