//! Deletes tags, manifests and blobs from repositories, and repositories.
//!
//! Only links are removed, and listed in the trash, so that they can be restored. The bytes stay
//! until a garbage collection removes them.

use imgsync_oci::{Digest, Reference, Repository, Tag};

use super::Registry;
use super::digest_prefix::digest_prefix;
use super::error::{Error, Result};
use super::locks::LockKey;
use crate::store::{LinkKind, MarkKey, ObjectKey, TrashEntry, Walk};

/// How many things are deleted between two writes to the log of the trash.
const DELETIONS_PER_LOG_WRITE: usize = 256;

/// The content that was deleted with a repository.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DeletedRepository {
    /// Number of tags.
    pub(crate) tags: u64,
    /// Number of manifests.
    pub(crate) manifests: u64,
}

impl Registry {
    /// Deletes a tag; or, by digest, a manifest and all tags that point at it. Nothing is deleted if
    /// the walk over the tags ends early. Returns the tags that were deleted.
    ///
    /// # Errors
    /// [`Error::ManifestUnknown`] if the repository has no such tag or manifest; [`Error::Store`].
    pub(crate) fn delete_manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
        walk: &Walk<'_>,
    ) -> Result<Vec<Tag>> {
        let unknown = || Error::ManifestUnknown(reference.clone());
        match reference {
            Reference::Tag(tag) => {
                let _lock = self.lock_keys([LockKey::Tag(repository.clone(), tag.clone())]);
                // The link is not read, so that a damaged one can be deleted, too.
                let current = self.store.len(ObjectKey::TagCurrent(repository, tag))?;
                current.ok_or_else(unknown)?;
                let target = self.read_link(ObjectKey::TagCurrent(repository, tag))?;
                self.trash_tag(repository, tag, target)?;
                Ok(vec![tag.clone()])
            }
            Reference::Digest(digest) => {
                let _lock = self.lock_digests([digest.clone()]);
                let revision = ObjectKey::RevisionLink(repository, digest);
                self.store.len(revision)?.ok_or_else(unknown)?;
                let tags = self.untag(repository, digest, walk)?;
                let target = self.resolve_link(revision, digest)?;
                self.log_removal(&[TrashEntry::Revision {
                    repository: repository.clone(),
                    digest: digest.clone(),
                    target: target.unwrap_or_else(|| digest.clone()),
                }])?;
                self.lease_children(repository, digest)?;
                self.note_manifest_change(repository);
                self.store.delete(revision)?;
                self.store
                    .delete_marks(&[MarkKey::Revision(repository, digest)])?;
                Ok(tags)
            }
        }
    }

    /// Deletes the tags that point at a manifest, and returns them. The caller holds the lock of its
    /// digest. A tag that cannot be read counts as pointing elsewhere.
    fn untag(&self, repository: &Repository, digest: &Digest, walk: &Walk<'_>) -> Result<Vec<Tag>> {
        let tags = self.all_tags(repository, walk)?;
        walk.check_steps(tags.len())?;
        let mut deleted = Vec::new();
        for tag in tags {
            let _lock = self.lock_keys([LockKey::Tag(repository.clone(), tag.clone())]);
            let target = self.read_link(ObjectKey::TagCurrent(repository, &tag))?;
            if target.as_ref() == Some(digest) {
                self.trash_tag(repository, &tag, target)?;
                deleted.push(tag);
            }
        }
        Ok(deleted)
    }

    /// Deletes a tag that points at `target`. The caller holds the lock of the tag.
    pub(super) fn trash_tag(
        &self,
        repository: &Repository,
        tag: &Tag,
        target: Option<Digest>,
    ) -> Result<()> {
        let entry = target.map(|digest| TrashEntry::Tag {
            repository: repository.clone(),
            tag: tag.clone(),
            digest,
        });
        self.log_removal(entry.as_slice())?;
        self.remove_tag(repository, tag)
    }

    /// Leases what a manifest names before the manifest is deleted: a client may be pulling it.
    fn lease_children(&self, repository: &Repository, digest: &Digest) -> Result<()> {
        for child in self.named_digests(repository, digest)? {
            self.promise(repository, &child);
        }
        Ok(())
    }

    /// Deletes all tags and manifests of a repository, except for those that are pushed meanwhile.
    /// Nothing is deleted if the walk over them ends early.
    ///
    /// # Errors
    /// [`Error::NameUnknown`] if there is no such repository; [`Error::Store`]. A part may have been
    /// deleted.
    pub(crate) fn delete_repository(
        &self,
        repository: &Repository,
        walk: &Walk<'_>,
    ) -> Result<DeletedRepository> {
        if !self.store.has_repository(repository)? {
            return Err(Error::NameUnknown(repository.clone()));
        }
        let mut manifests = Vec::new();
        for digest in self.store.links(repository, LinkKind::Revisions) {
            walk.step()?;
            manifests.push(digest_prefix(&digest?));
        }
        let tags = self.all_tags(repository, walk)?;
        walk.check_steps(tags.len())?;
        let delete = || {
            let mut deleted = DeletedRepository::default();
            for tags in tags.chunks(DELETIONS_PER_LOG_WRITE) {
                deleted.tags += self.delete_tags(repository, tags)?;
            }
            let mut digests = self.store.links(repository, LinkKind::Revisions);
            loop {
                let batch = digests.by_ref().take(DELETIONS_PER_LOG_WRITE);
                let batch = batch.collect::<std::result::Result<Vec<_>, _>>()?;
                if batch.is_empty() {
                    break;
                }
                deleted.manifests += self.delete_revisions(repository, &batch)?;
            }
            self.store.sync_manifests(repository)?;
            self.store.delete_empty_repository(repository)?;
            Ok(deleted)
        };
        self.collect.removal.watch(manifests, delete)
    }

    /// Deletes those of the tags that point at manifests that may be removed, not durably. Returns
    /// how many.
    fn delete_tags(&self, repository: &Repository, tags: &[Tag]) -> Result<u64> {
        let mut targets = Vec::new();
        for tag in tags {
            targets.push(self.read_link(ObjectKey::TagCurrent(repository, tag))?);
        }
        let entry = |(tag, target): (&Tag, &Option<Digest>)| {
            Some(TrashEntry::Tag {
                repository: repository.clone(),
                tag: tag.clone(),
                digest: target.clone()?,
            })
        };
        let entries: Vec<TrashEntry> = tags.iter().zip(&targets).filter_map(entry).collect();
        self.log_removal(&entries)?;
        let mut deleted = 0;
        for (tag, logged) in tags.iter().zip(&targets) {
            let _lock = self.lock_keys([LockKey::Tag(repository.clone(), tag.clone())]);
            let target = self.read_link(ObjectKey::TagCurrent(repository, tag))?;
            // A tag that was moved or created meanwhile stays.
            let is_pushed = |target: &Digest| !self.collect.removal.may_be_removed(target);
            if target != *logged || target.as_ref().is_some_and(is_pushed) {
                continue;
            }
            self.store.discard_tag(repository, tag)?;
            self.store.delete_marks(&[MarkKey::Tag(repository, tag)])?;
            deleted += 1;
        }
        Ok(deleted)
    }

    /// Deletes those of the manifests that were not pushed meanwhile, not durably. Returns how many.
    fn delete_revisions(&self, repository: &Repository, digests: &[Digest]) -> Result<u64> {
        let mut entries = Vec::new();
        for digest in digests {
            let link = ObjectKey::RevisionLink(repository, digest);
            let target = self.resolve_link(link, digest)?;
            entries.push(TrashEntry::Revision {
                repository: repository.clone(),
                digest: digest.clone(),
                target: target.unwrap_or_else(|| digest.clone()),
            });
        }
        self.log_removal(&entries)?;
        let mut deleted = 0;
        for digest in digests {
            let _lock = self.lock_digests([digest.clone()]);
            if !self.collect.removal.may_be_removed(digest) {
                continue;
            }
            self.lease_children(repository, digest)?;
            self.note_manifest_change(repository);
            self.store
                .discard(ObjectKey::RevisionLink(repository, digest))?;
            self.store
                .delete_marks(&[MarkKey::Revision(repository, digest)])?;
            deleted += 1;
        }
        Ok(deleted)
    }

    /// Deletes a blob from a repository. The manifests that reference it stay.
    ///
    /// # Errors
    /// [`Error::BlobUnknown`] if the repository has no such blob; [`Error::Store`].
    pub(crate) fn delete_blob(&self, repository: &Repository, digest: &Digest) -> Result<()> {
        let _lock = self.lock_digests([digest.clone()]);
        let layer = ObjectKey::LayerLink(repository, digest);
        let link = self.store.len(layer)?;
        link.ok_or_else(|| Error::BlobUnknown(digest.clone()))?;
        let target = self.resolve_link(layer, digest)?;
        self.log_removal(&[TrashEntry::Layer {
            repository: repository.clone(),
            digest: digest.clone(),
            target: target.unwrap_or_else(|| digest.clone()),
        }])?;
        self.store.delete(layer)?;
        Ok(self
            .store
            .delete_marks(&[MarkKey::Layer(repository, digest)])?)
    }
}
