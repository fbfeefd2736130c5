//! Reads and atomically replaces the htpasswd file on disk.
//!
//! This module must not know the format of the lines.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::Path;

use super::error::Error;
use crate::bounded_file;

/// The largest file that is read.
const MAX_HTPASSWD_BYTES: u64 = 16 * 1024 * 1024;
/// The mode of a new file: only its owner may read it, because hashes can be attacked offline.
const NEW_FILE_MODE: u32 = 0o600;

/// Reads the content of the file.
///
/// # Errors
/// The file cannot be read, or is larger than 16 MiB.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, Error> {
    bounded_file::read(path, MAX_HTPASSWD_BYTES).map_err(|source| Error::Read {
        path: path.to_owned(),
        source,
    })
}

/// Changes a file atomically. `change` maps the old content, `None` if there is no file, to the new
/// content. Another process that changes the same file waits; a reader sees the old file or the new
/// one. The change is durable when this returns. Owner and mode are preserved as far as the system
/// allows.
///
/// # Errors
/// Fails if `change` or the file system fails. The file is then not changed.
pub(super) fn change<E: From<io::Error>>(
    path: &Path,
    change: impl FnOnce(Option<&[u8]>) -> Result<Vec<u8>, E>,
) -> Result<(), E> {
    // Replaces the target of a symbolic link, not the link.
    let path = match path.canonicalize() {
        Ok(path) => path,
        Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_owned(),
        Err(error) => return Err(error.into()),
    };
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let handle = File::open(folder)?;
    handle.lock()?;
    let old = match bounded_file::read(&path, MAX_HTPASSWD_BYTES) {
        Ok(old) => Some(old),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error.into()),
    };
    let new = change(old.as_deref())?;
    if old.as_ref() != Some(&new) {
        replace(&path, folder, &handle, &new)?;
    }
    Ok(())
}

/// Replaces a file through a temporary one. The caller holds the lock on the folder.
fn replace(path: &Path, folder: &Path, handle: &File, bytes: &[u8]) -> io::Result<()> {
    let Some(name) = path.file_name() else {
        return Err(io::ErrorKind::InvalidFilename.into());
    };
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(name);
    temporary.push(".tmp");
    let temporary = folder.join(temporary);
    // The lock is held, so a temporary file is left over from a process that was killed.
    if let Err(error) = std::fs::remove_file(&temporary)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let result = write(&temporary, path, bytes).and_then(|()| std::fs::rename(&temporary, path));
    if result.is_err() {
        // The file may not exist: it is what could not be created.
        let _ = std::fs::remove_file(&temporary);
    }
    result.and_then(|()| handle.sync_all())
}

fn write(temporary: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(NEW_FILE_MODE)
        .open(temporary)?;
    if let Ok(old) = path.metadata() {
        // Only root may change the owner. Other users keep the group if they are members of it.
        let _ = fchown(&file, Some(old.uid()), Some(old.gid()))
            .or_else(|_| fchown(&file, None, Some(old.gid())));
        file.set_permissions(Permissions::from_mode(old.mode() & 0o777))?;
    }
    file.write_all(bytes)?;
    file.sync_all()
}
