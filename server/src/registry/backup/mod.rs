//! Writes a backup of a registry: everything that was pushed and that a manifest names.
//!
//! The caller makes sure that no content is removed meanwhile. Pushes and deletions go on: of each
//! repository the tags are read first, and what they name was there before them. In the backup, a
//! manifest is linked after everything that it names is durable, and a tag after its manifest, so
//! that an interrupted backup has complete images, too. Cached content is left out, because it can
//! be fetched again. Start reading at [`Registry::back_up_to`].

mod repository;

use std::fmt;

use imgsync_oci::{Digest, Repository, Tag};

use self::repository::RepositoryCopy;
use super::Registry;
use super::collect::candidates::Candidates;
use super::digest_prefix::digest_prefix;
use super::error::Result;
use crate::store::{BackupWriter, BlobTransfer, LinkKind, ListScope, ObjectKey, Walk};

/// Between two syncs, the content of this many repositories is copied.
const MAX_COPIES: usize = if cfg!(test) { 2 } else { 1000 };
/// How many digests of copied content may be in memory.
const MAX_DIGESTS: usize = 100_000;

/// The result of a backup.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BackupStats {
    /// Number of repositories in the backup.
    pub(crate) repositories: usize,
    /// Number of tags in the backup.
    pub(crate) tags: usize,
    /// Number of manifests in the backup, counted for each repository.
    pub(crate) manifests: usize,
    /// Number of blobs and manifests that were added as hard links.
    pub(crate) linked: usize,
    /// Number of blobs and manifests that were copied.
    pub(crate) copied: usize,
    /// Number of bytes of those that were linked or copied.
    pub(crate) new_bytes: u64,
    /// Number of tags that the registry does not have any more, and that were removed.
    pub(crate) removed_tags: usize,
    /// Number of blobs and manifests that were removed.
    pub(crate) removed_blobs: usize,
    /// Number of things that are damaged in the registry, and not in the backup.
    pub(crate) damaged: usize,
}

/// The outcome of a backup that did not fail.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum BackupOutcome {
    /// The backup is complete and durable.
    Complete(BackupStats),
    /// The registry has no tag, but the backup has. The backup was not changed.
    EmptyRegistry,
    /// Content may have been removed meanwhile. The backup can be continued.
    LeaseLost,
}

/// Something that is damaged in the registry, and that the backup lacks therefore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BackupGap {
    /// A manifest cannot be read.
    Manifest(Repository, Digest),
    /// A blob of a manifest is missing or has another size.
    Blob {
        repository: Repository,
        manifest: Digest,
        blob: Digest,
    },
    /// The link of a tag cannot be read, or its manifest is not in the backup.
    Tag(Repository, Tag),
}

impl fmt::Display for BackupGap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Manifest(repository, digest) => {
                write!(f, "{repository}: manifest {digest} cannot be read")
            }
            Self::Blob {
                repository,
                manifest,
                blob,
            } => write!(
                f,
                "{repository}: blob {blob} of manifest {manifest} is missing or damaged"
            ),
            Self::Tag(repository, tag) => {
                write!(
                    f,
                    "{repository}:{tag} leads to no manifest that can be read"
                )
            }
        }
    }
}

/// A backup that is being written.
struct Backup<'a> {
    source: &'a Registry,
    target: &'a Registry,
    writer: BackupWriter<'a>,
    /// The blobs that were in the backup at its start, except for those that are still named.
    stale_blobs: Candidates,
    report: &'a mut dyn FnMut(BackupGap),
    stats: BackupStats,
}

impl Registry {
    /// Updates a backup of this registry: adds what is new, and removes what the registry does not
    /// have any more. Calls `report` with what is damaged and therefore not in the backup; what an
    /// earlier backup has of it stays. `is_leased` says whether no content was removed so far.
    ///
    /// # Errors
    /// Returns an error of one of the two stores. The backup can be continued then.
    pub(crate) fn back_up_to(
        &self,
        target: &Registry,
        is_leased: &dyn Fn() -> bool,
        report: &mut dyn FnMut(BackupGap),
    ) -> Result<BackupOutcome> {
        if !self.has_tags()? && target.has_tags()? {
            return Ok(BackupOutcome::EmptyRegistry);
        }
        target.store.set_backup_complete(false)?;
        let stored = target.store.blobs();
        let stored = stored.map(|digest| digest.map(|digest| digest_prefix(&digest)));
        let mut backup = Backup {
            source: self,
            target,
            writer: BackupWriter::new(&target.store),
            stale_blobs: Candidates::new(stored.collect::<std::result::Result<_, _>>()?),
            report,
            stats: BackupStats::default(),
        };
        if !backup.run(is_leased)? {
            return Ok(BackupOutcome::LeaseLost);
        }
        target.store.set_backup_complete(true)?;
        Ok(BackupOutcome::Complete(backup.stats))
    }

