//! Creates folders so that they survive a power cut.
//!
//! Start reading at [`FolderCreator::ensure`].

use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use super::disk::Disk;
use super::error::{IoContext, Result};
use super::listings::FolderListings;

/// Creates folders, one caller at a time.
pub(super) struct FolderCreator {
    disk: Disk,
    /// Held exclusively while folders are created, and shared while they are looked up. A folder
    /// that a lookup finds is therefore durable, even if another thread has just created it.
    lock: RwLock<()>,
    /// Is told of every new folder.
    pub(super) listings: FolderListings,
}

/// The folders that one call of [`FolderCreator::ensure`] created, outermost first.
#[derive(Default)]
pub(super) struct CreatedFolders(Vec<PathBuf>);

impl FolderCreator {
    pub(super) fn new(disk: Disk) -> Self {
        Self {
            disk,
            lock: RwLock::new(()),
            listings: FolderListings::default(),
        }
    }

    /// Creates a folder and its missing parents, each of them durable.
    ///
    /// # Errors
    /// Returns the error of the disk. The folders that were created are removed again then.
    pub(super) fn ensure(&self, path: &Path) -> Result<CreatedFolders> {
        {
            let _shared = self.lock.read().unwrap_or_else(PoisonError::into_inner);
            if self.disk.is_folder(path)? {
                return Ok(CreatedFolders::default());
            }
        }
        let _exclusive = self.lock.write().unwrap_or_else(PoisonError::into_inner);
        let mut created = CreatedFolders::default();
        match self.create(path, true, &mut created) {
            Ok(()) => Ok(created),
            Err(error) => {
                self.remove_created(&created);
                Err(error)
            }
        }
    }

    /// Creates a folder and its missing parents, not durably. All of them must contain nothing but
    /// derived files, or be in a backup that is not settled yet.
    pub(super) fn ensure_unsynced(&self, path: &Path) -> Result<()> {
        if self.disk.is_folder(path)? {
            return Ok(());
        }
        let _exclusive = self.lock.write().unwrap_or_else(PoisonError::into_inner);
        self.create(path, false, &mut CreatedFolders::default())
    }

    fn create(&self, path: &Path, is_synced: bool, created: &mut CreatedFolders) -> Result<()> {
        let mut missing = Vec::new();
        for folder in path.ancestors() {
            if self.disk.is_folder(folder)? {
                break;
            }
            missing.push(folder);
        }
        for folder in missing.into_iter().rev() {
            if self
                .disk
                .make_folder(folder)
                .context("create the folder", folder)?
            {
                self.listings.note_created(folder);
                created.0.push(folder.to_owned());
            }
            if is_synced && let Some(parent) = folder.parent() {
                self.disk.sync_folder(parent)?;
            }
        }
        Ok(())
    }

    /// Removes those of the folders that are empty, in this order. Best effort.
    pub(super) fn remove_empty(&self, folders: &[PathBuf]) {
        // Nobody relies on a folder that `ensure` has found and that is removed then.
        let _exclusive = self.lock.write().unwrap_or_else(PoisonError::into_inner);
        for folder in folders {
            if let Err(error) = self.disk.remove_folder(folder) {
                tracing::debug!(?folder, %error, "did not remove a folder");
            }
        }
    }

    /// Removes created folders that are still empty.
    pub(super) fn remove_created(&self, created: &CreatedFolders) {
        for folder in created.0.iter().rev() {
            if let Err(error) = self.disk.remove_folder(folder) {
                tracing::debug!(?folder, %error, "did not remove a new folder");
                return;
            }
        }
    }
}
