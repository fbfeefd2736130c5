//! What the cache holds without using it: blobs that nothing names, marks without content.

use std::collections::HashSet;
use std::ops::ControlFlow;

use imgsync_oci::{Digest, Repository};

use super::super::Registry;
use super::super::error::Result;
use super::super::hold::Thing;
use super::seconds;
use super::survey::{key, mark, step};
use crate::store::{Key, Links, List, Mark};

/// How many blobs of a repository are looked at at a time.
const MOST_SWEPT: usize = 20_000;

impl Registry {
    /// Removes cached blobs that no manifest of their repository names, if they came until `until`
    /// (unix seconds), and marks without content; yields how many bytes there are less.
    pub(super) fn sweep(&self, until: u64) -> Result<u64> {
        let mut freed = 0;
        self.each_repository(List::Marked, &mut |repository| {
            self.drop_marks(&repository)?;
            freed += self.sweep_repository(&repository, until)?;
            Ok(())
        })?;
        Ok(freed)
    }

    fn sweep_repository(&self, repository: &Repository, until: u64) -> Result<u64> {
        let (mut freed, mut staying) = (0, 0);
        loop {
            let old = self.old_layers(repository, until, staying)?;
            let is_last = old.len() < MOST_SWEPT;
            let count = old.len();
            let unlinked = self.sweep_layers(repository, old)?;
            staying += count - unlinked.len();
            freed += self.release(unlinked)?;
            if is_last {
                return Ok(freed);
            }
        }
    }

    /// Some of the cached blobs that came until `until`, but for the first `skip` of them.
    fn old_layers(
        &self,
        repository: &Repository,
        until: u64,
        mut skip: usize,
    ) -> Result<HashSet<Digest>> {
        let (mut old, mut failed) = (HashSet::new(), None);
        let mut look = |digest: Digest| {
            let came = self.store.marked_at(Mark::Layer(repository, &digest))?;
            if came.is_some_and(|came| seconds(came) <= until) {
                match skip {
                    0 => drop(old.insert(digest)),
                    _ => skip -= 1,
                }
            }
            Ok(old.len() < MOST_SWEPT)
        };
        self.store.each_marked(
            repository,
            Links::Layers,
            &mut |digest| match look(digest) {
                Ok(true) => ControlFlow::Continue(()),
                Ok(false) => ControlFlow::Break(()),
                Err(error) => step(&mut failed, Err(error)),
            },
        )?;
        failed.map_or(Ok(old), Err)
    }

    /// Takes those of these blobs out of a repository that no manifest there names; yields them.
    fn sweep_layers(
        &self,
        repository: &Repository,
        mut old: HashSet<Digest>,
    ) -> Result<HashSet<Digest>> {
        let mut unlinked = HashSet::new();
        if old.is_empty() {
            return Ok(unlinked);
        }
        self.cache.let_go(repository, old.clone());
        self.each_manifest(repository, &mut |_, manifest| {
            let children = manifest.children();
            let names = children.blobs.iter().chain(&children.manifests);
            self.cache
                .named(repository, names.map(|child| &child.digest));
            Ok(())
        })?;
        old.retain(|digest| self.cache.may_go(digest));
        if !old.is_empty() {
            self.store.note_going(&old.iter().collect::<Vec<_>>())?;
        }
        for digest in old {
            if self.evict_blob(repository, &digest)? {
                unlinked.insert(digest);
            }
        }
        self.cache.let_go(repository, HashSet::new());
        Ok(unlinked)
    }

    /// Removes marks whose links are gone.
    fn drop_marks(&self, repository: &Repository) -> Result<()> {
        for links in [Links::Layers, Links::Revisions] {
            let mut failed = None;
            self.store.each_marked(repository, links, &mut |digest| {
                step(&mut failed, self.drop_mark(repository, links, &digest))
            })?;
            failed.map_or(Ok(()), Err)?;
        }
        let mut tags = Vec::new();
        self.store.each_marked_tag(repository, &mut |tag| {
            tags.push(tag);
            ControlFlow::Continue(())
        })?;
        for tag in tags {
            let current = Key::TagCurrent(repository, &tag);
            if self.store.len(current)?.is_some() {
                continue;
            }
            let _hold = self.hold_things([Thing::Tag(repository.clone(), tag.clone())]);
            if self.store.len(current)?.is_none() {
                self.store.unmark(&[Mark::Tag(repository, &tag)])?;
            }
        }
        Ok(())
    }

    fn drop_mark(&self, repository: &Repository, links: Links, digest: &Digest) -> Result<()> {
        let key = key(repository, links, digest);
        if self.store.len(key)?.is_some() {
            return Ok(());
        }
        let _hold = self.hold([digest.clone()]);
        if self.store.len(key)?.is_none() {
            self.store.unmark(&[mark(repository, links, digest)])?;
        }
        Ok(())
    }
}
