//! Evicts images from one repository: cached tags, manifests, and the blobs that nothing else in
//! the repository names.
//!
//! Only links and marks are deleted here; the bytes are deleted in [`super::evict`]. Start reading
//! at [`Registry::evict_from_repository`].

use std::collections::{BTreeMap, BTreeSet, HashSet};

use imgsync_oci::{Digest, Manifest, Repository, Tag};

use super::super::Registry;
use super::super::error::Result;
use super::super::locks::LockKey;
use super::super::manifests::child_digests;
use super::tags::TagState;
use crate::store::{MarkKey, ObjectKey, Walk};

/// Maximum number of digests evicted from a repository at a time. The rest of larger images is
/// swept later as unreferenced.
const MAX_DIGESTS_PER_EVICTION: usize = 50_000;

/// The content that was evicted from a repository.
#[derive(Debug, Default)]
pub(super) struct EvictedContent {
    /// Number of evicted manifests that no index names.
    pub(super) images: usize,
    /// The digests that the repository no longer links.
    pub(super) digests: HashSet<Digest>,
}

/// The indexes related to the manifests to evict, each with the manifests that it names.
#[derive(Default)]
struct IndexGraph(BTreeMap<Digest, BTreeSet<Digest>>);

impl IndexGraph {
    /// Returns the indexes that name a manifest.
    fn parents<'a>(&'a self, digest: &'a Digest) -> impl Iterator<Item = &'a Digest> {
        let indexes = self.0.iter();
        let parents = indexes.filter(move |(_, children)| children.contains(digest));
        parents.map(|(index, _)| index)
    }

    /// Returns the top-level indexes that name a manifest, directly or through other indexes.
    /// Returns the manifest itself if no index names it.
    fn roots(&self, digest: &Digest) -> BTreeSet<Digest> {
        let (mut roots, mut seen) = (BTreeSet::new(), BTreeSet::new());
        let mut pending = vec![digest.clone()];
        while let Some(digest) = pending.pop() {
            if !seen.insert(digest.clone()) {
                continue;
            }
            let before = pending.len();
            pending.extend(self.parents(&digest).cloned());
            if pending.len() == before {
                roots.insert(digest);
            }
        }
        roots
    }

    /// Returns a manifest and all manifests that it names, directly or through other indexes.
    fn subtree(&self, digest: &Digest) -> BTreeSet<Digest> {
        let (mut subtree, mut pending) = (BTreeSet::new(), vec![digest.clone()]);
        while let Some(digest) = pending.pop() {
            if subtree.insert(digest.clone()) {
                pending.extend(self.0.get(&digest).into_iter().flatten().cloned());
            }
        }
        subtree
    }
}

impl Registry {
    /// Evicts cached manifests from a repository, with their tags and with the manifests and blobs
    /// that only they name.
    ///
    /// An index is evicted together with all manifests that it names, and only if none of them was
    /// used after `until` (Unix seconds). Pushed content stays, with everything that it names.
    /// `save` is called with every digest that may be evicted, before the first is.
    pub(super) fn evict_from_repository(
        &self,
        repository: &Repository,
        candidates: &[Digest],
        until: u64,
        save: &mut dyn FnMut(&HashSet<Digest>) -> Result<()>,
    ) -> Result<EvictedContent> {
        let indexes = self.load_index_graph(repository, candidates)?;
        let manifests = self.select_manifests_to_evict(repository, candidates, &indexes, until)?;
        let mut contents: HashSet<Digest> = manifests.iter().cloned().collect();
        for digest in &manifests {
            if let Some(manifest) = self.read_parsed_manifest(repository, digest)? {
                let children = manifest.children();
                let room = MAX_DIGESTS_PER_EVICTION.saturating_sub(contents.len());
                contents.extend(child_digests(&children).take(room).cloned());
            }
        }
        // Some manifests named by an evicted index stay, so this saves more than is evicted.
        save(&contents)?;
        self.cache.mark_for_eviction(repository, contents.clone());
        for manifest in self.manifests(repository) {
            let (digest, manifest) = manifest?;
            if !manifests.contains(&digest) {
                self.unmark_children(repository, &manifest);
            }
        }
        let tags = self.unmark_pushed_tags(repository, &manifests)?;
        self.unmark_named_by_unmarked(repository, &manifests)?;
        let mut evicted = EvictedContent::default();
        // Parents first, so that a manifest that stays never lacks a child.
        for digest in indexes.sort_parents_first(&manifests) {
            let is_root = indexes.parents(&digest).next().is_none();
            let tags = tags.get(&digest).map_or(&[][..], Vec::as_slice);
            if self.evict_manifest(repository, &digest, tags, until)? {
                evicted.images += usize::from(is_root);
                evicted.digests.insert(digest);
            } else if let Some(manifest) = self.read_parsed_manifest(repository, &digest)? {
                // The manifest was used or pushed meanwhile.
                self.unmark_children(repository, &manifest);
            }
        }
        for digest in contents {
            if self.evict_blob(repository, &digest)? {
                evicted.digests.insert(digest);
            }
        }
        self.cache.mark_for_eviction(repository, HashSet::new());
        Ok(evicted)
    }

