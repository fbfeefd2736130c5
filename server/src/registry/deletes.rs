//! What is taken out of a repository again. The bytes stay until they are collected.

use imgsync_oci::{Digest, Reference, Repository, Tag};

use super::Registry;
use super::error::{Error, Result};
use super::locks::LockKey;
use crate::store::{ListScope, MarkKey, ObjectKey};

impl Registry {
    /// Takes a tag out of a repository; or, by digest, a manifest with all tags that point at it.
    ///
    /// # Errors
    /// [`Error::ManifestUnknown`] where the repository has no such tag or manifest.
    pub(crate) fn delete_manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> Result<()> {
        let unknown = || Error::ManifestUnknown(reference.clone());
        match reference {
            Reference::Tag(tag) => {
                let _hold = self.lock_keys([LockKey::Tag(repository.clone(), tag.clone())]);
                // A damaged link can be deleted as well: its length says nothing.
                let current = self.store.len(ObjectKey::TagCurrent(repository, tag))?;
                current.ok_or_else(unknown)?;
                self.remove_tag(repository, tag)?;
            }
            Reference::Digest(digest) => {
                let _hold = self.lock_digests([digest.clone()]);
                let revision = ObjectKey::RevisionLink(repository, digest);
                self.store.len(revision)?.ok_or_else(unknown)?;
                self.untag(repository, digest)?;
                self.store.delete(revision)?;
                self.store
                    .delete_marks(&[MarkKey::Revision(repository, digest)])?;
            }
        }
        Ok(())
    }

    /// Takes away the tags that point at a manifest, which the caller holds. A tag that cannot be
    /// read points at none.
    fn untag(&self, repository: &Repository, digest: &Digest) -> Result<()> {
        let names = self
            .store
            .list(ListScope::Tags(repository), "", usize::MAX)?;
        for tag in names.iter().filter_map(|name| name.parse::<Tag>().ok()) {
            let _hold = self.lock_keys([LockKey::Tag(repository.clone(), tag.clone())]);
            if self
                .read_link(ObjectKey::TagCurrent(repository, &tag))?
                .as_ref()
                == Some(digest)
            {
                self.remove_tag(repository, &tag)?;
            }
        }
        Ok(())
    }

    /// Takes a blob out of a repository. Manifests that name it stay, and lack it from now on.
    ///
    /// # Errors
    /// [`Error::BlobUnknown`] where the repository has no such blob.
    pub(crate) fn delete_blob(&self, repository: &Repository, digest: &Digest) -> Result<()> {
        let _hold = self.lock_digests([digest.clone()]);
        let layer = ObjectKey::LayerLink(repository, digest);
        let link = self.store.len(layer)?;
        link.ok_or_else(|| Error::BlobUnknown(digest.clone()))?;
        self.store.delete(layer)?;
        Ok(self
            .store
            .delete_marks(&[MarkKey::Layer(repository, digest)])?)
    }
}
