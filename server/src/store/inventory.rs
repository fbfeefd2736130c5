//! Walks over everything in the layout of the stock registry, also over what does not belong there.
//!
//! Start reading at [`Store::visit_layout`].

use std::path::{Path, PathBuf};

use imgsync_oci::Digest;

use super::Store;
use super::error::Error;
use super::paths::{LayoutEntry, LayoutFolder};

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
        visit: &mut dyn FnMut(InventoryItem) -> Result<(), E>,
    ) -> Result<(), E> {
        self.visit_layout_folder(self.paths.stock_root(), &LayoutFolder::Top, visit)
    }

    fn visit_layout_folder<E: From<Error>>(
        &self,
        path: &Path,
        folder: &LayoutFolder,
        visit: &mut dyn FnMut(InventoryItem) -> Result<(), E>,
    ) -> Result<(), E> {
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
}