    /// Returns whether any repository has a tag, damaged or not.
    fn has_tags(&self) -> Result<bool> {
        let walk = Walk::unbounded();
        for repository in self.repositories(ListScope::Repositories, &walk) {
            let repository = repository?;
            for tag in self.all_tags(&repository, &walk)? {
                let current = ObjectKey::TagCurrent(&repository, &tag);
                if self.store.len(current)?.is_some() {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}

impl Backup<'_> {
    /// Returns false if the lease was lost.
    fn run(&mut self, is_leased: &dyn Fn() -> bool) -> Result<bool> {
        let (walk, source, target) = (Walk::unbounded(), self.source, self.target);
        let mut copies = Vec::new();
        for repository in source.repositories(ListScope::Repositories, &walk) {
            copies.push(self.copy_content(repository?)?);
            let digests: usize = copies.iter().map(RepositoryCopy::len).sum();
            if (copies.len() >= MAX_COPIES || digests >= MAX_DIGESTS)
                && !self.link_content(std::mem::take(&mut copies), is_leased)?
            {
                return Ok(false);
            }
        }
        if !self.link_content(copies, is_leased)? {
            return Ok(false);
        }
        for scope in [ListScope::Repositories, ListScope::RepositoriesWithBlobs] {
            for repository in target.repositories(scope, &walk) {
                self.remove_unknown_repository(&repository?)?;
            }
        }
        self.remove_stale_blobs()?;
        self.writer.settle()?;
        Ok(true)
    }

    fn remove_unknown_repository(&mut self, repository: &Repository) -> Result<()> {
        if self.source.store.has_repository(repository)? {
            return Ok(());
        }
        let walk = Walk::unbounded();
        self.stats.removed_tags += self.target.all_tags(repository, &walk)?.len();
        Ok(self.target.store.delete_repository_links(repository)?)
    }

    /// Removes the blobs that nothing in the backup names any more.
    fn remove_stale_blobs(&mut self) -> Result<()> {
        let store = &self.target.store;
        for digest in store.blobs() {
            let digest = digest?;
            if self.stale_blobs.contains(&digest) {
                store.discard(ObjectKey::Blob(&digest))?;
                self.stats.removed_blobs += 1;
            }
        }
        Ok(())
    }

    /// Adds the bytes of a blob or manifest; returns whether the backup has them now.
    fn copy_bytes(&mut self, stored: &Digest) -> Result<bool> {
        let copied = self.writer.put_blob(stored, &self.source.store)?;
        match copied {
            Some(BlobTransfer::Unchanged) => {}
            Some(BlobTransfer::Linked(bytes)) => {
                self.stats.linked += 1;
                self.stats.new_bytes += bytes;
            }
            Some(BlobTransfer::Copied(bytes)) => {
                self.stats.copied += 1;
                self.stats.new_bytes += bytes;
            }
            None => return Ok(false),
        }
        Ok(true)
    }

    /// Adds a link, unless the backup has it.
    fn put_link(&mut self, link: ObjectKey<'_>, target: &Digest) -> Result<()> {
        if self.target.read_link(link)?.as_ref() != Some(target) {
            self.writer.put_link(link, target)?;
        }
        Ok(())
    }

    /// Returns the digests that a repository of the backup links, as candidates for their removal.
    fn linked_in_target(&self, repository: &Repository, links: LinkKind) -> Result<Candidates> {
        let linked = self.target.store.links(repository, links);
        let linked = linked.map(|digest| digest.map(|digest| digest_prefix(&digest)));
        Ok(Candidates::new(
            linked.collect::<std::result::Result<_, _>>()?,
        ))
    }

    fn report_gap(&mut self, gap: BackupGap) {
        self.stats.damaged += 1;
        (self.report)(gap);
    }
}

#[cfg(test)]
mod damage_tests;
#[cfg(test)]
mod power_tests;
#[cfg(test)]
mod tests;
