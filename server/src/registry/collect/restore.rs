//! Restores content from the trash.
//!
//! A repository gets back only what was removed from it: the bytes of other content can be stored
//! for other repositories. Start reading at [`Registry::restore`].

use std::collections::BTreeSet;

use imgsync_oci::{Digest, Repository, Tag};

use super::super::Registry;
use super::super::cache::link_key;
use super::super::error::Result;
use super::super::locks::LockKey;
use super::manifest_children::NamedContent;
use super::removed_content::RemovedContent;
use crate::store::{LinkKind, ObjectKey, TrashEntry, TrashPart};

/// Bounds how many manifests are restored for one index. A damaged trash could name more.
const MAX_RESTORED_MANIFESTS: usize = 20_000;

/// The content to restore or to purge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ContentTarget {
    /// All tags and manifests of a repository.
    Repository(Repository),
    /// A tag, with its image.
    Tag(Repository, Tag),
    /// A manifest of a repository, with everything that it names.
    Manifest(Repository, Digest),
    /// A blob or a manifest, in all repositories.
    Digest(Digest),
}

/// The result of a restoration.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct RestoreReport {
    /// The content that was restored.
    pub(crate) restored: Vec<TrashEntry>,
    /// The tags that point at another manifest now, and were not changed.
    pub(crate) occupied: Vec<(Repository, Tag)>,
    /// The content that is neither stored nor in the trash. What names it was not restored.
    pub(crate) gone: BTreeSet<Digest>,
}

/// A restoration that is running.
struct Restoration<'a> {
    registry: &'a Registry,
    parts: BTreeSet<TrashPart>,
    /// The entries of the trash for the repositories into which something is restored.
    removed: RemovedContent,
    report: RestoreReport,
    visited: BTreeSet<(Repository, Digest)>,
}

/// The content to restore, with everything that it names.
#[derive(Default)]
struct WantedContent {
    /// The latest removals first.
    tags: Vec<(Repository, Tag, Digest)>,
    manifests: BTreeSet<(Repository, Digest)>,
    layers: BTreeSet<(Repository, Digest)>,
}

impl Registry {
    /// Restores content from the trash: for a tag the latest removal counts. What exists is not
    /// changed, so it is safe to repeat this. Waits for the purge or the deletion of a repository that
    /// is running.
    ///
    /// # Errors
    /// Returns an error of the store. A part may have been restored.
    pub(crate) fn restore(&self, target: &ContentTarget) -> Result<RestoreReport> {
        let _removal = self.collect.removal.pause();
        let parts = self.store.trash_parts()?;
        let wanted = self.find_wanted(target, &parts)?;
        let removed = RemovedContent::read(&self.store, &parts, wanted.repositories())?;
        let mut restoration = Restoration {
            registry: self,
            parts,
            removed,
            report: RestoreReport::default(),
            visited: BTreeSet::new(),
        };
        restoration.run(wanted)?;
        Ok(restoration.report)
    }

    /// Finds what a target stands for.
    fn find_wanted(
        &self,
        target: &ContentTarget,
        parts: &BTreeSet<TrashPart>,
    ) -> Result<WantedContent> {
        let mut wanted = WantedContent::default();
        for part in parts {
            self.store.for_each_trash_entry(*part, &mut |entry| {
                if target.includes(&entry) {
                    wanted.add(entry);
                }
                Ok(())
            })?;
        }
        wanted.tags.reverse();
        if let ContentTarget::Manifest(repository, digest) = target {
            let manifest = (repository.clone(), digest.clone());
            wanted.manifests.insert(manifest);
        }
        Ok(wanted)
    }
}

impl WantedContent {
    fn add(&mut self, entry: TrashEntry) {
        match entry {
            TrashEntry::Tag {
                repository,
                tag,
                digest,
            } => self.tags.push((repository, tag, digest)),
            TrashEntry::Revision {
                repository, digest, ..
            } => drop(self.manifests.insert((repository, digest))),
            TrashEntry::Layer {
                repository, digest, ..
            } => drop(self.layers.insert((repository, digest))),
            TrashEntry::Blob { .. } => {}
        }
    }

