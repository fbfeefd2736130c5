//! The index of a repository's manifests: their subjects and configs, so that lists of referrers
//! and lookups by config need not read the manifests.
//!
//! The stock registry's tree records neither. The index is a log: a push appends a line before its
//! manifest is linked, and nothing is removed, because the bytes of a manifest never change, and
//! whoever uses a line checks that the manifest is still there. Lines can be missing: another
//! program may have pushed, and a power cut loses lines that were not synced. So before the index
//! is used, it is compared with the links to manifests, unless its last line says that this was
//! done and the folders of the links have not changed since. Start reading at
//! [`Registry::update_index`].

mod compare;
mod facts;
mod lookup;
mod upkeep;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use imgsync_oci::{Digest, Repository};

pub(super) use self::facts::ReferrerFacts;

use self::compare::IndexComparison;
use self::facts::ManifestFacts;
use super::Registry;
use super::digest_prefix::digest_prefix;
use super::error::Result;
use super::locks::{LockGuard, LockKey};
use crate::store::{DerivedLogKey, LinkFoldersIdentity, LinkKind, Walk};

/// How long an index counts as complete after it was compared, if the manifests have changed since.
/// Pushes to this server add to the index; those of another program are found late.
const MAX_CHANGED_AGE: Duration = Duration::from_secs(10);
/// Bounds how many repositories are remembered for that.
const MAX_REMEMBERED_REPOSITORIES: usize = 256;
/// How many bytes of lines are collected before they are appended.
const APPEND_BYTES: usize = 64 * 1024;
/// Smaller repositories are compared each time: that is quick, and needs no sync.
const MIN_MARKED_MANIFESTS: usize = if cfg!(test) { 5 } else { 500 };
/// An index is compacted if it has more than twice as many lines as there are manifests, and this
/// many more.
const MIN_EXCESS_LINES: usize = 1000;
/// Begins the line that says that the index was compared with the manifests. The rest of it
/// identifies the folders of their links.
const COMPLETE_MARK: &str = "complete ";
/// Bounds the length of that line.
const MAX_COMPLETE_LINE_BYTES: usize = 1024;

/// The knowledge about the indexes that is held in memory.
#[derive(Default)]
pub(super) struct ManifestIndexState {
    /// The repositories whose index was compared lately, with the time before that.
    compared: Mutex<HashMap<Repository, Instant>>,
    /// The repositories whose manifests have changed since, with the time of the last change.
    changed: Mutex<HashMap<Repository, Instant>>,
    /// How many lines could not be appended.
    lost_lines: AtomicU64,
    /// How many callers wait for another one that completes an index.
    waiting: AtomicU64,
}

impl ManifestIndexState {
    fn is_compared_lately(&self, repository: &Repository) -> bool {
        let compared = self.compared.lock().unwrap_or_else(PoisonError::into_inner);
        let compared_at = compared.get(repository);
        compared_at.is_some_and(|time| time.elapsed() < MAX_CHANGED_AGE)
    }

    /// Remembers a comparison that began at `compared_at`, when `lost_lines` were lost.
    fn remember_compared(&self, repository: &Repository, compared_at: Instant, lost_lines: u64) {
        let mut compared = self.compared.lock().unwrap_or_else(PoisonError::into_inner);
        compared.retain(|_, time| time.elapsed() < MAX_CHANGED_AGE);
        if compared.len() < MAX_REMEMBERED_REPOSITORIES
            && self.lost_lines.load(Ordering::Relaxed) == lost_lines
        {
            compared.insert(repository.clone(), compared_at);
        }
    }

    /// Makes the next use of each index compare it.
    fn note_lost_line(&self) {
        let mut compared = self.compared.lock().unwrap_or_else(PoisonError::into_inner);
        self.lost_lines.fetch_add(1, Ordering::Relaxed);
        compared.clear();
    }
}

