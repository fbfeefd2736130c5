//! Removes content for good, also from the trash: somebody pushed a secret.
//!
//! First everything is looked at, and the images that would lack something are found. Then the
//! content is removed, the tags last: what was removed can be found by the same name until all of it
//! is gone, so a purge that was interrupted can be repeated. Content that a manifest names which is
//! pushed meanwhile stays. Start reading at [`Registry::purge`].

mod aliases;
mod content;
mod removal;
mod selection;
mod uploads;
mod users;

use std::collections::{BTreeMap, BTreeSet, HashSet};

use imgsync_oci::{Digest, Reference, Repository, Tag};

use self::users::ContentUsers;
use super::super::Registry;
use super::super::digest_prefix::digest_prefix;
use super::super::error::Result;
use super::ContentTarget;
use crate::store::{LinkKind, ObjectKey, TrashEntry, Walk};

/// The most images that are named because they need the same content.
const MAX_NAMED_IMAGES: usize = 100;

/// How content is purged.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PurgeOptions {
    /// Whether it is removed even if other images lack it then.
    pub(crate) is_forced: bool,
    /// Whether nothing is removed.
    pub(crate) is_dry_run: bool,
}

/// An image: a tag, or a manifest by its digest.
pub(crate) type ImageName = (Repository, Reference);

/// The outcome of a purge.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum PurgeOutcome {
    /// The content is neither stored nor in the trash.
    Absent,
    /// Nothing was removed: these images would lack something.
    Refused(BTreeSet<ImageName>),
    /// The content was removed.
    Purged(PurgeReport),
}

/// The result of a purge.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct PurgeReport {
    /// The number of bytes that were removed.
    pub(crate) bytes: u64,
    /// The content that stays because other images need it, each with one of these images. `None`
    /// if such an image was pushed during the purge.
    pub(crate) kept: BTreeMap<Digest, Option<ImageName>>,
    /// The images that lack something now.
    pub(crate) incomplete: BTreeSet<ImageName>,
    /// The number of upload sessions with the beginning of the content that could not be cancelled.
    pub(crate) unfinished_uploads: usize,
}

/// The content that is to be removed.
#[derive(Debug, Default)]
struct PurgePlan {
    /// The repositories that are removed whole.
    repositories: Vec<Repository>,
    /// The tags, which are removed last.
    tags: BTreeSet<(Repository, Tag)>,
    /// The manifests, those of a repository first that no other one of them names.
    manifests: Vec<(Repository, Digest)>,
    /// The digests of everything of which the bytes are removed unless other images need them.
    contents: BTreeSet<Digest>,
    /// The contents that were named by the operator, and are removed even if other images need
    /// them.
    named: BTreeSet<Digest>,
    /// The other images that lack something then.
    incomplete: BTreeSet<ImageName>,
}

impl PurgePlan {
    fn is_empty(&self) -> bool {
        self.repositories.is_empty()
            && self.tags.is_empty()
            && self.manifests.is_empty()
            && self.contents.is_empty()
    }
}

impl Registry {
    /// Removes content for good, with everything that only it needs. Calls `report` with what is
    /// removed, or would be in a dry run.
    ///
    /// # Errors
    /// Returns an error of the store. A part may have been removed; the purge can be repeated.
    pub(crate) fn purge(
        &self,
        target: &ContentTarget,
        options: PurgeOptions,
        report: &mut dyn FnMut(&TrashEntry),
    ) -> Result<PurgeOutcome> {
        let mut plan = self.plan_purge(target)?;
        self.add_aliases(&mut plan)?;
        if plan.is_empty() {
            return Ok(PurgeOutcome::Absent);
        }
        let contents: Vec<u128> = plan.contents.iter().map(digest_prefix).collect();
        self.collect
            .removal
            .watch(contents, || self.purge_planned(plan, options, report))
    }

    fn purge_planned(
        &self,
        mut plan: PurgePlan,
        options: PurgeOptions,
        report: &mut dyn FnMut(&TrashEntry),
    ) -> Result<PurgeOutcome> {
        let users = self.find_users(&plan.contents, &plan.manifests)?;
        for digest in &plan.named {
            plan.incomplete
                .extend(self.images_that_name(digest, &users)?);
        }
        if !plan.incomplete.is_empty() && !options.is_forced {
            return Ok(PurgeOutcome::Refused(plan.incomplete));
        }
        let purged = self.remove_planned(plan, &users, options, report)?;
        Ok(PurgeOutcome::Purged(purged))
    }

    fn plan_purge(&self, target: &ContentTarget) -> Result<PurgePlan> {
        let mut plan = PurgePlan::default();
        match target {
            ContentTarget::Repository(repository) => {
                self.plan_repository(repository, &mut plan)?;
            }
            ContentTarget::Tag(repository, tag) => {
                for digest in self.tag_targets(repository, tag)? {
                    self.plan_image(repository, &digest, Some(tag), &mut plan)?;
                }
            }
            ContentTarget::Manifest(repository, digest) => {
                if self.was_manifest_of(repository, digest)? {
                    self.plan_image(repository, digest, None, &mut plan)?;
                }
            }
            ContentTarget::Digest(digest) => self.plan_digest(digest, &mut plan)?,
        }
        Ok(plan)
    }

