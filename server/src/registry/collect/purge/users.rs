//! Finds who links and who names the content that is purged.
//!
//! Start reading at [`Registry::find_users`].

use std::collections::{BTreeMap, BTreeSet};

use imgsync_oci::{Digest, Repository};

use super::super::super::Registry;
use super::super::super::cache::link_key;
use super::super::super::error::Result;
use super::MAX_NAMED_IMAGES;
use crate::store::LinkKind;

/// The manifests and repositories that use content.
#[derive(Debug, Default)]
pub(super) struct ContentUsers {
    /// The links to it.
    pub(super) links: BTreeMap<Digest, BTreeSet<ContentLink>>,
    /// The manifests of these repositories that need it and that stay, some of them if there are
    /// many.
    manifests: BTreeMap<Digest, BTreeMap<Repository, BTreeSet<Digest>>>,
}

/// A link of a repository to content, with the digest by which it is linked.
pub(super) type ContentLink = (Repository, LinkKind, Digest);

impl ContentUsers {
    /// Adds a manifest that needs content, if its repository links the content.
    fn add(&mut self, digest: &Digest, repository: &Repository, manifest: &Digest) {
        let mut links = self.links.get(digest).into_iter().flatten();
        if !links.any(|(of, ..)| of == repository) {
            return;
        }
        let manifests = self.manifests.entry(digest.clone()).or_default();
        let manifests = manifests.entry(repository.clone()).or_default();
        if manifests.len() < MAX_NAMED_IMAGES {
            manifests.insert(manifest.clone());
        }
    }

    /// Returns a manifest that needs content and stays.
    pub(super) fn first_manifest(&self, digest: &Digest) -> Option<(&Repository, &Digest)> {
        let (repository, manifests) = self.manifests.get(digest)?.first_key_value()?;
        Some((repository, manifests.first()?))
    }

    /// Returns whether a manifest of a repository needs content and stays.
    pub(super) fn is_needed_in(&self, digest: &Digest, repository: &Repository) -> bool {
        let manifests = self.manifests.get(digest);
        manifests.is_some_and(|manifests| manifests.contains_key(repository))
    }

    /// Returns the manifests that need content and stay, by repository.
    pub(super) fn manifests(
        &self,
        digest: &Digest,
    ) -> impl Iterator<Item = (&Repository, &BTreeSet<Digest>)> {
        self.manifests.get(digest).into_iter().flatten()
    }
}

impl Registry {
    /// Finds the repositories that link these contents, and the manifests there that need them,
    /// except for the manifests that are removed. The contents include all digests of each content.
    pub(super) fn find_users(
        &self,
        contents: &BTreeSet<Digest>,
        removed: &[(Repository, Digest)],
    ) -> Result<ContentUsers> {
        let mut users = ContentUsers::default();
        let (mut repositories, mut aliases) = (BTreeSet::new(), BTreeMap::new());
        self.for_each_link_anywhere(&mut |repository, links, digest| {
            let key = link_key(repository, links, digest);
            if !contents.contains(digest) || self.store.len(key)?.is_none() {
                return Ok(());
            }
            let link = (repository.clone(), links, digest.clone());
            if let Some(stored) = self.alias_target(repository, links, digest)? {
                let linking = users.links.entry(stored.clone()).or_default();
                linking.insert(link.clone());
                aliases.insert((repository.clone(), digest.clone()), stored);
            }
            users.links.entry(digest.clone()).or_default().insert(link);
            repositories.insert(repository.clone());
            Ok(())
        })?;
        let removed: BTreeSet<&(Repository, Digest)> = removed.iter().collect();
        for repository in &repositories {
            for manifest in self.store.links(repository, LinkKind::Revisions) {
                let manifest = manifest?;
                let link = link_key(repository, LinkKind::Revisions, &manifest);
                let is_removed = removed.contains(&(repository.clone(), manifest.clone()));
                if is_removed || self.store.len(link)?.is_none() {
                    continue;
                }
                for digest in self.named_digests(repository, &manifest)? {
                    if contents.contains(&digest) {
                        users.add(&digest, repository, &manifest);
                        if let Some(stored) = aliases.get(&(repository.clone(), digest)) {
                            users.add(stored, repository, &manifest);
                        }
                    }
                }
                if contents.contains(&manifest) {
                    users.add(&manifest, repository, &manifest);
                }
            }
        }
        Ok(users)
    }
}
