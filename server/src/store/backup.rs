//! Folders that hold a backup of a store.
//!
//! A backup is a storage folder with a state file, which says whether the backup is complete. The
//! file is written before anything else is changed, so that a folder which is no backup is never
//! changed, and an interrupted one is recognized. Start reading at [`Store::open_backup`].

use std::path::Path;

use super::disk::Disk;
use super::error::{IoContext as _, Result};
use super::folders::FolderCreator;
use super::paths::StorePaths;
use super::{Store, rfc3339};
use crate::wall_clock;

/// Bounds how much of the state file is read; real ones are shorter.
const MAX_STATE_BYTES: usize = 256;
/// The start of the state file of a complete backup. The time follows.
const COMPLETE: &str = "complete ";
/// The state file of a backup that is being written. Damaged and empty files count as this, too.
const INCOMPLETE: &str = "incomplete\n";

/// How far a backup was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BackupState {
    /// The backup was interrupted, or is being written.
    Incomplete,
    /// The backup was finished at this time, in RFC 3339.
    Complete(String),
}

/// The outcome of opening a folder as a backup.
pub(crate) enum OpenedBackup<T> {
    /// The folder can be written.
    Open(T),
    /// The folder is not empty, and no backup.
    NotABackup,
    /// The folder is in the store of which it should become a backup.
    InStore,
}

impl<T> OpenedBackup<T> {
    /// Converts what was opened.
    pub(crate) fn map<U>(self, convert: impl FnOnce(T) -> U) -> OpenedBackup<U> {
        match self {
            Self::Open(store) => OpenedBackup::Open(convert(store)),
            Self::NotABackup => OpenedBackup::NotABackup,
            Self::InStore => OpenedBackup::InStore,
        }
    }
}

impl Store {
    /// Opens a store for reading only, beside the server that uses the folder. The caller makes sure
    /// that the server removes nothing.
    ///
    /// # Errors
    /// Returns the error of the disk.
    pub(crate) fn open_beside_server(root: &Path) -> Result<Self> {
        let root = std::path::absolute(root).context("resolve", root)?;
        Ok(Self::without_lock(Disk::default(), &root))
    }

    /// Opens a folder to write a backup of the store in `source_root`: an empty or missing folder,
    /// or an earlier backup. New files belong to the owner of the store, if this process is root.
    ///
    /// # Errors
    /// [`Error::Locked`](super::Error::Locked) if a server uses the folder; the error of the disk.
    pub(crate) fn open_backup(root: &Path, source_root: &Path) -> Result<OpenedBackup<Self>> {
        Self::open_backup_on(Disk::default(), root, source_root)
    }

    pub(super) fn open_backup_on(
        disk: Disk,
        root: &Path,
        source_root: &Path,
    ) -> Result<OpenedBackup<Self>> {
        let root = &std::path::absolute(root).context("resolve", root)?;
        let disk = disk.with_owner_of(source_root)?;
        if disk.is_below(root, source_root)? {
            return Ok(OpenedBackup::InStore);
        }
        let paths = StorePaths::new(root);
        let state = paths.backup_state();
        if !disk.is_file(&state)? {
            if !is_empty(&disk, root, &paths)? {
                return Ok(OpenedBackup::NotABackup);
            }
            let folders = FolderCreator::new(disk.clone());
            if !disk.is_folder(root)? {
                folders.ensure(root)?;
                disk.copy_permissions(source_root, root)?;
            }
            folders.ensure(paths.own_root())?;
            disk.create(&state).context("create", &state)?;
            disk.sync_folder(paths.own_root())?;
        }
        Self::open_on(disk, root).map(OpenedBackup::Open)
    }

    /// Returns the state of the backup in this folder; `None` if the folder is no backup.
    pub(crate) fn backup_state(&self) -> Result<Option<BackupState>> {
        let text = self.read_file(&self.paths.backup_state(), MAX_STATE_BYTES)?;
        Ok(text.map(|text| {
            let text = String::from_utf8(text).unwrap_or_default();
            let line = text.strip_suffix('\n');
            let time = line.and_then(|line| line.strip_prefix(COMPLETE));
            let time = time.filter(|time| rfc3339::parse(time).is_some());
            time.map_or(BackupState::Incomplete, |time| {
                BackupState::Complete(time.to_owned())
            })
        }))
    }

    /// Stores durably whether the backup is complete.
    pub(crate) fn set_backup_complete(&self, is_complete: bool) -> Result<()> {
        let text = if is_complete {
            format!("{COMPLETE}{}\n", rfc3339::format(wall_clock::now()))
        } else {
            INCOMPLETE.to_owned()
        };
        self.put_file(self.paths.backup_state(), text.as_bytes())
    }

    /// Makes a backup an ordinary store, durably. No backup is written to it any more.
    pub(crate) fn forget_backup(&self) -> Result<()> {
        self.disk.unlink(&self.paths.backup_state())?;
        self.disk.sync_folder(self.paths.own_root())
    }
}

/// Returns whether a folder is missing or empty, but for what an interrupted start of a backup
/// leaves.
fn is_empty(disk: &Disk, root: &Path, paths: &StorePaths) -> Result<bool> {
    for entry in disk.entries(root) {
        if entry?.path() != paths.own_root() {
            return Ok(false);
        }
    }
    Ok(disk.entries(paths.own_root()).next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(root: &Path, source: &Path) -> Option<Store> {
        match Store::open_backup(root, source).unwrap() {
            OpenedBackup::Open(store) => Some(store),
            OpenedBackup::NotABackup | OpenedBackup::InStore => None,
        }
    }

    #[test]
    fn only_empty_folders_and_backups_are_opened() {
        let source = tempfile::tempdir().unwrap();
        let other = tempfile::tempdir().unwrap();
        let root = other.path().join("a/b");
        for _ in 0..2 {
            let store = opened(&root, source.path()).unwrap();
            assert_eq!(store.backup_state().unwrap(), Some(BackupState::Incomplete));
        }
        let store = opened(&root, source.path()).unwrap();
        store.set_backup_complete(true).unwrap();
        let state = store.backup_state().unwrap();
        assert!(matches!(state, Some(BackupState::Complete(_))), "{state:?}");
        store.forget_backup().unwrap();
        drop(store);
        assert!(opened(&root, source.path()).is_none());
        std::fs::write(other.path().join("file"), "content").unwrap();
        assert!(opened(other.path(), source.path()).is_none());
        assert!(!other.path().join("imgsync").exists());
    }

    #[test]
    fn an_interrupted_start_is_continued() {
        let (source, root) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::create_dir(root.path().join("imgsync")).unwrap();
        assert!(opened(root.path(), source.path()).is_some());
    }

    #[test]
    fn a_folder_in_the_store_is_refused() {
        let source = tempfile::tempdir().unwrap();
        assert!(opened(source.path(), source.path()).is_none());
        let below = source.path().join("x/../backup");
        assert!(opened(&below, source.path()).is_none());
        assert!(!below.exists());
    }
}
