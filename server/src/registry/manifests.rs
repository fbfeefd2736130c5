//! Manifests and the tags that point at them.

use std::collections::BTreeSet;

use imgsync_oci::manifest::Children;
use imgsync_oci::{
    Descriptor, Digest, MAX_MANIFEST_BYTES, Manifest, ParseError, Reference, Repository, Tag, media,
};

use super::Registry;
use super::blobs::LinkedBlob;
use super::cache::CachedDescendants;
use super::diffids::DiffIdJob;
use super::error::{Error, Result};
use super::locks::LockKey;
use super::reverify::ReverifyOutcome;
use crate::store::{DerivedKey, ObjectKey};

/// A manifest as it lies in the store.
pub(crate) struct StoredManifest {
    /// What it was stored under.
    pub(crate) digest: Digest,
    /// What it says that it is.
    pub(crate) media_type: String,
    /// The manifest itself.
    pub(crate) bytes: Vec<u8>,
}

/// A manifest that was taken in.
#[derive(Debug)]
pub(crate) struct AcceptedManifest {
    /// What it was stored under.
    pub(crate) digest: Digest,
    /// The manifest that it speaks about, if it does.
    pub(crate) subject: Option<Digest>,
}

/// What a manifest names and its repository does not hold.
struct MissingChildren {
    missing: Vec<Digest>,
    /// What is there, but not with as many bytes as the manifest says.
    mismatched: Vec<MismatchedBlob>,
}

/// A blob and the size in bytes that a manifest gives it.
struct MismatchedBlob {
    digest: Digest,
    stated: u64,
    stored: LinkedBlob,
}

impl MissingChildren {
    fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.mismatched.is_empty()
    }
}

impl Registry {
    /// A repository's manifest.
    ///
    /// # Errors
    /// [`Error::ManifestUnknown`], also where its bytes are not what they should be, which pushing
    /// the manifest again mends, or of a kind that is long gone.
    pub(crate) fn get_manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> Result<StoredManifest> {
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
        let bytes = self
            .store
            .get(ObjectKey::Blob(&target), MAX_MANIFEST_BYTES + 1)?;
        let bytes = bytes.ok_or_else(unknown)?;
        let is_it = |digest: &Digest| Digest::of_with(digest.algorithm(), &bytes) == *digest;
        if !is_it(&target) || (target != digest && !is_it(&digest)) {
            tracing::warn!(%repository, %target, "a damaged manifest counts as absent");
            return Err(unknown());
        }
        match Manifest::media_type(&bytes) {
            Ok(media_type) => Ok(StoredManifest {
                digest,
                media_type,
                bytes,
            }),
            Err(error) => {
                tracing::warn!(%repository, %target, %error, "a manifest that cannot be served");
                Err(unknown())
            }
        }
    }

