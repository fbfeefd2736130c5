//! What goes away, and goes durably.

use std::path::Path;

use imgsync_oci::{Repository, Tag};

use super::error::{IoContext, Result};
use super::{ObjectKey, ObjectReader, Store};

impl Store {
    /// Removes what stands under a key, durably, if anything does.
    pub(crate) fn delete(&self, key: ObjectKey<'_>) -> Result<()> {
        let path = self.paths.object(key);
        let folder = path.parent().unwrap_or(&path);
        if !self.disk.is_folder(folder).context("look at", folder)? {
            return Ok(());
        }
        self.disk.unlink(&path).context("remove", &path)?;
        self.disk
            .sync_folder(folder)
            .context("sync the folder", folder)?;
        // The folder is of use to nobody now. A stock registry leaves it, so it is no harm either.
        if let Err(error) = self.disk.remove_folder(folder) {
            tracing::debug!(?folder, %error, "an empty folder stays");
        }
        Ok(())
    }

    /// The same, if what stands there is still what `bytes` was opened from.
    pub(crate) fn delete_if_unchanged(
        &self,
        key: ObjectKey<'_>,
        bytes: &ObjectReader,
    ) -> Result<()> {
        let path = self.paths.object(key);
        match bytes.is_at(&path).context("look at", &path)? {
            true => self.delete(key),
            false => Ok(()),
        }
    }

    /// Removes a tag with all that it once pointed at, durably and at once; false where there is
    /// none.
    pub(crate) fn delete_tag(&self, repository: &Repository, tag: &Tag) -> Result<bool> {
        let folder = self.paths.tag(repository, tag);
        if !self.disk.is_folder(&folder).context("look at", &folder)? {
            return Ok(false);
        }
        self.remove_durably(&folder)?;
        Ok(true)
    }

    /// Removes a folder with all that is in it, durably and at once.
    pub(super) fn remove_durably(&self, folder: &Path) -> Result<()> {
        let (parent, temporary) = (folder.parent().unwrap_or(folder), self.temporary_path());
        self.disk
            .rename(folder, &temporary)
            .context("remove", folder)?;
        self.disk
            .sync_folder(parent)
            .context("sync the folder", parent)?;
        if let Err(error) = self.remove_all(&temporary) {
            tracing::warn!(?folder, %error, "what was removed takes space until the next start");
        }
        Ok(())
    }

    /// Removes a folder and all that is in it. A crash leaves some of that.
    pub(super) fn remove_all(&self, folder: &Path) -> Result<()> {
        for (name, is_folder) in self
            .disk
            .list(folder)
            .context("list", folder)?
            .unwrap_or_default()
        {
            let path = folder.join(name);
            if is_folder {
                self.remove_all(&path)?;
            } else {
                self.disk.unlink(&path).context("remove", &path)?;
            }
        }
        self.disk
            .remove_folder(folder)
            .context("remove the folder", folder)
    }
}
