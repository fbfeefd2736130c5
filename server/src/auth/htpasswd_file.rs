//! The htpasswd file on disk: read whole, replaced whole.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::Path;

use super::error::Error;

/// More than any list of users that is kept in a file.
const MAX_HTPASSWD_BYTES: u64 = 16 * 1024 * 1024;
/// What a file that we make may be read by: a password's hash is worth guessing at.
const NEW_FILE_MODE: u32 = 0o600;

/// The file's content, at most 16 MiB.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, Error> {
    bytes(path).map_err(|source| Error::Read {
        path: path.to_owned(),
        source,
    })
}

fn bytes(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(MAX_HTPASSWD_BYTES + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_HTPASSWD_BYTES {
        return Err(io::Error::other(format!(
            "more than {MAX_HTPASSWD_BYTES} bytes"
        )));
    }
    Ok(bytes)
}

/// Changes a file: `change` gets what it holds, `None` where it is not there, and yields what it is
/// to hold, or why not. Another process that changes the same file waits. When this returns the
/// change is durable; a reader sees the old file or the new one. Owner and mode stay as far as the
/// system lets them.
pub(super) fn change<E: From<io::Error>>(
    path: &Path,
    change: impl FnOnce(Option<&[u8]>) -> Result<Vec<u8>, E>,
) -> Result<(), E> {
    // What a link points at is replaced, not the link.
    let path = match path.canonicalize() {
        Ok(path) => path,
        Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_owned(),
        Err(error) => return Err(error.into()),
    };
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        Some(_) | None => Path::new("."),
    };
    let folder = (folder, File::open(folder)?);
    folder.1.lock()?;
    let old = match bytes(&path) {
        Ok(old) => Some(old),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error.into()),
    };
    let new = change(old.as_deref())?;
    if old.as_ref() != Some(&new) {
        replace(&path, folder, &new)?;
    }
    Ok(())
}

fn replace(path: &Path, (folder, handle): (&Path, File), bytes: &[u8]) -> io::Result<()> {
    let Some(name) = path.file_name() else {
        return Err(io::ErrorKind::InvalidFilename.into());
    };
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(name);
    temporary.push(".tmp");
    let temporary = folder.join(temporary);
    // We hold the lock, so whoever left one is gone.
    match std::fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let result = write(&temporary, path, bytes).and_then(|()| std::fs::rename(&temporary, path));
    if result.is_err() {
        // It may not have come into being.
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
        // Only root may give files away; who cannot keeps the file for themselves, and its group
        // where that is theirs.
        let _ = fchown(&file, Some(old.uid()), Some(old.gid()))
            .or_else(|_| fchown(&file, None, Some(old.gid())));
        file.set_permissions(Permissions::from_mode(old.mode() & 0o777))?;
    }
    file.write_all(bytes)?;
    file.sync_all()
}
