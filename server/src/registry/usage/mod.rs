//! Measures how much space blobs and repositories take, for the operator.
//!
//! A measurement walks over all links, with bounded memory: larger stores take several walks.
//! Nothing is changed here. Start reading at [`Registry::measure_storage`].

mod linked_blobs;
mod ranking;
mod summaries;
mod untagged;

use std::collections::{BTreeMap, HashSet};

use imgsync_oci::{Digest, Repository};

use self::linked_blobs::{LinkedBlobs, MAX_BLOBS_PER_WALK};
use self::ranking::Ranking;
pub(crate) use self::summaries::{OpenUploadsSummary, TrashSummary};
use super::Registry;
use super::cache::link_key;
use super::digest_prefix::digest_prefix;
use super::error::Result;
use crate::store::{DiskSample, DiskSpace, LinkKind, ListScope, ObjectKey, Walk};

/// The space that the content of a registry takes. Sizes are in bytes.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct StorageUsage {
    /// Number of stored blobs and manifests.
    pub(crate) blobs: u64,
    /// Their size.
    pub(crate) blob_bytes: u64,
    /// The size of those that no repository links.
    pub(crate) unlinked_bytes: u64,
    /// Number of manifests that no tag needs.
    pub(crate) untagged_manifests: u64,
    /// Bytes that would be freed without these manifests.
    pub(crate) untagged_bytes: u64,
    /// Number of repositories.
    pub(crate) repositories: u64,
    /// The sum of the sizes of all repositories: what is shared counts for each of them.
    pub(crate) repository_bytes: u64,
    /// The largest repositories, the largest first.
    pub(crate) largest: Vec<RepositoryUsage>,
}

/// The space that the content of a repository takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RepositoryUsage {
    pub(crate) repository: Repository,
    /// The size of its blobs and manifests in bytes.
    pub(crate) bytes: u64,
    /// The size of those that another repository links, too.
    pub(crate) shared_bytes: u64,
}

impl StorageUsage {
    /// Returns how many bytes are saved because repositories share blobs.
    pub(crate) fn saved_bytes(&self) -> u64 {
        let linked = self.blob_bytes.saturating_sub(self.unlinked_bytes);
        self.repository_bytes.saturating_sub(linked)
    }
}

impl Registry {
    /// Returns the space of the disk.
    ///
    /// # Errors
    /// The errors of the store.
    pub(crate) fn disk_space(&self) -> Result<DiskSpace> {
        Ok(self.store.disk_space()?)
    }

    /// Returns the samples of the disk that were kept.
    ///
    /// # Errors
    /// The errors of the store.
    pub(crate) fn disk_history(&self) -> Result<Vec<DiskSample>> {
        Ok(self.store.disk_history()?)
    }

    /// Replaces the samples of the disk. Does nothing if the store is read-only.
    ///
    /// # Errors
    /// The errors of the store.
    pub(crate) fn put_disk_history(&self, samples: &[DiskSample]) -> Result<()> {
        Ok(self.store.put_disk_history(samples)?)
    }

    /// Measures the space that blobs and repositories take. At most `limit` repositories are
    /// listed. What changes meanwhile may be counted or not.
    ///
    /// # Errors
    /// The errors of the store and of the walk.
    pub(crate) fn measure_storage(&self, limit: usize, walk: &Walk<'_>) -> Result<StorageUsage> {
        let mut usage = StorageUsage::default();
        let mut ranking = Ranking::new(limit);
        self.for_each_repository(walk, &mut |repository| {
            let mut bytes = 0;
            self.for_each_linked_blob(repository, walk, &mut |_, target| {
                bytes += self.store.len(ObjectKey::Blob(target))?.unwrap_or(0);
                Ok(())
            })?;
            usage.repositories += 1;
            usage.repository_bytes += bytes;
            ranking.add(bytes, repository);
            Ok(())
        })?;
        let mut shared = BTreeMap::new();
        let ranked = ranking.into_sorted();
        let mut count: u64 = 0;
        for blob in self.store.blobs() {
            blob?;
            count += 1;
        }
        let parts = u128::from(count / MAX_BLOBS_PER_WALK + 1);
        for part in 0..parts {
            let is_in = |digest: &Digest| digest_prefix(digest) % parts == part;
            let blobs = self.read_linked_blobs(&is_in, walk, &mut usage)?;
            for (_, repository) in &ranked {
                let bytes: &mut u64 = shared.entry(repository.clone()).or_default();
                self.for_each_linked_blob(repository, walk, &mut |_, target| {
                    *bytes += blobs.shared_len(target);
                    Ok(())
                })?;
            }
            usage.untagged_manifests = blobs.untagged_manifests;
            blobs.add_to(&mut usage);
        }
        let largest = ranked
            .into_iter()
            .map(|(bytes, repository)| RepositoryUsage {
                shared_bytes: shared.remove(&repository).unwrap_or_default(),
                repository,
                bytes,
            });
        usage.largest = largest.collect();
        Ok(usage)
    }

