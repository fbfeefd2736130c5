//! Bytes under keys, in the stock registry's own tree, durable before they are acknowledged.
//!
//! The verbs are the registry's: open an upload, append, commit under a digest, cancel, put
//! something small, get, list after. Nothing above assumes that there are files.

mod cache_fills;
mod checkpoint;
mod delete;
mod derived;
mod disk;
mod error;
mod folders;
mod ingest;
mod lists;
mod marks;
mod objects;
mod paths;
mod referrers;
mod rfc3339;
mod stock_proxy;
mod upload_list;
mod uploads;

use std::path::Path;

use imgsync_oci::endpoint::UploadId;

pub(crate) use self::disk::FileIdentity;
pub use self::error::Error;
pub(crate) use self::ingest::{Ingest, PartialBlob};
pub(crate) use self::lists::ListScope;
pub(crate) use self::objects::ObjectReader;
pub(crate) use self::paths::{DerivedKey, LinkKind, MarkKey, ObjectKey};
pub(crate) use self::upload_list::UploadSummary;

use self::disk::Disk;
use self::error::{IoContext, Result};
use self::folders::FolderCreator;
use self::paths::StorePaths;

/// The store below one folder.
pub(crate) struct Store {
    disk: Disk,
    paths: StorePaths,
    folders: FolderCreator,
    /// Keeps other servers off the folder for as long as it is open; none where nothing can be
    /// written.
    lock: Option<disk::FileLock>,
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

    /// The same, for one who only reads: where the folder cannot be written, as on a volume that is
    /// mounted so, nothing is made, removed or locked.
    ///
    /// # Errors
    /// As [`Store::open`]; and where there is no such folder.
    pub(crate) fn open_read_only(root: &Path) -> Result<Self> {
        Self::open_read_only_on(Disk::default(), root)
    }

    fn open_read_only_on(disk: Disk, root: &Path) -> Result<Self> {
        let (source, path) = match Self::open_on(disk.clone(), root) {
            Err(Error::Io { source, path, .. }) if is_read_only_error(&source) => (source, path),
            opened => return opened,
        };
        let root = std::path::absolute(root).context("find", root)?;
        if !disk.is_folder(&root).context("look at", &root)? {
            return Err(source).context("write", &path);
        }
        tracing::warn!(
            ?root,
            "the folder cannot be written: it is only read, and not locked"
        );
        let (keys, folders) = (StorePaths::new(&root), FolderCreator::new(disk.clone()));
        let lock = None;
        Ok(Self {
            disk,
            paths: keys,
            folders,
            lock,
        })
    }

    /// Whether anything can be written at all.
    pub(crate) fn is_writable(&self) -> bool {
        self.lock.is_some()
    }

    fn open_on(disk: Disk, root: &Path) -> Result<Self> {
        let root = std::path::absolute(root).context("find", root)?;
        let (keys, folders) = (StorePaths::new(&root), FolderCreator::new(disk.clone()));
        let lock = keys.lock_file();
        folders.ensure(&keys.temporary())?;
        let taken = disk.lock(&lock).context("lock", &lock)?;
        let store = Self {
            disk,
            paths: keys,
            folders,
            lock: Some(taken.ok_or(Error::Locked { root })?),
        };
        store.remove_temporary_files()?;
        Ok(store)
    }

    fn remove_temporary_files(&self) -> Result<()> {
        let folder = self.paths.temporary();
        for (name, is_folder) in self
            .disk
            .list(&folder)
            .context("list", &folder)?
            .unwrap_or_default()
        {
            let path = folder.join(name);
            if is_folder {
                self.remove_all(&path)?;
                continue;
            }
            self.disk.unlink(&path).context("remove", &path)?;
        }
        Ok(())
    }

    /// A path that nothing has yet, for a file in the making.
    fn temporary_path(&self) -> std::path::PathBuf {
        self.paths.temporary().join(UploadId::random().to_string())
    }
}

/// Whether a disk said that it takes nothing.
fn is_read_only_error(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem};
    matches!(error.kind(), PermissionDenied | ReadOnlyFilesystem)
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

#[cfg(test)]
impl Store {
    /// A store whose every change to the disk goes through `permit` first.
    pub(crate) fn open_with_hook(
        root: &Path,
        permit: impl Fn() -> std::io::Result<()> + Send + Sync + 'static,
    ) -> Result<Self> {
        let tap = std::sync::Arc::new(move |_: &disk::DiskChange<'_>| permit());
        Self::open_on(Disk::with_hook(tap), root)
    }

    /// A store on a volume that is mounted to be read only.
    pub(crate) fn open_unwritable(root: &Path) -> Result<Self> {
        let refuse = |_: &disk::DiskChange<'_>| Err(std::io::ErrorKind::ReadOnlyFilesystem.into());
        Self::open_read_only_on(Disk::with_hook(std::sync::Arc::new(refuse)), root)
    }
}
