//! Stores manifests from upstreams, and tells cached manifests from pushed ones.
//!
//! Start reading at [`Registry::cache_manifest`].

use imgsync_oci::{Digest, Manifest, Repository, Tag};

use super::super::Registry;
use super::super::error::{Error, Result};
use super::super::locks::{LockKey, lock_shared};
use super::super::manifests::{StoredManifest, parse_manifest};
use super::from_unix_seconds;
use super::tags::{TagMark, TagState};
use crate::store::{MarkKey, ObjectKey};

/// Whether a repository has a manifest, and where it came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ManifestState {
    /// The repository has no such manifest.
    Absent,
    /// The manifest was pushed to this registry.
    Pushed,
    /// The manifest was cached from an upstream.
    Cached,
}

/// A manifest received from an upstream.
#[derive(Debug, Clone, Copy)]
pub(crate) struct UpstreamManifest<'a> {
    /// The digest that was requested or that the upstream reported; `None` if neither is known,
    /// then sha256 is used.
    pub(crate) digest: Option<&'a Digest>,
    /// The media type that the upstream reported.
    pub(crate) media_type: Option<&'a str>,
    /// The bytes of the manifest.
    pub(crate) bytes: &'a [u8],
    /// The address of the upstream.
    pub(crate) upstream: &'a str,
}

impl UpstreamManifest<'_> {
    /// Returns the manifest as it is served, for one that cannot be stored.
    ///
    /// # Errors
    /// As [`Registry::cache_manifest`], without those of the store.
    pub(crate) fn to_served(self) -> Result<StoredManifest> {
        let (digest, _) = self.verify()?;
        let media_type = Manifest::media_type(self.bytes).map_err(Error::ManifestInvalid)?;
        Ok(StoredManifest {
            digest,
            media_type,
            bytes: self.bytes.to_vec(),
        })
    }

    /// Parses the manifest, and returns it with its digest.
    fn verify(&self) -> Result<(Digest, Manifest)> {
        let Self {
            digest: expected,
            media_type,
            bytes,
            ..
        } = *self;
        let digest = match expected {
            Some(expected) => Digest::of_with(expected.algorithm(), bytes),
            None => Digest::of(bytes),
        };
        if let Some(expected) = expected.filter(|expected| **expected != digest) {
            return Err(Error::DigestMismatch {
                expected: expected.clone(),
                actual: digest,
            });
        }
        let manifest = parse_manifest(media_type, bytes).map_err(Error::ManifestInvalid)?;
        Ok((digest, manifest))
    }
}

/// A manifest that was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CachedManifest {
    /// The digest of the manifest.
    pub(crate) digest: Digest,
    /// Whether the tag points at the manifest now. False if the tag was pushed to this registry.
    pub(crate) is_tagged: bool,
}

impl Registry {
    /// Reports whether a repository has a manifest, with link and bytes, and where it came from.
    /// Does not read the bytes.
    ///
    /// # Errors
    /// Returns the errors of the store.
    pub(crate) fn manifest_state(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<ManifestState> {
        let _lock = lock_shared(&self.locks, digest.clone().into());
        let target = self.resolve_link(ObjectKey::RevisionLink(repository, digest), digest)?;
        let size = match &target {
            Some(target) => self.store.len(ObjectKey::Blob(target))?,
            None => None,
        };
        if size.is_none_or(|size| size == 0) {
            return Ok(ManifestState::Absent);
        }
        let mark = self
            .store
            .mark_time(MarkKey::Revision(repository, digest))?;
        Ok(if mark.is_some() {
            ManifestState::Cached
        } else {
            ManifestState::Pushed
        })
    }

    /// Stores a manifest that an upstream sent at `now` (Unix seconds), and moves a cached tag to
    /// it. The blobs that it names need not be stored. Pushed manifests and tags stay as they are.
    ///
    /// # Errors
    /// Returns [`Error::DigestMismatch`] if the bytes do not match the digest,
    /// [`Error::ManifestInvalid`] if they are not a manifest, or an error of the store.
    pub(crate) fn cache_manifest(
        &self,
        repository: &Repository,
        tag: Option<&Tag>,
        incoming: UpstreamManifest<'_>,
        now: u64,
    ) -> Result<CachedManifest> {
        let (digest, manifest) = incoming.verify()?;
        let UpstreamManifest {
            bytes, upstream, ..
        } = incoming;
        let tag_key = tag.map(|tag| LockKey::Tag(repository.clone(), tag.clone()));
        let _lock = self.lock_keys([LockKey::from(digest.clone())].into_iter().chain(tag_key));
        let revision = ObjectKey::RevisionLink(repository, &digest);
        let link = digest.to_string();
        // A link without a mark was pushed and must stay unmarked.
        let mark = MarkKey::Revision(repository, &digest);
        if self.store.len(revision)?.is_none() {
            self.index_manifest(repository, &digest, bytes);
            self.store.put_mark(mark, b"", from_unix_seconds(now))?;
        }
        self.store.put_all(&[
            (ObjectKey::Blob(&digest), bytes),
            (revision, link.as_bytes()),
        ])?;
        self.protect_bytes(&digest);
        self.cache.size.add(bytes.len() as u64);
        self.unmark_children(repository, &manifest);
        self.record_use(repository, &digest, now);
        let is_tagged = match tag {
            Some(tag) => self.move_cached_tag(repository, tag, &digest, upstream, now)?,
            None => false,
        };
        Ok(CachedManifest { digest, is_tagged })
    }

    /// Moves a tag to a manifest, unless the tag was pushed. Returns whether the tag points at the
    /// manifest. The caller holds the locks of both.
    fn move_cached_tag(
        &self,
        repository: &Repository,
        tag: &Tag,
        digest: &Digest,
        upstream: &str,
        now: u64,
    ) -> Result<bool> {
        let before = match self.tag_state_locked(repository, tag)? {
            TagState::Pushed => return Ok(false),
            TagState::Absent => None,
            TagState::Cached { digest: before, .. } => Some(before).filter(|old| old != digest),
        };
        // The mark lists both digests, so that the tag counts as cached before and after it moves.
        let digests = [digest.clone()].into_iter().chain(before.clone()).collect();
        self.put_tag_mark(repository, tag, &TagMark::new(digests, now, upstream))?;
        self.put_tag(repository, tag, digest)?;
        if let Some(before) = before {
            // Nothing else would ever delete the old entry.
            self.store
                .delete(ObjectKey::TagIndex(repository, tag, &before))?;
        }
        Ok(true)
    }
}
