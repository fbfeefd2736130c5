//! Removes blobs from a repository that none of its manifests names.
//!
//! Only links are removed here; the bytes are removed in [`super::bytes`]. Start reading at
//! [`Collection::collect_layers`].

use imgsync_oci::{Digest, Repository, Tag};

use super::super::cache::to_unix_seconds;
use super::super::digest_prefix::digest_prefix;
use super::super::error::Result;
use super::candidates::{Candidates, MAX_CANDIDATES};
use super::leases::UploadActivity;
use super::manifest_children::NamedContent;
use super::{Collection, REMOVALS_PER_LOG_WRITE};
use crate::store::{LinkKind, MarkKey, ObjectKey, TrashEntry, Walk};

impl Collection<'_> {
    /// Removes the blobs of a repository that no manifest names and that are not leased.
    pub(super) fn collect_layers(&mut self, repository: &Repository) -> Result<()> {
        let mut links = self.registry.store.links(repository, LinkKind::Layers);
        let count: u64 = links.try_fold(0, |count, link| link.map(|_| count + 1))?;
        drop(links);
        let open = self.open_uploads(repository)?;
        let parts = u128::from(count / MAX_CANDIDATES + 1);
        for part in 0..parts {
            let is_in = |digest: &Digest| digest_prefix(digest) % parts == part;
            self.collect_layers_in(repository, open, &is_in)?;
        }
        self.registry.collect.set_layers(None);
        Ok(())
    }

    /// Collects the blobs for which `is_in` is true.
    fn collect_layers_in(
        &mut self,
        repository: &Repository,
        open: Option<UploadActivity>,
        is_in: &dyn Fn(&Digest) -> bool,
    ) -> Result<()> {
        let registry = self.registry;
        let mut prefixes = Vec::new();
        for digest in registry.store.links(repository, LinkKind::Layers) {
            let digest = digest?;
            if is_in(&digest) {
                prefixes.push(digest_prefix(&digest));
            }
        }
        let candidates = Candidates::new(prefixes);
        if candidates.is_empty() {
            return Ok(());
        }
        let state = &registry.collect;
        state.set_layers(Some((repository.clone(), candidates)));
        if !self.keep_named_layers(repository)? {
            return Ok(());
        }
        let mut removed = Vec::new();
        for digest in registry.store.links(repository, LinkKind::Layers) {
            let digest = digest?;
            if state.has_layer(&digest) && self.is_layer_old(repository, &digest, open)? {
                removed.push(digest);
            }
            if removed.len() >= REMOVALS_PER_LOG_WRITE {
                self.remove_layers(repository, open, &std::mem::take(&mut removed))?;
            }
        }
        self.remove_layers(repository, open, &removed)
    }

    /// Keeps the candidates that the repository's manifests name. Returns false if that cannot be
    /// told, because a tagged manifest has lost its content.
    fn keep_named_layers(&mut self, repository: &Repository) -> Result<bool> {
        let registry = self.registry;
        for digest in registry.store.links(repository, LinkKind::Revisions) {
            let (digest, links) = (digest?, LinkKind::Revisions);
            if self.unremoved.contains(repository, links, &digest) {
                continue;
            }
            match registry.named_content(repository, &digest)? {
                NamedContent::Children(named) => registry.collect.keep(repository, &named),
                NamedContent::Damaged(named) => {
                    tracing::warn!(%repository, %digest, "a manifest is damaged: push it again");
                    self.stats.damaged += 1;
                    if named.is_empty() && self.is_tagged(repository, &digest)? {
                        tracing::warn!(
                            %repository,
                            "keeping all blobs of a repository: a tagged manifest is damaged"
                        );
                        return Ok(false);
                    }
                    registry.collect.keep(repository, &named);
                }
                NamedContent::Absent => {}
            }
        }
        Ok(true)
    }

    fn is_tagged(&self, repository: &Repository, digest: &Digest) -> Result<bool> {
        let registry = self.registry;
        let tags: Vec<Tag> = registry.all_tags(repository, &Walk::unbounded())?;
        for tag in tags {
            let target = registry.read_link(ObjectKey::TagCurrent(repository, &tag))?;
            if target.as_ref() == Some(digest) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Removes blobs from a repository, except those that were kept or leased meanwhile.
    fn remove_layers(
        &mut self,
        repository: &Repository,
        open: Option<UploadActivity>,
        digests: &[Digest],
    ) -> Result<()> {
        let (registry, part) = (self.registry, self.trash_part());
        let mut entries = Vec::new();
        for digest in digests {
            let link = ObjectKey::LayerLink(repository, digest);
            let target = registry.resolve_link(link, digest)?;
            entries.push(TrashEntry::Layer {
                repository: repository.clone(),
                digest: digest.clone(),
                // A damaged link leads nowhere.
                target: target.unwrap_or_else(|| digest.clone()),
            });
        }
        if !self.options.is_dry_run {
            registry.log_to_trash(part, &entries)?;
        }
        for (digest, entry) in digests.iter().zip(&entries) {
            let _lock = registry.lock_digests([digest.clone()]);
            if !registry.collect.has_layer(digest)
                || !self.is_layer_old(repository, digest, open)?
            {
                continue;
            }
            let link = ObjectKey::LayerLink(repository, digest);
            if self.options.is_dry_run {
                let links = LinkKind::Layers;
                self.unremoved.insert(repository, links, digest);
            } else {
                registry.store.discard(link)?;
            }
            self.stats.links += 1;
            (self.report)(entry);
        }
        Ok(())
    }

    /// Returns whether a blob was pushed to the repository, and nobody relies on it any more.
    fn is_layer_old(
        &mut self,
        repository: &Repository,
        digest: &Digest,
        open: Option<UploadActivity>,
    ) -> Result<bool> {
        let store = &self.registry.store;
        let link = ObjectKey::LayerLink(repository, digest);
        let mark = MarkKey::Layer(repository, digest);
        let Some(written_at) = store.object_time(link)? else {
            return Ok(false);
        };
        if store.mark_time(mark)?.is_some() {
            return Ok(false);
        }
        let is_leased = self.is_leased(repository, digest, to_unix_seconds(written_at), open);
        self.stats.recent += usize::from(is_leased);
        Ok(!is_leased)
    }

    pub(super) fn is_leased(
        &self,
        repository: &Repository,
        digest: &Digest,
        written_at: u64,
        open: Option<UploadActivity>,
    ) -> bool {
        let times = (self.now, self.options.grace.as_secs());
        let leases = &self.registry.collect.leases;
        leases.is_leased((repository, digest), written_at, open, times)
    }

    /// Returns the time from the start of the first open session of a repository to the last write
    /// to one.
    fn open_uploads(&self, repository: &Repository) -> Result<Option<UploadActivity>> {
        let (store, mut all) = (&self.registry.store, None::<UploadActivity>);
        for id in store.uploads(repository) {
            let id = id?;
            let started = store.upload_started_at(repository, id)?;
            let Some(since) = started.map(to_unix_seconds) else {
                continue;
            };
            let written = store.upload_written_at(repository, id)?;
            let last = written.map_or(since, to_unix_seconds).max(since);
            all = Some(
                all.map_or(UploadActivity { since, last }, |all| UploadActivity {
                    since: all.since.min(since),
                    last: all.last.max(last),
                }),
            );
        }
        Ok(all)
    }
}