    fn repositories(&self) -> BTreeSet<Repository> {
        let tagged = self.tags.iter().map(|(repository, ..)| repository);
        let linked = self.manifests.iter().chain(&self.layers);
        let linked = linked.map(|(repository, _)| repository);
        tagged.chain(linked).cloned().collect()
    }
}

impl Restoration<'_> {
    fn run(&mut self, wanted: WantedContent) -> Result<()> {
        for (repository, digest) in &wanted.manifests {
            self.restore_manifest(repository, digest)?;
        }
        for (repository, digest) in &wanted.layers {
            self.restore_layer(repository, digest)?;
        }
        let mut seen = BTreeSet::new();
        for (repository, tag, digest) in wanted.tags {
            if seen.insert((repository.clone(), tag.clone())) {
                self.restore_tag(&repository, &tag, &digest)?;
            }
        }
        Ok(())
    }

    /// Returns the digest under which content of a repository is stored; `None` if the repository does
    /// not have it, and the trash does not list it either.
    fn stored_digest(
        &self,
        repository: &Repository,
        links: LinkKind,
        digest: &Digest,
    ) -> Result<Option<Digest>> {
        let link = link_key(repository, links, digest);
        let is_linked = self.registry.store.len(link)?.is_some();
        if is_linked && let Some(stored) = self.registry.resolve_link(link, digest)? {
            return Ok(Some(stored));
        }
        // A damaged link still has the digest in its name.
        let is_known = is_linked || self.removed.contains(repository, links, digest);
        Ok(is_known.then(|| self.removed.stored_digest(repository, digest)))
    }

    /// Restores a manifest and everything that it names; returns whether it is there now.
    fn restore_manifest(&mut self, repository: &Repository, digest: &Digest) -> Result<bool> {
        let registry = self.registry;
        if !self.visited.insert((repository.clone(), digest.clone())) {
            let link = ObjectKey::RevisionLink(repository, digest);
            return Ok(registry.store.len(link)?.is_some());
        }
        let is_within_limit = self.visited.len() <= MAX_RESTORED_MANIFESTS;
        let stored = self.stored_digest(repository, LinkKind::Revisions, digest)?;
        let Some(stored) = stored.filter(|_| is_within_limit) else {
            self.report.gone.insert(digest.clone());
            return Ok(false);
        };
        let lock = registry.lock_digests([digest.clone(), stored.clone()]);
        let has_bytes = self.restore_bytes(&stored)?;
        drop(lock);
        if !has_bytes {
            self.report.gone.insert(digest.clone());
            return Ok(false);
        }
        let NamedContent::Children(children) = registry.named_content(repository, &stored)? else {
            self.report.gone.insert(digest.clone());
            return Ok(false);
        };
        let mut is_complete = true;
        for child in &children {
            is_complete &= self.restore_child(repository, child)?;
        }
        if !is_complete {
            return Ok(false);
        }
        let _lock = registry.lock_digests([digest.clone()]);
        self.restore_link(repository, LinkKind::Revisions, digest, &stored)?;
        Ok(true)
    }

    /// Restores a blob or a manifest that a manifest of the repository names.
    fn restore_child(&mut self, repository: &Repository, digest: &Digest) -> Result<bool> {
        let registry = self.registry;
        for links in [LinkKind::Layers, LinkKind::Revisions] {
            let Some(stored) = self.stored_digest(repository, links, digest)? else {
                continue;
            };
            let _lock = registry.lock_digests([digest.clone(), stored.clone()]);
            let link = link_key(repository, links, digest);
            if registry.store.len(link)?.is_some() && self.restore_bytes(&stored)? {
                registry.promise(repository, digest);
                return Ok(true);
            }
        }
        if self
            .removed
            .contains(repository, LinkKind::Revisions, digest)
        {
            return self.restore_manifest(repository, digest);
        }
        self.restore_layer(repository, digest)
    }

    /// Restores a blob of a repository; returns whether it is there now.
    fn restore_layer(&mut self, repository: &Repository, digest: &Digest) -> Result<bool> {
        let registry = self.registry;
        let Some(stored) = self.stored_digest(repository, LinkKind::Layers, digest)? else {
            self.report.gone.insert(digest.clone());
            return Ok(false);
        };
        let _lock = registry.lock_digests([digest.clone(), stored.clone()]);
        if !self.restore_bytes(&stored)? {
            self.report.gone.insert(digest.clone());
            return Ok(false);
        }
        self.restore_link(repository, LinkKind::Layers, digest, &stored)?;
        registry.promise(repository, digest);
        Ok(true)
    }

    /// Restores the link to content with the digest under which it is stored. The caller holds the
    /// lock of the digest.
    fn restore_link(
        &mut self,
        repository: &Repository,
        links: LinkKind,
        digest: &Digest,
        stored: &Digest,
    ) -> Result<()> {
        let registry = self.registry;
        let key = link_key(repository, links, digest);
        if registry.store.len(key)?.is_some() {
            return Ok(());
        }
        if links == LinkKind::Revisions {
            registry.note_manifest_change(repository);
        }
        registry.store.put(key, stored.to_string().as_bytes())?;
        let size = registry.store.len(ObjectKey::Blob(stored))?;
        let size = size.unwrap_or_default();
        match links {
            LinkKind::Layers => {
                registry.count_link(repository, digest, size, true);
                registry.log_blob_link(repository, digest);
            }
            LinkKind::Revisions => registry.count_until_next_count(repository, digest, size),
        }
        let (repository, digest) = (repository.clone(), digest.clone());
        let target = stored.clone();
        self.report.restored.push(match links {
            LinkKind::Layers => TrashEntry::Layer {
                repository,
                digest,
                target,
            },
            LinkKind::Revisions => TrashEntry::Revision {
                repository,
                digest,
                target,
            },
        });
        Ok(())
    }

    /// Moves the bytes of a blob back, unless they are there; returns whether they are there now. The
    /// caller holds the lock of the digest.
    fn restore_bytes(&mut self, digest: &Digest) -> Result<bool> {
        let registry = self.registry;
        if registry.store.len(ObjectKey::Blob(digest))?.is_some() {
            registry.collect.keep_bytes(digest);
            return Ok(true);
        }
        for part in self.parts.iter().rev() {
            let Some(size) = registry.store.trashed_blob_len(*part, digest)? else {
                continue;
            };
            registry.store.restore_blob(*part, digest)?;
            registry.collect.keep_bytes(digest);
            let digest = digest.clone();
            self.report.restored.push(TrashEntry::Blob { size, digest });
            return Ok(true);
        }
        Ok(false)
    }

    /// Restores a tag, unless there is one of that name.
    fn restore_tag(&mut self, repository: &Repository, tag: &Tag, digest: &Digest) -> Result<()> {
        let registry = self.registry;
        if !self.restore_manifest(repository, digest)? {
            return Ok(());
        }
        let tag_key = LockKey::Tag(repository.clone(), tag.clone());
        let _lock = registry.lock_keys([LockKey::from(digest.clone()), tag_key]);
        let current = registry.read_link(ObjectKey::TagCurrent(repository, tag))?;
        match current {
            Some(current) if current == *digest => {}
            Some(_) => self.report.occupied.push((repository.clone(), tag.clone())),
            None => {
                registry.put_tag(repository, tag, digest)?;
                self.report.restored.push(TrashEntry::Tag {
                    repository: repository.clone(),
                    tag: tag.clone(),
                    digest: digest.clone(),
                });
            }
        }
        Ok(())
    }
}

impl ContentTarget {
    fn includes(&self, entry: &TrashEntry) -> bool {
        match (self, entry) {
            (
                Self::Repository(wanted),
                TrashEntry::Tag { repository, .. } | TrashEntry::Revision { repository, .. },
            ) => wanted == repository,
            (
                Self::Tag(wanted, wanted_tag),
                TrashEntry::Tag {
                    repository, tag, ..
                },
            ) => wanted == repository && wanted_tag == tag,
            (
                Self::Digest(wanted),
                TrashEntry::Layer { digest, .. } | TrashEntry::Revision { digest, .. },
            ) => wanted == digest,
            _ => false,
        }
    }
}