    /// Unmarks everything that a manifest names.
    pub(super) fn unmark_children(&self, repository: &Repository, manifest: &Manifest) {
        let children = manifest.children();
        self.cache
            .unmark_named(repository, child_digests(&children));
        self.collect.keep(repository, child_digests(&children));
    }

    /// Finds the indexes related to these manifests: those that name them directly or through other
    /// indexes, and those that they name.
    fn load_index_graph(
        &self,
        repository: &Repository,
        manifests: &[Digest],
    ) -> Result<IndexGraph> {
        let mut indexes = IndexGraph::default();
        let mut related: HashSet<Digest> = manifests.iter().cloned().collect();
        loop {
            let before = indexes.0.len();
            for manifest in self.manifests(repository) {
                let (digest, manifest) = manifest?;
                let Manifest::Index { manifests, .. } = manifest else {
                    continue;
                };
                if indexes.0.contains_key(&digest) {
                    continue;
                }
                let children = manifests.into_iter().map(|child| child.digest);
                let children: BTreeSet<Digest> = children.collect();
                if related.contains(&digest) || children.iter().any(|child| related.contains(child))
                {
                    related.insert(digest.clone());
                    related.extend(children.iter().cloned());
                    indexes.0.insert(digest, children);
                }
            }
            if indexes.0.len() == before {
                return Ok(indexes);
            }
        }
    }

    /// Selects the manifests to evict: whole images, without the manifests that other manifests
    /// still name.
    fn select_manifests_to_evict(
        &self,
        repository: &Repository,
        candidates: &[Digest],
        indexes: &IndexGraph,
        until: u64,
    ) -> Result<BTreeSet<Digest>> {
        let mut selected = BTreeSet::new();
        let roots = candidates.iter().flat_map(|digest| indexes.roots(digest));
        for root in roots.collect::<BTreeSet<_>>() {
            let is_cached = self.last_used(repository, &root)?.is_some();
            let subtree = indexes.subtree(&root);
            let mut last_used = 0;
            for digest in &subtree {
                let used = self.last_used(repository, digest)?;
                last_used = last_used.max(used.map_or(0, |used| used.0));
            }
            let fits = selected.len() + subtree.len() <= MAX_DIGESTS_PER_EVICTION;
            if is_cached && last_used <= until && fits {
                selected.extend(subtree);
            }
        }
        loop {
            let mut kept = Vec::new();
            for digest in &selected {
                let mut parents = indexes.parents(digest);
                let is_named = parents.any(|parent| !selected.contains(parent));
                if is_named || self.last_used(repository, digest)?.is_none() {
                    kept.push(digest.clone());
                }
            }
            if kept.is_empty() {
                return Ok(selected);
            }
            for digest in kept {
                selected.remove(&digest);
            }
        }
    }

