//! The entries of the trash for some repositories.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use imgsync_oci::{Digest, Repository};

use super::super::digest_prefix::digest_prefix;
use super::super::error::Result;
use crate::store::{LinkKind, Store, TrashEntry, TrashPart};

/// The manifests and blobs that were removed from some repositories.
#[derive(Debug, Default)]
pub(super) struct RemovedContent(BTreeMap<Repository, RemovedLinks>);

/// The links that were removed from a repository, by [`digest_prefix`].
#[derive(Debug, Default)]
struct RemovedLinks {
    manifests: HashSet<u128>,
    layers: HashSet<u128>,
    /// The digests under which the bytes are stored, where these are others.
    stored: HashMap<Digest, Digest>,
}

impl RemovedContent {
    /// Reads what parts of the trash list of these repositories.
    ///
    /// # Errors
    /// The errors of the store.
    pub(super) fn read(
        store: &Store,
        parts: &BTreeSet<TrashPart>,
        repositories: BTreeSet<Repository>,
    ) -> Result<Self> {
        let repositories = repositories.into_iter();
        let mut removed: BTreeMap<_, _> = repositories
            .map(|repository| (repository, RemovedLinks::default()))
            .collect();
        for part in parts {
            store.for_each_trash_entry(*part, &mut |entry| {
                let (repository, digest, target, links) = match entry {
                    TrashEntry::Layer {
                        repository,
                        digest,
                        target,
                    } => (repository, digest, target, LinkKind::Layers),
                    TrashEntry::Revision {
                        repository,
                        digest,
                        target,
                    } => (repository, digest, target, LinkKind::Revisions),
                    TrashEntry::Tag { .. } | TrashEntry::Blob { .. } => return Ok(()),
                };
                if let Some(removed) = removed.get_mut(&repository) {
                    removed.of_kind(links).insert(digest_prefix(&digest));
                    if target != digest {
                        removed.stored.insert(digest, target);
                    }
                }
                Ok(())
            })?;
        }
        Ok(Self(removed))
    }

    /// Returns whether content was removed from a repository.
    pub(super) fn contains(
        &self,
        repository: &Repository,
        links: LinkKind,
        digest: &Digest,
    ) -> bool {
        let removed = self.0.get(repository);
        removed.is_some_and(|removed| {
            let removed = match links {
                LinkKind::Layers => &removed.layers,
                LinkKind::Revisions => &removed.manifests,
            };
            removed.contains(&digest_prefix(digest))
        })
    }

    /// Returns the digest under which the bytes of removed content are stored.
    pub(super) fn stored_digest(&self, repository: &Repository, digest: &Digest) -> Digest {
        let removed = self.0.get(repository);
        let stored = removed.and_then(|removed| removed.stored.get(digest));
        stored.unwrap_or(digest).clone()
    }
}

impl RemovedLinks {
    fn of_kind(&mut self, links: LinkKind) -> &mut HashSet<u128> {
        match links {
            LinkKind::Layers => &mut self.layers,
            LinkKind::Revisions => &mut self.manifests,
        }
    }
}
