//! Files and folders that other processes see complete or not at all.
//!
//! The functions do not follow symbolic links at the last component of a path, because another user
//! may have created the link. Start reading at [`replace_file`].

use std::fs::{File, Metadata};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Returns the size in bytes of the regular file at a path, or `None` if nothing is there.
///
/// # Errors
/// Fails if the path is a symbolic link, a folder or a device, or if the file cannot be examined.
pub(crate) fn file_size(path: &Path) -> io::Result<Option<u64>> {
    match path.symlink_metadata() {
        Ok(found) if found.is_file() => Ok(Some(found.len())),
        Ok(_) => Err(refused(path, "is no plain file")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(with_path(path, &error)),
    }
}

/// Creates a folder, unless it exists.
///
/// # Errors
/// Fails if the path is anything else, such as a symbolic link, or if the folder cannot be created.
pub(crate) fn create_folder(path: &Path) -> io::Result<()> {
    match std::fs::create_dir(path) {
        Ok(()) => return sync_folder(parent(path)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(with_path(path, &error)),
    }
    match path.symlink_metadata() {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(refused(path, "is no plain folder")),
        Err(error) => Err(with_path(path, &error)),
    }
}

/// Replaces the content of a file in one step: writes `bytes` to `temporary`, which must be on the
/// same file system and not in use by another process, and renames that file to `path`. The bytes
/// are on the disk when this function returns.
///
/// # Errors
/// Fails if the disk is full or the files cannot be written. The path then keeps its old content.
pub(crate) fn replace_file(path: &Path, bytes: &[u8], temporary: &Path) -> io::Result<()> {
    file_size(temporary)?;
    let replace = || -> io::Result<()> {
        let mut file = File::create(temporary)?;
        file.write_all(bytes)?;
        rename_synced(&file, temporary, path)
    };
    replace().map_err(|error| with_path(path, &error))
}

/// Moves the file `file` from one path to another, in place of what is there. The content and the
/// new name are on the disk when this returns.
pub(super) fn rename_synced(file: &File, from: &Path, to: &Path) -> io::Result<()> {
    file.sync_all()?;
    std::fs::rename(from, to)?;
    sync_folder(parent(to))
}

/// Returns the folder that contains a path.
pub(crate) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    }
}

/// Writes the entries of a folder to the disk (`fsync`).
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Returns whether both belong to the same file.
pub(crate) fn is_same_file(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

/// Adds the path to the message of an error.
pub(crate) fn with_path(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn refused(path: &Path, what: &str) -> io::Error {
    let text = format!("{} {what}", path.display());
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

#[cfg(test)]
mod tests {
    use crate::disk::*;

    #[test]
    fn links_are_refused() {
        let scratch = tempfile::tempdir().unwrap();
        let (real, link) = (scratch.path().join("real"), scratch.path().join("link"));
        create_folder(&real).unwrap();
        create_folder(&real).unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        assert!(
            create_folder(&link).is_err() && file_size(&link).is_err() && file_size(&real).is_err()
        );
        std::fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink(scratch.path().join("new"), &link).unwrap();
        assert!(LockedFile::try_open(&link).is_err());
        assert!(!scratch.path().join("new").exists());
        assert_eq!(file_size(&scratch.path().join("nothing")).unwrap(), None);
        // The symbolic link itself is replaced, and not the file that it points to.
        replace_file(&link, b"x", &scratch.path().join("part")).unwrap();
        assert_eq!(file_size(&link).unwrap(), Some(1));
    }
}
