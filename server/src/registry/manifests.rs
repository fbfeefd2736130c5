//! Manifests and the tags that point at them.

use std::collections::BTreeSet;

use imgsync_oci::manifest::Children;
use imgsync_oci::{
    Descriptor, Digest, Invalid, MAX_MANIFEST_BYTES, Manifest, Reference, Repository, Tag, media,
};

use super::Registry;
use super::blobs::Held;
use super::cache::Below;
use super::diffids::Job;
use super::doubt::Verdict;
use super::error::{Error, Result};
use super::hold::Thing;
use crate::store::{Derived, Key};

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
pub(crate) struct Taken {
    /// What it was stored under.
    pub(crate) digest: Digest,
    /// The manifest that it speaks about, if it does.
    pub(crate) subject: Option<Digest>,
}

/// What a manifest names and its repository does not hold.
struct Lack {
    missing: Vec<Digest>,
    /// What is there, but not with as many bytes as the manifest says.
    doubted: Vec<Doubted>,
}

/// A blob and the size in bytes that a manifest gives it.
struct Doubted {
    digest: Digest,
    stated: u64,
    held: Held,
}

impl Lack {
    fn is_nothing(&self) -> bool {
        self.missing.is_empty() && self.doubted.is_empty()
    }
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
            .link_of(Key::Revision(repository, &digest), &digest)?
            .ok_or_else(unknown)?;
        let bytes = self.store.get(Key::Blob(&target), MAX_MANIFEST_BYTES + 1)?;
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
    ) -> Result<Taken> {
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
        let manifest = parse(declared, bytes).map_err(Error::ManifestInvalid)?;
        let subject = manifest.subject().map(|subject| subject.digest.clone());
        let children = manifest.children();
        let mut tags: Vec<&Tag> = tags.iter().collect();
        if let Reference::Tag(tag) = reference {
            tags.push(tag);
        }
        let (below, contents, hold) = loop {
            let below = self.cached_below(repository, &children)?;
            let named = children.blobs.iter().chain(&children.manifests);
            let named = named.map(|child| child.digest.clone());
            let mut contents: BTreeSet<Digest> = named.chain([digest.clone()]).collect();
            contents.extend(below.digests());
            let things = contents.iter().cloned().map(Thing::Content);
            let tags = tags
                .iter()
                .map(|tag| Thing::Tag(repository.clone(), Tag::clone(tag)));
            let hold = self.hold_things(things.chain(tags));
            // An upstream may just have brought some of it.
            if self.cached_below(repository, &children)? == below {
                break (below, contents, hold);
            }
        };
        let lack = self.lack_below(repository, &children, &below)?;
        if !lack.is_nothing() {
            drop(hold);
            return Err(self.refuse(lack)?);
        }
        let link = digest.to_string();
        let revision = Key::Revision(repository, &digest);
        let is_new = self.link_of(revision, &digest)?.is_none();
        // First, so that it is there once the manifest counts.
        let hint = subject
            .as_ref()
            .map(|subject| Derived::Referrer(repository, subject, &digest));
        if let Some(hint) = hint {
            self.store.put_derived(hint, b"")?;
        }
        let put = self
            .store
            .put_all(&[(Key::Blob(&digest), bytes), (revision, link.as_bytes())]);
        if let (Err(_), Some(hint), true) = (&put, hint, is_new) {
            self.store.forget_derived(hint)?;
        }
        put?;
        // Looked at again: only now does a collector see that the children are wanted.
        let lack = self.lack_below(repository, &children, &below)?;
        if !lack.is_nothing() {
            if is_new {
                self.store.delete(revision)?;
            }
            drop(hold);
            return Err(self.refuse(lack)?);
        }
        self.diff_ids
            .note(Job::Manifest(repository.clone(), digest.clone()));
        for tag in &tags {
            self.store.put_all(&[
                (Key::TagIndex(repository, tag, &digest), link.as_bytes()),
                (Key::TagCurrent(repository, tag), link.as_bytes()),
            ])?;
        }
        self.cache.linked(&digest);
        self.promote(repository, &digest, (&contents, &below), &tags)?;
        Ok(Taken { digest, subject })
    }

    /// The error that tells what is lacking; what is damaged is removed first, and lacking then.
    /// Nothing is held now.
    fn refuse(&self, mut lack: Lack) -> Result<Error> {
        for Doubted {
            digest,
            stated,
            held,
        } in lack.doubted
        {
            match self.doubt(&held.target)? {
                Verdict::Gone => lack.missing.push(digest),
                // No need to read any more: this manifest will never be taken.
                Verdict::Fine => {
                    return Ok(Error::SizeDiffers {
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
    fn lack_below(
        &self,
        repository: &Repository,
        children: &Children,
        below: &Below,
    ) -> Result<Lack> {
        let mut lack = self.lack(repository, children)?;
        for (digest, children) in below.manifests() {
            if !self.lack(repository, children)?.is_nothing() {
                lack.missing.push(digest.clone());
            }
        }
        Ok(lack)
    }

    /// Looks which of a manifest's children a repository does not hold. The caller holds them.
    fn lack(&self, repository: &Repository, children: &Children) -> Result<Lack> {
        let (mut missing, mut doubted) = (Vec::new(), Vec::new());
        let blobs = children.blobs.iter().map(|blob| (&blob.digest, blob.size));
        for (digest, stated) in blobs.collect::<BTreeSet<_>>() {
            match self.held(repository, digest)? {
                Some(held) if held.size == stated => {}
                Some(held) => doubted.push(Doubted {
                    digest: digest.clone(),
                    stated,
                    held,
                }),
                None => missing.push(digest.clone()),
            }
        }
        for child in &children.manifests {
            let has_blob = || -> Result<bool> {
                let held = self.held(repository, &child.digest)?;
                Ok(held.is_some_and(|held| held.size == child.size))
            };
            let is_there = match child.media_type.as_str() {
                known if media::MANIFESTS.contains(&known) => {
                    self.has_manifest(repository, child)?
                }
                "" => self.has_manifest(repository, child)? || has_blob()?,
                // BuildKit keeps its cache as an index over layers.
                _ => has_blob()?,
            };
            if !is_there {
                missing.push(child.digest.clone());
            }
        }
        Ok(Lack { missing, doubted })
    }

    fn has_manifest(&self, repository: &Repository, child: &Descriptor) -> Result<bool> {
        let Some(target) = self.link_of(Key::Revision(repository, &child.digest), &child.digest)?
        else {
            return Ok(false);
        };
        let size = self.store.len(Key::Blob(&target))?;
        Ok(child.size > 0 && size == Some(child.size))
    }
}

/// Reads a manifest of the declared type. What is served later is the type that the bytes alone
/// show, so the two must be the same.
pub(super) fn parse(
    declared: Option<&str>,
    bytes: &[u8],
) -> std::result::Result<Manifest, Invalid> {
    let (media_type, manifest) = Manifest::parse(bytes, declared)?;
    let own = Manifest::media_type(bytes)?;
    if own != media_type {
        let text = format!("sent as {media_type}, but without saying so in a mediaType field");
        return Err(Invalid::new("manifest", &text));
    }
    Ok(manifest)
}
