//! Manifests and the tags that point at them.

use imgsync_oci::manifest::Children;
use imgsync_oci::{
    Descriptor, Digest, Invalid, MAX_MANIFEST_BYTES, Manifest, Reference, Repository,
};

use super::Registry;
use super::error::{Error, Result};
use crate::store::Key;

/// A manifest as it lies in the store.
pub(crate) struct StoredManifest {
    /// What it was stored under.
    pub(crate) digest: Digest,
    /// What it says that it is.
    pub(crate) media_type: String,
    /// The manifest itself.
    pub(crate) bytes: Vec<u8>,
}

impl Registry {
    /// A repository's manifest.
    ///
    /// # Errors
    /// [`Error::ManifestUnknown`], also where its bytes are not what they should be, which pushing
    /// the manifest again mends, or of a kind that is long gone.
    pub(crate) fn manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> Result<StoredManifest> {
        let unknown = || Error::ManifestUnknown(reference.clone());
        let digest = match reference {
            Reference::Digest(digest) => digest.clone(),
            Reference::Tag(tag) => self
                .link(Key::TagCurrent(repository, tag))?
                .ok_or_else(unknown)?,
        };
        let target = self
            .link(Key::Revision(repository, &digest))?
            .ok_or_else(unknown)?;
        let bytes = self.store.get(Key::Blob(&target), MAX_MANIFEST_BYTES + 1)?;
        let bytes = bytes.ok_or_else(unknown)?;
        if Digest::of_with(target.algorithm(), &bytes) != target {
            tracing::warn!(%repository, %target, "a damaged manifest counts as absent");
            return Err(unknown());
        }
        match Manifest::parse(&bytes, None) {
            Ok((media_type, _)) => Ok(StoredManifest {
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

    /// Takes in a manifest, and moves the tag where it was sent under one. `declared` is the media
    /// type that its sender gave.
    ///
    /// # Errors
    /// [`Error::ManifestInvalid`]; [`Error::DigestMismatch`] where it was sent under another
    /// digest; [`Error::ChildrenUnknown`] where the repository lacks what it names.
    pub(crate) fn put_manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
        declared: Option<&str>,
        bytes: &[u8],
    ) -> Result<Digest> {
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
        let children = parse(declared, bytes)
            .map_err(Error::ManifestInvalid)?
            .children();
        let below = children.blobs.iter().chain(&children.manifests);
        let _hold = self.hold(
            below
                .map(|child| child.digest.clone())
                .chain([digest.clone()]),
        );
        self.check(repository, &children)?;
        let link = digest.to_string();
        let revision = Key::Revision(repository, &digest);
        let is_new = self.link(revision)?.is_none();
        self.store
            .put_all(&[(Key::Blob(&digest), bytes), (revision, link.as_bytes())])?;
        // Looked at again: only now does a collector see that the children are wanted.
        if let Err(error) = self.check(repository, &children) {
            if is_new {
                self.store.delete(revision)?;
            }
            return Err(error);
        }
        if let Reference::Tag(tag) = reference {
            self.store.put_all(&[
                (Key::TagIndex(repository, tag, &digest), link.as_bytes()),
                (Key::TagCurrent(repository, tag), link.as_bytes()),
            ])?;
        }
        Ok(digest)
    }

    /// Looks whether a repository holds all of a manifest's children. The caller holds them.
    fn check(&self, repository: &Repository, children: &Children) -> Result<()> {
        let mut missing = Vec::new();
        for blob in &children.blobs {
            match self.held(repository, &blob.digest)? {
                Some(held) if held.size == blob.size => continue,
                Some(held) => self.doubt(&held.target)?,
                None => {}
            }
            missing.push(blob.digest.clone());
        }
        for manifest in &children.manifests {
            if !self.has_manifest(repository, manifest)? {
                missing.push(manifest.digest.clone());
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        missing.sort_unstable();
        missing.dedup();
        Err(Error::ChildrenUnknown(missing))
    }

    fn has_manifest(&self, repository: &Repository, child: &Descriptor) -> Result<bool> {
        let Some(target) = self.link(Key::Revision(repository, &child.digest))? else {
            return Ok(false);
        };
        let size = self.store.len(Key::Blob(&target))?;
        Ok(child.size > 0 && size == Some(child.size))
    }
}

/// Reads a manifest of the declared type. What is served later is the type that the bytes alone
/// show, so the two must be the same.
fn parse(declared: Option<&str>, bytes: &[u8]) -> std::result::Result<Manifest, Invalid> {
    let (media_type, manifest) = Manifest::parse(bytes, declared)?;
    let (own, _) = Manifest::parse(bytes, None)?;
    if own != media_type {
        let text = format!("sent as {media_type}, but without saying so in a mediaType field");
        return Err(Invalid::new("manifest", &text));
    }
    Ok(manifest)
}
