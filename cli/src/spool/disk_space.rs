//! Makes space on the disk of the spool by deleting leftovers.
//!
//! This module deletes no entry that is in use. Start reading at [`reserve`].

use std::io;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use super::{DRAFT_PREFIX, Spool, SpoolKind};
use crate::disk::{self, DiskFull};

/// Makes space for `bytes` more bytes. Does nothing if the system does not report the free space.
///
/// # Errors
/// Returns a [`DiskFull`] if there is nothing left to delete.
pub(super) fn reserve(spool: &Spool, bytes: u64) -> io::Result<()> {
    while let Some(free) = disk::free_bytes(&spool.folder).filter(|free| *free < bytes) {
        if !remove_oldest(spool) {
            return Err(disk_full(spool, bytes, free));
        }
    }
    Ok(())
}

/// Deletes the oldest leftover to make space for a file that has `written` bytes and will have at
/// least `needed`, after a write has failed with `error`.
///
/// # Errors
/// Returns a [`DiskFull`] if there is no leftover, or `error` if the system does not report the
/// free space.
pub(super) fn make_space(
    spool: &Spool,
    written: u64,
    needed: u64,
    error: io::Error,
) -> io::Result<()> {
    if remove_oldest(spool) {
        return Ok(());
    }
    Err(match disk::free_bytes(&spool.folder) {
        Some(free) => disk_full(spool, needed, free + written),
        None => error,
    })
}

fn disk_full(spool: &Spool, needed: u64, free: u64) -> io::Error {
    let folder = spool.folder.clone();
    DiskFull {
        folder,
        needed,
        free,
    }
    .into()
}

fn remove_oldest(spool: &Spool) -> bool {
    let mut leftovers = list_leftovers(spool);
    leftovers.sort_by_key(|leftover| leftover.last_used);
    leftovers
        .iter()
        .any(|leftover| disk::remove_if_unused(&leftover.path))
}

/// A file in the spool that may be in use by another run.
pub(super) struct SpoolLeftover {
    pub(super) path: PathBuf,
    last_used: SystemTime,
    /// Whether the file was still being written.
    pub(super) is_draft: bool,
}

impl SpoolLeftover {
    /// Returns the time since the last use.
    pub(super) fn age(&self) -> Duration {
        self.last_used.elapsed().unwrap_or_default()
    }
}

/// Lists the files in a spool. A temporary spool has none.
pub(super) fn list_leftovers(spool: &Spool) -> Vec<SpoolLeftover> {
    if !spool.is_persistent {
        return Vec::new();
    }
    let kinds = SpoolKind::ALL.map(|kind| spool.folder.join(kind.folder()));
    let mut leftovers = Vec::new();
    for folder in kinds.iter().chain([&spool.folder]) {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let is_draft = name.to_string_lossy().starts_with(DRAFT_PREFIX);
            let Ok(data) = entry.metadata() else { continue };
            // The spool folder itself may hold files of other programs.
            if data.is_file() && (is_draft || *folder != spool.folder) {
                leftovers.push(SpoolLeftover {
                    path: entry.path(),
                    last_used: data.modified().unwrap_or(SystemTime::UNIX_EPOCH),
                    is_draft,
                });
            }
        }
    }
    leftovers
}

/// Raises the limit for open files as far as the system allows.
pub(super) fn raise_open_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    /// More than the layers of any image. Some systems report an infinite limit that they do not
    /// grant.
    const MAX_OPEN_FILES: u64 = 8192;
    let mut limit = getrlimit(Resource::Nofile);
    let maximum = limit.maximum.unwrap_or(u64::MAX).min(MAX_OPEN_FILES);
    if limit.current.is_some_and(|current| current < maximum) {
        limit.current = Some(maximum);
        // If the system refuses, the limit stays as it was.
        let _ = setrlimit(Resource::Nofile, limit);
    }
}
