//! Calls the filesystem; no other module of the server's storage does.
//!
//! Tests hook into every change here to record it or to make it fail. That is how crashes and full
//! disks are tested. Start reading at [`Disk`].

mod file;
mod folder;
mod identity;
mod lock;
mod transfer;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::Access;

pub(super) use self::file::DiskFile;
pub(super) use self::folder::DiskFolder;
pub(crate) use self::identity::FileIdentity;
pub(super) use self::lock::FileLock;

use self::lock::lock_file;
use self::transfer::FileOwner;
use super::error::{IoContext, Result};

/// The filesystem.
#[derive(Clone, Default)]
pub(super) struct Disk {
    /// The user to whom new files are given; `None` for the user of this process.
    owner: Option<FileOwner>,
    #[cfg(test)]
    hook: Option<ChangeHook>,
    /// How many files were opened to be read.
    #[cfg(test)]
    pub(super) opened_files: std::sync::Arc<std::sync::atomic::AtomicUsize>,
    /// How many entries of folders were read.
    #[cfg(test)]
    pub(super) listed_entries: std::sync::Arc<std::sync::atomic::AtomicUsize>,
    /// The size of a simulated disk that contains nothing but the blobs; 0 for the real one.
    #[cfg(test)]
    pub(super) simulated_bytes: std::sync::Arc<std::sync::atomic::AtomicU64>,
}

