//! Restores content from the trash, and empties the trash.
//!
//! Start reading at [`Registry::restore`].

use std::collections::BTreeSet;
use std::time::Duration;

use imgsync_oci::{Digest, Repository, Tag};

use super::super::Registry;
use super::super::error::Result;
use super::super::locks::LockKey;
use super::manifest_children::NamedContent;
use crate::store::{self, LinkKind, ObjectKey, TrashEntry, TrashPart};
use crate::wall_clock::unix_now;

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
    /// The parts of the trash, the latest first.
    parts: Vec<TrashPart>,
    report: RestoreReport,
    visited: BTreeSet<(Repository, Digest)>,
}

impl Registry {
    /// Restores content from the trash: for a tag the latest removal counts. What exists is not
    /// changed, so it is safe to repeat this.
    ///
    /// # Errors
    /// Returns an error of the store. A part may have been restored.
    pub(crate) fn restore(&self, target: &ContentTarget) -> Result<RestoreReport> {
        let parts = self.store.trash_parts()?;
        let mut restoration = Restoration {
            registry: self,
            parts: parts.into_iter().rev().collect(),
            report: RestoreReport::default(),
            visited: BTreeSet::new(),
        };
        restoration.run(target)?;
        Ok(restoration.report)
    }

    /// Calls `visit` with everything in the trash that is not restored, the oldest first, and the time
    /// in Unix seconds at which it is deleted.
    ///
    /// # Errors
    /// Returns an error of the store.
    pub(crate) fn for_each_removed(
        &self,
        undo: Duration,
        visit: &mut dyn FnMut(u64, TrashEntry),
    ) -> Result<()> {
        let mut failed = Ok(());
        for part in self.store.trash_parts()? {
            let expires_at = part.expires_at(undo.as_secs());
            self.store.for_each_trash_entry(part, &mut |entry| {
                match self.is_restored(part, &entry) {
                    Ok(true) => {}
                    Ok(false) => visit(expires_at, entry),
                    Err(error) => failed = Err(error),
                }
                Ok(())
            })?;
        }
        failed
    }

    /// Returns whether something that was removed is there again.
    fn is_restored(&self, part: TrashPart, entry: &TrashEntry) -> Result<bool> {
        let store = &self.store;
        Ok(match entry {
            TrashEntry::Tag {
                repository,
                tag,
                digest,
            } => {
                let current = self.read_link(ObjectKey::TagCurrent(repository, tag))?;
                current.as_ref() == Some(digest)
            }
            TrashEntry::Revision {
                repository, digest, ..
            } => store
                .len(ObjectKey::RevisionLink(repository, digest))?
                .is_some(),
            TrashEntry::Layer {
                repository, digest, ..
            } => store
                .len(ObjectKey::LayerLink(repository, digest))?
                .is_some(),
            TrashEntry::Blob { digest, .. } => store.trashed_blob_len(part, digest)?.is_none(),
        })
    }

    /// Deletes what has been in the trash for `undo` at `now` (Unix seconds), and more, the oldest
    /// first, while the disk is short of space.
    ///
    /// # Errors
    /// Returns an error of the store; the rest is left to the next call.
    pub(crate) fn expire_trash(&self, undo: Duration, now: u64) -> Result<()> {
        for part in self.store.trash_parts()? {
            if undo.is_zero() || part.expires_at(undo.as_secs()) <= now {
                self.store.delete_trash_part(part)?;
            } else if self.is_disk_short()? {
                tracing::info!("the disk is nearly full: emptying a part of the trash");
                self.store.delete_trash_part(part)?;
            }
        }
        Ok(())
    }

    fn is_disk_short(&self) -> Result<bool> {
        let disk = self.store.disk_space()?;
        Ok(disk.free < self.reserve_bytes(disk))
    }

    /// Writes to the trash's log that something is about to be removed.
    pub(in crate::registry) fn log_removal(&self, entries: &[TrashEntry]) -> Result<()> {
        self.log_to_trash(TrashPart::at(unix_now()), entries)?;
        Ok(())
    }

    /// Writes to the log of a part that something is about to be removed. If the disk is full, empties
    /// the trash; returns false if that does not help, and the content cannot be restored.
    pub(super) fn log_to_trash(&self, part: TrashPart, entries: &[TrashEntry]) -> Result<bool> {
        match self.store.log_to_trash(part, entries) {
            Err(store::Error::Full { .. }) => {}
            logged => return Ok(logged.map(|()| true)?),
        }
        tracing::warn!("the disk is full: emptying the trash");
        for part in self.store.trash_parts()? {
            self.store.delete_trash_part(part)?;
        }
        match self.store.log_to_trash(part, entries) {
            Err(store::Error::Full { .. }) => {
                tracing::warn!("the disk is full: what is removed now cannot be restored");
                Ok(false)
            }
            logged => Ok(logged.map(|()| true)?),
        }
    }
}

