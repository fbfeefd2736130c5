//! Stores blobs, links, tags and upload sessions in the stock registry's own directory layout, and
//! makes every change durable before it returns.
//!
//! The store knows paths and fsync, but no rules of a registry: those belong to `registry`, which
//! in turn knows no paths. Start reading at [`Store`].

mod backup;
mod backup_writer;
mod cache_fills;
mod checkpoint;
mod delete;
mod derived;
mod derived_log;
mod disk;
mod disk_history;
mod entries;
mod error;
mod folders;
mod ingest;
mod inventory;
mod last_collection;
mod link_changes;
mod listings;
mod lists;
mod marks;
mod objects;
mod old_derived;
mod paths;
mod quarantine;
mod queue_files;
mod retention;
mod rfc3339;
mod scratch;
mod sorted_names;
mod stock_proxy;
mod trash;
mod trash_entry;
mod upload_list;
mod uploads;
mod walk;

use std::path::Path;

use imgsync_oci::endpoint::UploadId;

pub(crate) use self::backup::{BackupState, OpenedBackup};
pub(crate) use self::backup_writer::{BackupWriter, BlobTransfer};
pub(crate) use self::derived::LinkFoldersIdentity;
#[cfg(test)]
pub(crate) use self::derived_log::MAX_LOG_LINE_BYTES;
pub(crate) use self::disk::{DiskSpace, FileIdentity};
pub(crate) use self::disk_history::DiskSample;
pub use self::error::Error;
pub(crate) use self::ingest::{Ingest, PartialBlob, SealedIngest};
pub(crate) use self::inventory::InventoryItem;
pub(crate) use self::lists::ListScope;
pub(crate) use self::objects::ObjectReader;
pub(crate) use self::paths::{DerivedKey, DerivedLogKey, LinkKind, MarkKey, ObjectKey};
pub(crate) use self::queue_files::QueueFiles;
pub(crate) use self::rfc3339::format as format_time;
pub(crate) use self::scratch::{BlobDraft, ObjectCursor, ScratchFile};
pub(crate) use self::trash::TrashPart;
pub(crate) use self::trash_entry::TrashEntry;
pub(crate) use self::upload_list::UploadSummary;
pub(crate) use self::walk::Walk;

use self::derived_log::LogWriteLock;
use self::disk::Disk;
use self::error::{IoContext, Result};
use self::folders::FolderCreator;
use self::link_changes::LinkChanges;
use self::paths::StorePaths;

/// The storage in one folder.
pub(crate) struct Store {
    disk: Disk,
    paths: StorePaths,
    folders: FolderCreator,
    log_write_lock: LogWriteLock,
    link_changes: LinkChanges,
    /// Keeps other servers out of the folder. `None` if the folder is read-only.
    lock: Option<StoreLock>,
}

/// The locks of a storage folder, released on drop.
struct StoreLock {
    _file: disk::FileLock,
    /// Keeps other servers out even if the operator deletes the lock file, or all derived data.
    /// `None` if the file system cannot lock folders.
    _folder: Option<disk::FileLock>,
}

impl Store {
    /// Opens the store in a folder, which is created if it is missing. Removes the temporary files
    /// of an earlier server.
    ///
    /// # Errors
    /// [`Error::Locked`] if another server uses the folder; otherwise the error of the disk.
    pub(crate) fn open(root: &Path) -> Result<Self> {
        Self::open_on(Disk::default(), root)
    }

    /// Opens the store as [`Store::open`] does, for a command of an operator: new files belong to the
    /// owner of the folder, even if root runs the command. `is_read_only` is as for
    /// [`Store::open_read_only`].
    ///
    /// # Errors
    /// As [`Store::open`], or as [`Store::open_read_only`].
    pub(crate) fn open_for_command(root: &Path, is_read_only: bool) -> Result<Self> {
        let disk = Disk::default().with_owner_of(root)?;
        if is_read_only {
            Self::open_read_only_on(disk, root)
        } else {
            Self::open_on(disk, root)
        }
    }

    /// Opens the store for reading only if its folder cannot be written, for example on a volume
    /// that is mounted read-only. Then nothing is created, removed or locked. Otherwise opens the
    /// store as [`Store::open`] does.
    ///
    /// # Errors
    /// As [`Store::open`]. A read-only folder must exist.
    pub(crate) fn open_read_only(root: &Path) -> Result<Self> {
        Self::open_read_only_on(Disk::default(), root)
    }

    /// Checks, without a change, whether the store could be opened in a folder. Whether another server
    /// uses the folder does not count.
    ///
    /// # Errors
    /// As [`Store::open`], or as [`Store::open_read_only`] with `is_read_only`.
    pub(crate) fn check(root: &Path, is_read_only: bool) -> Result<()> {
        let disk = Disk::default();
        let root = std::path::absolute(root).context("resolve", root)?;
        let paths = StorePaths::new(&root);
        for path in [&paths.temporary(), &paths.lock_file(), paths.stock_root()] {
            match disk.check_writable(path).context("write", path) {
                Err(error) if is_read_only && error.is_forbidden() && disk.is_folder(&root)? => {}
                checked => checked?,
            }
        }
        Ok(())
    }

