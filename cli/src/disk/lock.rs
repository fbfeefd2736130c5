//! Files that one process locks at a time, and files that are kept while a process uses them.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::replace::rename_synced;
use super::{FileIdentity, create_folder, file_size, parent, platform, with_path};

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
    /// Fails if the file cannot be created or is no regular file.
    pub(crate) fn try_open(path: &Path) -> io::Result<Option<Self>> {
        Self::try_open_or_create(path, &default_options())
    }

    /// Opens or creates a file that only this user can read, and locks it as
    /// [`LockedFile::try_open`] does.
    ///
    /// # Errors
    /// Fails as [`LockedFile::try_open`] does.
    pub(crate) fn try_open_private(path: &Path) -> io::Result<Option<Self>> {
        let mut options = default_options();
        platform::make_private(&mut options);
        Self::try_open_or_create(path, &options)
    }

    /// Opens or creates a regular file with these options, and locks it.
    fn try_open_or_create(path: &Path, options: &OpenOptions) -> io::Result<Option<Self>> {
        file_size(path)?;
        let locked = Self::try_open_with(path, options);
        let locked = locked.map_err(|error| with_path(path, &error))?;
        // The previous holder of the lock may have moved or removed the file.
        Ok(locked.filter(Self::is_still_at_path))
    }

    /// Opens a file with the given options and locks it; `None` while another process has the lock.
    /// Follows symbolic links.
    ///
    /// # Errors
    /// Fails if the file cannot be opened, or if the file system has no locks.
    pub(crate) fn try_open_with(path: &Path, options: &OpenOptions) -> io::Result<Option<Self>> {
        let file = options.open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self {
                file,
                path: path.to_owned(),
            })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Opens or creates a file and waits for its lock. Creates the folder that it is in.
    ///
    /// # Errors
    /// Fails as [`LockedFile::try_open`] does, or if the folder cannot be created.
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

    /// Renames the file to `path`, and replaces what is there. The content and the new name are on
    /// the disk when this returns.
    ///
    /// # Errors
    /// Fails with `path` in the message.
    pub(crate) fn rename(self, path: &Path) -> io::Result<()> {
        rename_synced(&self.file, &self.path, path).map_err(|error| with_path(path, &error))?;
        // A clone of the handle may stay open, and must not keep others from reading the file.
        let _ = self.file.unlock();
        Ok(())
    }

    /// Deletes the file.
    ///
    /// # Errors
    /// Fails with the path in the message.
    pub(crate) fn remove(self) -> io::Result<()> {
        std::fs::remove_file(&self.path).map_err(|error| with_path(&self.path, &error))
    }

    fn is_still_at_path(&self) -> bool {
        let found = FileIdentity::of_path(&self.path).ok();
        found.is_some() && found == FileIdentity::of_file(&self.file).ok()
    }
}

/// Returns the options that open a file for reading and writing, and create it if it is missing.
fn default_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    options
}

/// Takes a shared lock, which keeps [`remove_if_unused`] from deleting the file while it is open.
/// Does nothing on a file system without locks. The file must not be written to any more.
pub(crate) fn mark_in_use(file: &File) {
    platform::lock_shared(file);
}

/// Takes a lock as [`mark_in_use`] does, on a file that this process writes. On Windows, only clones of
/// this handle can read the file, until it is complete and [`mark_in_use`] is called.
pub(crate) fn mark_being_written(file: &File) {
    platform::lock_for_writing(file);
}

/// Deletes a file unless a process has a lock on it. Returns whether the file was deleted.
pub(crate) fn remove_if_unused(path: &Path) -> bool {
    let file = File::open(path);
    file.is_ok_and(|file| file.try_lock().is_ok() && std::fs::remove_file(path).is_ok())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

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

    #[test]
    fn a_file_that_is_written_is_not_removed_and_can_be_read_when_it_is_complete() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("entry");
        let mut writer = File::create(&path).unwrap();
        mark_being_written(&writer);
        writer.write_all(b"x").unwrap();
        assert!(!remove_if_unused(&path));
        mark_in_use(&writer);
        assert!(!remove_if_unused(&path));
        assert_eq!(std::fs::read(&path).unwrap(), b"x");
        drop(writer);
        assert!(remove_if_unused(&path) && !path.exists());
    }

    #[test]
    fn a_renamed_file_is_not_locked_by_clones_of_its_handle() {
        let scratch = tempfile::tempdir().unwrap();
        let (part, path) = (scratch.path().join("part"), scratch.path().join("file"));
        let locked = LockedFile::try_open(&part).unwrap().unwrap();
        let _clone = locked.file.try_clone().unwrap();
        locked.rename(&path).unwrap();
        assert!(LockedFile::try_open(&path).unwrap().is_some());
    }

    #[test]
    fn a_file_in_use_is_not_removed() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("entry");
        std::fs::write(&path, b"x").unwrap();
        let reader = File::open(&path).unwrap();
        mark_in_use(&reader);
        assert!(!remove_if_unused(&path));
        drop(reader);
        assert!(remove_if_unused(&path) && !path.exists());
    }
}
