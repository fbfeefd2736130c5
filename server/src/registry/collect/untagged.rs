//! Removes manifests that no tag needs.
//!
//! A tag needs its manifest, everything that this one names, and all referrers of those: a signature
//! lives as long as its subject. A referrer does not keep its subject. Start reading at
//! [`Collection::collect_untagged`].

use std::collections::{HashMap, HashSet, VecDeque};

use imgsync_oci::{Digest, MAX_MANIFEST_BYTES, Manifest, Repository};

use super::super::cache::to_unix_seconds;
use super::super::digest_prefix::digest_prefix;
use super::super::error::Result;
use super::Collection;
use super::candidates::Candidates;
use crate::store::{LinkKind, MarkKey, ObjectKey, TrashEntry, Walk};

/// The manifests of a repository, and which of them keep others.
#[derive(Default)]
struct ManifestGraph {
    manifests: HashMap<u128, Digest>,
    /// For each manifest the ones that live as long as it does: its children and its referrers.
    kept_by: HashMap<u128, Vec<u128>>,
    /// The manifests that are needed in any case.
    roots: Vec<u128>,
}

impl ManifestGraph {
    fn keeps(&mut self, manifest: &Digest, other: &Digest) {
        let kept = self.kept_by.entry(digest_prefix(manifest)).or_default();
        kept.push(digest_prefix(other));
    }

    /// Returns everything that lives as long as one of these manifests does, with themselves.
    fn closure(&self, roots: impl IntoIterator<Item = u128>) -> HashSet<u128> {
        let (mut closure, mut pending) = (HashSet::new(), VecDeque::from_iter(roots));
        while let Some(manifest) = pending.pop_front() {
            if closure.insert(manifest) {
                pending.extend(self.kept_by.get(&manifest).into_iter().flatten());
            }
        }
        closure
    }

    /// Sorts manifests so that each comes after those that keep it.
    fn sort_keepers_first(&self, manifests: &HashSet<u128>) -> Vec<u128> {
        let mut keepers: HashMap<u128, usize> = HashMap::new();
        let kept_by = |manifest: &u128| {
            let kept = self.kept_by.get(manifest).into_iter().flatten();
            kept.filter(|kept| manifests.contains(kept))
        };
        for manifest in manifests {
            for kept in kept_by(manifest) {
                *keepers.entry(*kept).or_default() += 1;
            }
        }
        let first = manifests.iter().filter(|id| !keepers.contains_key(id));
        let mut sorted: Vec<u128> = first.copied().collect();
        let mut index = 0;
        while let Some(manifest) = sorted.get(index).copied() {
            index += 1;
            for kept in kept_by(&manifest) {
                if let Some(count) = keepers.get_mut(kept) {
                    *count -= 1;
                    if *count == 0 {
                        sorted.push(*kept);
                    }
                }
            }
        }
        // An index that names its own referrer is in a cycle, and left out: it stays.
        sorted
    }
}