    fn open_read_only_on(disk: Disk, root: &Path) -> Result<Self> {
        let error = match Self::open_on(disk.clone(), root) {
            Err(error) if error.is_forbidden() => error,
            opened => return opened,
        };
        let root = std::path::absolute(root).context("resolve", root)?;
        if !disk.is_folder(&root)? {
            return Err(error);
        }
        tracing::warn!(
            ?root,
            "the storage folder is read-only: serving its content without a lock"
        );
        Ok(Self::without_lock(disk, &root))
    }

    /// Returns the store in a folder, for reading only.
    fn without_lock(disk: Disk, root: &Path) -> Self {
        Self {
            paths: StorePaths::new(root),
            folders: FolderCreator::new(disk.clone()),
            log_write_lock: LogWriteLock::default(),
            link_changes: LinkChanges::default(),
            disk,
            lock: None,
        }
    }

    /// Whether the store can be written to.
    pub(crate) fn is_writable(&self) -> bool {
        self.lock.is_some()
    }

    fn open_on(disk: Disk, root: &Path) -> Result<Self> {
        let root = std::path::absolute(root).context("resolve", root)?;
        let (paths, folders) = (StorePaths::new(&root), FolderCreator::new(disk.clone()));
        folders.ensure(&paths.temporary())?;
        let lock_file = paths.lock_file();
        let file_lock = disk.lock(&lock_file).context("lock", &lock_file)?;
        let Some(file_lock) = file_lock else {
            return Err(Error::Locked { root });
        };
        let stock_root = paths.stock_root();
        folders.ensure(stock_root)?;
        let folder_lock = match disk.lock_folder(stock_root) {
            Ok(None) => return Err(Error::Locked { root }),
            Ok(lock) => lock,
            Err(error) => {
                tracing::debug!(%error, folder = ?stock_root, "cannot lock the folder");
                None
            }
        };
        let store = Self {
            disk,
            paths,
            folders,
            log_write_lock: LogWriteLock::default(),
            link_changes: LinkChanges::default(),
            lock: Some(StoreLock {
                _file: file_lock,
                _folder: folder_lock,
            }),
        };
        store.remove_content(&store.paths.temporary())?;
        Ok(store)
    }

    /// Returns the folders of the stock registry's layout in which this user may not create files.
    /// Missing folders are created when they are needed.
    pub(crate) fn forbidden_folders(&self) -> Vec<std::path::PathBuf> {
        let folders = self.paths.top_folders().into_iter();
        folders
            .filter(|folder| self.disk.is_forbidden(folder))
            .collect()
    }

    /// Gives back the memory that lists of folders took and that was not used lately.
    pub(crate) fn forget_unused_listings(&self) {
        self.folders.listings.forget_unused();
    }

    /// Returns the path of the socket through which commands reach the server that uses the folder
    /// `root`.
    pub(crate) fn control_socket(root: &Path) -> std::path::PathBuf {
        StorePaths::new(root).control_socket()
    }

    /// Returns the space of the disk.
    pub(crate) fn disk_space(&self) -> Result<DiskSpace> {
        #[cfg(test)]
        if let Some(space) = self.simulated_space()? {
            return Ok(space);
        }
        self.disk.space(&self.paths.temporary())
    }

    /// Returns an unused path for a temporary file.
    fn temporary_path(&self) -> std::path::PathBuf {
        self.paths.temporary().join(UploadId::random().to_string())
    }
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

#[cfg(test)]
impl Store {
    /// Opens a store that calls `permit` before each change to the disk.
    pub(crate) fn open_with_hook(
        root: &Path,
        permit: impl Fn() -> std::io::Result<()> + Send + Sync + 'static,
    ) -> Result<Self> {
        let hook = std::sync::Arc::new(move |_: &disk::DiskChange<'_>| permit());
        Self::open_on(Disk::with_hook(hook), root)
    }

    /// Returns how many files were opened to be read.
    pub(crate) fn opened_files(&self) -> usize {
        self.disk
            .opened_files
            .load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Returns how many entries of folders were read.
    pub(crate) fn listed_entries(&self) -> usize {
        self.disk
            .listed_entries
            .load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Makes the disk seem to have `bytes`, all of which are for blobs.
    pub(crate) fn simulate_disk(&self, bytes: u64) {
        let simulated = &self.disk.simulated_bytes;
        simulated.store(bytes, std::sync::atomic::Ordering::Relaxed);
    }

    fn simulated_space(&self) -> Result<Option<DiskSpace>> {
        let simulated = &self.disk.simulated_bytes;
        let total = simulated.load(std::sync::atomic::Ordering::Relaxed);
        if total == 0 {
            return Ok(None);
        }
        let mut used = 0;
        for folder in self.entries_below(&self.paths.stock_root().join("blobs"), 3) {
            let path = folder?.path();
            used += self.disk.len(&path)?.unwrap_or_default();
        }
        let free = total.saturating_sub(used);
        Ok(Some(DiskSpace { free, total }))
    }

    /// Opens a store as if its volume were mounted read-only.
    pub(crate) fn open_unwritable(root: &Path) -> Result<Self> {
        let refuse = |_: &disk::DiskChange<'_>| Err(std::io::ErrorKind::ReadOnlyFilesystem.into());
        Self::open_read_only_on(Disk::with_hook(std::sync::Arc::new(refuse)), root)
    }
}
