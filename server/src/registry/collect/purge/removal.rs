//! Removes the content of a plan: blobs, then manifests, then tags, then what the trash's logs say
//! of them.
//!
//! Start reading at [`Registry::remove_planned`].

use std::collections::BTreeSet;

use imgsync_oci::{Digest, Reference, Repository, Tag};

use super::super::super::Registry;
use super::super::super::cache::link_key;
use super::super::super::error::Result;
use super::super::super::locks::LockKey;
use super::users::ContentUsers;
use super::{PurgeOptions, PurgePlan, PurgeReport};
use crate::store::{LinkKind, MarkKey, ObjectKey, TrashEntry};

/// A removal that is running.
struct Removal<'a> {
    registry: &'a Registry,
    users: &'a ContentUsers,
    options: PurgeOptions,
    report: &'a mut dyn FnMut(&TrashEntry),
    done: PurgeReport,
    /// The content that was removed, or would be in a dry run.
    removed: BTreeSet<Digest>,
    /// The manifests that were removed from repositories, or would be in a dry run.
    removed_manifests: BTreeSet<(Repository, Digest)>,
}

impl Registry {
    pub(super) fn remove_planned(
        &self,
        plan: PurgePlan,
        users: &ContentUsers,
        options: PurgeOptions,
        report: &mut dyn FnMut(&TrashEntry),
    ) -> Result<PurgeReport> {
        let mut removal = Removal {
            registry: self,
            users,
            options,
            report,
            done: PurgeReport {
                incomplete: plan.incomplete,
                ..PurgeReport::default()
            },
            removed: BTreeSet::new(),
            removed_manifests: BTreeSet::new(),
        };
        let is_removable = |digest: &&Digest| {
            plan.named.contains(*digest) || users.first_manifest(digest).is_none()
        };
        let removable: Vec<&Digest> = plan.contents.iter().filter(is_removable).collect();
        if !options.is_dry_run {
            // Before the bytes are removed, because the sessions are compared with them.
            removal.done.unfinished_uploads =
                self.cancel_uploads_of(&removable, &plan.repositories)?;
            self.withdraw_manifests(&plan.manifests)?;
        }
        let manifests: BTreeSet<&Digest> =
            plan.manifests.iter().map(|(_, digest)| digest).collect();
        for digest in &plan.contents {
            if !manifests.contains(digest) {
                removal.remove_content(digest, plan.named.contains(digest))?;
            }
        }
        if !options.is_dry_run {
            // After the bytes are removed, because an assembly keeps them open: none can begin now.
            removal.done.unfinished_uploads +=
                self.cancel_assemblies_of(&removable, &plan.repositories)?;
        }
        // Manifests that name others go last, so that all are found if the purge is repeated.
        for (repository, digest) in plan.manifests.iter().rev() {
            removal.remove_manifest(repository, digest, plan.named.contains(digest))?;
        }
        removal.forget_derived(&plan.manifests)?;
        for (repository, tag) in &plan.tags {
            removal.remove_tag(repository, tag)?;
        }
        if !options.is_dry_run {
            for repository in &plan.repositories {
                self.store.delete_empty_repository(repository)?;
            }
        }
        removal.forget_trash(&plan.repositories)?;
        Ok(removal.done)
    }

    /// Begins to remove manifests: an index that is pushed later may not name them. Of manifests that
    /// were pushed since the purge has begun, everything stays that they name.
    fn withdraw_manifests(&self, manifests: &[(Repository, Digest)]) -> Result<()> {
        let removal = &self.collect.removal;
        // A manifest comes after the indexes that name it, and stays if one of them does.
        for (repository, digest) in manifests {
            let _lock = self.lock_digests([digest.clone()]);
            if removal.may_be_removed(digest) {
                removal.withdraw(repository, digest);
            } else {
                removal.keep(&self.content_named_by(digest)?);
            }
        }
        Ok(())
    }
}

