//! What goes away, and goes durably.

use std::path::Path;

use imgsync_oci::{Repository, Tag};

use super::error::{Doing, Result};
use super::{Bytes, Key, Store};

impl Store {
    /// Removes what stands under a key, durably, if anything does.
    pub(crate) fn delete(&self, key: Key<'_>) -> Result<()> {
        let path = self.keys.path(key);
        let folder = path.parent().unwrap_or(&path);
        if !self.disk.is_folder(folder).doing("look at", folder)? {
            return Ok(());
        }
        self.disk.unlink(&path).doing("remove", &path)?;
        self.disk
            .sync_folder(folder)
            .doing("sync the folder", folder)?;
        // The folder is of use to nobody now. A stock registry leaves it, so it is no harm either.
        if let Err(error) = self.disk.remove_folder(folder) {
            tracing::debug!(?folder, %error, "an empty folder stays");
        }
        Ok(())
    }

    /// The same, if what stands there is still what `bytes` was opened from.
    pub(crate) fn delete_this(&self, key: Key<'_>, bytes: &Bytes) -> Result<()> {
        let path = self.keys.path(key);
        match bytes.is_at(&path).doing("look at", &path)? {
            true => self.delete(key),
            false => Ok(()),
        }
    }

    /// Removes a tag with all that it once pointed at, durably and at once; false where there is
    /// none.
    pub(crate) fn delete_tag(&self, repository: &Repository, tag: &Tag) -> Result<bool> {
        let folder = self.keys.tag(repository, tag);
        if !self.disk.is_folder(&folder).doing("look at", &folder)? {
            return Ok(false);
        }
        self.take_away(&folder)?;
        Ok(true)
    }

    /// Removes a folder with all that is in it, durably and at once.
    pub(super) fn take_away(&self, folder: &Path) -> Result<()> {
        let (parent, temporary) = (folder.parent().unwrap_or(folder), self.temporary());
        self.disk
            .rename(folder, &temporary)
            .doing("remove", folder)?;
        self.disk
            .sync_folder(parent)
            .doing("sync the folder", parent)?;
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
            .doing("list", folder)?
            .unwrap_or_default()
        {
            let path = folder.join(name);
            if is_folder {
                self.remove_all(&path)?;
            } else {
                self.disk.unlink(&path).doing("remove", &path)?;
            }
        }
        self.disk
            .remove_folder(folder)
            .doing("remove the folder", folder)
    }
}
