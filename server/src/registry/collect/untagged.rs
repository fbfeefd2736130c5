//! Removes manifests that no tag needs.
//!
//! A tag needs its manifest, everything that this one names, and all referrers of those: a signature
//! lives as long as its subject. A referrer does not keep its subject. Start reading at
//! [`Collection::collect_untagged`].

use std::collections::{HashMap, HashSet};

use imgsync_oci::{Digest, Repository};

use super::super::cache::to_unix_seconds;
use super::super::digest_prefix::digest_prefix;
use super::super::error::Result;
use super::Collection;
use super::candidates::Candidates;
use super::manifest_graph::ManifestGraph;
use crate::store::{LinkKind, MarkKey, ObjectKey, TrashEntry, Walk};

impl Collection<'_> {
    /// Removes the manifests of a repository that no tag has needed for the time in the options, if
    /// there is one; otherwise counts their bytes. Cached manifests are left to eviction.
    pub(super) fn collect_untagged(&mut self, repository: &Repository) -> Result<()> {
        let min_age = self.options.untagged.min_age(repository);
        // Set before anything is read, so that requests are noticed from now on.
        let links = self.registry.store.links(repository, LinkKind::Revisions);
        let prefixes = links.map(|digest| digest.map(|digest| digest_prefix(&digest)));
        let candidates = Candidates::new(prefixes.collect::<std::result::Result<_, _>>()?);
        let state = &self.registry.collect;
        state.set_manifests(Some((repository.clone(), candidates)));
        let registry = self.registry;
        let graph = registry.manifest_graph(repository, &Walk::unbounded(), &mut |digest| {
            let mark = MarkKey::Revision(repository, digest);
            let link = ObjectKey::RevisionLink(repository, digest);
            let written_at = registry.store.object_time(link)?;
            let written_at = written_at.map_or(0, to_unix_seconds);
            Ok(registry.store.mark_time(mark)?.is_some()
                || self.is_leased(repository, digest, written_at, None))
        })?;
        let needed = graph.needed();
        let unneeded = graph.ids().filter(|id| !needed.contains(id));
        let unneeded: HashSet<u128> = unneeded.collect();
        let Some(min_age) = min_age else {
            state.set_manifests(None);
            // The ages start again if there is a rule later: what has happened until then is unknown.
            self.update_untagged_since(repository, &graph, &HashSet::new())?;
            return self.count_untagged_bytes(repository, &graph, &needed);
        };
        let since = self.update_untagged_since(repository, &graph, &unneeded)?;
        let cutoff = self.now.saturating_sub(min_age.as_secs());
        let old = unneeded.iter().filter(|id| {
            let since = since.get(id);
            since.is_some_and(|since| *since <= cutoff)
        });
        let old: HashSet<u128> = old.copied().collect();
        if self.options.untagged.is_report_only() {
            self.stats.expired += old.len();
            state.set_manifests(None);
            return Ok(());
        }
        for manifest in graph.sort_keepers_first(&old) {
            let Some(digest) = graph.digest(manifest) else {
                continue;
            };
            if !self.remove_manifest(repository, digest)? {
                let kept = graph.closure([manifest]);
                let kept = kept.iter().filter_map(|id| graph.digest(*id));
                state.keep(repository, kept);
            }
        }
        state.set_manifests(None);
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
                let digest = graph.digest(*id);
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
