//! Sweeps cached blobs that no manifest names, and marks whose content is gone.
//!
//! Start reading at [`Registry::sweep`].

use std::collections::HashSet;

use imgsync_oci::{Digest, Repository};

use super::super::Registry;
use super::super::error::Result;
use super::super::locks::LockKey;
use super::scan::{link_key, mark_key};
use super::to_unix_seconds;
use crate::store::{LinkKind, ListScope, MarkKey, ObjectKey, Walk};

/// Maximum number of blobs of a repository swept in one pass.
const MAX_BLOBS_PER_SWEEP_PASS: usize = 20_000;

impl Registry {
    /// Deletes cached blobs that were cached no later than `until` (Unix seconds) and that no
    /// manifest of their repository names, and deletes orphaned marks. Returns the number of freed
    /// bytes.
    pub(super) fn sweep(&self, until: u64) -> Result<u64> {
        let mut freed = 0;
        for repository in self.repositories(ListScope::RepositoriesWithMarks, &Walk::unbounded()) {
            let repository = repository?;
            self.delete_orphaned_marks(&repository)?;
            freed += self.sweep_repository(&repository, until)?;
        }
        Ok(freed)
    }

    /// Sweeps the blobs of one repository, in passes. Returns the number of freed bytes.
    fn sweep_repository(&self, repository: &Repository, until: u64) -> Result<u64> {
        let (mut freed, mut kept) = (0, 0);
        loop {
            let old = self.find_old_layers(repository, until, kept)?;
            let count = old.len();
            let unlinked = self.sweep_layers(repository, old)?;
            kept += count - unlinked.len();
            freed += self.remove_unlinked_bytes(unlinked)?;
            if count < MAX_BLOBS_PER_SWEEP_PASS {
                return Ok(freed);
            }
        }
    }

    /// Returns blobs that were cached no later than `until`, at most as many as one pass takes,
    /// after skipping the first `skip`.
    fn find_old_layers(
        &self,
        repository: &Repository,
        until: u64,
        mut skip: usize,
    ) -> Result<HashSet<Digest>> {
        let mut old = HashSet::new();
        for digest in self.store.marked_links(repository, LinkKind::Layers) {
            let digest = digest?;
            let cached_at = self.store.mark_time(MarkKey::Layer(repository, &digest))?;
            if cached_at.is_none_or(|time| to_unix_seconds(time) > until) {
                continue;
            }
            if skip > 0 {
                skip -= 1;
                continue;
            }
            old.insert(digest);
            if old.len() == MAX_BLOBS_PER_SWEEP_PASS {
                break;
            }
        }
        Ok(old)
    }

    /// Evicts those of the blobs that no manifest of the repository names, and returns them.
    fn sweep_layers(
        &self,
        repository: &Repository,
        mut old: HashSet<Digest>,
    ) -> Result<HashSet<Digest>> {
        let mut unlinked = HashSet::new();
        if old.is_empty() {
            return Ok(unlinked);
        }
        self.cache.mark_for_eviction(repository, old.clone());
        for manifest in self.manifests(repository) {
            let (_, manifest) = manifest?;
            self.unmark_children(repository, &manifest);
        }
        old.retain(|digest| self.cache.is_marked_for_eviction(digest));
        if !old.is_empty() {
            self.store
                .save_pending_evictions(&old.iter().collect::<Vec<_>>())?;
        }
        for digest in old {
            if self.evict_blob(repository, &digest)? {
                unlinked.insert(digest);
            }
        }
        self.cache.mark_for_eviction(repository, HashSet::new());
        Ok(unlinked)
    }

    /// Deletes the marks of blobs, manifests and tags whose links are gone.
    fn delete_orphaned_marks(&self, repository: &Repository) -> Result<()> {
        for links in [LinkKind::Layers, LinkKind::Revisions] {
            for digest in self.store.marked_links(repository, links) {
                self.delete_orphaned_mark(repository, links, &digest?)?;
            }
        }
        for tag in self.store.marked_tags(repository) {
            let tag = tag?;
            let current = ObjectKey::TagCurrent(repository, &tag);
            if self.store.len(current)?.is_some() {
                continue;
            }
            let _lock = self.lock_keys([LockKey::Tag(repository.clone(), tag.clone())]);
            if self.store.len(current)?.is_none() {
                self.store.delete_marks(&[MarkKey::Tag(repository, &tag)])?;
            }
        }
        Ok(())
    }

    /// Deletes a mark if its link is gone.
    fn delete_orphaned_mark(
        &self,
        repository: &Repository,
        links: LinkKind,
        digest: &Digest,
    ) -> Result<()> {
        let key = link_key(repository, links, digest);
        if self.store.len(key)?.is_some() {
            return Ok(());
        }
        let _lock = self.lock_digests([digest.clone()]);
        if self.store.len(key)?.is_none() {
            self.store
                .delete_marks(&[mark_key(repository, links, digest)])?;
        }
        Ok(())
    }
}
