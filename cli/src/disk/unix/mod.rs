//! The parts of [`disk`](super) for Unix. `windows` has functions of the same names.

mod private_folder;

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

use tempfile::TempPath;

pub(crate) use private_folder::{
    PRIVATE_FOLDER_ADVICE, check_own_folder, create_private_folder, create_user_folder,
    is_private_file,
};

/// Identifies a file while it exists, whatever its path is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileIdentity {
    device: u64,
    inode: u64,
}

impl FileIdentity {
    /// Returns the identity of an open file.
    pub(crate) fn of_file(file: &File) -> io::Result<Self> {
        file.metadata().map(|found| Self::of_metadata(&found))
    }

    /// Returns the identity of what is at a path. Does not follow symbolic links.
    pub(crate) fn of_path(path: &Path) -> io::Result<Self> {
        path.symlink_metadata()
            .map(|found| Self::of_metadata(&found))
    }

    fn of_metadata(found: &Metadata) -> Self {
        Self {
            device: found.dev(),
            inode: found.ino(),
        }
    }
}

/// Reads bytes at an offset. The position of the file is neither used nor moved.
pub(crate) fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    file.read_at(buffer, offset)
}

/// Writes bytes at an offset, as [`read_at`] reads them.
pub(crate) fn write_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<usize> {
    file.write_at(bytes, offset)
}

/// Opens a file for reading, so that the time of its last use can be set.
pub(crate) fn open_to_use(path: &Path) -> io::Result<File> {
    File::open(path)
}

/// Lets only this user read a file that is created with these options.
pub(super) fn make_private(options: &mut OpenOptions) {
    options.mode(0o600);
}

/// Takes a shared lock. Others can take one, too, but no exclusive lock.
pub(super) fn lock_shared(file: &File) {
    let _ = file.try_lock_shared();
}

/// Takes a lock on a file that this process writes. A shared one is enough, because locks keep nobody
/// from writing here, and others can then read the file.
pub(super) fn lock_for_writing(file: &File) {
    lock_shared(file);
}

/// Writes the entries of a folder to the disk (`fsync`).
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Renames a temporary file, and replaces what is at `path`.
pub(super) fn persist(name: TempPath, path: &Path) -> io::Result<()> {
    name.persist(path).map_err(|error| error.error)
}

/// Returns the path of the file that a symbolic link points to, or the path itself.
pub(crate) fn follow_link(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// Gives a new file the owner and the permissions of the file that it replaces.
pub(super) fn copy_owner(old: &Metadata, new: &File) -> io::Result<()> {
    // Only the superuser may change the owner: one who logs in with the home folder of another user.
    let _ = fchown(new, Some(old.uid()), Some(old.gid()));
    new.set_permissions(old.permissions())
}

/// Returns the number of bytes that this user can still write to a folder; `None` if the system
/// does not report it.
pub(super) fn free_bytes(folder: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(folder).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// Raises the limit for open files as far as the system allows.
pub(crate) fn raise_open_file_limit() {
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

/// Returns the ID of the user whose permissions this process has; `None` if the system has no such
/// numbers.
pub(crate) fn effective_user() -> Option<u32> {
    Some(rustix::process::geteuid().as_raw())
}