/// Lines that are about to be appended to an index.
struct MissingLines<'a> {
    registry: &'a Registry,
    repository: &'a Repository,
    lines: String,
    /// Whether lines could not be appended.
    is_lost: bool,
}

impl MissingLines<'_> {
    fn add(&mut self, line: &str) {
        self.lines.push_str(line);
        if self.lines.len() >= APPEND_BYTES {
            self.append();
        }
    }

    fn append(&mut self) {
        let lines = std::mem::take(&mut self.lines);
        let log = DerivedLogKey::Manifests(self.repository);
        if lines.is_empty() || self.is_lost {
            return;
        }
        if let Err(error) = self.registry.store.append_to_log(log, &lines) {
            let repository = self.repository;
            tracing::warn!(%repository, %error, "cannot complete an index of manifests");
            self.is_lost = true;
        }
    }
}

impl Registry {
    /// Adds a manifest to the index. Must be called before the manifest is linked in the
    /// repository.
    ///
    /// A failure is only logged: the next use of the index finds that the line is missing.
    pub(super) fn index_manifest(&self, repository: &Repository, digest: &Digest, bytes: &[u8]) {
        self.note_manifest_change(repository);
        let line = ManifestFacts::of(digest, bytes).to_line();
        let log = DerivedLogKey::Manifests(repository);
        if let Err(error) = self.store.append_to_log(log, &line) {
            tracing::warn!(%repository, %digest, %error, "cannot add a manifest to the index");
            self.manifest_indexes.note_lost_line();
        }
    }

    /// Returns whether the index of a repository is known to have all of its manifests.
    ///
    /// # Errors
    /// [`Error::Store`](super::Error::Store).
    pub(crate) fn is_index_complete(&self, repository: &Repository) -> Result<bool> {
        Ok(self.manifest_indexes.is_compared_lately(repository)
            || self.is_index_marked(repository)?)
    }

    /// Returns whether the last line of an index says that it has all manifests that there are now.
    fn is_index_marked(&self, repository: &Repository) -> Result<bool> {
        let log = DerivedLogKey::Manifests(repository);
        let last = self.store.last_log_line(log, MAX_COMPLETE_LINE_BYTES)?;
        let Some(compared) = last
            .as_deref()
            .and_then(|line| line.strip_prefix(COMPLETE_MARK))
        else {
            return Ok(false);
        };
        let links = LinkKind::Revisions;
        let current = self.store.link_folders_identity(repository, links)?;
        Ok(current.to_string() == compared)
    }

    /// Returns whether a caller waits for another one that completes an index.
    pub(super) fn is_index_awaited(&self) -> bool {
        self.manifest_indexes.waiting.load(Ordering::Relaxed) > 0
    }

    /// Makes the index of a repository complete: reads the manifests that it lacks. What was read
    /// is kept if the walk ends early. Returns false if the index cannot be completed, for example
    /// because the store is read-only or the disk is full.
    ///
    /// # Errors
    /// [`Error::Store`](super::Error::Store).
    pub(crate) fn update_index(&self, repository: &Repository, walk: &Walk<'_>) -> Result<bool> {
        if self.is_index_complete(repository)? || !self.store.has_repository(repository)? {
            return Ok(true);
        }
        if !self.store.is_writable() {
            return Ok(false);
        }
        let _lock = self.lock_index(repository);
        if self.is_index_complete(repository)? {
            return Ok(true);
        }
        self.complete_index(repository, SystemTime::now(), walk)
    }

    /// Waits until no other caller completes the index of a repository, and keeps others out.
    fn lock_index(&self, repository: &Repository) -> LockGuard {
        let waiting = &self.manifest_indexes.waiting;
        waiting.fetch_add(1, Ordering::Relaxed);
        let lock = self.lock_keys([LockKey::ManifestIndex(repository.clone())]);
        waiting.fetch_sub(1, Ordering::Relaxed);
        lock
    }

