//! Finds the images of a repository that cannot be pulled completely.
//!
//! Start reading at [`Check::find_incomplete_manifests`].

use std::collections::{HashMap, HashSet};

use imgsync_oci::{Digest, MAX_MANIFEST_BYTES, Manifest, Repository};

use super::super::Registry;
use super::super::cache::link_key;
use super::super::error::Result;
use super::super::locks::LockKey;
use super::super::manifests::child_digests;
use super::finding::AffectedImage;
use super::{Check, CheckResult};
use crate::store::{LinkKind, MarkKey, ObjectKey, Walk};

/// How much missing content is listed for an image.
pub(super) const MAX_LISTED_DIGESTS: usize = 10;
/// Bounds how many manifests of one image are looked at.
const MAX_MANIFESTS_PER_IMAGE: usize = 20_000;

/// The manifests of a repository that lack content, each with a part of it. A manifest that is
/// damaged itself lacks its own digest.
type IncompleteManifests = HashMap<Digest, Vec<Digest>>;

impl Check<'_> {
    /// Finds the pushed manifests of a repository that are damaged, or name content that the
    /// repository lacks.
    pub(super) fn find_incomplete_manifests(
        &mut self,
        repository: &Repository,
    ) -> CheckResult<IncompleteManifests> {
        let (registry, mut incomplete) = (self.registry, IncompleteManifests::new());
        for digest in registry.store.links(repository, LinkKind::Revisions) {
            let digest = digest?;
            let mark = MarkKey::Revision(repository, &digest);
            if registry.store.mark_time(mark)?.is_some()
                || self.lacking_content(repository, &digest)?.is_empty()
            {
                continue;
            }
            // Nothing is pushed or deleted meanwhile.
            let named = registry.named_digests(repository, &digest)?;
            let _lock = registry.lock_digests(named.into_iter().chain([digest.clone()]));
            let lacking = self.lacking_content(repository, &digest)?;
            if !lacking.is_empty() {
                incomplete.insert(digest, lacking);
            }
        }
        Ok(incomplete)
    }

    /// Returns content that a manifest of a repository needs and that is missing or damaged. Nothing
    /// if there is no such manifest.
    fn lacking_content(&self, repository: &Repository, digest: &Digest) -> Result<Vec<Digest>> {
        let registry = self.registry;
        let link = ObjectKey::RevisionLink(repository, digest);
        if registry.store.len(link)?.is_none() {
            return Ok(Vec::new());
        }
        let stored = match registry.resolve_link(link, digest)? {
            Some(stored) if self.has_sound_bytes(&stored)? => stored,
            _ => return Ok(vec![digest.clone()]),
        };
        let bytes = registry
            .store
            .get(ObjectKey::Blob(&stored), MAX_MANIFEST_BYTES + 1)?;
        // A manifest whose format this server does not support is not damaged.
        let Ok((_, manifest)) = Manifest::parse_bare(&bytes.unwrap_or_default()) else {
            return Ok(Vec::new());
        };
        let children = manifest.children();
        let found = registry.find_missing_children(repository, &children)?;
        let listed = children.manifests.iter();
        let optional: HashSet<&Digest> = listed
            .filter(|child| !self.options.platforms.must_exist(child))
            .map(|child| &child.digest)
            .collect();
        let mut lacking = found.missing;
        lacking.retain(|digest| !optional.contains(digest));
        for child in child_digests(&children) {
            for links in [LinkKind::Layers, LinkKind::Revisions] {
                let link = link_key(repository, links, child);
                if let Some(stored) = registry.resolve_link(link, child)?
                    && self.is_damaged(&stored)
                {
                    lacking.push(child.clone());
                }
            }
        }
        lacking.sort_unstable();
        lacking.dedup();
        lacking.truncate(MAX_LISTED_DIGESTS);
        Ok(lacking)
    }

    /// Checks the tags of a repository, and reports the images that cannot be pulled completely.
    pub(super) fn check_tags(
        &mut self,
        repository: &Repository,
        incomplete: IncompleteManifests,
    ) -> CheckResult<()> {
        let registry = self.registry;
        let mut reported = HashSet::new();
        for tag in registry.all_tags(repository, &Walk::unbounded())? {
            let current = ObjectKey::TagCurrent(repository, &tag);
            let mark = MarkKey::Tag(repository, &tag);
            if registry.store.len(current)?.is_none() || registry.store.mark_time(mark)?.is_some() {
                continue;
            }
            self.stats.tags += 1;
            let Some(digest) = registry.read_link(current)? else {
                self.check_damaged_tag(repository, &tag)?;
                continue;
            };
            let (mut lacking, manifests) =
                self.lacking_of_image(repository, &digest, &incomplete)?;
            if lacking.is_empty() {
                continue;
            }
            // The tag may have been moved or deleted meanwhile.
            let lock = registry.lock_keys([LockKey::Tag(repository.clone(), tag.clone())]);
            let is_current = registry.read_link(current)?.as_ref() == Some(&digest);
            drop(lock);
            if !is_current {
                continue;
            }
            reported.extend(manifests);
            lacking.truncate(MAX_LISTED_DIGESTS);
            self.add_image(&AffectedImage {
                repository: repository.clone(),
                tag: Some(tag),
                manifest: Some(digest),
                lacking,
            })?;
        }
        for (digest, lacking) in incomplete {
            if !reported.contains(&digest) {
                self.add_image(&AffectedImage {
                    repository: repository.clone(),
                    tag: None,
                    manifest: Some(digest),
                    lacking,
                })?;
            }
        }
        Ok(())
    }

    /// Returns what an image lacks, and its incomplete manifests.
    fn lacking_of_image(
        &self,
        repository: &Repository,
        digest: &Digest,
        incomplete: &IncompleteManifests,
    ) -> Result<(Vec<Digest>, Vec<Digest>)> {
        let registry = self.registry;
        let link = ObjectKey::RevisionLink(repository, digest);
        if registry.store.len(link)?.is_none() {
            return Ok((vec![digest.clone()], Vec::new()));
        }
        let (mut lacking, mut found) = (Vec::new(), Vec::new());
        if incomplete.is_empty() {
            return Ok((lacking, found));
        }
        let (mut pending, mut seen) = (vec![digest.clone()], HashSet::new());
        while let Some(digest) = pending.pop() {
            if seen.len() >= MAX_MANIFESTS_PER_IMAGE || !seen.insert(digest.clone()) {
                continue;
            }
            if let Some(own) = incomplete.get(&digest) {
                lacking.extend_from_slice(own);
                found.push(digest.clone());
            }
            pending.extend(registry.child_manifests(repository, &digest)?);
        }
        lacking.sort_unstable();
        lacking.dedup();
        Ok((lacking, found))
    }
}

impl Registry {
    /// Returns the manifests that an index names. Nothing if it cannot be read.
    fn child_manifests(&self, repository: &Repository, digest: &Digest) -> Result<Vec<Digest>> {
        let link = ObjectKey::RevisionLink(repository, digest);
        let Some(stored) = self.resolve_link(link, digest)? else {
            return Ok(Vec::new());
        };
        let limit = MAX_MANIFEST_BYTES + 1;
        let bytes = self.store.get(ObjectKey::Blob(&stored), limit)?;
        let Ok((_, manifest)) = Manifest::parse_bare(&bytes.unwrap_or_default()) else {
            return Ok(Vec::new());
        };
        let children = manifest.children().manifests.into_iter();
        Ok(children.map(|child| child.digest).collect())
    }
}
