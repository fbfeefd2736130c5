//! Files that one process locks at a time.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::replace::rename_synced;
use super::{create_folder, file_size, is_same_file, parent, with_path};

/// An open file with an exclusive lock, which is released when the file is closed.
#[derive(Debug)]
pub(crate) struct LockedFile {
    pub(crate) file: File,
    pub(crate) path: PathBuf,
}

impl LockedFile {
    /// Opens or creates a file and locks it; `None` while another process has the lock.
    ///
    /// # Errors
    /// Returns an error if it cannot be created or is no regular file.
    pub(crate) fn try_open(path: &Path) -> io::Result<Option<Self>> {
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
        // The previous holder of the lock may have moved or removed the file.
        if !is_still_at(&opened, path) {
            return Ok(None);
        }
        Ok(Some(Self {
            file: opened,
            path: path.to_owned(),
        }))
    }

    /// Opens or creates a file and waits for its lock. Creates the folder that it is in.
    ///
    /// # Errors
    /// Those of [`LockedFile::try_open`], and the error of creating the folder.
    pub(crate) async fn open_waiting(path: &Path) -> io::Result<Self> {
        const LOCK_POLL_INTERVAL: Duration = Duration::from_millis(100);
        loop {
            match Self::try_open(path) {
                Ok(Some(locked)) => return Ok(locked),
                Ok(None) => tokio::time::sleep(LOCK_POLL_INTERVAL).await,
                // Another process may have removed the folder with its last file.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    create_folder(parent(path))?
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Moves the file to `path`, in place of what is there. The content and the new name are on
    /// the disk when this returns.
    ///
    /// # Errors
    /// Returns the system's error, with `path`.
    pub(crate) fn rename(self, path: &Path) -> io::Result<()> {
        rename_synced(&self.file, &self.path, path).map_err(|error| with_path(path, &error))
    }

    /// Deletes the file.
    ///
    /// # Errors
    /// Returns the error of the file system.
    pub(crate) fn remove(self) -> io::Result<()> {
        std::fs::remove_file(&self.path).map_err(|error| with_path(&self.path, &error))
    }
}

fn is_still_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), path.symlink_metadata()) {
        (Ok(own), Ok(found)) => is_same_file(&own, &found),
        (Err(_), _) | (_, Err(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
