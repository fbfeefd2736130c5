//! Which manifests of a repository name others, and which live as long as others.
//!
//! A manifest keeps what it names, and its referrers: a signature lives as long as its subject. A
//! referrer does not keep its subject. Start reading at [`ManifestGraph`].

use std::collections::{HashMap, HashSet, VecDeque};

use imgsync_oci::{Digest, MAX_MANIFEST_BYTES, Manifest, Repository};

use super::super::Registry;
use super::super::digest_prefix::digest_prefix;
use super::super::error::Result;
use crate::store::{LinkKind, ObjectKey, Walk};

/// The manifests of a repository, and which of them keep others.
///
/// A manifest is given by [`digest_prefix`], to save memory.
#[derive(Default)]
pub(in crate::registry) struct ManifestGraph {
    manifests: HashMap<u128, Digest>,
    /// For each manifest the ones that it names.
    children: HashMap<u128, Vec<u128>>,
    /// For each manifest its referrers.
    referrers: HashMap<u128, Vec<u128>>,
    /// The manifests that are needed in any case.
    roots: Vec<u128>,
}

impl ManifestGraph {
    /// Adds a manifest.
    pub(super) fn insert(&mut self, digest: Digest) {
        self.manifests.insert(digest_prefix(&digest), digest);
    }

    /// Adds what the bytes of a manifest name; returns false if they are no manifest.
    pub(super) fn add_bytes(&mut self, digest: &Digest, bytes: &[u8]) -> bool {
        let Ok((_, manifest)) = Manifest::parse_bare(bytes) else {
            return false;
        };
        for child in &manifest.children().manifests {
            self.add_child(digest, &child.digest);
        }
        if let Some(subject) = manifest.subject() {
            self.add_referrer(&subject.digest, digest);
        }
        true
    }

    pub(super) fn add_child(&mut self, manifest: &Digest, child: &Digest) {
        let children = self.children.entry(digest_prefix(manifest)).or_default();
        children.push(digest_prefix(child));
    }

    pub(super) fn add_referrer(&mut self, subject: &Digest, referrer: &Digest) {
        let referrers = self.referrers.entry(digest_prefix(subject)).or_default();
        referrers.push(digest_prefix(referrer));
    }

    /// Returns the digests of all manifests.
    pub(in crate::registry) fn digests(&self) -> impl Iterator<Item = &Digest> {
        self.manifests.values()
    }

    /// Returns all manifests.
    pub(in crate::registry) fn ids(&self) -> impl Iterator<Item = u128> {
        self.manifests.keys().copied()
    }

    /// Returns whether a manifest is in the graph.
    pub(super) fn contains(&self, digest: &Digest) -> bool {
        self.manifests.contains_key(&digest_prefix(digest))
    }

    /// Returns the digest of a manifest.
    pub(super) fn digest(&self, id: u128) -> Option<&Digest> {
        self.manifests.get(&id)
    }

    /// Returns the manifests that are needed.
    pub(in crate::registry) fn needed(&self) -> HashSet<u128> {
        self.closure(self.roots.iter().copied())
    }

    /// Returns the manifests that live as long as this one does: its children and its referrers.
    fn kept_by(&self, id: u128) -> impl Iterator<Item = u128> {
        let referrers = self.referrers.get(&id).into_iter().flatten();
        self.children(id).chain(referrers.copied())
    }

    /// Returns everything that lives as long as one of these manifests does, with themselves.
    pub(super) fn closure(&self, roots: impl IntoIterator<Item = u128>) -> HashSet<u128> {
        closure(roots, |id| self.kept_by(id).collect())
    }

    /// Returns the closure as if `left_out` kept nothing.
    pub(super) fn closure_without(
        &self,
        roots: impl IntoIterator<Item = u128>,
        left_out: u128,
    ) -> HashSet<u128> {
        closure(roots, |id| {
            if id == left_out {
                return Vec::new();
            }
            self.kept_by(id).collect()
        })
    }

    /// Returns everything that these manifests name, directly or not, with themselves.
    pub(super) fn named_closure(&self, roots: impl IntoIterator<Item = u128>) -> HashSet<u128> {
        closure(roots, |id| self.children(id).collect())
    }

    /// Returns the manifests that a manifest names.
    pub(super) fn children(&self, id: u128) -> impl Iterator<Item = u128> {
        self.children.get(&id).into_iter().flatten().copied()
    }

