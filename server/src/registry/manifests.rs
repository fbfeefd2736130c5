//! Reads and stores manifests and tags.
//!
//! Deleting is up to `deletes`, referrers are up to `referrers`. Start reading at
//! [`Registry::put_manifest_with`].

use std::collections::BTreeSet;
use std::time::SystemTime;

use imgsync_oci::manifest::Children;
use imgsync_oci::{Digest, MAX_MANIFEST_BYTES, Manifest, ParseError, Reference, Repository, Tag};

use super::Registry;
use super::cache::CachedDescendants;
use super::error::{Error, Result};
use super::locks::{LockGuard, LockKey, lock_shared};
use super::missing_children::MissingChildren;
use crate::config::IndexPlatforms;
use crate::store::ObjectKey;

/// A manifest in a repository.
#[derive(Debug, Clone)]
pub(crate) struct StoredManifest {
    /// The digest under which it was pushed.
    pub(crate) digest: Digest,
    /// The media type that follows from its bytes.
    pub(crate) media_type: String,
    /// The manifest, as it was pushed.
    pub(crate) bytes: Vec<u8>,
}

/// A manifest that was stored.
#[derive(Debug)]
pub(crate) struct AcceptedManifest {
    /// The digest under which it was stored.
    pub(crate) digest: Digest,
    /// The media type that follows from its bytes.
    pub(crate) media_type: String,
    /// The digest of its subject, if it has one.
    pub(crate) subject: Option<Digest>,
}

/// The locks on a manifest that is being pushed, and what they cover.
struct LockedGraph {
    descendants: CachedDescendants,
    /// The locked digests: those of the manifest, its children and their cached descendants.
    contents: BTreeSet<Digest>,
    lock: LockGuard,
}

impl Registry {
    /// Returns the size in bytes of a manifest, without reading it. The manifest is kept for a while
    /// after that: the client may be about to pull it, or to push an index that names it.
    ///
    /// # Errors
    /// [`Error::ManifestUnknown`]; [`Error::Store`].
    pub(crate) fn manifest_size(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> Result<u64> {
        let unknown = || Error::ManifestUnknown(reference.clone());
        let (digest, _) = self.find_manifest(repository, reference)?;
        let _lock = lock_shared(&self.locks, digest.clone().into());
        // Read again, because the manifest may have been removed before it was locked.
        let revision = ObjectKey::RevisionLink(repository, &digest);
        let target = self.resolve_link(revision, &digest)?.ok_or_else(unknown)?;
        self.promise(repository, &digest);
        let size = self.store.len(ObjectKey::Blob(&target))?;
        size.ok_or_else(unknown)
    }

    /// Returns the digest of a manifest, and the digest under which its bytes are stored.
    fn find_manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> Result<(Digest, Digest)> {
        let unknown = || Error::ManifestUnknown(reference.clone());
        let digest = match reference {
            Reference::Digest(digest) => digest.clone(),
            Reference::Tag(tag) => self
                .read_link(ObjectKey::TagCurrent(repository, tag))?
                .ok_or_else(unknown)?,
        };
        let target = self
            .resolve_link(ObjectKey::RevisionLink(repository, &digest), &digest)?
            .ok_or_else(unknown)?;
        Ok((digest, target))
    }

    /// Returns when a tag was last pushed; `None` if that cannot be read.
    pub(crate) fn tag_time(&self, repository: &Repository, tag: &Tag) -> Option<SystemTime> {
        let key = ObjectKey::TagCurrent(repository, tag);
        self.store.object_time(key).unwrap_or_default()
    }

    /// Returns a manifest of a repository.
    ///
    /// # Errors
    /// [`Error::ManifestUnknown`]; [`Error::ManifestDamaged`] if the stored manifest is damaged,
    /// which the next push repairs, or has a format that is no longer supported; [`Error::Store`].
    pub(crate) fn get_manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> Result<StoredManifest> {
        let unknown = || Error::ManifestUnknown(reference.clone());
        let (digest, target) = self.find_manifest(repository, reference)?;
        let bytes = self
            .store
            .get(ObjectKey::Blob(&target), MAX_MANIFEST_BYTES + 1)?;
        let bytes = bytes.ok_or_else(unknown)?;
        let matches = |digest: &Digest| Digest::of_with(digest.algorithm(), &bytes) == *digest;
        if !matches(&target) || (target != digest && !matches(&digest)) {
            tracing::warn!(%repository, %target, "a manifest is damaged: push it again");
            return Err(Error::ManifestDamaged(reference.clone()));
        }
        match Manifest::media_type(&bytes) {
            Ok(media_type) => Ok(StoredManifest {
                digest,
                media_type,
                bytes,
            }),
            Err(error) => {
                tracing::warn!(%repository, %target, %error, "cannot serve a manifest");
                Err(Error::ManifestDamaged(reference.clone()))
            }
        }
    }

    /// Stores a manifest; all manifests of an index must exist.
    #[cfg(test)]
    pub(crate) fn put_manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
        tags: &[Tag],
        declared: Option<&str>,
        bytes: &[u8],
    ) -> Result<AcceptedManifest> {
        let all = IndexPlatforms::All;
        self.put_manifest_with(repository, reference, tags, declared, bytes, &all)
    }

