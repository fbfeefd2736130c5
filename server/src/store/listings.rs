//! Keeps the sorted names of large folders in memory for a short time, so that a list that is read
//! page by page reads its folder once.
//!
//! Kept names count while the times of their folder show no change. The next pages of a list may
//! also use names that are a few seconds old: the folders that this server creates are added to
//! them, and only those of other programs can be missing. Whether a name still leads to something
//! is checked by the callers. Start reading at [`FolderListings::names`].

use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasher as _, RandomState};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant, SystemTime};

use super::disk::{Disk, FileIdentity};
use super::error::{Error, Result};
use super::sorted_names::{NameCollector, SortedNames};
use super::walk::Walk;

/// Smaller folders are read each time.
const MIN_KEPT_NAMES: usize = 500;
/// Bounds the memory of all kept names.
const MAX_KEPT_BYTES: usize = 16 * 1024 * 1024;
/// How long the next pages of a list may use names of a folder that has changed since.
const MAX_CHANGED_AGE: Duration = Duration::from_secs(10);
/// How long unused names are kept.
const MAX_UNUSED_AGE: Duration = Duration::from_secs(60);
/// How many folders can be read at a time.
const MAX_CONCURRENT_READS: usize = 16;

/// How the subfolders of a folder become names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ListingKind {
    /// Each is a name.
    Plain,
    /// Each is a part of the names of repositories: a name, and the same with a slash for what is
    /// below it. The folder `a` is the repository `a` and the parent of all `a/…`, and the
    /// repository `a-b` sorts between them. Names that begin with an underscore are left out.
    Repositories,
}

impl ListingKind {
    /// Calls `add` with the names that a subfolder stands for.
    fn expand(self, subfolder: &str, mut add: impl FnMut(&str)) {
        match self {
            Self::Plain => add(subfolder),
            Self::Repositories if subfolder.starts_with('_') => {}
            Self::Repositories => {
                add(subfolder);
                add(&format!("{subfolder}/"));
            }
        }
    }
}

/// The part of a list that the caller has seen already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ListingUse {
    /// Nothing: the list must have everything that is there now.
    FirstPage,
    /// A part of the list.
    NextPage,
}

/// The names of folders that were read lately.
#[derive(Default)]
pub(super) struct FolderListings {
    state: Mutex<ListingsState>,
    /// Each folder always uses the same lock, so that it is read once at a time.
    read_locks: [Mutex<()>; MAX_CONCURRENT_READS],
    hasher: RandomState,
}

#[derive(Default)]
struct ListingsState {
    kept: HashMap<PathBuf, KeptListing>,
    /// The folders that are being read, with the subfolders that were created meanwhile.
    being_read: HashMap<PathBuf, (ListingKind, BTreeSet<Box<str>>)>,
}

/// The names of one folder.
struct KeptListing {
    names: SortedNames,
    kind: ListingKind,
    /// The identity of the folder before it was read.
    identity: FileIdentity,
    /// Whether every later change of the folder changes its identity.
    is_settled: bool,
    read_at: Instant,
    used_at: Instant,
}

impl KeptListing {
    fn is_usable(&self, current: FileIdentity, usage: ListingUse) -> bool {
        let is_unchanged = self.is_settled && self.identity == current;
        let is_next_page = usage == ListingUse::NextPage;
        is_unchanged || (is_next_page && self.read_at.elapsed() < MAX_CHANGED_AGE)
    }
}

impl FolderListings {
    fn lock(&self) -> MutexGuard<'_, ListingsState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the names in a folder, from memory if they count.
    ///
    /// # Errors
    /// The errors of the disk and of the walk.
    pub(super) fn names(
        &self,
        disk: &Disk,
        folder: &Path,
        kind: ListingKind,
        usage: ListingUse,
        walk: &Walk<'_>,
    ) -> Result<SortedNames> {
        let usable = || -> Result<Option<SortedNames>> {
            // Most folders are small and not kept.
            if !self.lock().kept.contains_key(folder) {
                return Ok(None);
            }
            let current = disk.identity(folder)?;
            Ok(current.and_then(|current| self.kept_names(folder, current, usage)))
        };
        if let Some(names) = usable()? {
            return Ok(names);
        }
        let index = self.hasher.hash_one(folder) as usize % MAX_CONCURRENT_READS;
        let read_lock = &self.read_locks[index];
        let _read_lock = match read_lock.try_lock() {
            Err(TryLockError::WouldBlock) if walk.is_short() => return Err(Error::WalkEnded),
            Err(TryLockError::WouldBlock) => {
                read_lock.lock().unwrap_or_else(PoisonError::into_inner)
            }
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Ok(read_lock) => read_lock,
        };
        // Another thread may have read the folder in the meantime.
        if let Some(names) = usable()? {
            return Ok(names);
        }
        self.read(disk, folder, kind, walk)
    }