    /// Returns the manifests that name one of these, directly or not.
    pub(super) fn namers(&self, manifests: impl IntoIterator<Item = u128>) -> HashSet<u128> {
        let (mut found, mut named) = (HashSet::new(), HashSet::new());
        named.extend(manifests);
        loop {
            let namers = self.children.iter().filter(|(namer, children)| {
                !found.contains(*namer) && children.iter().any(|child| named.contains(child))
            });
            let namers: Vec<u128> = namers.map(|(namer, _)| *namer).collect();
            if namers.is_empty() {
                return found;
            }
            found.extend(&namers);
            named.extend(namers);
        }
    }

    /// Sorts manifests so that each comes after those that keep it.
    pub(super) fn sort_keepers_first(&self, manifests: &HashSet<u128>) -> Vec<u128> {
        let mut keepers: HashMap<u128, usize> = HashMap::new();
        let kept_by = |manifest: &u128| {
            let kept = self.kept_by(*manifest);
            kept.filter(|kept| manifests.contains(kept))
        };
        for manifest in manifests {
            for kept in kept_by(manifest) {
                *keepers.entry(kept).or_default() += 1;
            }
        }
        let first = manifests.iter().filter(|id| !keepers.contains_key(id));
        let mut sorted: Vec<u128> = first.copied().collect();
        let mut index = 0;
        while let Some(manifest) = sorted.get(index).copied() {
            index += 1;
            for kept in kept_by(&manifest) {
                if let Some(count) = keepers.get_mut(&kept) {
                    *count -= 1;
                    if *count == 0 {
                        sorted.push(kept);
                    }
                }
            }
        }
        // An index that names its own referrer is in a cycle, and left out: it stays.
        sorted
    }
}

impl ManifestGraph {
    /// Returns the digests of manifests: each comes after those that keep it, and manifests in a
    /// cycle come last.
    pub(super) fn sorted_digests(&self, manifests: &HashSet<u128>) -> Vec<Digest> {
        let mut sorted = self.sort_keepers_first(manifests);
        let is_sorted: HashSet<u128> = sorted.iter().copied().collect();
        sorted.extend(manifests.difference(&is_sorted));
        let digests = sorted.iter().filter_map(|id| self.digest(*id).cloned());
        digests.collect()
    }
}

impl Registry {
    /// Reads which manifests of a repository keep others. The ones that tags point at and those for
    /// which `is_root` is true are needed.
    pub(in crate::registry) fn manifest_graph(
        &self,
        repository: &Repository,
        walk: &Walk<'_>,
        is_root: &mut dyn FnMut(&Digest) -> Result<bool>,
    ) -> Result<ManifestGraph> {
        let mut graph = ManifestGraph::default();
        for digest in self.store.links(repository, LinkKind::Revisions) {
            walk.step()?;
            let digest = digest?;
            if is_root(&digest)? {
                graph.roots.push(digest_prefix(&digest));
            }
            self.add_to_graph(repository, &digest, &mut graph)?;
            graph.insert(digest);
        }
        for tag in self.all_tags(repository, walk)? {
            walk.step()?;
            let target = self.read_link(ObjectKey::TagCurrent(repository, &tag))?;
            graph.roots.extend(target.as_ref().map(digest_prefix));
        }
        Ok(graph)
    }

    /// Adds what a manifest keeps, and its subject, which keeps it.
    fn add_to_graph(
        &self,
        repository: &Repository,
        digest: &Digest,
        graph: &mut ManifestGraph,
    ) -> Result<()> {
        let alias = self.alias_target(repository, LinkKind::Revisions, digest)?;
        let target = alias.as_ref().unwrap_or(digest);
        let bytes = self
            .store
            .get(ObjectKey::Blob(target), MAX_MANIFEST_BYTES + 1)?;
        let Some(bytes) = bytes else {
            return Ok(());
        };
        if !graph.add_bytes(digest, &bytes) {
            // Nobody can tell what it needs, so its digests are kept with it, and it stays.
            graph.roots.push(digest_prefix(digest));
            for named in self.named_digests(repository, digest)? {
                graph.add_child(digest, &named);
            }
        }
        Ok(())
    }
}

/// Returns everything that is reachable from the roots, with themselves.
fn closure(
    roots: impl IntoIterator<Item = u128>,
    next: impl Fn(u128) -> Vec<u128>,
) -> HashSet<u128> {
    let (mut closure, mut pending) = (HashSet::new(), VecDeque::from_iter(roots));
    while let Some(manifest) = pending.pop_front() {
        if closure.insert(manifest) {
            pending.extend(next(manifest));
        }
    }
    closure
}
