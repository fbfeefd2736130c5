//! Whatever is pushed counts as pushed from then on, with all that it names, also where an
//! upstream brought it.

use std::collections::{BTreeSet, HashSet};

use imgsync_oci::manifest::Children;
use imgsync_oci::{Descriptor, Digest, Manifest, ParseError, Reference, Repository, Tag};

use super::super::Registry;
use super::super::error::{Error, Result};
use crate::store::MarkKey;

/// The most digests that one pushed manifest may name through cached ones.
const MAX_CACHED_DESCENDANTS: usize = 20_000;

/// The cached manifests that a pushed one names, and those that they name; each after one that
/// names it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::registry) struct CachedDescendants(Vec<(Digest, Children)>);

impl CachedDescendants {
    /// Everything in it, and everything that it names.
    pub(in crate::registry) fn digests(&self) -> BTreeSet<Digest> {
        let all = self.0.iter().flat_map(|(digest, children)| {
            let named = child_descriptors(children).map(|child| &child.digest);
            [digest].into_iter().chain(named)
        });
        all.cloned().collect()
    }

    /// The manifests in it, each with what it names.
    pub(in crate::registry) fn manifests(&self) -> &[(Digest, Children)] {
        &self.0
    }
}

fn child_descriptors(children: &Children) -> impl Iterator<Item = &Descriptor> {
    children.blobs.iter().chain(&children.manifests)
}

impl Registry {
    /// Finds the cached manifests that a manifest names, directly or through others of them. What
    /// was pushed need not be looked into: all that it names was there, and counts as pushed.
    ///
    /// # Errors
    /// [`Error::ManifestInvalid`] where they are too many; those of the store.
    pub(in crate::registry) fn find_cached_descendants(
        &self,
        repository: &Repository,
        children: &Children,
    ) -> Result<CachedDescendants> {
        let mut below = CachedDescendants::default();
        if !self.store.has_marks(repository)? {
            return Ok(below);
        }
        let mut open: Vec<Digest> = digests(&children.manifests);
        let (mut count, mut seen) = (0, HashSet::new());
        while let Some(digest) = open.pop() {
            if !seen.insert(digest.clone()) || !self.is_marked_revision(repository, &digest)? {
                continue;
            }
            let reference = Reference::Digest(digest.clone());
            let bytes = match self.get_manifest(repository, &reference) {
                Ok(manifest) => manifest.bytes,
                // Then it is missing, and that is told.
                Err(Error::ManifestUnknown(_)) => continue,
                Err(error) => return Err(error),
            };
            let Ok((_, manifest)) = Manifest::parse(&bytes, None) else {
                continue;
            };
            let children = manifest.children();
            count += 1 + child_descriptors(&children).count();
            if count > MAX_CACHED_DESCENDANTS {
                let text = format!("more than {MAX_CACHED_DESCENDANTS} things below an index");
                return Err(Error::ManifestInvalid(ParseError::new("manifest", &text)));
            }
            open.extend(digests(&children.manifests));
            below.0.push((digest, children));
        }
        Ok(below)
    }

    fn is_marked_revision(&self, repository: &Repository, digest: &Digest) -> Result<bool> {
        let mark = MarkKey::Revision(repository, digest);
        Ok(self.store.mark_time(mark)?.is_some())
    }

    /// Removes the marks of a manifest that was pushed, of all that it names, and of the tags that
    /// point at it now. The caller holds all of them.
    ///
    /// Whatever names something that has a mark keeps its own until then: a push that is done again
    /// after a crash does not look below what has none.
    pub(in crate::registry) fn claim_manifest(
        &self,
        repository: &Repository,
        digest: &Digest,
        (named, below): (&BTreeSet<Digest>, &CachedDescendants),
        tags: &[&Tag],
    ) -> Result<()> {
        self.cache.unmark_named(repository, named);
        if !self.store.has_marks(repository)? {
            return Ok(());
        }
        let layers = named.iter().map(|named| MarkKey::Layer(repository, named));
        self.store.delete_marks(&layers.collect::<Vec<_>>())?;
        let last_first = below.0.iter().rev().map(|(digest, _)| digest);
        let revisions = last_first.chain([digest]);
        let revisions = revisions.map(|digest| MarkKey::Revision(repository, digest));
        let tags = tags.iter().map(|tag| MarkKey::Tag(repository, tag));
        let marks: Vec<_> = revisions.chain(tags).collect();
        Ok(self.store.delete_marks(&marks)?)
    }

    /// The same for a blob that was pushed or mounted, and is linked now. The caller holds it.
    pub(in crate::registry) fn claim_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<()> {
        self.cache.unmark_bytes(digest);
        self.cache.unmark_named(repository, [digest]);
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