    /// Unmarks those of the manifests that pushed tags point at. Returns the cached tags of the
    /// others.
    fn unmark_pushed_tags(
        &self,
        repository: &Repository,
        manifests: &BTreeSet<Digest>,
    ) -> Result<BTreeMap<Digest, Vec<Tag>>> {
        let mut cached_tags: BTreeMap<Digest, Vec<Tag>> = BTreeMap::new();
        for tag in self.all_tags(repository, &Walk::unbounded())? {
            let digest = self.read_link(ObjectKey::TagCurrent(repository, &tag))?;
            let Some(digest) = digest.filter(|digest| manifests.contains(digest)) else {
                continue;
            };
            match self.tag_state(repository, &tag)? {
                TagState::Pushed => self.cache.unmark_named(repository, [&digest]),
                TagState::Cached { .. } => cached_tags.entry(digest).or_default().push(tag),
                TagState::Absent => {}
            }
        }
        Ok(cached_tags)
    }

    /// Unmarks everything that is named by manifests that were themselves unmarked.
    fn unmark_named_by_unmarked(
        &self,
        repository: &Repository,
        manifests: &BTreeSet<Digest>,
    ) -> Result<()> {
        let mut unmarked = BTreeSet::new();
        loop {
            let before = unmarked.len();
            for digest in manifests {
                if self.cache.is_marked_for_eviction(digest) || unmarked.contains(digest) {
                    continue;
                }
                if let Some(manifest) = self.read_parsed_manifest(repository, digest)? {
                    self.unmark_children(repository, &manifest);
                }
                unmarked.insert(digest.clone());
            }
            if unmarked.len() == before {
                return Ok(());
            }
        }
    }

    /// Evicts a manifest and its tags, if the manifest is still marked and was not used after
    /// `until`. Returns whether it was evicted.
    fn evict_manifest(
        &self,
        repository: &Repository,
        digest: &Digest,
        tags: &[Tag],
        until: u64,
    ) -> Result<bool> {
        let tag_keys = tags.iter();
        let tag_keys = tag_keys.map(|tag| LockKey::Tag(repository.clone(), tag.clone()));
        let _lock = self.lock_keys([LockKey::from(digest.clone())].into_iter().chain(tag_keys));
        let last_used = self.last_used(repository, digest)?;
        let is_unused = last_used.is_some_and(|last_used| last_used.0 <= until);
        if !self.cache.is_marked_for_eviction(digest) || !is_unused {
            return Ok(false);
        }
        for tag in tags {
            let state = self.tag_state_locked(repository, tag)?;
            if matches!(state, TagState::Cached { digest: current, .. } if current == *digest) {
                self.remove_tag(repository, tag)?;
            }
        }
        self.note_manifest_change(repository);
        self.store
            .delete(ObjectKey::RevisionLink(repository, digest))?;
        self.store
            .delete_marks(&[MarkKey::Revision(repository, digest)])?;
        Ok(true)
    }

    /// Evicts a blob from a repository, if the blob is cached, still marked and not leased. Returns
    /// whether it was evicted.
    pub(super) fn evict_blob(&self, repository: &Repository, digest: &Digest) -> Result<bool> {
        let _lock = self.lock_digests([digest.clone()]);
        let mark = MarkKey::Layer(repository, digest);
        if !self.cache.is_marked_for_eviction(digest)
            || self.cache.is_leased(digest)
            || self.store.mark_time(mark)?.is_none()
        {
            return Ok(false);
        }
        self.store
            .delete(ObjectKey::LayerLink(repository, digest))?;
        self.store.delete_marks(&[mark])?;
        Ok(true)
    }
}

impl IndexGraph {
    /// Sorts manifests so that each comes after those that name it.
    fn sort_parents_first(&self, manifests: &BTreeSet<Digest>) -> Vec<Digest> {
        let (mut sorted, mut done) = (Vec::new(), BTreeSet::new());
        while sorted.len() < manifests.len() {
            let before = sorted.len();
            for digest in manifests.iter().filter(|digest| !done.contains(*digest)) {
                let mut parents = self.parents(digest);
                if parents.all(|parent| done.contains(parent) || !manifests.contains(parent)) {
                    sorted.push(digest.clone());
                }
            }
            done.extend(sorted[before..].iter().cloned());
            if sorted.len() == before {
                // Only a cycle leads here, and digests cannot form one.
                break;
            }
        }
        sorted
    }
}
