//! Scans the marks of the cache, to count the cached bytes and to find the least recently used
//! manifests.
//!
//! There is no other index, so every scan walks the marks on disk. The memory of a scan is bounded,
//! however large the cache is. Nothing is changed here. Start reading at
//! [`Registry::find_least_recently_used`].

use std::collections::{BinaryHeap, HashSet};
use std::ops::ControlFlow;

use imgsync_oci::{Algorithm, Digest, Manifest, Reference, Repository};

use super::super::Registry;
use super::super::error::{Error, Result};
use super::to_unix_seconds;
use crate::store::{LinkKind, ListScope, MarkKey, ObjectKey};

/// Number of repository names read at a time.
const REPOSITORY_PAGE_SIZE: usize = 1000;
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
    /// Calls `look` with each repository of a list.
    pub(super) fn for_each_repository(
        &self,
        list: ListScope<'_>,
        look: &mut dyn FnMut(Repository) -> Result<()>,
    ) -> Result<()> {
        let mut after = String::new();
        loop {
            let names = self.store.list(list, &after, REPOSITORY_PAGE_SIZE)?;
            for name in &names {
                if let Ok(repository) = name.parse() {
                    look(repository)?;
                }
            }
            match names.into_iter().last() {
                Some(last) => after = last,
                None => return Ok(()),
            }
        }
    }

    /// Calls `look` with each possible link of every repository: the repository, the kind of link,
    /// and the digest in its name. The directory of a link may exist without the link.
    pub(super) fn for_each_link_anywhere(
        &self,
        look: &mut dyn FnMut(&Repository, LinkKind, Digest) -> Result<()>,
    ) -> Result<()> {
        let lists = [
            (ListScope::RepositoriesWithBlobs, LinkKind::Layers),
            (ListScope::Repositories, LinkKind::Revisions),
        ];
        for (list, links) in lists {
            self.for_each_repository(list, &mut |repository| {
                let mut failed = None;
                self.store
                    .for_each_link(&repository, links, &mut |digest| {
                        continue_unless_failed(&mut failed, look(&repository, links, digest))
                    })?;
                failed.map_or(Ok(()), Err)
            })?;
        }
        Ok(())
    }

    /// Calls `look` with the digest of each mark of a repository. The marked content may be gone.
    fn for_each_mark(
        &self,
        repository: &Repository,
        look: &mut dyn FnMut(Digest) -> Result<()>,
    ) -> Result<()> {
        for links in [LinkKind::Layers, LinkKind::Revisions] {
            let mut failed = None;
            self.store
                .for_each_marked_link(repository, links, &mut |digest| {
                    continue_unless_failed(&mut failed, look(digest))
                })?;
            failed.map_or(Ok(()), Err)?;
        }
        Ok(())
    }

    /// Calls `look` with each readable manifest of a repository.
    pub(super) fn for_each_manifest(
        &self,
        repository: &Repository,
        look: &mut dyn FnMut(Digest, Manifest) -> Result<()>,
    ) -> Result<()> {
        let mut failed = None;
        let mut read = |digest: Digest| match self.read_parsed_manifest(repository, &digest)? {
            Some(manifest) => look(digest, manifest),
            None => Ok(()),
        };
        self.store
            .for_each_link(repository, LinkKind::Revisions, &mut |digest| {
                continue_unless_failed(&mut failed, read(digest))
            })?;
        failed.map_or(Ok(()), Err)
    }

    /// Reads and parses a manifest. Returns `None` if the repository does not have it or it does
    /// not parse.
    pub(super) fn read_parsed_manifest(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Option<Manifest>> {
        match self.get_manifest(repository, &Reference::Digest(digest.clone())) {
            Ok(stored) => Ok(Manifest::parse(&stored.bytes, None).ok().map(|read| read.1)),
            Err(Error::ManifestUnknown(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns the number of cached bytes: content that was cached from an upstream and pushed to
    /// no repository. Each blob counts once.
    pub(super) fn count_cached_bytes(&self) -> Result<u64> {
        let mut marks: u64 = 0;
        self.for_each_repository(ListScope::RepositoriesWithMarks, &mut |repository| {
            self.for_each_mark(&repository, &mut |_| {
                marks += 1;
                Ok(())
            })
        })?;
        let parts = u128::from(marks / MAX_DIGESTS_PER_COUNT + 1);
        let mut held = 0;
        for part in 0..parts {
            held += self.count_cached_bytes_in(&|digest| digest_prefix(digest) % parts == part)?;
        }
        Ok(held)
    }

    /// Counts the cached bytes of the digests for which `is_in` is true.
    fn count_cached_bytes_in(&self, is_in: &dyn Fn(&Digest) -> bool) -> Result<u64> {
        let (mut cached, mut held) = (HashSet::new(), 0);
        self.for_each_repository(ListScope::RepositoriesWithMarks, &mut |repository| {
            self.for_each_mark(&repository, &mut |digest| {
                if is_in(&digest) {
                    cached.insert(digest_prefix(&digest));
                }
                Ok(())
            })
        })?;
        if cached.is_empty() {
            return Ok(0);
        }
        self.for_each_link_anywhere(&mut |repository, links, digest| {
            if cached.contains(&digest_prefix(&digest))
                && self
                    .store
                    .mark_time(mark_key(repository, links, &digest))?
                    .is_none()
            {
                cached.remove(&digest_prefix(&digest));
            }
            if let Some(target) = self.alias_target(repository, links, &digest)? {
                cached.remove(&digest_prefix(&target));
            }
            Ok(())
        })?;
        self.for_each_repository(ListScope::RepositoriesWithMarks, &mut |repository| {
            self.for_each_mark(&repository, &mut |digest| {
                if cached.remove(&digest_prefix(&digest)) {
                    held += self.store.len(ObjectKey::Blob(&digest))?.unwrap_or(0);
                }
                Ok(())
            })
        })?;
        Ok(held)
    }

    /// Returns the target of a link, if it differs from the digest in the link's name: a stock
    /// registry stores content with a sha512 digest under its sha256 digest.
    pub(super) fn alias_target(
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
        let noted = self
            .store
            .mark_time(MarkKey::Revision(repository, digest))?;
        let known = self.cache.last_use_in_memory(repository, digest);
        Ok(noted.map(|noted| known.unwrap_or_default().max((to_unix_seconds(noted), 0))))
    }

    /// Returns the least recently used cached manifests in order: those after `after` that were not
    /// used later than `until` (Unix seconds). The list is limited in length, and empty only if
    /// there are none.
    pub(super) fn find_least_recently_used(
        &self,
        after: Option<&EvictionCandidate>,
        until: u64,
    ) -> Result<Vec<EvictionCandidate>> {
        let mut found: BinaryHeap<EvictionCandidate> = BinaryHeap::new();
        self.for_each_repository(ListScope::RepositoriesWithMarks, &mut |repository| {
            let mut failed = None;
            let mut consider = |digest: Digest| {
                let Some(used) = self.last_used(&repository, &digest)? else {
                    return Ok(());
                };
                let is_full = found.len() >= MAX_CANDIDATES_PER_SCAN;
                let is_late = found.peek().is_some_and(|last| last.last_used < used);
                if used.0 > until || (is_full && is_late) {
                    return Ok(());
                }
                let candidate = EvictionCandidate {
                    last_used: used,
                    repository: repository.clone(),
                    digest,
                };
                if after.is_none_or(|after| candidate > *after) {
                    found.push(candidate);
                    if is_full {
                        found.pop();
                    }
                }
                Ok(())
            };
            self.store
                .for_each_marked_link(&repository, LinkKind::Revisions, &mut |digest| {
                    continue_unless_failed(&mut failed, consider(digest))
                })?;
            failed.map_or(Ok(()), Err)
        })?;
        Ok(found.into_sorted_vec())
    }
}

/// Returns the key of the mark that belongs to a link.
pub(super) fn mark_key<'a>(
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
pub(super) fn link_key<'a>(
    repository: &'a Repository,
    links: LinkKind,
    digest: &'a Digest,
) -> ObjectKey<'a> {
    match links {
        LinkKind::Layers => ObjectKey::LayerLink(repository, digest),
        LinkKind::Revisions => ObjectKey::RevisionLink(repository, digest),
    }
}

/// Continues a walk, or stores an error and stops the walk.
pub(super) fn continue_unless_failed(
    failed: &mut Option<Error>,
    result: Result<()>,
) -> ControlFlow<()> {
    match result {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => {
            *failed = Some(error);
            ControlFlow::Break(())
        }
    }
}

/// Returns the first 128 bits of a digest, enough to tell digests apart with half the memory.
fn digest_prefix(digest: &Digest) -> u128 {
    let start = digest.hex().get(..32).unwrap_or_default();
    u128::from_str_radix(start, 16).unwrap_or_default()
}
