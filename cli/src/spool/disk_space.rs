//! Makes space on the disk of the spool by deleting leftovers.
//!
//! This module deletes no entry that is in use. Start reading at [`reserve`].

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use super::{Spool, SpoolKind, draft};
use crate::disk::{DiskFull, free_bytes};

/// Makes space for `bytes` more bytes. Does nothing if the system does not report the free space.
///
/// # Errors
/// Returns a [`DiskFull`] if there is nothing left to delete.
pub(super) fn reserve(spool: &Spool, bytes: u64) -> io::Result<()> {
    loop {
        match free_bytes(&spool.folder) {
            None => return Ok(()),
            Some(free) if free >= bytes => return Ok(()),
            Some(_) if remove_oldest(spool) => {}
            Some(free) => {
                return Err(DiskFull {
                    folder: spool.folder.clone(),
                    needed: bytes,
                    free,
                }
                .into());
            }
        }
    }
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
    let Some(free) = free_bytes(&spool.folder) else {
        return Err(error);
    };
    Err(DiskFull {
        folder: spool.folder.clone(),
        needed,
        free: free + written,
    }
    .into())
}

fn remove_oldest(spool: &Spool) -> bool {
    let mut all = list_leftovers(spool);
    all.sort_by_key(|leftover| leftover.last_used);
    all.iter().any(SpoolLeftover::remove_if_unused)
}

/// A file in the spool that may be in use by another run.
pub(super) struct SpoolLeftover {
    path: PathBuf,
    last_used: SystemTime,
    /// Whether the file was still being written.
    pub(super) is_draft: bool,
}

impl SpoolLeftover {
    /// Returns the time since the last use.
    pub(super) fn age(&self) -> Duration {
        self.last_used.elapsed().unwrap_or_default()
    }

    /// Removes the file unless it is in use. Returns whether it was removed.
    pub(super) fn remove_if_unused(&self) -> bool {
        let unused = File::open(&self.path).is_ok_and(|file| file.try_lock().is_ok());
        unused && std::fs::remove_file(&self.path).is_ok()
    }
}

/// Lists the files in a spool. A temporary spool has none.
pub(super) fn list_leftovers(spool: &Spool) -> Vec<SpoolLeftover> {
    if !spool.is_persistent {
        return Vec::new();
    }
    let rooms = SpoolKind::ALL.map(|room| spool.folder.join(room.folder()));
    let mut found = Vec::new();
    for folder in rooms.iter().chain([&spool.folder]) {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let is_draft = name.to_string_lossy().starts_with(draft::DRAFT_PREFIX);
            let Ok(data) = entry.metadata() else { continue };
            // The spool folder itself may hold files of other programs.
            if data.is_file() && (is_draft || *folder != spool.folder) {
                found.push(SpoolLeftover {
                    path: entry.path(),
                    last_used: data.modified().unwrap_or(SystemTime::UNIX_EPOCH),
                    is_draft,
                });
            }
        }
    }
    found
}

/// Raises the limit for open files as far as the system allows.
pub(super) fn raise_open_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    /// An upper bound for the layers of an image. Some systems report an infinite limit that they
    /// do not grant.
    const MAX_OPEN_FILES: u64 = 8192;
    let mut limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(u64::MAX).min(MAX_OPEN_FILES);
    if limit.current.is_some_and(|current| current < most) {
        limit.current = Some(most);
        // Where that is refused, the limit stays.
        let _ = setrlimit(Resource::Nofile, limit);
    }
}
