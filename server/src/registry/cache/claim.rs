//! Turns cached content into pushed content: a push claims the manifest and everything that it
//! names.
//!
//! Start reading at [`Registry::claim_manifest`].

use std::collections::{BTreeSet, HashSet};

use imgsync_oci::manifest::Children;
use imgsync_oci::{Descriptor, Digest, Manifest, ParseError, Reference, Repository, Tag};

use super::super::Registry;
use super::super::error::{Error, Result};
use super::super::manifests::child_digests;
use crate::store::MarkKey;

/// Maximum number of digests that a pushed manifest may name through cached manifests.
const MAX_CACHED_DESCENDANTS: usize = 20_000;

/// The cached manifests that a pushed manifest names, directly or through each other. Parents come
/// before their children.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::registry) struct CachedDescendants(Vec<(Digest, Children)>);

impl CachedDescendants {
    /// Returns the digests of these manifests and of everything that they name.
    pub(in crate::registry) fn digests(&self) -> BTreeSet<Digest> {
        let manifests = self.0.iter();
        let digests = manifests
            .flat_map(|(digest, children)| [digest].into_iter().chain(child_digests(children)));
        digests.cloned().collect()
    }

    /// Returns these manifests, each with its children.
    pub(in crate::registry) fn manifests(&self) -> &[(Digest, Children)] {
        &self.0
    }
}

impl Registry {
    /// Finds the cached manifests that a manifest names, directly or through other cached
    /// manifests. Pushed manifests are not searched, because everything that they name already
    /// counts as pushed.
    ///
    /// # Errors
    /// Returns [`Error::ManifestInvalid`] if the manifest names too many digests, or an error of
    /// the store.
    pub(in crate::registry) fn find_cached_descendants(
        &self,
        repository: &Repository,
        children: &Children,
    ) -> Result<CachedDescendants> {
        let mut descendants = CachedDescendants::default();
        if !self.store.has_marks(repository)? {
            return Ok(descendants);
        }
        let mut pending: Vec<Digest> = digests(&children.manifests);
        let (mut count, mut seen) = (0, HashSet::new());
        while let Some(digest) = pending.pop() {
            if !seen.insert(digest.clone()) || !self.is_marked_revision(repository, &digest)? {
                continue;
            }
            let reference = Reference::Digest(digest.clone());
            let bytes = match self.get_manifest(repository, &reference) {
                Ok(manifest) => manifest.bytes,
                // The check of the manifest's children reports it as missing.
                Err(Error::ManifestUnknown(_) | Error::ManifestDamaged(_)) => continue,
                Err(error) => return Err(error),
            };
            let Ok((_, manifest)) = Manifest::parse_bare(&bytes) else {
                continue;
            };
            let children = manifest.children();
            count += 1 + child_digests(&children).count();
            if count > MAX_CACHED_DESCENDANTS {
                let text = format!("more than {MAX_CACHED_DESCENDANTS} descendants of an index");
                return Err(Error::ManifestInvalid(ParseError::new("manifest", &text)));
            }
            pending.extend(digests(&children.manifests));
            descendants.0.push((digest, children));
        }
        Ok(descendants)
    }

    /// Reports whether a manifest is marked as cached.
    fn is_marked_revision(&self, repository: &Repository, digest: &Digest) -> Result<bool> {
        let mark = MarkKey::Revision(repository, digest);
        Ok(self.store.mark_time(mark)?.is_some())
    }

    /// Removes the marks of a pushed manifest, of everything that it names, and of the tags that
    /// now point at it. The caller holds the locks of all of them.
    ///
    /// The mark of a parent is removed after the marks of its children. A push that is repeated
    /// after a crash does not look below manifests without a mark, so a child's mark would remain.
    pub(in crate::registry) fn claim_manifest(
        &self,
        repository: &Repository,
        digest: &Digest,
        (contents, descendants): (&BTreeSet<Digest>, &CachedDescendants),
        tags: &[&Tag],
    ) -> Result<()> {
        self.cache.unmark_named(repository, contents);
        self.collect.keep(repository, contents);
        self.collect
            .removal
            .keep_pushed(repository, digest, contents);
        self.promise(repository, digest);
        if !self.store.has_marks(repository)? {
            return Ok(());
        }
        let layers = contents.iter();
        let layers = layers.map(|digest| MarkKey::Layer(repository, digest));
        self.store.delete_marks(&layers.collect::<Vec<_>>())?;
        let children_first = descendants.0.iter().rev().map(|(digest, _)| digest);
        let revisions = children_first.chain([digest]);
        let revisions = revisions.map(|digest| MarkKey::Revision(repository, digest));
        let tags = tags.iter().map(|tag| MarkKey::Tag(repository, tag));
        let marks: Vec<_> = revisions.chain(tags).collect();
        Ok(self.store.delete_marks(&marks)?)
    }

    /// Removes the mark of a blob that was pushed or mounted and is now linked. The caller holds
    /// the lock of its digest.
    pub(in crate::registry) fn claim_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<()> {
        self.protect_bytes(digest);
        self.cache.unmark_named(repository, [digest]);
        self.promise(repository, digest);
        if !self.store.has_marks(repository)? {
            return Ok(());
        }
        Ok(self
            .store
            .delete_marks(&[MarkKey::Layer(repository, digest)])?)
    }
}

fn digests(descriptors: &[Descriptor]) -> Vec<Digest> {
    let digests = descriptors.iter().map(|child| child.digest.clone());
    digests.collect()
}