    /// Compares an index with the manifests of its repository, and adds the lines that it lacks.
    /// Returns false if they cannot be added. The caller holds the lock of the index.
    fn complete_index(
        &self,
        repository: &Repository,
        now: SystemTime,
        walk: &Walk<'_>,
    ) -> Result<bool> {
        let compared_at = Instant::now();
        let lost_lines = self.manifest_indexes.lost_lines.load(Ordering::Relaxed);
        let links = LinkKind::Revisions;
        let folders = self.store.link_folders_identity(repository, links)?;
        let mut missing = MissingLines {
            registry: self,
            repository,
            lines: String::new(),
            is_lost: false,
        };
        let compared = self.compare_index(repository, walk, &mut |facts| {
            missing.add(&facts.to_line());
            Ok(())
        });
        missing.append();
        let (is_stored, compared) = (!missing.is_lost, compared?);
        if !is_stored {
            return Ok(false);
        }
        let is_settled = folders.is_settled_at(now);
        if let Err(error) = self.finish_index(repository, &compared, is_settled, &folders) {
            tracing::warn!(%repository, %error, "cannot maintain an index of manifests");
        }
        // A manifest that cannot be read now may be pushed again, which adds no line.
        if compared.unreadable == 0 {
            let state = &self.manifest_indexes;
            state.remember_compared(repository, compared_at, lost_lines);
        }
        Ok(true)
    }

    /// Compacts an index that was compared if it is too long, and says in it that it is complete if
    /// every later change of the manifests changes `folders`.
    fn finish_index(
        &self,
        repository: &Repository,
        compared: &IndexComparison,
        is_settled: bool,
        folders: &LinkFoldersIdentity,
    ) -> Result<()> {
        if compared.lines > compared.manifests * 2 + MIN_EXCESS_LINES {
            self.compact_index(repository)?;
        }
        // A manifest that cannot be read now may become readable without a change of the folders.
        let is_final = is_settled && compared.unreadable == 0;
        if is_final && compared.manifests >= MIN_MARKED_MANIFESTS {
            // The lines are durable before the line that says that they are complete.
            let log = DerivedLogKey::Manifests(repository);
            self.store.sync_log(log)?;
            let complete = format!("{COMPLETE_MARK}{folders}\n");
            self.store.append_to_log(log, &complete)?;
        }
        Ok(self.store.delete_old_referrer_files(repository)?)
    }

    /// Removes the lines of manifests that were removed, because they can contain annotations.
    pub(super) fn forget_manifests(
        &self,
        repository: &Repository,
        manifests: &BTreeSet<Digest>,
    ) -> Result<()> {
        self.store.delete_old_referrer_files(repository)?;
        let log = DerivedLogKey::Manifests(repository);
        let _lock = self.lock_index(repository);
        if self.store.log_len(log)? == 0 {
            return Ok(());
        }
        let removed: HashSet<u128> = manifests.iter().map(digest_prefix).collect();
        // The lines of pushes in progress may be lost.
        self.manifest_indexes.note_lost_line();
        self.store.compact_log(log, &mut |line| {
            facts::known_prefix(line).is_some_and(|prefix| !removed.contains(&prefix))
        })?;
        self.manifest_indexes.note_lost_line();
        Ok(())
    }

    /// Removes the lines of manifests that are gone, and repeated ones.
    fn compact_index(&self, repository: &Repository) -> Result<()> {
        let mut live = HashSet::new();
        for digest in self.store.links(repository, LinkKind::Revisions) {
            live.insert(digest_prefix(&digest?));
        }
        // A line is kept for each link, the first one. The lines of pushes in progress, whose links
        // are not there yet, may be lost.
        self.manifest_indexes.note_lost_line();
        let log = DerivedLogKey::Manifests(repository);
        self.store.compact_log(log, &mut |line| {
            facts::known_prefix(line).is_some_and(|prefix| live.remove(&prefix))
        })?;
        self.manifest_indexes.note_lost_line();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
