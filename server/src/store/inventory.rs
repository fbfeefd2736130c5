//! Walks over everything in the layout of the stock registry, also over what does not belong there.
//!
//! Start reading at [`Store::visit_layout`].

use std::path::{Path, PathBuf};

use imgsync_oci::Digest;

use super::error::{Error, Result};
use super::paths::{LayoutEntry, LayoutFolder};
use super::{Store, error};

/// Something that [`Store::visit_layout`] finds.
#[derive(Debug)]
pub(crate) enum InventoryItem {
    /// The bytes of a blob or a manifest.
    Blob(Digest),
    /// A file or folder that no registry writes, by its path below the folder of the layout.
    Foreign(PathBuf),
    /// A folder that cannot be read.
    Unreadable(Error),
}

impl Store {
    /// Calls `visit` with all blobs, and with everything that does not belong into the folder. An
    /// item that cannot be read does not end the walk.
    ///
    /// # Errors
    /// The errors of `visit`.
    pub(crate) fn visit_layout<E: From<Error>>(
        &self,
        visit: &mut dyn FnMut(InventoryItem) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        self.visit_layout_folder(self.paths.stock_root(), &LayoutFolder::Top, visit)
    }

    fn visit_layout_folder<E: From<Error>>(
        &self,
        path: &Path,
        folder: &LayoutFolder,
        visit: &mut dyn FnMut(InventoryItem) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        for entry in self.disk.entries(path) {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    visit(InventoryItem::Unreadable(error))?;
                    continue;
                }
            };
            match folder.entry(&entry.name, entry.is_folder) {
                LayoutEntry::Folder(next) => {
                    self.visit_layout_folder(&entry.path(), &next, visit)?;
                }
                LayoutEntry::Blob(digest) => visit(InventoryItem::Blob(digest))?,
                LayoutEntry::Link | LayoutEntry::Other => {}
                LayoutEntry::Foreign => {
                    let path = entry.path();
                    let below = path.strip_prefix(self.paths.stock_root());
                    visit(InventoryItem::Foreign(below.unwrap_or(&path).to_owned()))?;
                }
            }
        }
        Ok(())
    }

    /// Moves the bytes of a blob to the quarantine, durably, where they stay until the operator
    /// deletes them. Does nothing if there is no such blob. The caller holds the lock of the digest.
    pub(crate) fn quarantine_blob(&self, digest: &Digest) -> Result<()> {
        use error::IoContext as _;
        let from = self.paths.object(super::ObjectKey::Blob(digest));
        let Some(parent) = from.parent() else {
            return Ok(());
        };
        if !self.disk.is_file(&from)? {
            return Ok(());
        }
        let mut to = self.paths.quarantined_blob(digest, 0);
        for number in 1.. {
            if !self.disk.is_file(&to)? {
                break;
            }
            to = self.paths.quarantined_blob(digest, number);
        }
        let quarantine = to.parent().unwrap_or(&to);
        self.folders.ensure(quarantine)?;
        self.disk.rename(&from, &to).context("move", &from)?;
        self.disk.sync_folder(quarantine)?;
        self.disk.sync_folder(parent)?;
        // Best effort: the stock registry leaves the empty folder behind, too.
        if let Err(error) = self.disk.remove_folder(parent) {
            tracing::debug!(?parent, %error, "did not remove an empty folder");
        }
        Ok(())
    }
}