    /// Plans to remove a manifest or a blob everywhere.
    fn plan_digest(&self, digest: &Digest, plan: &mut PurgePlan) -> Result<()> {
        let mut repositories = BTreeSet::new();
        self.for_each_link_anywhere(&mut |repository, links, linked| {
            if linked == digest && links == LinkKind::Revisions {
                repositories.insert(repository.clone());
            }
            Ok(())
        })?;
        self.for_each_trashed(&mut |entry| {
            if let TrashEntry::Revision {
                repository,
                digest: trashed,
                ..
            } = entry
                && trashed == *digest
            {
                repositories.insert(repository);
            }
        })?;
        for repository in repositories {
            self.plan_image(&repository, digest, None, plan)?;
        }
        for stored in self.stored_digests(digest)? {
            if self.has_content(&stored)? {
                plan.contents.insert(stored.clone());
                plan.named.insert(stored);
            }
        }
        Ok(())
    }

    /// Plans to remove an image from a repository. With `tag`, other tags of it are other images.
    fn plan_image(
        &self,
        repository: &Repository,
        digest: &Digest,
        tag: Option<&Tag>,
        plan: &mut PurgePlan,
    ) -> Result<()> {
        let images = self.repository_images(repository, Some(digest))?;
        let selected = images.select(digest, tag);
        let named = |reference| (repository.clone(), reference);
        plan.incomplete
            .extend(selected.incomplete.into_iter().map(named));
        let tags = selected.tags.into_iter().chain(tag.cloned());
        plan.tags.extend(tags.map(|tag| (repository.clone(), tag)));
        for manifest in selected.manifests {
            plan.contents.extend(self.content_named_by(&manifest)?);
            plan.contents.insert(manifest.clone());
            plan.manifests.push((repository.clone(), manifest));
        }
        // Its manifests stay if other images need them.
        let removed: HashSet<&Digest> = plan.manifests.iter().map(|(_, digest)| digest).collect();
        for manifest in images.graph.digests() {
            if !removed.contains(manifest) {
                plan.contents.remove(manifest);
            }
        }
        Ok(())
    }

    /// Plans to remove all of a repository, also what the trash has of it.
    fn plan_repository(&self, repository: &Repository, plan: &mut PurgePlan) -> Result<()> {
        let is_stored = self.store.has_repository_folders(repository)?;
        let tags = self.all_tags(repository, &Walk::unbounded())?;
        plan.tags
            .extend(tags.into_iter().map(|tag| (repository.clone(), tag)));
        for digest in self.store.links(repository, LinkKind::Layers) {
            plan.contents.insert(digest?);
        }
        let graph = self.manifest_graph(repository, &Walk::unbounded(), &mut |_| Ok(false))?;
        for digest in graph.sorted_digests(&graph.ids().collect()) {
            plan.contents.insert(digest.clone());
            plan.manifests.push((repository.clone(), digest));
        }
        let mut is_trashed = false;
        self.for_each_trashed(&mut |entry| {
            let (Some(of), digest) = entry.repository_and_digest() else {
                return;
            };
            if of == repository {
                is_trashed = true;
                plan.contents.insert(digest.clone());
            }
        })?;
        if is_stored || is_trashed {
            plan.repositories.push(repository.clone());
        }
        Ok(())
    }

    /// Returns the names of the images that need content.
    fn images_that_name(
        &self,
        digest: &Digest,
        users: &ContentUsers,
    ) -> Result<BTreeSet<ImageName>> {
        let mut names = BTreeSet::new();
        for (repository, manifests) in users.manifests(digest) {
            let images = self.repository_images(repository, None)?;
            let found = images.images_with(&manifests.iter().map(digest_prefix).collect());
            names.extend(found.into_iter().map(|name| (repository.clone(), name)));
            if names.len() >= MAX_NAMED_IMAGES {
                break;
            }
        }
        Ok(names.into_iter().take(MAX_NAMED_IMAGES).collect())
    }

    /// Returns the digests at which a tag points, or pointed before it was deleted.
    fn tag_targets(&self, repository: &Repository, tag: &Tag) -> Result<BTreeSet<Digest>> {
        let current = self.read_link(ObjectKey::TagCurrent(repository, tag))?;
        let mut targets = BTreeSet::from_iter(current);
        if targets.is_empty() {
            self.for_each_trashed(&mut |entry| {
                if let TrashEntry::Tag {
                    repository: of,
                    tag: trashed,
                    digest,
                } = entry
                    && of == *repository
                    && trashed == *tag
                {
                    targets.insert(digest);
                }
            })?;
        }
        Ok(targets)
    }
}

#[cfg(test)]
mod push_tests;
#[cfg(test)]
mod tests;
