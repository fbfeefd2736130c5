//! Reads content wherever it is: among the stored blobs, or in the trash.

use std::collections::BTreeSet;

use imgsync_oci::{Digest, MAX_MANIFEST_BYTES, Repository};

use super::super::super::Registry;
use super::super::super::error::Result;
use super::super::manifest_children::digests_named_in;
use super::super::removed_content::RemovedContent;
use super::selection::RepositoryImages;
use crate::store::{LinkKind, ObjectKey, TrashEntry, Walk};

impl Registry {
    /// Calls `visit` with everything in the trash, the latest parts first.
    pub(super) fn for_each_trashed(&self, visit: &mut dyn FnMut(TrashEntry)) -> Result<()> {
        for part in self.store.trash_parts()?.into_iter().rev() {
            self.store.for_each_trash_entry(part, &mut |entry| {
                visit(entry);
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Returns whether a repository has a manifest, or had it before it was removed.
    pub(super) fn was_manifest_of(&self, repository: &Repository, digest: &Digest) -> Result<bool> {
        let link = ObjectKey::RevisionLink(repository, digest);
        let mut is_known = self.store.len(link)?.is_some();
        self.for_each_trashed(&mut |entry| {
            is_known |= matches!(&entry, TrashEntry::Revision { repository: of, digest: trashed, .. }
                if of == repository && trashed == digest);
        })?;
        Ok(is_known)
    }

    /// Returns whether there are bytes of a digest, here, in the trash, in the quarantine or in an
    /// interrupted fetch.
    pub(super) fn has_content(&self, digest: &Digest) -> Result<bool> {
        if self.store.len(ObjectKey::Blob(digest))?.is_some()
            || self.store.has_cache_fill(digest)?
            || self.store.quarantined_len(digest)?.is_some()
        {
            return Ok(true);
        }
        for part in self.store.trash_parts()? {
            if self.store.trashed_blob_len(part, digest)?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Reads a manifest from the stored blobs or from the trash.
    fn manifest_bytes(&self, digest: &Digest) -> Result<Option<Vec<u8>>> {
        let limit = MAX_MANIFEST_BYTES + 1;
        if let Some(bytes) = self.store.get(ObjectKey::Blob(digest), limit)? {
            return Ok(Some(bytes));
        }
        for part in self.store.trash_parts()? {
            if let Some(bytes) = self.store.read_trashed_blob(part, digest, limit)? {
                return Ok(Some(bytes));
            }
        }
        Ok(None)
    }

    /// Returns what a manifest names, also one in the trash.
    pub(super) fn content_named_by(&self, digest: &Digest) -> Result<BTreeSet<Digest>> {
        let bytes = self.manifest_bytes(digest)?;
        Ok(bytes.map_or_else(BTreeSet::new, |bytes| digests_named_in(&bytes)))
    }

    /// Reads the manifests and tags of a repository, with one manifest that may be in the trash.
    pub(super) fn repository_images(
        &self,
        repository: &Repository,
        removed: Option<&Digest>,
    ) -> Result<RepositoryImages> {
        let walk = Walk::unbounded();
        let mut graph = self.manifest_graph(repository, &walk, &mut |_| Ok(false))?;
        let trashed = match removed {
            Some(_) => {
                let parts = self.store.trash_parts()?;
                RemovedContent::read(&self.store, &parts, [repository.clone()].into())?
            }
            None => RemovedContent::default(),
        };
        let mut pending: Vec<Digest> = removed.into_iter().cloned().collect();
        while let Some(digest) = pending.pop() {
            if graph.contains(&digest) {
                continue;
            }
            if let Some(bytes) = self.manifest_bytes(&digest)? {
                graph.add_bytes(&digest, &bytes);
                let named = digests_named_in(&bytes).into_iter();
                let links = LinkKind::Revisions;
                pending.extend(named.filter(|named| trashed.contains(repository, links, named)));
            }
            graph.insert(digest);
        }
        let mut tags = Vec::new();
        for tag in self.all_tags(repository, &walk)? {
            if let Some(target) = self.read_link(ObjectKey::TagCurrent(repository, &tag))? {
                tags.push((tag, target));
            }
        }
        Ok(RepositoryImages { graph, tags })
    }
}
