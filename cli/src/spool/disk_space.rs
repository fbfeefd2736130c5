//! How much the disk of the spool can take, and what makes way.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use super::{Spool, SpoolKind, draft};
use crate::disk::{DiskFull, free_bytes};

/// Makes room for so many bytes more.
///
/// # Errors
/// [`NoRoom`]. A disk that does not tell is tried.
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

/// Lets the oldest leftover make way for a file that has `written` bytes and gets at least
/// `needed`, after the system has refused with `error`.
///
/// # Errors
/// [`NoRoom`], where there is no leftover.
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

/// A file in the spool that may be somebody's.
pub(super) struct SpoolLeftover {
    path: PathBuf,
    last_used: SystemTime,
    /// Whether it was still being written.
    pub(super) is_draft: bool,
}

impl SpoolLeftover {
    /// How long ago it was last used.
    pub(super) fn age(&self) -> Duration {
        self.last_used.elapsed().unwrap_or_default()
    }

    /// Takes it away unless somebody uses it; yields whether it is gone.
    pub(super) fn remove_if_unused(&self) -> bool {
        let unused = File::open(&self.path).is_ok_and(|file| file.try_lock().is_ok());
        unused && std::fs::remove_file(&self.path).is_ok()
    }
}

/// Every file in the spool. One that keeps nothing has none to clear away.
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
            // Beside the rooms there may be what others put there.
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

/// Lets this process open as many files as the system lets it at all.
pub(super) fn raise_open_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    /// More than any image has layers. Some systems call a limit infinite that they do not grant.
    const MAX_OPEN_FILES: u64 = 8192;
    let mut limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(u64::MAX).min(MAX_OPEN_FILES);
    if limit.current.is_some_and(|current| current < most) {
        limit.current = Some(most);
        // Where that is refused, the limit stays.
        let _ = setrlimit(Resource::Nofile, limit);
    }
}