impl Removal<'_> {
    /// Removes content, and the links to it where no manifest needs it, unless it is needed.
    fn remove_content(&mut self, digest: &Digest, is_named: bool) -> Result<()> {
        let (registry, users) = (self.registry, self.users);
        let links = || users.links.get(digest).into_iter().flatten();
        // A push that names another digest of the content holds the lock of that one.
        let linked = links().map(|(.., linked)| linked.clone());
        let digests: BTreeSet<Digest> = linked.chain([digest.clone()]).collect();
        let _lock = registry.lock_digests(digests.clone());
        let removal = &registry.collect.removal;
        if !digests.iter().all(|digest| removal.may_be_removed(digest)) {
            self.done.kept.insert(digest.clone(), None);
            return Ok(());
        }
        let user = self.users.first_manifest(digest).filter(|_| !is_named);
        match user {
            Some((repository, manifest)) => {
                let image = (repository.clone(), Reference::Digest(manifest.clone()));
                self.done.kept.insert(digest.clone(), Some(image));
            }
            None => self.remove_bytes(digest)?,
        }
        // The links after the bytes, so that the content is found if the purge is repeated.
        for (repository, kind, linked) in links() {
            let is_needed = users.is_needed_in(digest, repository) && !is_named;
            if !is_needed && *kind == LinkKind::Layers {
                self.remove_link(repository, *kind, linked)?;
            }
        }
        Ok(())
    }

    /// Removes a manifest from a repository, and its bytes unless another repository has it.
    fn remove_manifest(
        &mut self,
        repository: &Repository,
        digest: &Digest,
        is_named: bool,
    ) -> Result<()> {
        self.remove_content(digest, is_named)?;
        let registry = self.registry;
        let _lock = registry.lock_digests([digest.clone()]);
        let removal = &registry.collect.removal;
        // An index of another repository may keep its bytes, but not what it names.
        if !removal.may_be_removed(digest) && !removal.is_withdrawn(repository, digest) {
            return Ok(());
        }
        registry.note_manifest_change(repository);
        self.remove_link(repository, LinkKind::Revisions, digest)?;
        let (repository, digest) = (repository.clone(), digest.clone());
        self.removed_manifests
            .insert((repository.clone(), digest.clone()));
        let target = digest.clone();
        (self.report)(&TrashEntry::Revision {
            repository,
            digest,
            target,
        });
        Ok(())
    }

    fn remove_link(&self, repository: &Repository, links: LinkKind, digest: &Digest) -> Result<()> {
        if self.options.is_dry_run {
            return Ok(());
        }
        let store = &self.registry.store;
        store.delete(link_key(repository, links, digest))?;
        let mark = match links {
            LinkKind::Layers => MarkKey::Layer(repository, digest),
            LinkKind::Revisions => MarkKey::Revision(repository, digest),
        };
        Ok(store.delete_marks(&[mark])?)
    }

    /// Removes all copies of content, and what was derived from it. The caller holds the lock of the
    /// digest.
    fn remove_bytes(&mut self, digest: &Digest) -> Result<()> {
        let (registry, store) = (self.registry, &self.registry.store);
        let key = ObjectKey::Blob(digest);
        let mut size = store.len(key)?.unwrap_or_default();
        let parts = store.trash_parts()?;
        for part in &parts {
            size += store.trashed_blob_len(*part, digest)?.unwrap_or_default();
        }
        size += store.quarantined_len(digest)?.unwrap_or_default();
        if !self.options.is_dry_run {
            store.delete(key)?;
            store.delete_quarantined_blob(digest)?;
            for part in parts {
                store.delete_trashed_blob(part, digest)?;
            }
            if store.has_cache_fill(digest)? {
                registry.discard_partial_blob(digest)?;
                store.sync_cache_fills()?;
            }
            registry.delete_layer_record(digest)?;
        }
        if self.removed.insert(digest.clone()) && size > 0 {
            self.done.bytes += size;
            let digest = digest.clone();
            (self.report)(&TrashEntry::Blob { size, digest });
        }
        Ok(())
    }

    /// Removes a tag, unless it points at a manifest that stays.
    fn remove_tag(&mut self, repository: &Repository, tag: &Tag) -> Result<()> {
        let registry = self.registry;
        let _lock = registry.lock_keys([LockKey::Tag(repository.clone(), tag.clone())]);
        let Some(target) = registry.read_link(ObjectKey::TagCurrent(repository, tag))? else {
            return self.discard_tag(repository, tag);
        };
        let link = ObjectKey::RevisionLink(repository, &target);
        let is_kept = if self.options.is_dry_run {
            let manifest = (repository.clone(), target.clone());
            !self.removed_manifests.contains(&manifest)
        } else {
            registry.store.len(link)?.is_some()
        };
        if is_kept {
            return Ok(());
        }
        self.discard_tag(repository, tag)?;
        (self.report)(&TrashEntry::Tag {
            repository: repository.clone(),
            tag: tag.clone(),
            digest: target,
        });
        Ok(())
    }

    fn discard_tag(&self, repository: &Repository, tag: &Tag) -> Result<()> {
        if self.options.is_dry_run {
            return Ok(());
        }
        self.registry.remove_tag(repository, tag)
    }

    /// Removes what is known about manifests: their descriptors can contain annotations.
    fn forget_derived(&self, manifests: &[(Repository, Digest)]) -> Result<()> {
        if self.options.is_dry_run {
            return Ok(());
        }
        let of: BTreeSet<&Repository> =
            manifests.iter().map(|(repository, _)| repository).collect();
        for repository in of {
            self.registry.forget_manifests(repository, &self.removed)?;
        }
        Ok(())
    }

    /// Removes the lines about removed content from the trash's logs.
    fn forget_trash(&self, repositories: &[Repository]) -> Result<()> {
        if self.options.is_dry_run {
            return Ok(());
        }
        let store = &self.registry.store;
        for part in store.trash_parts()? {
            store.filter_trash_log(part, &mut |entry| {
                let (repository, digest) = entry.repository_and_digest();
                let is_whole = repository.is_some_and(|of| repositories.contains(of));
                !is_whole && !self.removed.contains(digest)
            })?;
        }
        Ok(())
    }
}
