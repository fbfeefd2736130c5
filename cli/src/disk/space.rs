//! The free space of a disk, and errors of a full one.
//!
//! This module frees no space. Start reading at [`free_bytes`].

use std::io;
use std::path::{Path, PathBuf};

use super::platform;
use crate::text::format_bytes;

/// The disk has too little space for the spool.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the disk is full: {} or more are needed in {}, and {} are free there",
    format_bytes(*needed), folder.display(), format_bytes(*free)
)]
pub struct DiskFull {
    /// The folder of the spool.
    pub folder: PathBuf,
    /// The number of bytes needed, or a lower bound if the size is not known in advance.
    pub needed: u64,
    /// The number of free bytes.
    pub free: u64,
}

impl From<DiskFull> for io::Error {
    fn from(error: DiskFull) -> Self {
        Self::new(io::ErrorKind::StorageFull, error)
    }
}

/// Returns whether an error means that the disk or the user's quota is full.
pub fn is_disk_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// Returns the number of bytes that this user can still write to a folder; `None` if the system
/// does not report it.
pub fn free_bytes(folder: &Path) -> Option<u64> {
    platform::free_bytes(folder)
}