/// Is called before every change, and can make it fail.
#[cfg(test)]
pub(super) type ChangeHook =
    std::sync::Arc<dyn Fn(&DiskChange<'_>) -> io::Result<()> + Send + Sync>;

/// A change to the disk.
#[derive(Debug)]
#[allow(dead_code, reason = "read by the hooks of tests only")]
pub(super) enum DiskChange<'a> {
    MakeFolder(&'a Path),
    Create(&'a Path),
    Write {
        path: &'a Path,
        offset: u64,
        bytes: &'a [u8],
    },
    Sync(&'a Path),
    Truncate {
        path: &'a Path,
        len: u64,
    },
    Rename {
        from: &'a Path,
        to: &'a Path,
    },
    SyncFolder(&'a Path),
    SyncFilesystem(&'a Path),
    Link {
        from: &'a Path,
        to: &'a Path,
    },
    Copy {
        from: &'a Path,
        to: &'a Path,
    },
    Unlink(&'a Path),
    RemoveFolder(&'a Path),
}

/// The space of a filesystem in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DiskSpace {
    /// The space that this user can still use.
    pub(crate) free: u64,
    pub(crate) total: u64,
}

impl Disk {
    #[cfg(test)]
    pub(super) fn with_hook(hook: ChangeHook) -> Self {
        Self {
            hook: Some(hook),
            ..Self::default()
        }
    }

    #[cfg(test)]
    fn permit(&self, change: &DiskChange<'_>) -> io::Result<()> {
        self.hook.as_ref().map_or(Ok(()), |hook| hook(change))
    }

    #[cfg(not(test))]
    fn permit(&self, _change: &DiskChange<'_>) -> io::Result<()> {
        Ok(())
    }

    /// Returns whether a folder exists, and this user may not create files in it.
    pub(super) fn is_forbidden(&self, folder: &Path) -> bool {
        use rustix::fs::Access;
        let access = Access::WRITE_OK | Access::EXEC_OK;
        let error = rustix::fs::access(folder, access).map_err(io::Error::from);
        let kind = error.err().map(|error| error.kind());
        matches!(
            kind,
            Some(io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
        )
    }

    /// Creates one folder; returns false if it exists already.
    pub(super) fn make_folder(&self, path: &Path) -> io::Result<bool> {
        self.permit(&DiskChange::MakeFolder(path))?;
        match fs::create_dir(path) {
            Ok(()) => {
                self.owner.map_or(Ok(()), |owner| owner.give_folder(path))?;
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Creates a file for reading and writing. It must not exist yet.
    pub(super) fn create(&self, path: &Path) -> io::Result<DiskFile> {
        self.permit(&DiskChange::Create(path))?;
        let file = fs::File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(path)?;
        self.give_file_to_owner(&file)?;
        Ok(self.wrap(file, path))
    }

    /// Opens a file for reading and writing; `None` if there is no such file.
    pub(super) fn open(&self, path: &Path) -> Result<Option<DiskFile>> {
        let file = fs::File::options().read(true).write(true).open(path);
        let file = none_if_not_found(file).context("open", path)?;
        Ok(file.map(|file| self.wrap(file, path)))
    }

    /// Opens a file for reading; `None` if there is no such file.
    pub(super) fn open_to_read(&self, path: &Path) -> Result<Option<DiskFile>> {
        #[cfg(test)]
        self.opened_files
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let file = none_if_not_found(fs::File::open(path)).context("open", path)?;
        Ok(file.map(|file| self.wrap(file, path)))
    }

    fn wrap(&self, file: fs::File, path: &Path) -> DiskFile {
        DiskFile {
            file,
            path: path.to_owned(),
            disk: self.clone(),
        }
    }

    /// Renames a file, replacing the one at `to`.
    pub(super) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.permit(&DiskChange::Rename { from, to })?;
        fs::rename(from, to)
    }

    /// Returns the space of the filesystem that contains a folder.
    pub(super) fn space(&self, folder: &Path) -> Result<DiskSpace> {
        let space = rustix::fs::statvfs(folder).map_err(io::Error::from);
        let space = space.context("measure the free space of", folder)?;
        Ok(DiskSpace {
            free: space.f_bavail.saturating_mul(space.f_frsize),
            total: space.f_blocks.saturating_mul(space.f_frsize),
        })
    }

    /// Makes the entries of a folder durable.
    pub(super) fn sync_folder(&self, path: &Path) -> Result<()> {
        self.permit(&DiskChange::SyncFolder(path))
            .and_then(|()| fs::File::open(path)?.sync_all())
            .context("sync the folder", path)
    }

    /// Removes a file, if there is one.
    pub(super) fn unlink(&self, path: &Path) -> Result<()> {
        let removed = self
            .permit(&DiskChange::Unlink(path))
            .and_then(|()| none_if_not_found(fs::remove_file(path)));
        removed.map(drop).context("remove", path)
    }

    /// Removes an empty folder, if there is one.
    pub(super) fn remove_folder(&self, path: &Path) -> Result<()> {
        let removed = self
            .permit(&DiskChange::RemoveFolder(path))
            .and_then(|()| none_if_not_found(fs::remove_dir(path)));
        removed.map(drop).context("remove the folder", path)
    }

    /// Returns the length of a file in bytes; `None` if there is no such file.
    pub(super) fn len(&self, path: &Path) -> Result<Option<u64>> {
        let file = self.metadata(path)?.filter(fs::Metadata::is_file);
        Ok(file.map(|metadata| metadata.len()))
    }

    /// Returns whether there is a file at `path`.
    pub(super) fn is_file(&self, path: &Path) -> Result<bool> {
        Ok(self
            .metadata(path)?
            .is_some_and(|metadata| metadata.is_file()))
    }

    fn metadata(&self, path: &Path) -> Result<Option<fs::Metadata>> {
        none_if_not_found(fs::metadata(path)).context("stat", path)
    }

    /// Returns the modification time of a file or folder; `None` if there is none.
    pub(super) fn modified(&self, path: &Path) -> Result<Option<SystemTime>> {
        let metadata = self.metadata(path)?;
        let modified = metadata.map(|metadata| metadata.modified());
        modified.transpose().context("stat", path)
    }

    /// Sets the modification time of a file, if there is one.
    pub(super) fn touch(&self, path: &Path, time: SystemTime) -> Result<()> {
        none_if_not_found(fs::File::options().write(true).open(path))
            .and_then(|file| file.map_or(Ok(()), |file| file.set_modified(time)))
            .context("write", path)
    }

    /// Returns whether there is a folder at `path`.
    pub(super) fn is_folder(&self, path: &Path) -> Result<bool> {
        Ok(self
            .metadata(path)?
            .is_some_and(|metadata| metadata.is_dir()))
    }

    /// Checks, without a change, whether this process may write to a file, or create files in a
    /// folder. If it is missing, its nearest parent that exists counts.
    pub(super) fn check_writable(&self, path: &Path) -> io::Result<()> {
        for existing in path.ancestors() {
            let access = match fs::metadata(existing) {
                Ok(metadata) if metadata.is_dir() => Access::WRITE_OK | Access::EXEC_OK,
                Ok(_) if existing == path => Access::WRITE_OK,
                Ok(_) => return Err(io::ErrorKind::NotADirectory.into()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            return Ok(rustix::fs::access(existing, access)?);
        }
        Ok(())
    }

    /// Returns the identity of a file or folder; `None` if there is none.
    pub(super) fn identity(&self, path: &Path) -> Result<Option<FileIdentity>> {
        Ok(self.metadata(path)?.as_ref().map(FileIdentity::of))
    }

    /// Iterates over the names of the subfolders of a folder, in no order. Yields nothing if there
    /// is no such folder. Skips names that are not UTF-8.
    pub(super) fn subfolders(&self, path: &Path) -> impl Iterator<Item = Result<String>> + use<> {
        let entries = self.entries(path);
        entries.filter_map(|entry| match entry {
            Ok(entry) => entry.is_folder.then_some(Ok(entry.name)),
            Err(error) => Some(Err(error)),
        })
    }

    /// Iterates over the entries of a folder, in no order, without a list in memory. Yields nothing
    /// if there is no such folder. Skips names that are not UTF-8: this server never writes one.
    pub(super) fn entries(&self, path: &Path) -> impl Iterator<Item = Result<FolderEntry>> + use<> {
        let (entries, error) = match none_if_not_found(fs::read_dir(path)) {
            Ok(entries) => (entries, None),
            Err(error) => (None, Some(Err(error))),
        };
        let entries = entries.into_iter().flatten();
        #[cfg(test)]
        let entries = {
            let counter = std::sync::Arc::clone(&self.listed_entries);
            entries.inspect(move |_| {
                counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            })
        };
        let entries = entries.filter_map(|entry| FolderEntry::of(entry).transpose());
        let path = path.to_owned();
        let entries = error.into_iter().chain(entries);
        entries.map(move |entry| entry.context("list", &path))
    }

    /// Locks a file, which is created if it is missing; `None` if another process keeps the lock.
    pub(super) fn lock(&self, path: &Path) -> io::Result<Option<FileLock>> {
        let created = fs::File::options().write(true).create_new(true).open(path);
        let file = match created {
            Ok(file) => {
                self.give_file_to_owner(&file)?;
                file
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                fs::File::options().write(true).open(path)?
            }
            Err(error) => return Err(error),
        };
        lock_file(file)
    }

    /// Locks a folder; `None` if another process keeps the lock. Not every network file system
    /// supports it.
    pub(super) fn lock_folder(&self, path: &Path) -> io::Result<Option<FileLock>> {
        lock_file(fs::File::open(path)?)
    }
}

/// An entry of a folder.
pub(super) struct FolderEntry {
    entry: fs::DirEntry,
    pub(super) name: String,
    pub(super) is_folder: bool,
}

impl FolderEntry {
    fn of(entry: io::Result<fs::DirEntry>) -> io::Result<Option<Self>> {
        let entry = entry?;
        let is_folder = entry.file_type()?.is_dir();
        Ok(entry.file_name().into_string().ok().map(|name| Self {
            entry,
            name,
            is_folder,
        }))
    }

    pub(super) fn path(&self) -> PathBuf {
        self.entry.path()
    }
}

/// Turns the error of a missing file or parent folder into `None`.
fn none_if_not_found<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