impl Restoration<'_> {
    fn run(&mut self, target: &ContentTarget) -> Result<()> {
        let (mut tags, mut manifests, mut layers) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
        for part in &self.parts {
            // The last removal of a part comes first, too.
            let mut removed = Vec::new();
            let store = &self.registry.store;
            store.for_each_trash_entry(*part, &mut |entry| {
                if target.includes(&entry) {
                    removed.push(entry);
                }
                Ok(())
            })?;
            for entry in removed.into_iter().rev() {
                match entry {
                    TrashEntry::Tag {
                        repository,
                        tag,
                        digest,
                    } => tags.push((repository, tag, digest)),
                    TrashEntry::Revision {
                        repository, digest, ..
                    } => drop(manifests.insert((repository, digest))),
                    TrashEntry::Layer {
                        repository, digest, ..
                    } => drop(layers.insert((repository, digest))),
                    TrashEntry::Blob { .. } => {}
                }
            }
        }
        if let ContentTarget::Manifest(repository, digest) = target {
            manifests.insert((repository.clone(), digest.clone()));
        }
        for (repository, digest) in &manifests {
            self.restore_manifest(repository, digest)?;
        }
        for (repository, digest) in &layers {
            self.restore_layer(repository, digest)?;
        }
        let mut seen = BTreeSet::new();
        for (repository, tag, digest) in tags {
            if seen.insert((repository.clone(), tag.clone())) {
                self.restore_tag(&repository, &tag, &digest)?;
            }
        }
        Ok(())
    }

    /// Restores a manifest and everything that it names; returns whether it is there now.
    fn restore_manifest(&mut self, repository: &Repository, digest: &Digest) -> Result<bool> {
        let registry = self.registry;
        if !self.visited.insert((repository.clone(), digest.clone())) {
            let link = ObjectKey::RevisionLink(repository, digest);
            return Ok(registry.store.len(link)?.is_some());
        }
        let is_within_limit = self.visited.len() <= MAX_RESTORED_MANIFESTS;
        let lock = registry.lock_digests([digest.clone()]);
        let has_bytes = is_within_limit && self.restore_bytes(digest)?;
        drop(lock);
        if !has_bytes {
            self.report.gone.insert(digest.clone());
            return Ok(false);
        }
        let NamedContent::Children(children) = registry.named_content(repository, digest)? else {
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
        self.restore_link(repository, LinkKind::Revisions, digest)?;
        Ok(true)
    }

    /// Restores a blob or a manifest that a manifest of the repository names.
    fn restore_child(&mut self, repository: &Repository, digest: &Digest) -> Result<bool> {
        let registry = self.registry;
        let lock = registry.lock_digests([digest.clone()]);
        for link in [
            ObjectKey::LayerLink(repository, digest),
            ObjectKey::RevisionLink(repository, digest),
        ] {
            if registry.store.len(link)?.is_some() && self.restore_bytes(digest)? {
                registry.promise(repository, digest);
                return Ok(true);
            }
        }
        drop(lock);
        if self.was_manifest(repository, digest)? {
            return self.restore_manifest(repository, digest);
        }
        self.restore_layer(repository, digest)
    }

    /// Restores a blob of a repository; returns whether it is there now.
    fn restore_layer(&mut self, repository: &Repository, digest: &Digest) -> Result<bool> {
        let registry = self.registry;
        let _lock = registry.lock_digests([digest.clone()]);
        if !self.restore_bytes(digest)? {
            self.report.gone.insert(digest.clone());
            return Ok(false);
        }
        self.restore_link(repository, LinkKind::Layers, digest)?;
        registry.promise(repository, digest);
        Ok(true)
    }

    /// Restores the link to content. The caller holds the lock of the digest.
    fn restore_link(
        &mut self,
        repository: &Repository,
        links: LinkKind,
        digest: &Digest,
    ) -> Result<()> {
        let registry = self.registry;
        let key = super::super::cache::link_key(repository, links, digest);
        if registry.store.len(key)?.is_some() {
            return Ok(());
        }
        if links == LinkKind::Revisions {
            registry.note_manifest_change(repository);
        }
        registry.store.put(key, digest.to_string().as_bytes())?;
        let (repository, digest) = (repository.clone(), digest.clone());
        let target = digest.clone();
        self.report.restored.push(match links {
            LinkKind::Layers => {
                let size = registry.store.len(ObjectKey::Blob(&digest))?;
                registry.count_link(&repository, &digest, size.unwrap_or_default(), true);
                registry.log_blob_link(&repository, &digest);
                TrashEntry::Layer {
                    repository,
                    digest,
                    target,
                }
            }
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
        for part in &self.parts {
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

    /// Returns whether the trash lists a manifest of the repository.
    fn was_manifest(&self, repository: &Repository, digest: &Digest) -> Result<bool> {
        let mut is_listed = false;
        for part in &self.parts {
            let store = &self.registry.store;
            store.for_each_trash_entry(*part, &mut |entry| {
                is_listed |= matches!(&entry, TrashEntry::Revision { repository: of, digest: listed, .. }
                    if of == repository && listed == digest);
                Ok(())
            })?;
        }
        Ok(is_listed)
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
                registry.collect.keep_from_removal([digest]);
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
