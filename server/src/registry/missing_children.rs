//! Finds what a repository lacks of a manifest.
//!
//! Start reading at [`Registry::find_missing_children`].

use std::collections::BTreeSet;

use imgsync_oci::manifest::Children;
use imgsync_oci::{Descriptor, Digest, Repository, media};

use super::Registry;
use super::blobs::LinkedBlob;
use super::cache::CachedDescendants;
use super::error::{Error, Result};
use super::reverify::ReverifyOutcome;
use crate::store::ObjectKey;

/// The children of a manifest that its repository does not hold.
pub(super) struct MissingChildren {
    pub(super) missing: Vec<Digest>,
    /// The blobs that have another size than the manifest says.
    mismatched: Vec<MismatchedBlob>,
}

/// A blob, and the size in bytes that a manifest states for it.
struct MismatchedBlob {
    digest: Digest,
    stated: u64,
    stored: LinkedBlob,
}

impl MissingChildren {
    pub(super) fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.mismatched.is_empty()
    }
}

impl Registry {
    /// Returns the error for a manifest whose children are incomplete. Damaged blobs are removed
    /// first and count as missing. The caller holds no locks.
    pub(super) fn rejection(&self, children: MissingChildren) -> Result<Error> {
        let mut missing = children.missing;
        for MismatchedBlob {
            digest,
            stated,
            stored,
        } in children.mismatched
        {
            match self.reverify(&stored.target)? {
                ReverifyOutcome::Absent => missing.push(digest),
                // The manifest is wrong, so the other blobs need not be hashed.
                ReverifyOutcome::Intact => {
                    return Ok(Error::SizeMismatch {
                        digest,
                        stated,
                        actual: stored.size,
                    });
                }
            }
        }
        missing.sort_unstable();
        missing.dedup();
        Ok(Error::ChildrenUnknown(missing))
    }

    /// Returns the children of a manifest that a repository does not hold. A cached child manifest
    /// counts as missing if its own children are incomplete. The caller holds the locks of all.
    pub(super) fn find_missing_descendants(
        &self,
        repository: &Repository,
        children: &Children,
        descendants: &CachedDescendants,
    ) -> Result<MissingChildren> {
        let mut missing = self.find_missing_children(repository, children)?;
        for (digest, children) in descendants.manifests() {
            if !self.find_missing_children(repository, children)?.is_empty() {
                missing.missing.push(digest.clone());
            }
        }
        Ok(missing)
    }

    /// Returns the children of a manifest that a repository does not hold. The caller holds their
    /// locks.
    pub(super) fn find_missing_children(
        &self,
        repository: &Repository,
        children: &Children,
    ) -> Result<MissingChildren> {
        let (mut missing, mut mismatched) = (Vec::new(), Vec::new());
        let blobs = children.blobs.iter().map(|blob| (&blob.digest, blob.size));
        for (digest, stated) in blobs.collect::<BTreeSet<_>>() {
            match self.find_linked_blob(repository, digest)? {
                Some(stored) if stored.size == stated => {}
                Some(stored) => mismatched.push(MismatchedBlob {
                    digest: digest.clone(),
                    stated,
                    stored,
                }),
                None => missing.push(digest.clone()),
            }
        }
        for child in &children.manifests {
            let has_blob = || -> Result<bool> {
                let blob = self.find_linked_blob(repository, &child.digest)?;
                Ok(blob.is_some_and(|blob| blob.size == child.size))
            };
            let is_present = match child.media_type.as_str() {
                media_type if media::MANIFEST_TYPES.contains(&media_type) => {
                    self.has_child_manifest(repository, child)?
                }
                "" => self.has_child_manifest(repository, child)? || has_blob()?,
                // BuildKit exports its cache as an index whose children are layers.
                _ => has_blob()?,
            };
            if !is_present {
                missing.push(child.digest.clone());
            }
        }
        Ok(MissingChildren {
            missing,
            mismatched,
        })
    }

    fn has_child_manifest(&self, repository: &Repository, child: &Descriptor) -> Result<bool> {
        let Some(target) = self.resolve_link(
            ObjectKey::RevisionLink(repository, &child.digest),
            &child.digest,
        )?
        else {
            return Ok(false);
        };
        let size = self.store.len(ObjectKey::Blob(&target))?;
        Ok(child.size > 0 && size == Some(child.size))
    }
}
