//! Deletes tags, manifests and blobs from repositories.
//!
//! Only links are removed, and listed in the trash, so that they can be restored. The bytes stay
//! until a garbage collection removes them.

use imgsync_oci::{Digest, Reference, Repository, Tag};

use super::Registry;
use super::error::{Error, Result};
use super::locks::LockKey;
use crate::store::{MarkKey, ObjectKey, TrashEntry, Walk};

impl Registry {
    /// Deletes a tag; or, by digest, a manifest and all tags that point at it. Nothing is deleted if
    /// the walk over the tags ends early.
    ///
    /// # Errors
    /// [`Error::ManifestUnknown`] if the repository has no such tag or manifest; [`Error::Store`].
    pub(crate) fn delete_manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
        walk: &Walk<'_>,
    ) -> Result<()> {
        let unknown = || Error::ManifestUnknown(reference.clone());
        match reference {
            Reference::Tag(tag) => {
                let _lock = self.lock_keys([LockKey::Tag(repository.clone(), tag.clone())]);
                // The link is not read, so that a damaged one can be deleted, too.
                let current = self.store.len(ObjectKey::TagCurrent(repository, tag))?;
                current.ok_or_else(unknown)?;
                let target = self.read_link(ObjectKey::TagCurrent(repository, tag))?;
                self.trash_tag(repository, tag, target)?;
            }
            Reference::Digest(digest) => {
                let _lock = self.lock_digests([digest.clone()]);
                let revision = ObjectKey::RevisionLink(repository, digest);
                self.store.len(revision)?.ok_or_else(unknown)?;
                self.untag(repository, digest, walk)?;
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
            }
        }
        Ok(())
    }

    /// Deletes the tags that point at a manifest. The caller holds the lock of its digest. A tag
    /// that cannot be read counts as pointing elsewhere.
    fn untag(&self, repository: &Repository, digest: &Digest, walk: &Walk<'_>) -> Result<()> {
        let tags = self.all_tags(repository, walk)?;
        walk.check_steps(tags.len())?;
        for tag in tags {
            let _lock = self.lock_keys([LockKey::Tag(repository.clone(), tag.clone())]);
            let target = self.read_link(ObjectKey::TagCurrent(repository, &tag))?;
            if target.as_ref() == Some(digest) {
                self.trash_tag(repository, &tag, target)?;
            }
        }
        Ok(())
    }

    /// Deletes a tag that points at `target`. The caller holds the lock of the tag.
    fn trash_tag(&self, repository: &Repository, tag: &Tag, target: Option<Digest>) -> Result<()> {
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
