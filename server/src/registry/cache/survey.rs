//! What the cache holds, and what of it was used longest ago.
//!
//! Nothing about this is kept beside the marks themselves, so it is looked up by walking through
//! them. The memory that a walk takes is bounded, however much there is.

use std::collections::{BinaryHeap, HashSet};
use std::ops::ControlFlow;

use imgsync_oci::{Algorithm, Digest, Manifest, Reference, Repository};

use super::super::Registry;
use super::super::error::{Error, Result};
use super::seconds;
use crate::store::{Key, Links, List, Mark};

/// How many names of repositories are held at a time.
const PAGE: usize = 1000;
/// How many digests are counted in one walk.
const COUNTED: u64 = 65_536;
/// How many manifests are found at a time.
const FOUND: usize = 512;

/// A cached manifest, in the order of its last use.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Candidate {
    /// When it was last used, in unix seconds; and within a second the how-manieth use that was.
    pub(super) used: (u64, u64),
    pub(super) repository: Repository,
    pub(super) digest: Digest,
}

impl Registry {
    /// Calls `look` with every repository of a list.
    pub(super) fn each_repository(
        &self,
        list: List<'_>,
        look: &mut dyn FnMut(Repository) -> Result<()>,
    ) -> Result<()> {
        let mut after = String::new();
        loop {
            let names = self.store.list(list, &after, PAGE)?;
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

    /// Calls `look` with everything that any repository may link to: the repository, which of its
    /// links it is, and the digest that it is called by. A folder may be there without its link.
    pub(super) fn each_link_anywhere(
        &self,
        look: &mut dyn FnMut(&Repository, Links, Digest) -> Result<()>,
    ) -> Result<()> {
        let lists = [
            (List::Holders, Links::Layers),
            (List::Repositories, Links::Revisions),
        ];
        for (list, links) in lists {
            self.each_repository(list, &mut |repository| {
                let mut failed = None;
                self.store.each_link(&repository, links, &mut |digest| {
                    step(&mut failed, look(&repository, links, digest))
                })?;
                failed.map_or(Ok(()), Err)
            })?;
        }
        Ok(())
    }

    /// Calls `look` with everything from an upstream that a repository links to, or did.
    fn each_mark(
        &self,
        repository: &Repository,
        look: &mut dyn FnMut(Digest) -> Result<()>,
    ) -> Result<()> {
        for links in [Links::Layers, Links::Revisions] {
            let mut failed = None;
            self.store.each_marked(repository, links, &mut |digest| {
                step(&mut failed, look(digest))
            })?;
            failed.map_or(Ok(()), Err)?;
        }
        Ok(())
    }

    /// Calls `look` with every manifest of a repository that can be read.
    pub(super) fn each_manifest(
        &self,
        repository: &Repository,
        look: &mut dyn FnMut(Digest, Manifest) -> Result<()>,
    ) -> Result<()> {
        let mut failed = None;
        let mut read = |digest: Digest| match self.read_manifest(repository, &digest)? {
            Some(manifest) => look(digest, manifest),
            None => Ok(()),
        };
        self.store
            .each_link(repository, Links::Revisions, &mut |digest| {
                step(&mut failed, read(digest))
            })?;
        failed.map_or(Ok(()), Err)
    }

    /// A repository's manifest; `None` where it has none, or one that cannot be read as such.
    pub(super) fn read_manifest(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Option<Manifest>> {
        match self.manifest(repository, &Reference::Digest(digest.clone())) {
            Ok(stored) => Ok(Manifest::parse(&stored.bytes, None).ok().map(|read| read.1)),
            Err(Error::ManifestUnknown(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// How many bytes the cache holds: of what came from an upstream and was pushed nowhere, each
    /// blob once.
    pub(super) fn count_held(&self) -> Result<u64> {
        let mut marks: u64 = 0;
        self.each_repository(List::Marked, &mut |repository| {
            self.each_mark(&repository, &mut |_| {
                marks += 1;
                Ok(())
            })
        })?;
        let parts = u128::from(marks / COUNTED + 1);
        let mut held = 0;
        for part in 0..parts {
            held += self.count_part(&|digest| short(digest) % parts == part)?;
        }
        Ok(held)
    }

    fn count_part(&self, is_in: &dyn Fn(&Digest) -> bool) -> Result<u64> {
        let (mut cached, mut held) = (HashSet::new(), 0);
        self.each_repository(List::Marked, &mut |repository| {
            self.each_mark(&repository, &mut |digest| {
                if is_in(&digest) {
                    cached.insert(short(&digest));
                }
                Ok(())
            })
        })?;
        if cached.is_empty() {
            return Ok(0);
        }
        self.each_link_anywhere(&mut |repository, links, digest| {
            if cached.contains(&short(&digest))
                && self
                    .store
                    .marked_at(mark(repository, links, &digest))?
                    .is_none()
            {
                cached.remove(&short(&digest));
            }
            if let Some(target) = self.other_target(repository, links, &digest)? {
                cached.remove(&short(&target));
            }
            Ok(())
        })?;
        self.each_repository(List::Marked, &mut |repository| {
            self.each_mark(&repository, &mut |digest| {
                if cached.remove(&short(&digest)) {
                    held += self.store.len(Key::Blob(&digest))?.unwrap_or(0);
                }
                Ok(())
            })
        })?;
        Ok(held)
    }

    /// What a link points at, where that is not what the link is called: a stock registry stores
    /// what has a sha512 digest under sha256.
    pub(super) fn other_target(
        &self,
        repository: &Repository,
        links: Links,
        digest: &Digest,
    ) -> Result<Option<Digest>> {
        if digest.algorithm() == Algorithm::Sha256 {
            return Ok(None);
        }
        let target = self.link(key(repository, links, digest))?;
        Ok(target.filter(|target| target != digest))
    }

    /// When a cached manifest was last used; `None` where it is not cached.
    pub(super) fn last_used(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Option<(u64, u64)>> {
        let noted = self.store.marked_at(Mark::Revision(repository, digest))?;
        let known = self.cache.last_use(repository, digest);
        Ok(noted.map(|noted| known.unwrap_or_default().max((seconds(noted), 0))))
    }

    /// The cached manifests that were used longest ago, in that order: those that come after
    /// `after`, and were not used after `until` (unix seconds). Some of them; none only where there
    /// are none.
    pub(super) fn oldest(&self, after: Option<&Candidate>, until: u64) -> Result<Vec<Candidate>> {
        let mut found: BinaryHeap<Candidate> = BinaryHeap::new();
        self.each_repository(List::Marked, &mut |repository| {
            let mut failed = None;
            let mut consider = |digest: Digest| {
                let Some(used) = self.last_used(&repository, &digest)? else {
                    return Ok(());
                };
                let is_full = found.len() >= FOUND;
                let is_late = found.peek().is_some_and(|last| last.used < used);
                if used.0 > until || (is_full && is_late) {
                    return Ok(());
                }
                let candidate = Candidate {
                    used,
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
                .each_marked(&repository, Links::Revisions, &mut |digest| {
                    step(&mut failed, consider(digest))
                })?;
            failed.map_or(Ok(()), Err)
        })?;
        Ok(found.into_sorted_vec())
    }
}

pub(super) fn mark<'a>(repository: &'a Repository, links: Links, digest: &'a Digest) -> Mark<'a> {
    match links {
        Links::Layers => Mark::Layer(repository, digest),
        Links::Revisions => Mark::Revision(repository, digest),
    }
}

pub(super) fn key<'a>(repository: &'a Repository, links: Links, digest: &'a Digest) -> Key<'a> {
    match links {
        Links::Layers => Key::Layer(repository, digest),
        Links::Revisions => Key::Revision(repository, digest),
    }
}

/// Goes on, unless something failed.
pub(super) fn step(failed: &mut Option<Error>, result: Result<()>) -> ControlFlow<()> {
    match result {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => {
            *failed = Some(error);
            ControlFlow::Break(())
        }
    }
}

/// Enough of a digest to tell it from all others.
fn short(digest: &Digest) -> u128 {
    let start = digest.hex().get(..32).unwrap_or_default();
    u128::from_str_radix(start, 16).unwrap_or_default()
}
