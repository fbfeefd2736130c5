//! Links and copies whole files, and makes many changes durable at once.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, fchown};
use std::path::Path;
use std::time::SystemTime;

use rustix::fs::{Mode, OFlags};

use super::{Disk, DiskChange};
use crate::store::error::{IoContext as _, Result};

/// The length and the modification time of a file: equal for a file and its copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) struct FileStamp {
    /// In bytes.
    pub(in crate::store) len: u64,
    modified_at: SystemTime,
}

/// The user to whom new files are given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) struct FileOwner {
    user: u32,
    group: u32,
}

impl FileOwner {
    /// Gives a file that this process has just created to this user.
    pub(super) fn give_file(self, file: &fs::File) -> io::Result<()> {
        fchown(file, Some(self.user), Some(self.group))
    }

    /// Gives a folder that this process has just created to this user. The user may have put something
    /// else in its place meanwhile, which must not get another owner: only an empty folder of this
    /// process does.
    pub(super) fn give_folder(self, path: &Path) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = fs::File::from(rustix::fs::open(path, flags, Mode::empty())?);
        let is_own = folder.metadata()?.uid() == rustix::process::geteuid().as_raw();
        let mut entries = rustix::fs::Dir::read_from(&folder)?;
        let is_empty = entries.all(|entry| {
            entry.is_ok_and(|entry| matches!(entry.file_name().to_bytes(), b"." | b".."))
        });
        if is_own && is_empty {
            self.give_file(&folder)?;
        }
        Ok(())
    }
}

impl Disk {
    /// Gives new files and folders to the owner of `folder`, if this process may do that and is
    /// another user.
    pub(in crate::store) fn with_owner_of(mut self, folder: &Path) -> Result<Self> {
        let user = rustix::process::geteuid();
        let owner = self.metadata(folder)?.map(|metadata| FileOwner {
            user: metadata.uid(),
            group: metadata.gid(),
        });
        let is_other = |owner: &FileOwner| owner.user != user.as_raw();
        self.owner = owner.filter(|owner| user.is_root() && is_other(owner));
        Ok(self)
    }

    /// Returns the stamp of a file; `None` if there is no such file.
    pub(in crate::store) fn stamp(&self, path: &Path) -> Result<Option<FileStamp>> {
        let Some(metadata) = self.metadata(path)?.filter(fs::Metadata::is_file) else {
            return Ok(None);
        };
        Ok(Some(FileStamp {
            len: metadata.len(),
            modified_at: metadata.modified().context("stat", path)?,
        }))
    }

    /// Gives a file a second name. Neither name may be written to from then on.
    pub(in crate::store) fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.permit(&DiskChange::Link { from, to })?;
        fs::hard_link(from, to)
    }

    /// Copies a file, with its modification time, to a path where no file is. Not durably. The file
    /// system shares the bytes of the two files if it can.
    pub(in crate::store) fn copy(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.permit(&DiskChange::Copy { from, to })?;
        let mut source = fs::File::open(from)?;
        let mut copy = fs::File::options().write(true).create_new(true).open(to)?;
        io::copy(&mut source, &mut copy)?;
        copy.set_modified(source.metadata()?.modified()?)?;
        self.give_file_to_owner(&copy)
    }

    /// Gives a file that was just created to the owner of new files.
    pub(super) fn give_file_to_owner(&self, file: &fs::File) -> io::Result<()> {
        self.owner.map_or(Ok(()), |owner| owner.give_file(file))
    }

    /// Makes all changes to the file system that contains a folder durable.
    pub(in crate::store) fn sync_filesystem(&self, folder: &Path) -> Result<()> {
        let sync = || -> io::Result<()> {
            self.permit(&DiskChange::SyncFilesystem(folder))?;
            let folder = fs::File::open(folder)?;
            #[cfg(target_os = "linux")]
            rustix::fs::syncfs(&folder)?;
            #[cfg(not(target_os = "linux"))]
            {
                folder.sync_all()?;
                rustix::fs::sync();
            }
            Ok(())
        };
        sync().context("sync the file system of", folder)
    }

    /// Returns whether `folder`, which may be missing, is `top` or below it.
    pub(in crate::store) fn is_below(&self, folder: &Path, top: &Path) -> Result<bool> {
        let top = fs::canonicalize(top).context("resolve", top)?;
        let existing = folder.ancestors().find(|path| path.exists());
        let existing = existing.unwrap_or(folder);
        let resolved = fs::canonicalize(existing).context("resolve", existing)?;
        Ok(resolved.starts_with(&top))
    }

    /// Gives a folder the permissions of another one.
    pub(in crate::store) fn copy_permissions(&self, from: &Path, to: &Path) -> Result<()> {
        let permissions = fs::metadata(from).context("stat", from)?.permissions();
        fs::set_permissions(to, permissions).context("set the permissions of", to)
    }
}
