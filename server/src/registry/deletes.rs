//! Deletes tags, manifests and blobs from repositories.
//!
//! Only links are removed. The bytes stay until a garbage collection removes them.

use imgsync_oci::{Digest, Reference, Repository};

use super::Registry;
use super::error::{Error, Result};
use super::locks::LockKey;
use crate::store::{MarkKey, ObjectKey, Walk};

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
                self.remove_tag(repository, tag)?;
            }
            Reference::Digest(digest) => {
                let _lock = self.lock_digests([digest.clone()]);
                let revision = ObjectKey::RevisionLink(repository, digest);
                self.store.len(revision)?.ok_or_else(unknown)?;
                self.untag(repository, digest, walk)?;
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
                self.remove_tag(repository, &tag)?;
            }
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
        self.store.delete(layer)?;
        Ok(self
            .store
            .delete_marks(&[MarkKey::Layer(repository, digest)])?)
    }
}