    /// Reads the blobs for which `is_in` is true, and which of them repositories link.
    fn read_linked_blobs(
        &self,
        is_in: &dyn Fn(&Digest) -> bool,
        walk: &Walk<'_>,
        usage: &mut StorageUsage,
    ) -> Result<LinkedBlobs> {
        let mut sizes = Vec::new();
        for digest in self.store.blobs() {
            walk.step()?;
            let digest = digest?;
            if is_in(&digest) {
                let size = self.store.len(ObjectKey::Blob(&digest))?.unwrap_or(0);
                sizes.push((digest_prefix(&digest), size));
                usage.blobs += 1;
                usage.blob_bytes += size;
            }
        }
        let mut blobs = LinkedBlobs::new(sizes);
        self.for_each_repository(walk, &mut |repository| {
            let untagged = self.untagged_content(repository, walk)?;
            blobs.untagged_manifests += untagged.manifests;
            self.for_each_linked_blob(repository, walk, &mut |digest, target| {
                let is_untagged = untagged.content.contains(&digest_prefix(digest));
                blobs.add_link(target, is_untagged);
                Ok(())
            })
        })?;
        Ok(blobs)
    }

    /// Calls `visit` with each repository that has blobs or manifests.
    fn for_each_repository(
        &self,
        walk: &Walk<'_>,
        visit: &mut dyn FnMut(&Repository) -> Result<()>,
    ) -> Result<()> {
        for repository in self.repositories(ListScope::Repositories, walk) {
            visit(&repository?)?;
        }
        for repository in self.repositories(ListScope::RepositoriesWithBlobs, walk) {
            let repository = repository?;
            if !self.store.has_repository(&repository)? {
                visit(&repository)?;
            }
        }
        Ok(())
    }

    /// Calls `visit` with everything that a repository links, once each: the digest of the link, and
    /// the one under which the bytes are stored.
    fn for_each_linked_blob(
        &self,
        repository: &Repository,
        walk: &Walk<'_>,
        visit: &mut dyn FnMut(&Digest, &Digest) -> Result<()>,
    ) -> Result<()> {
        for links in [LinkKind::Layers, LinkKind::Revisions] {
            for digest in self.store.links(repository, links) {
                walk.step()?;
                let digest = digest?;
                let is_linked = |links| -> Result<bool> {
                    let link = link_key(repository, links, &digest);
                    Ok(self.store.len(link)?.is_some())
                };
                let is_repeated = links == LinkKind::Revisions && is_linked(LinkKind::Layers)?;
                if is_repeated || !is_linked(links)? {
                    continue;
                }
                let alias = self.alias_target(repository, links, &digest)?;
                visit(&digest, alias.as_ref().unwrap_or(&digest))?;
            }
        }
        Ok(())
    }
}

/// The content of a repository that only untagged manifests need.
#[derive(Default)]
struct UntaggedContent {
    /// Number of manifests that no tag needs.
    manifests: u64,
    /// These manifests and the blobs that only they name, by [`digest_prefix`].
    content: HashSet<u128>,
}

#[cfg(test)]
mod tests;
