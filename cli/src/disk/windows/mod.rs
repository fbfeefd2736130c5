//! The parts of [`disk`](super) for Windows. `unix` has functions of the same names.
//!
//! Locks are mandatory here: bytes under an exclusive lock can be read and written only through the
//! handle that has the lock and its clones, and nobody writes bytes under a shared one.

mod private_folder;

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::windows::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use same_file::Handle;
use tempfile::TempPath;

pub(crate) use private_folder::{
    PRIVATE_FOLDER_ADVICE, check_own_folder, create_private_folder, create_user_folder,
    is_private_file,
};

/// The right to read a file (`GENERIC_READ`).
const GENERIC_READ: u32 = 0x8000_0000;
/// The right to change the times of a file (`FILE_WRITE_ATTRIBUTES`).
const FILE_WRITE_ATTRIBUTES: u32 = 0x0100;

/// Identifies a file while it exists, whatever its path is. Keeps the file open, because the system
/// may give its number to another file otherwise.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct FileIdentity(Handle);

impl FileIdentity {
    /// Returns the identity of an open file.
    pub(crate) fn of_file(file: &File) -> io::Result<Self> {
        Handle::from_file(file.try_clone()?).map(Self)
    }

    /// Returns the identity of what is at a path. Fails for a symbolic link, which is never the file
    /// that it points to.
    pub(crate) fn of_path(path: &Path) -> io::Result<Self> {
        if path.symlink_metadata()?.is_symlink() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Handle::from_path(path).map(Self)
    }
}

/// Reads bytes at an offset, and leaves the position of the file as it was. Nobody may read or write
/// the file at its position meanwhile, also through a clone.
pub(crate) fn read_at(mut file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let position = file.stream_position()?;
    let read = file.seek_read(buffer, offset);
    file.seek(SeekFrom::Start(position))?;
    read
}

/// Writes bytes at an offset, as [`read_at`] reads them.
pub(crate) fn write_at(mut file: &File, bytes: &[u8], offset: u64) -> io::Result<usize> {
    let position = file.stream_position()?;
    let written = file.seek_write(bytes, offset);
    file.seek(SeekFrom::Start(position))?;
    written
}

/// Opens a file for reading, so that the time of its last use can be set if the user has the right to.
pub(crate) fn open_to_use(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.access_mode(GENERIC_READ | FILE_WRITE_ATTRIBUTES);
    match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => File::open(path),
        opened => opened,
    }
}

/// Does nothing: a new file has the permissions of its folder.
pub(super) fn make_private(_options: &mut OpenOptions) {}

/// Takes a shared lock, in place of one for writing. Others can take one, too, but no exclusive
/// lock.
pub(super) fn lock_shared(file: &File) {
    let _ = file.unlock();
    let _ = file.try_lock_shared();
}

/// Takes a lock on a file that this process writes. It is exclusive, because this process could not
/// write under a shared one.
pub(super) fn lock_for_writing(file: &File) {
    let _ = file.try_lock();
}

/// Does nothing: a folder cannot be synced, and NTFS keeps a journal of its entries.
pub(crate) fn sync_folder(_folder: &Path) -> io::Result<()> {
    Ok(())
}

/// Renames a temporary file, and replaces what is at `path`, also while others read it.
pub(super) fn persist(name: TempPath, path: &Path) -> io::Result<()> {
    // TempPath::persist fails while the replaced file is open.
    let kept = name.keep().map_err(|error| error.error)?;
    std::fs::rename(&kept, path).inspect_err(|_| {
        let _ = std::fs::remove_file(&kept);
    })
}

/// Returns the path of the file that a symbolic link points to. Other paths stay as the user wrote
/// them, because the complete form begins with `\\?\`.
pub(crate) fn follow_link(path: &Path) -> PathBuf {
    if path.is_symlink() {
        path.canonicalize().unwrap_or_else(|_| path.to_owned())
    } else {
        path.to_owned()
    }
}

/// Does nothing: a new file has the owner and the permissions that its folder gives it.
pub(super) fn copy_owner(_old: &Metadata, _new: &File) -> io::Result<()> {
    Ok(())
}

/// Returns the number of bytes that this user can still write to a folder; `None` if the system
/// does not report it.
pub(super) fn free_bytes(folder: &Path) -> Option<u64> {
    fs4::available_space(folder).ok()
}

/// Does nothing: the number of open files is not limited.
pub(crate) fn raise_open_file_limit() {}

/// Returns the ID of the user whose permissions this process has; `None`, because Windows has no such
/// numbers.
pub(crate) fn effective_user() -> Option<u32> {
    None
}
