//! Folders that are there for good.

use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use super::disk::Disk;
use super::error::{IoContext, Result};

/// Makes folders.
pub(super) struct FolderCreator {
    disk: Disk,
    /// Held to make folders, and to look for them: whoever finds one must be able to rely on its
    /// being durable, also when another is just making it.
    making: RwLock<()>,
}

/// The folders that one call made, outermost first.
#[derive(Default)]
pub(super) struct CreatedFolders(Vec<PathBuf>);

impl FolderCreator {
    pub(super) fn new(disk: Disk) -> Self {
        Self {
            disk,
            making: RwLock::new(()),
        }
    }

    /// Makes a folder and those above it that are missing, each durable. When that fails, those
    /// that were made are gone again.
    pub(super) fn ensure(&self, path: &Path) -> Result<CreatedFolders> {
        {
            let _shared = self.making.read().unwrap_or_else(PoisonError::into_inner);
            if self.disk.is_folder(path).context("look at", path)? {
                return Ok(CreatedFolders::default());
            }
        }
        let _alone = self.making.write().unwrap_or_else(PoisonError::into_inner);
        let mut made = CreatedFolders::default();
        match self.make(path, &mut made) {
            Ok(()) => Ok(made),
            Err(error) => {
                self.remove_created(&made);
                Err(error)
            }
        }
    }

    fn make(&self, path: &Path, made: &mut CreatedFolders) -> Result<()> {
        let mut missing = Vec::new();
        for folder in path.ancestors() {
            if self.disk.is_folder(folder).context("look at", folder)? {
                break;
            }
            missing.push(folder);
        }
        for folder in missing.into_iter().rev() {
            if self
                .disk
                .make_folder(folder)
                .context("make the folder", folder)?
            {
                made.0.push(folder.to_owned());
            }
            if let Some(parent) = folder.parent() {
                self.disk
                    .sync_folder(parent)
                    .context("sync the folder", parent)?;
            }
        }
        Ok(())
    }

    /// Removes folders again, as far as nothing is in them by now.
    pub(super) fn remove_created(&self, made: &CreatedFolders) {
        for folder in made.0.iter().rev() {
            if let Err(error) = self.disk.remove_folder(folder) {
                tracing::debug!(?folder, %error, "a new folder stays");
                return;
            }
        }
    }
}