impl Collection<'_> {
    /// Removes the manifests of a repository that no tag has needed for the time in the options, if
    /// there is one. Cached manifests are left to eviction.
    pub(super) fn collect_untagged(&mut self, repository: &Repository) -> Result<()> {
        let Some(min_age) = self.options.min_untagged_age else {
            return Ok(());
        };
        // Set before anything is read, so that requests are noticed from now on.
        let links = self.registry.store.links(repository, LinkKind::Revisions);
        let prefixes = links.map(|digest| digest.map(|digest| digest_prefix(&digest)));
        let candidates = Candidates::new(prefixes.collect::<std::result::Result<_, _>>()?);
        let state = &self.registry.collect;
        state.set_manifests(Some((repository.clone(), candidates)));
        let graph = self.read_graph(repository)?;
        let needed = graph.closure(graph.roots.iter().copied());
        let unneeded = graph.manifests.keys().filter(|id| !needed.contains(id));
        let unneeded: HashSet<u128> = unneeded.copied().collect();
        let since = self.update_untagged_since(repository, &graph, &unneeded)?;
        let cutoff = self.now.saturating_sub(min_age.as_secs());
        let old = unneeded.iter().filter(|id| {
            let since = since.get(id);
            since.is_some_and(|since| *since <= cutoff)
        });
        let old: HashSet<u128> = old.copied().collect();
        for manifest in graph.sort_keepers_first(&old) {
            let Some(digest) = graph.manifests.get(&manifest) else {
                continue;
            };
            if !self.remove_manifest(repository, digest)? {
                let kept = graph.closure([manifest]);
                let kept = kept.iter().filter_map(|id| graph.manifests.get(id));
                state.keep(repository, kept);
            }
        }
        state.set_manifests(None);
        Ok(())
    }

    fn read_graph(&mut self, repository: &Repository) -> Result<ManifestGraph> {
        let registry = self.registry;
        let mut graph = ManifestGraph::default();
        for digest in registry.store.links(repository, LinkKind::Revisions) {
            let digest = digest?;
            let mark = MarkKey::Revision(repository, &digest);
            let link = ObjectKey::RevisionLink(repository, &digest);
            let written_at = registry.store.object_time(link)?;
            let written_at = written_at.map_or(0, to_unix_seconds);
            if registry.store.mark_time(mark)?.is_some()
                || self.is_leased(repository, &digest, written_at, None)
            {
                graph.roots.push(digest_prefix(&digest));
            }
            self.add_to_graph(repository, &digest, &mut graph)?;
            graph.manifests.insert(digest_prefix(&digest), digest);
        }
        for tag in registry.all_tags(repository, &Walk::unbounded())? {
            let target = registry.read_link(ObjectKey::TagCurrent(repository, &tag))?;
            graph.roots.extend(target.as_ref().map(digest_prefix));
        }
        Ok(graph)
    }

    /// Adds what a manifest keeps, and its subject, which keeps it.
    fn add_to_graph(
        &self,
        repository: &Repository,
        digest: &Digest,
        graph: &mut ManifestGraph,
    ) -> Result<()> {
        let registry = self.registry;
        let alias = registry.alias_target(repository, LinkKind::Revisions, digest)?;
        let target = alias.as_ref().unwrap_or(digest);
        let bytes = registry
            .store
            .get(ObjectKey::Blob(target), MAX_MANIFEST_BYTES + 1)?;
        let Some(bytes) = bytes else {
            return Ok(());
        };
        let Ok((_, manifest)) = Manifest::parse(&bytes, None) else {
            // Nobody can tell what it needs, so its digests are kept with it, and it stays.
            graph.roots.push(digest_prefix(digest));
            for named in registry.named_digests(repository, digest)? {
                graph.keeps(digest, &named);
            }
            return Ok(());
        };
        for child in &manifest.children().manifests {
            graph.keeps(digest, &child.digest);
        }
        if let Some(subject) = manifest.subject() {
            graph.keeps(&subject.digest, digest);
        }
        Ok(())
    }

    /// Returns since when each of these manifests has been seen without a tag that needs it, and
    /// stores that for the next collections.
    fn update_untagged_since(
        &self,
        repository: &Repository,
        graph: &ManifestGraph,
        unneeded: &HashSet<u128>,
    ) -> Result<HashMap<u128, u64>> {
        let store = &self.registry.store;
        let mut since = HashMap::new();
        let stored = store.untagged_since(repository)?;
        let is_changed = stored.len() != unneeded.len();
        for (digest, time) in stored {
            if unneeded.contains(&digest_prefix(&digest)) {
                since.insert(digest_prefix(&digest), time);
            }
        }
        let is_changed = is_changed || since.len() != unneeded.len();
        for id in unneeded {
            since.entry(*id).or_insert(self.now);
        }
        if is_changed && !self.options.is_dry_run {
            let lines = since.iter().filter_map(|(id, time)| {
                let digest = graph.manifests.get(id);
                digest.map(|digest| (digest, *time))
            });
            store.put_untagged_since(repository, lines)?;
        }
        Ok(since)
    }

    /// Removes a manifest, unless it was used or tagged meanwhile. Returns whether it was removed.
    fn remove_manifest(&mut self, repository: &Repository, digest: &Digest) -> Result<bool> {
        let registry = self.registry;
        let _lock = registry.lock_digests([digest.clone()]);
        let link = ObjectKey::RevisionLink(repository, digest);
        let Some(written_at) = registry.store.object_time(link)? else {
            return Ok(true);
        };
        if !registry.collect.has_manifest(digest)
            || self.is_leased(repository, digest, to_unix_seconds(written_at), None)
        {
            return Ok(false);
        }
        let target = registry.resolve_link(link, digest)?;
        let entry = TrashEntry::Revision {
            repository: repository.clone(),
            digest: digest.clone(),
            target: target.unwrap_or_else(|| digest.clone()),
        };
        if self.options.is_dry_run {
            let links = LinkKind::Revisions;
            self.unremoved.insert(repository, links, digest);
        } else {
            let part = self.trash_part();
            let entries = std::slice::from_ref(&entry);
            registry.log_to_trash(part, entries)?;
            registry.note_manifest_change(repository);
            registry.store.discard(link)?;
        }
        self.stats.manifests += 1;
        (self.report)(&entry);
        Ok(true)
    }
}
