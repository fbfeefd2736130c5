//! How much a disk can take.

use std::io;
use std::path::{Path, PathBuf};

use crate::text::format_bytes;

/// The disk cannot take what has to be put aside.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the disk is full: {} or more are needed in {}, and {} are free there",
    format_bytes(*needed), folder.display(), format_bytes(*free)
)]
pub struct DiskFull {
    /// The folder of the spool.
    pub folder: PathBuf,
    /// How many bytes are needed there; at the least, where that is not known before.
    pub needed: u64,
    /// How many bytes are free there.
    pub free: u64,
}

impl From<DiskFull> for io::Error {
    fn from(error: DiskFull) -> Self {
        Self::new(io::ErrorKind::StorageFull, error)
    }
}

/// Whether the system says that nothing more fits.
pub fn is_disk_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// The bytes that this user may still write to a folder; `None` where the system does not tell.
pub fn free_bytes(folder: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(folder).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}
