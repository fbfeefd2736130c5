//! Makes space on the disk of the spool by deleting leftovers.
//!
//! This module deletes no entry that is in use. Start reading at [`Spool::reserve`].

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::{DRAFT_PREFIX, Spool, SpoolKind};
use crate::disk::{self, DiskFull};

impl Spool {
    /// Checks that the disk has space for `bytes` more bytes, and deletes leftovers of other images
    /// if needed, the oldest first. Does nothing if the system does not report the free space.
    ///
    /// # Errors
    /// Returns a [`DiskFull`] in an error of kind [`io::ErrorKind::StorageFull`] if there is nothing
    /// left to delete.
    pub fn reserve(&self, bytes: u64) -> io::Result<()> {
        while let Some(free) = disk::free_bytes(&self.folder).filter(|free| *free < bytes) {
            if !self.remove_oldest() {
                return Err(self.disk_full(bytes, free));
            }
        }
        Ok(())
    }

    /// Deletes the oldest leftover to make space for a file that has `written` bytes and will have
    /// at least `needed`, after a write has failed with `error`.
    ///
    /// # Errors
    /// Returns a [`DiskFull`] if there is no leftover, or `error` if the system does not report the
    /// free space.
    pub(super) fn make_space(&self, written: u64, needed: u64, error: io::Error) -> io::Result<()> {
        if self.remove_oldest() {
            return Ok(());
        }
        Err(match disk::free_bytes(&self.folder) {
            Some(free) => self.disk_full(needed, free + written),
            None => error,
        })
    }

    fn disk_full(&self, needed: u64, free: u64) -> io::Error {
        let folder = self.folder.clone();
        DiskFull {
            folder,
            needed,
            free,
        }
        .into()
    }

    fn remove_oldest(&self) -> bool {
        let mut leftovers = self.list_leftovers();
        leftovers.sort_by_key(|leftover| leftover.last_used);
        leftovers
            .iter()
            .any(|leftover| disk::remove_if_unused(&leftover.path))
    }

    /// Lists the files in the spool. A temporary spool has none.
    pub(super) fn list_leftovers(&self) -> Vec<SpoolLeftover> {
        if !self.is_persistent {
            return Vec::new();
        }
        let kinds = SpoolKind::ALL.into_iter();
        let entries = kinds.flat_map(|kind| self.list_kind(kind));
        // The spool folder itself may hold files of other programs.
        let drafts = list_files(&self.folder);
        let drafts = drafts.into_iter().filter(|file| file.is_draft);
        entries.chain(drafts).collect()
    }

    /// Lists the entries of a kind.
    pub(super) fn list_kind(&self, kind: SpoolKind) -> Vec<SpoolLeftover> {
        list_files(&self.folder.join(kind.folder()))
    }
}

fn list_files(folder: &Path) -> Vec<SpoolLeftover> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let files = entries.filter_map(|entry| {
        let data = entry.metadata().ok().filter(std::fs::Metadata::is_file)?;
        let name = entry.file_name();
        Some(SpoolLeftover {
            path: entry.path(),
            last_used: data.modified().unwrap_or(SystemTime::UNIX_EPOCH),
            len: data.len(),
            is_draft: name.to_string_lossy().starts_with(DRAFT_PREFIX),
        })
    });
    files.collect()
}

/// A file in the spool that may be in use by another run.
pub(super) struct SpoolLeftover {
    pub(super) path: PathBuf,
    pub(super) last_used: SystemTime,
    /// The size in bytes.
    pub(super) len: u64,
    /// Whether the file was still being written.
    pub(super) is_draft: bool,
}

impl SpoolLeftover {
    /// Returns the time since the last use.
    pub(super) fn age(&self) -> Duration {
        self.last_used.elapsed().unwrap_or_default()
    }
}