    fn kept_names(
        &self,
        folder: &Path,
        current: FileIdentity,
        usage: ListingUse,
    ) -> Option<SortedNames> {
        let mut state = self.lock();
        let listing = state.kept.get_mut(folder)?;
        if !listing.is_usable(current, usage) {
            return None;
        }
        listing.used_at = Instant::now();
        Some(listing.names.clone())
    }

    /// Reads a folder. The caller holds its read lock.
    fn read(
        &self,
        disk: &Disk,
        folder: &Path,
        kind: ListingKind,
        walk: &Walk<'_>,
    ) -> Result<SortedNames> {
        let being_read = (kind, BTreeSet::new());
        self.lock().being_read.insert(folder.to_owned(), being_read);
        let read = read_names(disk, folder, kind, walk);
        let mut state = self.lock();
        let added = state.being_read.remove(folder);
        let added = added.map(|(_, added)| added).unwrap_or_default();
        let (names, count, listing) = match read? {
            Some((names, count, identity, is_settled)) => {
                (names.sort(added), count, (identity, is_settled))
            }
            None => return Ok(SortedNames::default()),
        };
        if count >= MIN_KEPT_NAMES {
            let (identity, is_settled) = listing;
            let now = Instant::now();
            let listing = KeptListing {
                names: names.clone(),
                kind,
                identity,
                is_settled,
                read_at: now,
                used_at: now,
            };
            state.kept.insert(folder.to_owned(), listing);
            state.forget(now);
        }
        Ok(names)
    }

    /// Adds a folder that was just created to the names of its parent.
    pub(super) fn note_created(&self, folder: &Path) {
        let (Some(parent), Some(name)) = (folder.parent(), folder.file_name()) else {
            return;
        };
        let Some(name) = name.to_str() else { return };
        let mut state = self.lock();
        if let Some((kind, added)) = state.being_read.get_mut(parent) {
            kind.expand(name, |name| {
                added.insert(name.into());
            });
        }
        if let Some(KeptListing { kind, names, .. }) = state.kept.get_mut(parent) {
            kind.expand(name, |name| names.add(name));
        }
    }

    /// Drops the names that were not used lately.
    pub(super) fn forget_unused(&self) {
        self.lock().forget(Instant::now());
    }
}

impl ListingsState {
    /// Drops the names that were not used lately, and the least recently used ones if all take too
    /// much memory.
    fn forget(&mut self, now: Instant) {
        let is_recent =
            |listing: &KeptListing| now.saturating_duration_since(listing.used_at) < MAX_UNUSED_AGE;
        self.kept.retain(|_, listing| is_recent(listing));
        let bytes = |kept: &HashMap<PathBuf, KeptListing>| -> usize {
            kept.values()
                .map(|listing| listing.names.memory_bytes())
                .sum()
        };
        while bytes(&self.kept) > MAX_KEPT_BYTES {
            let oldest = self.kept.iter().min_by_key(|(_, listing)| listing.used_at);
            let Some(oldest) = oldest.map(|(folder, _)| folder.clone()) else {
                return;
            };
            self.kept.remove(&oldest);
        }
        if self.kept.is_empty() {
            self.kept.shrink_to_fit();
        }
    }
}

/// The result of reading a folder: the names, their number, the identity of the folder before, and
/// whether every later change changes that identity.
type ReadNames = (NameCollector, usize, FileIdentity, bool);

/// Reads the names in a folder; `None` if there is no such folder.
fn read_names(
    disk: &Disk,
    folder: &Path,
    kind: ListingKind,
    walk: &Walk<'_>,
) -> Result<Option<ReadNames>> {
    let now = SystemTime::now();
    let Some(identity) = disk.identity(folder)? else {
        return Ok(None);
    };
    let (mut names, mut count) = (NameCollector::default(), 0);
    for subfolder in disk.subfolders(folder) {
        walk.step()?;
        kind.expand(&subfolder?, |name| {
            names.push(name);
            count += 1;
        });
    }
    Ok(Some((names, count, identity, identity.is_settled_at(now))))
}

#[cfg(test)]
mod tests;
