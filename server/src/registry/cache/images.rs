//! Evicts images from one repository: cached tags, manifests, and the blobs that nothing else in
//! the repository names.
//!
//! Only links and marks are deleted here; the bytes are deleted in [`super::evict`]. Start reading
//! at [`Registry::evict_from_repository`].

use std::collections::{BTreeMap, BTreeSet, HashSet};

use imgsync_oci::manifest::Children;
use imgsync_oci::{Digest, Manifest, Repository, Tag};

use super::super::Registry;
use super::super::error::Result;
use super::super::locks::LockKey;
use super::tags::TagState;
use crate::store::{ListScope, MarkKey, ObjectKey};

/// Maximum number of digests evicted from a repository at a time. What remains of larger images is
/// swept later as unreferenced.
const MAX_DIGESTS_PER_EVICTION: usize = 50_000;

/// What was evicted from a repository.
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
        let above = self
            .0
            .iter()
            .filter(move |(_, below)| below.contains(digest));
        above.map(|(index, _)| index)
    }

    /// Returns the top-level indexes that name a manifest, directly or through other indexes.
    /// Returns the manifest itself if no index names it.
    fn roots(&self, digest: &Digest) -> BTreeSet<Digest> {
        let (mut tops, mut seen) = (BTreeSet::new(), BTreeSet::new());
        let mut open = vec![digest.clone()];
        while let Some(digest) = open.pop() {
            if !seen.insert(digest.clone()) {
                continue;
            }
            let before = open.len();
            open.extend(self.parents(&digest).cloned());
            if open.len() == before {
                tops.insert(digest);
            }
        }
        tops
    }

    /// Returns a manifest and all manifests that it names, directly or through other indexes.
    fn subtree(&self, digest: &Digest) -> BTreeSet<Digest> {
        let (mut all, mut open) = (BTreeSet::new(), vec![digest.clone()]);
        while let Some(digest) = open.pop() {
            if all.insert(digest.clone()) {
                open.extend(self.0.get(&digest).into_iter().flatten().cloned());
            }
        }
        all
    }
}

/// Returns the digests that a manifest names.
fn child_digests(children: &Children) -> impl Iterator<Item = &Digest> {
    let all = children.blobs.iter().chain(&children.manifests);
    all.map(|child| &child.digest)
}

impl Registry {
    /// Evicts cached manifests from a repository, with their tags and with the manifests and blobs
    /// that only they name.
    ///
    /// An index is evicted together with all manifests that it names, and only if none of them was
    /// used after `until` (Unix seconds). Pushed content stays, with everything that it names.
    /// `note` is called with every digest that may be evicted, before the first is.
    pub(super) fn evict_from_repository(
        &self,
        repository: &Repository,
        candidates: &[Digest],
        until: u64,
        note: &mut dyn FnMut(&HashSet<Digest>) -> Result<()>,
    ) -> Result<EvictedContent> {
        let indexes = self.load_index_graph(repository, candidates)?;
        let manifests = self.select_manifests_to_evict(repository, candidates, &indexes, until)?;
        let mut all: HashSet<Digest> = manifests.iter().cloned().collect();
        for digest in &manifests {
            if let Some(manifest) = self.read_parsed_manifest(repository, digest)? {
                let children = manifest.children();
                let room = MAX_DIGESTS_PER_EVICTION.saturating_sub(all.len());
                all.extend(child_digests(&children).take(room).cloned());
            }
        }
        // Some manifests named by an evicted index stay, so this records more than is evicted.
        note(&all)?;
        self.cache.mark_for_eviction(repository, all.clone());
        self.unmark_named_by_kept_manifests(repository, &manifests)?;
        let tags = self.unmark_pushed_tags(repository, &manifests)?;
        self.unmark_named_by_unmarked(repository, &manifests)?;
        let mut gone = EvictedContent::default();
        // Parents first, so that a manifest that stays never lacks a child.
        for digest in indexes.sort_parents_first(&manifests) {
            let is_top = indexes.parents(&digest).next().is_none();
            let tags = tags.get(&digest).map_or(&[][..], Vec::as_slice);
            if self.evict_manifest(repository, &digest, tags, until)? {
                gone.images += usize::from(is_top);
                gone.digests.insert(digest);
            } else if let Some(manifest) = self.read_parsed_manifest(repository, &digest)? {
                // The manifest was used or pushed meanwhile.
                self.cache
                    .unmark_named(repository, child_digests(&manifest.children()));
            }
        }
        for digest in all {
            if self.evict_blob(repository, &digest)? {
                gone.digests.insert(digest);
            }
        }
        self.cache.mark_for_eviction(repository, HashSet::new());
        Ok(gone)
    }

