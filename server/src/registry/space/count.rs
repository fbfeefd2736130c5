//! Counts what the repositories of each quota hold.
//!
//! Blobs that several repositories of a quota share count once. Cached content does not count. The
//! count is exact at its end; until the next one, additions are added and removals are ignored, so an
//! upload is refused only after a new count. Start reading at [`Registry::count_once`].

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use imgsync_oci::{Digest, Repository};

use super::super::Registry;
use super::super::error::Result;
use super::ledger::matching;
use super::lock;
use crate::config::QuotaConfig;
use crate::store::{LinkKind, ListScope, MarkKey, ObjectKey, Walk};

/// The shortest time between two counts for uploads that would be refused.
const MIN_COUNT_INTERVAL: Duration = Duration::from_secs(if cfg!(test) { 0 } else { 5 });
/// The shortest time between two counts of the background job.
const MIN_UPDATE_INTERVAL: Duration = Duration::from_secs(if cfg!(test) { 0 } else { 3600 });

/// The last count.
#[derive(Debug, Default)]
pub(super) struct CountState(Option<LastCount>);

#[derive(Debug)]
struct LastCount {
    finished_at: Instant,
    /// How many links had been changed in a way that is not added to the count.
    changes: u64,
    /// Whether nothing was added during the count.
    is_exact: bool,
}

impl Registry {
    /// Counts what the quotas count, unless that was done. Waits for a count in progress.
    pub(super) fn count_once(&self) -> Result<()> {
        if self.space.ledger().configs().is_empty() {
            return Ok(());
        }
        let mut state = lock(&self.space.count);
        if state.0.is_none() {
            state.0 = Some(self.count()?);
        }
        Ok(())
    }

    /// Counts again if the last count may be too high. Returns whether it did.
    pub(super) fn count_again(&self) -> Result<bool> {
        self.count_after(MIN_COUNT_INTERVAL)
    }

    /// Counts again if the last count is not exact any more and was finished at least `interval` ago.
    fn count_after(&self, interval: Duration) -> Result<bool> {
        let mut state = lock(&self.space.count);
        if let Some(last) = &state.0 {
            let is_current = last.is_exact && last.changes == self.store.uncounted_link_changes();
            if is_current || last.finished_at.elapsed() < interval {
                return Ok(false);
            }
        }
        state.0 = Some(self.count()?);
        Ok(true)
    }

    /// Counts what the quotas count at the start, and from time to time if something has changed in a
    /// way that only a count shows. Does nothing without quotas.
    ///
    /// # Errors
    /// [`Error::Store`](super::super::error::Error::Store).
    pub(crate) fn update_quota_usage(&self) -> Result<()> {
        if !self.space.ledger().configs().is_empty() {
            self.count_after(MIN_UPDATE_INTERVAL)?;
        }
        Ok(())
    }

    /// Discards the last count, because the quotas have changed.
    pub(super) fn discard_count(&self) {
        lock(&self.space.count).0 = None;
    }

    /// Adds a blob to the quotas of a repository, to which it was just linked. `was_stored` tells
    /// whether its bytes were there before: another repository may hold it. A failure is only logged:
    /// the next count corrects it.
    pub(in crate::registry) fn count_link(
        &self,
        repository: &Repository,
        digest: &Digest,
        size: u64,
        was_stored: bool,
    ) {
        let configs = self.space.ledger().configs();
        let mut indexes: Vec<usize> = matching(&configs, repository).collect();
        if was_stored {
            indexes.retain(|index| !self.is_counted(&configs[*index], repository, digest));
        }
        let mut ledger = self.space.ledger();
        ledger.add_stored(&configs, &indexes, size);
    }

    /// Adds content to the quotas of a repository of which it is not known whether they count it: a
    /// manifest that other repositories have, or content that was lost and pushed again.
    pub(in crate::registry) fn count_until_next_count(
        &self,
        repository: &Repository,
        digest: &Digest,
        size: u64,
    ) {
        self.count_link(repository, digest, size, false);
        self.store.note_link_change();
    }

    /// Returns whether a quota counts a blob for another repository.
    fn is_counted(&self, quota: &QuotaConfig, repository: &Repository, digest: &Digest) -> bool {
        let is_cached = |other: &Repository| {
            let mark = self.is_marked(other, LinkKind::Layers, digest);
            mark.unwrap_or(false)
        };
        let is_other = |other: &Repository| {
            other != repository && quota.applies_to(other) && !is_cached(other)
        };
        let holder = self.find_linking_repository(digest, &is_other, &Walk::unbounded());
        holder
            .unwrap_or_else(|error| {
                tracing::warn!(%error, "cannot find out whether a blob counts already");
                None
            })
            .is_some()
    }

    fn count(&self) -> Result<LastCount> {
        let changes = self.store.uncounted_link_changes();
        let configs = self.space.ledger().begin_count();
        let counted = self.counted_bytes(&configs)?;
        let is_exact = self.space.ledger().finish_count(&configs, &counted);
        Ok(LastCount {
            finished_at: Instant::now(),
            changes,
            is_exact,
        })
    }

    /// Returns the bytes that the repositories of each quota hold.
    fn counted_bytes(&self, configs: &Arc<[QuotaConfig]>) -> Result<Vec<u64>> {
        let hasher = RandomState::new();
        let mut totals = vec![0; configs.len()];
        // Hashes, to save memory.
        let mut seen: HashSet<u64> = HashSet::new();
        for repository in self.repositories(ListScope::RepositoriesWithBlobs, &Walk::unbounded()) {
            let repository = repository?;
            let indexes: Vec<usize> = matching(configs, &repository).collect();
            if indexes.is_empty() {
                continue;
            }
            let has_marks = self.store.has_marks(&repository)?;
            for links in [LinkKind::Layers, LinkKind::Revisions] {
                for digest in self.store.links(&repository, links) {
                    let digest = digest?;
                    if has_marks && self.is_marked(&repository, links, &digest)? {
                        continue;
                    }
                    let mut size = None;
                    for index in &indexes {
                        if seen.insert(hasher.hash_one((index, &digest))) {
                            let size = match size {
                                Some(size) => size,
                                None => {
                                    *size.insert(self.linked_size(&repository, links, &digest)?)
                                }
                            };
                            totals[*index] += size;
                        }
                    }
                }
            }
        }
        Ok(totals)
    }

    fn is_marked(&self, repository: &Repository, links: LinkKind, digest: &Digest) -> Result<bool> {
        let mark = match links {
            LinkKind::Layers => MarkKey::Layer(repository, digest),
            LinkKind::Revisions => MarkKey::Revision(repository, digest),
        };
        Ok(self.store.mark_time(mark)?.is_some())
    }

    /// Returns the size of the bytes of a link; 0 if they are not there.
    fn linked_size(
        &self,
        repository: &Repository,
        links: LinkKind,
        digest: &Digest,
    ) -> Result<u64> {
        let alias = self.alias_target(repository, links, digest)?;
        let target = alias.as_ref().unwrap_or(digest);
        Ok(self.store.len(ObjectKey::Blob(target))?.unwrap_or_default())
    }
}
