//! Bytes under keys, in the stock registry's own tree, durable before they are acknowledged.
//!
//! The verbs are the registry's: open an upload, append, commit under a digest, cancel, put
//! something small, get, list after. Nothing above assumes that there are files.

mod clock;
mod derived;
mod disk;
mod error;
#[allow(dead_code, reason = "the upstreams are being written")]
mod filling;
mod folders;
mod keys;
mod lists;
mod marks;
mod purge;
mod referrers;
mod remove;
mod small;
mod state;
mod stock;
mod uploads;

use std::path::Path;

use imgsync_oci::endpoint::UploadId;

pub(crate) use self::disk::FileIdentity;
pub use self::error::Error;
pub(crate) use self::filling::{Filling, Partial};
pub(crate) use self::keys::{Derived, Key, Links, Mark};
pub(crate) use self::lists::List;
pub(crate) use self::purge::Session;
pub(crate) use self::small::Bytes;
pub(crate) use self::uploads::Upload;

use self::disk::Disk;
use self::error::{Doing, Result};
use self::folders::Folders;
use self::keys::Keys;

/// The store below one folder.
pub(crate) struct Store {
    disk: Disk,
    keys: Keys,
    folders: Folders,
    /// Keeps other servers off the folder for as long as it is open.
    _lock: disk::Lock,
}

impl Store {
    /// Opens the store, made where it is missing, and removes what an earlier server left half
    /// made.
    ///
    /// # Errors
    /// Another server has it open; or the disk refuses.
    pub(crate) fn open(root: &Path) -> Result<Self> {
        Self::open_on(Disk::default(), root)
    }

    fn open_on(disk: Disk, root: &Path) -> Result<Self> {
        let root = std::path::absolute(root).doing("find", root)?;
        let (keys, folders) = (Keys::new(&root), Folders::new(disk.clone()));
        let lock = keys.lock();
        folders.ensure(&keys.temporary())?;
        let taken = disk.lock(&lock).doing("lock", &lock)?;
        let store = Self {
            disk,
            keys,
            folders,
            _lock: taken.ok_or(Error::Locked { root })?,
        };
        store.remove_temporary()?;
        Ok(store)
    }

    fn remove_temporary(&self) -> Result<()> {
        let folder = self.keys.temporary();
        for (name, is_folder) in self
            .disk
            .list(&folder)
            .doing("list", &folder)?
            .unwrap_or_default()
        {
            let path = folder.join(name);
            if is_folder {
                self.remove_all(&path)?;
                continue;
            }
            self.disk.unlink(&path).doing("remove", &path)?;
        }
        Ok(())
    }

    /// A path that nothing has yet, for a file in the making.
    fn temporary(&self) -> std::path::PathBuf {
        self.keys.temporary().join(UploadId::random().to_string())
    }
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

#[cfg(test)]
impl Store {
    /// A store whose every change to the disk goes through `permit` first.
    pub(crate) fn open_tapped(
        root: &Path,
        permit: impl Fn() -> std::io::Result<()> + Send + Sync + 'static,
    ) -> Result<Self> {
        let tap = std::sync::Arc::new(move |_: &disk::Change<'_>| permit());
        Self::open_on(Disk::tapped(tap), root)
    }
}
