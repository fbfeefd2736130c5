//! Images go out of one repository: tags, manifests, and the blobs that nothing else there names.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use imgsync_oci::manifest::Children;
use imgsync_oci::{Digest, Manifest, Repository, Tag};

use super::super::Registry;
use super::super::error::Result;
use super::super::locks::LockKey;
use super::tags::TagState;
use crate::store::{ListScope, MarkKey, ObjectKey};

/// The most that goes out of a repository at a time; what is left of larger images goes with what
/// nothing names.
const MAX_DIGESTS_PER_EVICTION: usize = 50_000;

/// What went out of a repository.
#[derive(Debug, Default)]
pub(super) struct EvictedContent {
    /// How many manifests that no other one named.
    pub(super) images: usize,
    /// What the repository does not link to any more.
    pub(super) digests: HashSet<Digest>,
}

/// The indexes of a repository that have to do with what is to go, each with the manifests that it
/// names.
#[derive(Default)]
struct IndexGraph(BTreeMap<Digest, BTreeSet<Digest>>);

impl IndexGraph {
    /// The indexes that name a manifest.
    fn parents<'a>(&'a self, digest: &'a Digest) -> impl Iterator<Item = &'a Digest> {
        let above = self
            .0
            .iter()
            .filter(move |(_, below)| below.contains(digest));
        above.map(|(index, _)| index)
    }

    /// The indexes that name a manifest, directly or not, and are named by none; itself where none
    /// names it.
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

    /// A manifest with all that it names, directly or not.
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

fn child_digests(children: &Children) -> impl Iterator<Item = &Digest> {
    let all = children.blobs.iter().chain(&children.manifests);
    all.map(|child| &child.digest)
}

impl Registry {
    /// Takes cached manifests out of a repository, with their tags, the manifests and the blobs
    /// that only they name. An index goes with all that it names or not at all, and only if none of
    /// that was used after `until` (unix seconds). What was pushed stays, and all that it names.
    /// `note` is called with all that may go, before any of it does.
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
        // Some below an index do not go with it.
        note(&all)?;
        self.cache.mark_for_eviction(repository, all.clone());
        self.unmark_named_by_kept_manifests(repository, &manifests)?;
        let tags = self.unmark_pushed_tags(repository, &manifests)?;
        self.unmark_named_by_unmarked(repository, &manifests)?;
        let mut gone = EvictedContent::default();
        // Those that name others first: none that stays ever lacks what it named.
        for digest in indexes.sort_parents_first(&manifests) {
            let is_top = indexes.parents(&digest).next().is_none();
            let tags = tags.get(&digest).map_or(&[][..], Vec::as_slice);
            if self.evict_manifest(repository, &digest, tags, until)? {
                gone.images += usize::from(is_top);
                gone.digests.insert(digest);
            } else if let Some(manifest) = self.read_parsed_manifest(repository, &digest)? {
                // It was used or pushed meanwhile.
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

    /// Finds the indexes that name any of these manifests, and those that name those; with all
    /// that they name.
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

    /// The manifests that go: whole images, and of what they name what nothing else names.
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

    /// Strikes off whatever the manifests name that stay.
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

    /// Strikes off what pushed tags point at; yields the cached tags of all else that is to go.
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

    /// Strikes off what is named by manifests that were struck off meanwhile.
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

    /// Takes a manifest with its tags out of a repository, if it may still go and was not used
    /// after `until`; false where it stays.
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

    /// Takes a blob out of a repository, if it is a cached one and may still go; false where not.
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
    /// These manifests, each after those that name it.
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
                // No digest can name itself, so this is never reached with real ones.
                break;
            }
        }
        sorted
    }
}
