//! Scans the marks of the cache, to count the cached bytes and to find the least recently used
//! manifests.
//!
//! There is no other index, so every scan walks the marks on disk. The memory of a scan is bounded,
//! however large the cache is. Nothing is changed here. Start reading at
//! [`Registry::find_least_recently_used`].

use std::collections::{BinaryHeap, HashSet};

use imgsync_oci::{Algorithm, Digest, Manifest, Reference, Repository};

use super::super::Registry;
use super::super::digest_prefix::digest_prefix;
use super::super::error::{Error, Result};
use super::to_unix_seconds;
use crate::store::{LinkKind, ListScope, MarkKey, ObjectKey, Walk};

/// Maximum number of digests counted in one walk; larger caches take several walks.
const MAX_DIGESTS_PER_COUNT: u64 = 65_536;
/// Maximum number of candidates returned by one scan.
const MAX_CANDIDATES_PER_SCAN: usize = 512;

/// A cached manifest, ordered by its last use.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct EvictionCandidate {
    /// The last use: Unix seconds, and the number of the use to order those within a second.
    pub(super) last_used: (u64, u64),
    pub(super) repository: Repository,
    pub(super) digest: Digest,
}

impl Registry {
    /// Calls `visit` with each possible link of every repository: the repository, the kind of link,
    /// and the digest in its name. The directory of a link may exist without the link.
    pub(in crate::registry) fn for_each_link_anywhere(
        &self,
        visit: &mut dyn FnMut(&Repository, LinkKind, &Digest) -> Result<()>,
    ) -> Result<()> {
        for (scope, links) in [
            (ListScope::RepositoriesWithBlobs, LinkKind::Layers),
            (ListScope::Repositories, LinkKind::Revisions),
        ] {
            for repository in self.repositories(scope, &Walk::unbounded()) {
                let repository = repository?;
                for digest in self.store.links(&repository, links) {
                    visit(&repository, links, &digest?)?;
                }
            }
        }
        Ok(())
    }

    /// Calls `visit` with the digest of each mark of every repository. The marked content may be
    /// gone.
    fn for_each_mark(&self, visit: &mut dyn FnMut(Digest) -> Result<()>) -> Result<()> {
        for repository in self.repositories(ListScope::RepositoriesWithMarks, &Walk::unbounded()) {
            let repository = repository?;
            for links in [LinkKind::Layers, LinkKind::Revisions] {
                for digest in self.store.marked_links(&repository, links) {
                    visit(digest?)?;
                }
            }
        }
        Ok(())
    }

    /// Iterates over the readable manifests of a repository.
    pub(super) fn manifests(
        &self,
        repository: &Repository,
    ) -> impl Iterator<Item = Result<(Digest, Manifest)>> {
        let digests = self.store.links(repository, LinkKind::Revisions);
        digests.filter_map(move |digest| {
            let read = |digest| {
                let manifest = self.read_parsed_manifest(repository, &digest)?;
                Ok(manifest.map(|manifest| (digest, manifest)))
            };
            digest.map_err(Error::from).and_then(read).transpose()
        })
    }