    /// Finds the indexes related to these manifests: those that name them directly or through other
    /// indexes, and those that they name.
    fn load_index_graph(&self, repository: &Repository, about: &[Digest]) -> Result<IndexGraph> {
        let mut indexes = IndexGraph::default();
        let mut about: HashSet<Digest> = about.iter().cloned().collect();
        loop {
            let before = indexes.0.len();
            self.for_each_manifest(repository, &mut |digest, manifest| {
                let Manifest::Index { manifests, .. } = manifest else {
                    return Ok(());
                };
                if indexes.0.contains_key(&digest) {
                    return Ok(());
                }
                let below: BTreeSet<Digest> =
                    manifests.into_iter().map(|child| child.digest).collect();
                if about.contains(&digest) || below.iter().any(|child| about.contains(child)) {
                    about.insert(digest.clone());
                    about.extend(below.iter().cloned());
                    indexes.0.insert(digest, below);
                }
                Ok(())
            })?;
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
        let mut going = BTreeSet::new();
        let tops: BTreeSet<Digest> = candidates
            .iter()
            .flat_map(|digest| indexes.roots(digest))
            .collect();
        for top in tops {
            let is_cached = self.last_used(repository, &top)?.is_some();
            let all = indexes.subtree(&top);
            let mut used = 0;
            for digest in &all {
                let last = self.last_used(repository, digest)?;
                used = used.max(last.map_or(0, |last| last.0));
            }
            if is_cached && used <= until && going.len() + all.len() <= MAX_DIGESTS_PER_EVICTION {
                going.extend(all);
            }
        }
        loop {
            let mut staying = Vec::new();
            for digest in &going {
                let is_named = indexes.parents(digest).any(|above| !going.contains(above));
                if is_named || self.last_used(repository, digest)?.is_none() {
                    staying.push(digest.clone());
                }
            }
            if staying.is_empty() {
                return Ok(going);
            }
            for digest in staying {
                going.remove(&digest);
            }
        }
    }

    /// Unmarks everything that the remaining manifests name.
    fn unmark_named_by_kept_manifests(
        &self,
        repository: &Repository,
        going: &BTreeSet<Digest>,
    ) -> Result<()> {
        self.for_each_manifest(repository, &mut |digest, manifest| {
            if !going.contains(&digest) {
                self.cache
                    .unmark_named(repository, child_digests(&manifest.children()));
            }
            Ok(())
        })
    }

    /// Unmarks the manifests that pushed tags point at. Returns the cached tags of the other
    /// manifests.
    fn unmark_pushed_tags(
        &self,
        repository: &Repository,
        going: &BTreeSet<Digest>,
    ) -> Result<BTreeMap<Digest, Vec<Tag>>> {
        let mut tags: BTreeMap<Digest, Vec<Tag>> = BTreeMap::new();
        let names = self
            .store
            .list(ListScope::Tags(repository), "", usize::MAX)?;
        for tag in names.iter().filter_map(|name| name.parse::<Tag>().ok()) {
            let Some(digest) = self.read_link(ObjectKey::TagCurrent(repository, &tag))? else {
                continue;
            };
            if !going.contains(&digest) {
                continue;
            }
            match self.tag_state(repository, &tag)? {
                TagState::Pushed => self.cache.unmark_named(repository, [&digest]),
                TagState::Cached { .. } => tags.entry(digest).or_default().push(tag),
                TagState::Absent => {}
            }
        }
        Ok(tags)
    }

    /// Unmarks everything that is named by manifests that were themselves unmarked.
    fn unmark_named_by_unmarked(
        &self,
        repository: &Repository,
        going: &BTreeSet<Digest>,
    ) -> Result<()> {
        let mut struck = BTreeSet::new();
        loop {
            let before = struck.len();
            for digest in going {
                if self.cache.is_marked_for_eviction(digest) || struck.contains(digest) {
                    continue;
                }
                if let Some(manifest) = self.read_parsed_manifest(repository, digest)? {
                    self.cache
                        .unmark_named(repository, child_digests(&manifest.children()));
                }
                struck.insert(digest.clone());
            }
            if struck.len() == before {
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
        let named = tags.iter();
        let named = named.map(|tag| LockKey::Tag(repository.clone(), tag.clone()));
        let _hold = self.lock_keys([LockKey::from(digest.clone())].into_iter().chain(named));
        let used = self.last_used(repository, digest)?;
        let is_unused = used.is_some_and(|used| used.0 <= until);
        if !self.cache.is_marked_for_eviction(digest) || !is_unused {
            return Ok(false);
        }
        for tag in tags {
            let state = self.tag_state_locked(repository, tag)?;
            if matches!(state, TagState::Cached { digest: current, .. } if current == *digest) {
                self.remove_tag(repository, tag)?;
            }
        }
        self.store
            .delete(ObjectKey::RevisionLink(repository, digest))?;
        self.store
            .delete_marks(&[MarkKey::Revision(repository, digest)])?;
        Ok(true)
    }

    /// Evicts a blob from a repository, if the blob is cached, still marked and not leased. Returns
    /// whether it was evicted.
    pub(super) fn evict_blob(&self, repository: &Repository, digest: &Digest) -> Result<bool> {
        let _hold = self.lock_digests([digest.clone()]);
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
                let mut above = self.parents(digest);
                if above.all(|above| done.contains(above) || !manifests.contains(above)) {
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
