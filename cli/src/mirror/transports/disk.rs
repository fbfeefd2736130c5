//! Files and folders as others find them: whole or not at all, and never through links that
//! somebody else laid.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The number of bytes of the file under a path; `None` where there is nothing.
///
/// # Errors
/// It is a link, a folder or a device; it may not be looked at.
pub(super) fn file_size(path: &Path) -> io::Result<Option<u64>> {
    match path.symlink_metadata() {
        Ok(found) if found.is_file() => Ok(Some(found.len())),
        Ok(_) => Err(refused(path, "is no plain file")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(with_path(path, &error)),
    }
}

/// Makes a folder where there is none.
///
/// # Errors
/// There is something else, above all a link; it cannot be made.
pub(super) fn create_folder(path: &Path) -> io::Result<()> {
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

/// Puts bytes under a path, in place of what is there, by way of the file `temporary` of the same
/// file system, which nobody else may write meanwhile. They are on the disk when this returns.
///
/// # Errors
/// The disk is full, or not ours to write; then the path is as it was.
pub(super) fn replace_file(path: &Path, bytes: &[u8], temporary: &Path) -> io::Result<()> {
    file_size(temporary)?;
    let whole = || -> io::Result<()> {
        let mut file = File::create(temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(temporary, path)?;
        sync_folder(parent(path))
    };
    whole().map_err(|error| with_path(path, &error))
}

/// The folder that a path lies in.
pub(super) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    }
}

/// Puts a folder's entries on the disk.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// A file that is open under a lock, which goes with it.
#[derive(Debug)]
pub(super) struct LockedFile {
    pub(super) file: File,
    pub(super) path: PathBuf,
}

impl LockedFile {
    /// Opens a file, or makes it, and locks it; `None` while somebody else has it.
    ///
    /// # Errors
    /// It cannot be made, or is no plain file.
    pub(super) fn try_open(path: &Path) -> io::Result<Option<Self>> {
        let failed = |error: io::Error| with_path(path, &error);
        file_size(path)?;
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false);
        let opened = options.open(path).map_err(failed)?;
        match opened.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => return Ok(None),
            Err(std::fs::TryLockError::Error(error)) => return Err(failed(error)),
        }
        // Whoever had it until now may have moved or removed it.
        if !is_still_at(&opened, path) {
            return Ok(None);
        }
        Ok(Some(Self {
            file: opened,
            path: path.to_owned(),
        }))
    }

    /// The same; waits until nobody else has it, and makes the folder that it is in.
    ///
    /// # Errors
    /// As [`Locked::try_open`]; the folder cannot be made.
    pub(super) async fn open_waiting(path: &Path) -> io::Result<Self> {
        const LOCK_POLL_INTERVAL: Duration = Duration::from_millis(100);
        loop {
            match Self::try_open(path) {
                Ok(Some(locked)) => return Ok(locked),
                Ok(None) => tokio::time::sleep(LOCK_POLL_INTERVAL).await,
                // Whoever ended last took the folder along.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    create_folder(parent(path))?
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes the file away.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn remove(self) -> io::Result<()> {
        std::fs::remove_file(&self.path).map_err(|error| with_path(&self.path, &error))
    }
}

fn is_still_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), path.symlink_metadata()) {
        (Ok(own), Ok(found)) => is_same_file(&own, &found),
        (Err(_), _) | (_, Err(_)) => false,
    }
}

/// Whether these are of one file.
pub(super) fn is_same_file(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

/// An error with the path that it is about.
pub(super) fn with_path(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn refused(path: &Path, what: &str) -> io::Error {
    let text = format!("{} {what}", path.display());
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

#[cfg(test)]
mod tests {
    use super::*;

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
        // What stands at the end of a name is replaced, and not what it leads to.
        replace_file(&link, b"x", &scratch.path().join("part")).unwrap();
        assert_eq!(file_size(&link).unwrap(), Some(1));
    }

    #[tokio::test]
    async fn a_lock_in_a_removed_folder_is_created_again() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("own/lock");
        LockedFile::open_waiting(&path)
            .await
            .unwrap()
            .remove()
            .unwrap();
        std::fs::remove_dir(scratch.path().join("own")).unwrap();
        LockedFile::open_waiting(&path).await.unwrap();
        let nowhere = scratch.path().join("no/own/lock");
        assert!(LockedFile::open_waiting(&nowhere).await.is_err());
    }

    #[test]
    fn a_lock_is_exclusive_and_removed_with_its_file() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("lock");
        let first = LockedFile::try_open(&path).unwrap().unwrap();
        assert!(LockedFile::try_open(&path).unwrap().is_none());
        first.remove().unwrap();
        assert!(LockedFile::try_open(&path).unwrap().is_some());
    }
}
