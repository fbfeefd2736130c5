//! Removes bytes that no repository links.
//!
//! Start reading at [`Collection::collect_bytes`].

use imgsync_oci::Digest;

use super::super::cache::{link_key, to_unix_seconds};
use super::super::digest_prefix::digest_prefix;
use super::super::error::Result;
use super::candidates::{Candidates, MAX_CANDIDATES};
use super::{Collection, REMOVALS_PER_LOG_WRITE};
use crate::store::{ObjectKey, TrashEntry};

impl Collection<'_> {
    /// Removes the bytes that no repository links and that were not written lately.
    pub(super) fn collect_bytes(&mut self) -> Result<()> {
        let mut blobs = self.registry.store.blobs();
        let count = blobs.try_fold(0, |count, blob| blob.map(|_| count + 1))?;
        drop(blobs);
        let parts = u128::from(count / MAX_CANDIDATES + 1_u64);
        for part in 0..parts {
            let is_in = |digest: &Digest| digest_prefix(digest) % parts == part;
            self.collect_bytes_in(&is_in)?;
        }
        self.registry.collect.set_bytes(None);
        Ok(())
    }

    /// Collects the bytes for which `is_in` is true.
    fn collect_bytes_in(&mut self, is_in: &dyn Fn(&Digest) -> bool) -> Result<()> {
        let (store, state) = (&self.registry.store, &self.registry.collect);
        let mut prefixes = Vec::new();
        for digest in store.blobs() {
            let digest = digest?;
            if is_in(&digest) {
                prefixes.push(digest_prefix(&digest));
            }
        }
        state.set_bytes(Some(Candidates::new(prefixes)));
        self.keep_linked_bytes()?;
        let mut removed = Vec::new();
        for digest in store.blobs() {
            let digest = digest?;
            if state.has_bytes(&digest) && self.are_bytes_old(&digest)? {
                removed.push(digest);
            }
            if removed.len() >= REMOVALS_PER_LOG_WRITE {
                self.remove_bytes(&std::mem::take(&mut removed))?;
            }
        }
        self.remove_bytes(&removed)
    }

    /// Keeps the candidates that a repository links. The folder of a link can exist without the
    /// link.
    fn keep_linked_bytes(&self) -> Result<()> {
        let (registry, state) = (self.registry, &self.registry.collect);
        registry.for_each_link_anywhere(&mut |repository, links, digest| {
            let link = link_key(repository, links, digest);
            if state.has_bytes(digest)
                && registry.store.len(link)?.is_some()
                && !self.unremoved.contains(repository, links, digest)
            {
                state.keep_bytes(digest);
            }
            if let Some(target) = registry.alias_target(repository, links, digest)? {
                state.keep_bytes(&target);
            }
            Ok(())
        })
    }

    /// Returns whether bytes are there and were not written lately.
    fn are_bytes_old(&mut self, digest: &Digest) -> Result<bool> {
        let written_at = self.registry.store.object_time(ObjectKey::Blob(digest))?;
        let Some(written_at) = written_at.map(to_unix_seconds) else {
            return Ok(false);
        };
        let is_recent = written_at > self.cutoff();
        self.stats.recent += usize::from(is_recent);
        Ok(!is_recent)
    }

    /// Moves bytes to the trash, except those that were linked meanwhile or written lately.
    fn remove_bytes(&mut self, digests: &[Digest]) -> Result<()> {
        let (registry, part) = (self.registry, self.trash_part());
        let mut entries = Vec::new();
        for digest in digests {
            let size = registry.store.len(ObjectKey::Blob(digest))?;
            entries.push(TrashEntry::Blob {
                size: size.unwrap_or_default(),
                digest: digest.clone(),
            });
        }
        let is_restorable = self.options.is_dry_run || registry.log_to_trash(part, &entries)?;
        let mut moved = Vec::new();
        for (digest, entry) in digests.iter().zip(&entries) {
            let _lock = registry.lock_digests([digest.clone()]);
            let key = ObjectKey::Blob(digest);
            if !registry.collect.has_bytes(digest) || !self.are_bytes_old(digest)? {
                continue;
            }
            let size = registry.store.len(key)?.unwrap_or_default();
            if !is_restorable {
                registry.store.delete(key)?;
            } else if !self.options.is_dry_run {
                if !registry.store.move_blob_to_trash(part, digest)? {
                    continue;
                }
                moved.push(digest);
            }
            if !self.options.is_dry_run {
                registry.delete_layer_index(digest)?;
            }
            self.stats.blobs += 1;
            self.stats.bytes += size;
            (self.report)(entry);
        }
        Ok(registry.store.settle_trash(part, &moved)?)
    }
}