    /// Takes in a manifest, and moves the tags: the one that it was sent under, if it was, and those
    /// beside. `declared` is the media type that its sender gave.
    ///
    /// # Errors
    /// [`Error::ManifestInvalid`]; [`Error::DigestMismatch`] where it was sent under another
    /// digest; [`Error::ChildrenUnknown`] where the repository lacks what it names;
    /// [`Error::SizeDiffers`] where that has another size; [`Error::Busy`].
    pub(crate) fn put_manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
        tags: &[Tag],
        declared: Option<&str>,
        bytes: &[u8],
    ) -> Result<AcceptedManifest> {
        let digest = match reference {
            Reference::Tag(_) => Digest::of(bytes),
            Reference::Digest(expected) => {
                let actual = Digest::of_with(expected.algorithm(), bytes);
                if actual != *expected {
                    return Err(Error::DigestMismatch {
                        expected: expected.clone(),
                        actual,
                    });
                }
                actual
            }
        };
        let manifest = parse_manifest(declared, bytes).map_err(Error::ManifestInvalid)?;
        let subject = manifest.subject().map(|subject| subject.digest.clone());
        let children = manifest.children();
        let mut tags: Vec<&Tag> = tags.iter().collect();
        if let Reference::Tag(tag) = reference {
            tags.push(tag);
        }
        let (below, contents, hold) = loop {
            let below = self.find_cached_descendants(repository, &children)?;
            let named = children.blobs.iter().chain(&children.manifests);
            let named = named.map(|child| child.digest.clone());
            let mut contents: BTreeSet<Digest> = named.chain([digest.clone()]).collect();
            contents.extend(below.digests());
            let things = contents.iter().cloned().map(LockKey::Content);
            let tags = tags
                .iter()
                .map(|tag| LockKey::Tag(repository.clone(), Tag::clone(tag)));
            let hold = self.lock_keys(things.chain(tags));
            // An upstream may just have brought some of it.
            if self.find_cached_descendants(repository, &children)? == below {
                break (below, contents, hold);
            }
        };
        let lack = self.find_missing_descendants(repository, &children, &below)?;
        if !lack.is_empty() {
            drop(hold);
            return Err(self.refuse_manifest(lack)?);
        }
        let link = digest.to_string();
        let revision = ObjectKey::RevisionLink(repository, &digest);
        let is_new = self.resolve_link(revision, &digest)?.is_none();
        // First, so that it is there once the manifest counts.
        let hint = subject
            .as_ref()
            .map(|subject| DerivedKey::Referrer(repository, subject, &digest));
        if let Some(hint) = hint {
            self.store.put_derived(hint, b"")?;
        }
        let put = self.store.put_all(&[
            (ObjectKey::Blob(&digest), bytes),
            (revision, link.as_bytes()),
        ]);
        if let (Err(_), Some(hint), true) = (&put, hint, is_new) {
            self.store.delete_derived(hint)?;
        }
        put?;
        // Looked at again: only now does a collector see that the children are wanted.
        let lack = self.find_missing_descendants(repository, &children, &below)?;
        if !lack.is_empty() {
            if is_new {
                self.store.delete(revision)?;
            }
            drop(hold);
            return Err(self.refuse_manifest(lack)?);
        }
        self.diff_id_queue
            .push(DiffIdJob::Manifest(repository.clone(), digest.clone()));
        for tag in &tags {
            self.store.put_all(&[
                (
                    ObjectKey::TagIndex(repository, tag, &digest),
                    link.as_bytes(),
                ),
                (ObjectKey::TagCurrent(repository, tag), link.as_bytes()),
            ])?;
        }
        self.cache.unmark_bytes(&digest);
        self.claim_manifest(repository, &digest, (&contents, &below), &tags)?;
        Ok(AcceptedManifest { digest, subject })
    }

    /// The error that tells what is lacking; what is damaged is removed first, and lacking then.
    /// Nothing is held now.
    fn refuse_manifest(&self, mut lack: MissingChildren) -> Result<Error> {
        for MismatchedBlob {
            digest,
            stated,
            stored: held,
        } in lack.mismatched
        {
            match self.reverify(&held.target)? {
                ReverifyOutcome::Absent => lack.missing.push(digest),
                // No need to read any more: this manifest will never be taken.
                ReverifyOutcome::Intact => {
                    return Ok(Error::SizeMismatch {
                        digest,
                        stated,
                        actual: held.size,
                    });
                }
            }
        }
        lack.missing.sort_unstable();
        lack.missing.dedup();
        Ok(Error::ChildrenUnknown(lack.missing))
    }

    /// Looks which of a manifest's children a repository does not hold; a child that came from an
    /// upstream without all that it names is missing, too. The caller holds all of them.
    fn find_missing_descendants(
        &self,
        repository: &Repository,
        children: &Children,
        below: &CachedDescendants,
    ) -> Result<MissingChildren> {
        let mut lack = self.find_missing_children(repository, children)?;
        for (digest, children) in below.manifests() {
            if !self.find_missing_children(repository, children)?.is_empty() {
                lack.missing.push(digest.clone());
            }
        }
        Ok(lack)
    }

    /// Looks which of a manifest's children a repository does not hold. The caller holds them.
    fn find_missing_children(
        &self,
        repository: &Repository,
        children: &Children,
    ) -> Result<MissingChildren> {
        let (mut missing, mut doubted) = (Vec::new(), Vec::new());
        let blobs = children.blobs.iter().map(|blob| (&blob.digest, blob.size));
        for (digest, stated) in blobs.collect::<BTreeSet<_>>() {
            match self.find_linked_blob(repository, digest)? {
                Some(held) if held.size == stated => {}
                Some(held) => doubted.push(MismatchedBlob {
                    digest: digest.clone(),
                    stated,
                    stored: held,
                }),
                None => missing.push(digest.clone()),
            }
        }
        for child in &children.manifests {
            let has_blob = || -> Result<bool> {
                let held = self.find_linked_blob(repository, &child.digest)?;
                Ok(held.is_some_and(|held| held.size == child.size))
            };
            let is_there = match child.media_type.as_str() {
                known if media::MANIFEST_TYPES.contains(&known) => {
                    self.has_child_manifest(repository, child)?
                }
                "" => self.has_child_manifest(repository, child)? || has_blob()?,
                // BuildKit keeps its cache as an index over layers.
                _ => has_blob()?,
            };
            if !is_there {
                missing.push(child.digest.clone());
            }
        }
        Ok(MissingChildren {
            missing,
            mismatched: doubted,
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

/// Reads a manifest of the declared type. What is served later is the type that the bytes alone
/// show, so the two must be the same.
pub(super) fn parse_manifest(
    declared: Option<&str>,
    bytes: &[u8],
) -> std::result::Result<Manifest, ParseError> {
    let (media_type, manifest) = Manifest::parse(bytes, declared)?;
    let own = Manifest::media_type(bytes)?;
    if own != media_type {
        let text = format!("sent as {media_type}, but without saying so in a mediaType field");
        return Err(ParseError::new("manifest", &text));
    }
    Ok(manifest)
}
