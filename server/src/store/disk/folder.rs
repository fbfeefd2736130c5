//! Looks up files below an open folder, which takes less time than to look up a whole path.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType};

use super::{Disk, none_if_not_found};
use crate::store::error::{IoContext as _, Result};

/// An open folder.
pub(in crate::store) struct DiskFolder {
    folder: OwnedFd,
    path: PathBuf,
}

impl Disk {
    /// Opens a folder; `None` if there is no such folder.
    pub(in crate::store) fn open_folder(&self, path: &Path) -> Result<Option<DiskFolder>> {
        let folder = none_if_not_found(fs::File::open(path)).context("open", path)?;
        Ok(folder.map(|folder| DiskFolder {
            folder: folder.into(),
            path: path.to_owned(),
        }))
    }
}

impl DiskFolder {
    /// Returns the length in bytes of the file at a path below the folder; `None` if there is no
    /// such file.
    pub(in crate::store) fn file_len(&self, below: &Path) -> Result<Option<u64>> {
        let stat = rustix::fs::statat(&self.folder, below, AtFlags::empty());
        let stat = none_if_not_found(stat.map_err(io::Error::from));
        let stat = match stat {
            Ok(stat) => stat,
            error => error.context("stat", &self.path.join(below))?,
        };
        let file = stat.filter(|stat| FileType::from_raw_mode(stat.st_mode).is_file());
        Ok(file.map(|file| u64::try_from(file.st_size).unwrap_or_default()))
    }
}