    /// Stores a manifest and points tags at it: the tag in `reference`, if it is one, and `tags`.
    /// `declared` is the media type that the client sent. The manifests of an index need only exist
    /// for these platforms.
    ///
    /// # Errors
    /// [`Error::ManifestInvalid`]; [`Error::DigestMismatch`] if `reference` is another digest;
    /// [`Error::ChildrenUnknown`] if the repository lacks content that the manifest references;
    /// [`Error::SizeMismatch`] if that content has another size; [`Error::TooManyReverifications`];
    /// [`Error::NoSpace`]; [`Error::Store`].
    pub(crate) fn put_manifest_with(
        &self,
        repository: &Repository,
        reference: &Reference,
        tags: &[Tag],
        declared: Option<&str>,
        bytes: &[u8],
        platforms: &IndexPlatforms,
    ) -> Result<AcceptedManifest> {
        let digest = checked_digest(reference, bytes)?;
        let manifest = parse_manifest(declared, bytes).map_err(Error::ManifestInvalid)?;
        let media_type = Manifest::media_type(bytes).map_err(Error::ManifestInvalid)?;
        let subject = manifest.subject().map(|subject| subject.digest.clone());
        let children = manifest.children();
        let mut tags: Vec<&Tag> = tags.iter().collect();
        if let Reference::Tag(tag) = reference {
            tags.push(tag);
        }
        let LockedGraph {
            descendants,
            contents,
            lock,
        } = self.lock_graph(repository, &digest, &children, &tags)?;
        let find_missing = || -> Result<MissingChildren> {
            let mut found = self.find_missing_descendants(repository, &children, &descendants)?;
            let listed = children.manifests.iter();
            let optional: BTreeSet<&Digest> = listed
                .filter(|child| !platforms.must_exist(child))
                .map(|child| &child.digest)
                .collect();
            found.missing.retain(|digest| !optional.contains(digest));
            let listed = children.manifests.iter().map(|child| &child.digest);
            let withdrawn =
                listed.filter(|child| self.collect.removal.is_withdrawn(repository, child));
            found.missing.extend(withdrawn.cloned());
            Ok(found)
        };
        let missing = find_missing()?;
        if !missing.is_empty() {
            drop(lock);
            return Err(self.rejection(missing)?);
        }
        let revision = ObjectKey::RevisionLink(repository, &digest);
        let is_new = self.resolve_link(revision, &digest)?.is_none();
        if is_new {
            self.check_manifest_space(repository, bytes.len() as u64)?;
        }
        let was_stored = self.store.len(ObjectKey::Blob(&digest))?.is_some();
        let stored = self.store_manifest(repository, &digest, is_new, bytes);
        stored.map_err(|error| self.with_remedy(error))?;
        // Checked again, because a garbage collection that started before the manifest was stored
        // may have removed a child.
        let missing = find_missing()?;
        if !missing.is_empty() {
            if is_new {
                self.store.delete(revision)?;
            }
            drop(lock);
            return Err(self.rejection(missing)?);
        }
        for tag in &tags {
            let tagged = self.put_tag(repository, tag, &digest);
            tagged.map_err(|error| self.with_remedy(error))?;
        }
        let size = bytes.len() as u64;
        if is_new && !was_stored {
            self.count_link(repository, &digest, size, false);
        } else if is_new || !was_stored {
            self.count_until_next_count(repository, &digest, size);
        }
        self.protect_bytes(&digest);
        self.claim_manifest(repository, &digest, (&contents, &descendants), &tags)?;
        Ok(AcceptedManifest {
            digest,
            media_type,
            subject,
        })
    }