    /// Reads and parses a manifest. Returns `None` if the repository does not have it or it does
    /// not parse.
    pub(super) fn read_parsed_manifest(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Option<Manifest>> {
        match self.get_manifest(repository, &Reference::Digest(digest.clone())) {
            Ok(stored) => Ok(Manifest::parse_bare(&stored.bytes)
                .ok()
                .map(|(_, manifest)| manifest)),
            Err(Error::ManifestUnknown(_) | Error::ManifestDamaged(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns the number of cached bytes: content that was cached from an upstream and pushed to
    /// no repository. Each blob counts once.
    pub(super) fn count_cached_bytes(&self) -> Result<u64> {
        let mut marks: u64 = 0;
        self.for_each_mark(&mut |_| {
            marks += 1;
            Ok(())
        })?;
        let parts = u128::from(marks / MAX_DIGESTS_PER_COUNT + 1);
        (0..parts).try_fold(0, |bytes, part| {
            let is_in = |digest: &Digest| digest_prefix(digest) % parts == part;
            Ok(bytes + self.count_cached_bytes_in(&is_in)?)
        })
    }

    /// Counts the cached bytes of the digests for which `is_in` is true.
    fn count_cached_bytes_in(&self, is_in: &dyn Fn(&Digest) -> bool) -> Result<u64> {
        let (mut cached, mut bytes) = (HashSet::new(), 0);
        self.for_each_mark(&mut |digest| {
            if is_in(&digest) {
                cached.insert(digest_prefix(&digest));
            }
            Ok(())
        })?;
        if cached.is_empty() {
            return Ok(0);
        }
        self.for_each_link_anywhere(&mut |repository, links, digest| {
            let mark = mark_key(repository, links, digest);
            if cached.contains(&digest_prefix(digest)) && self.store.mark_time(mark)?.is_none() {
                cached.remove(&digest_prefix(digest));
            }
            if let Some(target) = self.alias_target(repository, links, digest)? {
                cached.remove(&digest_prefix(&target));
            }
            Ok(())
        })?;
        self.for_each_mark(&mut |digest| {
            if cached.remove(&digest_prefix(&digest)) {
                bytes += self.store.len(ObjectKey::Blob(&digest))?.unwrap_or(0);
            }
            Ok(())
        })?;
        Ok(bytes)
    }

    /// Returns the target of a link, if it differs from the digest in the link's name: a stock
    /// registry stores content with a sha512 digest under its sha256 digest.
    pub(in crate::registry) fn alias_target(
        &self,
        repository: &Repository,
        links: LinkKind,
        digest: &Digest,
    ) -> Result<Option<Digest>> {
        if digest.algorithm() == Algorithm::Sha256 {
            return Ok(None);
        }
        let target = self.read_link(link_key(repository, links, digest))?;
        Ok(target.filter(|target| target != digest))
    }

    /// Returns the last use of a manifest, or `None` if it is not cached.
    pub(super) fn last_used(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Option<(u64, u64)>> {
        let saved = self
            .store
            .mark_time(MarkKey::Revision(repository, digest))?;
        let in_memory = self.cache.last_use_in_memory(repository, digest);
        Ok(saved.map(|saved| {
            in_memory
                .unwrap_or_default()
                .max((to_unix_seconds(saved), 0))
        }))
    }

    /// Returns the least recently used cached manifests in order: those after `after` that were not
    /// used later than `until` (Unix seconds). The list is limited in length, and empty only if
    /// there are none.
    pub(super) fn find_least_recently_used(
        &self,
        after: Option<&EvictionCandidate>,
        until: u64,
    ) -> Result<Vec<EvictionCandidate>> {
        let mut oldest: BinaryHeap<EvictionCandidate> = BinaryHeap::new();
        for repository in self.repositories(ListScope::RepositoriesWithMarks, &Walk::unbounded()) {
            let repository = repository?;
            for digest in self.store.marked_links(&repository, LinkKind::Revisions) {
                let digest = digest?;
                let Some(last_used) = self.last_used(&repository, &digest)? else {
                    continue;
                };
                let is_full = oldest.len() >= MAX_CANDIDATES_PER_SCAN;
                let is_late = oldest.peek().is_some_and(|last| last.last_used < last_used);
                if last_used.0 > until || (is_full && is_late) {
                    continue;
                }
                let candidate = EvictionCandidate {
                    last_used,
                    repository: repository.clone(),
                    digest,
                };
                if after.is_none_or(|after| candidate > *after) {
                    oldest.push(candidate);
                    if is_full {
                        oldest.pop();
                    }
                }
            }
        }
        Ok(oldest.into_sorted_vec())
    }
}

/// Returns the key of the mark that belongs to a link.
pub(in crate::registry) fn mark_key<'a>(
    repository: &'a Repository,
    links: LinkKind,
    digest: &'a Digest,
) -> MarkKey<'a> {
    match links {
        LinkKind::Layers => MarkKey::Layer(repository, digest),
        LinkKind::Revisions => MarkKey::Revision(repository, digest),
    }
}

/// Returns the key of a link.
pub(in crate::registry) fn link_key<'a>(
    repository: &'a Repository,
    links: LinkKind,
    digest: &'a Digest,
) -> ObjectKey<'a> {
    match links {
        LinkKind::Layers => ObjectKey::LayerLink(repository, digest),
        LinkKind::Revisions => ObjectKey::RevisionLink(repository, digest),
    }
}