    /// Locks a manifest, its tags, its children, and what cached children reference.
    fn lock_graph(
        &self,
        repository: &Repository,
        digest: &Digest,
        children: &Children,
        tags: &[&Tag],
    ) -> Result<LockedGraph> {
        loop {
            let descendants = self.find_cached_descendants(repository, children)?;
            let mut contents: BTreeSet<Digest> = child_digests(children).cloned().collect();
            contents.insert(digest.clone());
            contents.extend(descendants.digests());
            let content_keys = contents.iter().cloned().map(LockKey::Content);
            let tag_keys = tags
                .iter()
                .map(|tag| LockKey::Tag(repository.clone(), Tag::clone(tag)));
            let lock = self.lock_keys(content_keys.chain(tag_keys));
            // A pull may have cached more of the children before the locks were taken.
            if self.find_cached_descendants(repository, children)? == descendants {
                return Ok(LockedGraph {
                    descendants,
                    contents,
                    lock,
                });
            }
        }
    }

    /// Writes a manifest and its link, and adds a new one to the index.
    fn store_manifest(
        &self,
        repository: &Repository,
        digest: &Digest,
        is_new: bool,
        bytes: &[u8],
    ) -> Result<()> {
        if is_new {
            self.index_manifest(repository, digest, bytes);
        }
        let link = digest.to_string();
        Ok(self.store.put_all(&[
            (ObjectKey::Blob(digest), bytes),
            (ObjectKey::RevisionLink(repository, digest), link.as_bytes()),
        ])?)
    }

    /// Points a tag at a manifest. The caller holds the locks of both.
    pub(super) fn put_tag(
        &self,
        repository: &Repository,
        tag: &Tag,
        digest: &Digest,
    ) -> Result<()> {
        let link = digest.to_string();
        let history = ObjectKey::TagIndex(repository, tag, digest);
        let current = ObjectKey::TagCurrent(repository, tag);
        Ok(self
            .store
            .put_all(&[(history, link.as_bytes()), (current, link.as_bytes())])?)
    }
}

/// Returns the digests of the children of a manifest.
pub(super) fn child_digests(children: &Children) -> impl Iterator<Item = &Digest> + Clone {
    let children = children.blobs.iter().chain(&children.manifests);
    children.map(|child| &child.digest)
}

/// Returns the digest of a manifest, and checks that it is the one under which it was pushed.
fn checked_digest(reference: &Reference, bytes: &[u8]) -> Result<Digest> {
    let Reference::Digest(expected) = reference else {
        return Ok(Digest::of(bytes));
    };
    let actual = Digest::of_with(expected.algorithm(), bytes);
    if actual != *expected {
        return Err(Error::DigestMismatch {
            expected: expected.clone(),
            actual,
        });
    }
    Ok(actual)
}

/// Parses a manifest of the declared media type.
///
/// # Errors
/// Also fails if the bytes alone show another media type, because that one is served later.
pub(super) fn parse_manifest(
    declared: Option<&str>,
    bytes: &[u8],
) -> std::result::Result<Manifest, ParseError> {
    let (media_type, manifest) = Manifest::parse(bytes, declared)?;
    if Manifest::media_type(bytes)? != media_type {
        let text = format!("pushed as {media_type}, but its mediaType field differs");
        return Err(ParseError::new("manifest", &text));
    }
    Ok(manifest)
}
