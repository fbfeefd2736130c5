//! Keeps content from a purge or the deletion of a repository, if a manifest that is pushed
//! meanwhile needs it.
//!
//! Start reading at [`RemovalWatch::watch`].

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard};

use imgsync_oci::{Digest, Repository};

use super::candidates::Candidates;
use super::lock;

/// The removal that is running.
#[derive(Default)]
pub(in crate::registry) struct RemovalWatch {
    /// Held by the purge or the deletion that is running.
    running: Mutex<()>,
    /// The content to remove, except for manifests that were pushed meanwhile and what they name.
    watched: Mutex<Option<Candidates>>,
    /// The manifests of repositories whose removal has begun.
    withdrawn: Mutex<HashSet<(Repository, Digest)>>,
}

impl RemovalWatch {
    /// Waits for the removal that is running, and lets no other one start while the value is held.
    pub(super) fn pause(&self) -> MutexGuard<'_, ()> {
        lock(&self.running)
    }

    /// Calls `remove`, which removes content: what pushed manifests name meanwhile is kept from it.
    /// One removal runs at a time.
    pub(in crate::registry) fn watch<T>(
        &self,
        digests: impl IntoIterator<Item = u128>,
        remove: impl FnOnce() -> T,
    ) -> T {
        let _running = lock(&self.running);
        *lock(&self.watched) = Some(Candidates::new(digests.into_iter().collect()));
        let removed = remove();
        *lock(&self.watched) = None;
        lock(&self.withdrawn).clear();
        removed
    }

    /// Protects what a manifest names, and the manifest, because it was pushed. The caller holds the
    /// locks of the digests.
    pub(in crate::registry) fn keep_pushed<'a>(
        &self,
        repository: &Repository,
        manifest: &Digest,
        digests: impl IntoIterator<Item = &'a Digest>,
    ) {
        self.keep(digests);
        let mut withdrawn = lock(&self.withdrawn);
        if !withdrawn.is_empty() {
            withdrawn.remove(&(repository.clone(), manifest.clone()));
        }
    }

    /// Protects content.
    pub(super) fn keep<'a>(&self, digests: impl IntoIterator<Item = &'a Digest>) {
        if let Some(watched) = &mut *lock(&self.watched) {
            digests.into_iter().for_each(|digest| watched.keep(digest));
        }
    }

    /// Returns whether no manifest was pushed that keeps content. The caller holds the lock of the
    /// digest.
    pub(in crate::registry) fn may_be_removed(&self, digest: &Digest) -> bool {
        let watched = lock(&self.watched);
        watched
            .as_ref()
            .is_some_and(|watched| watched.contains(digest))
    }

    /// Begins to remove a manifest from a repository: no index that is pushed from now on may name it
    /// before it is pushed again. The caller holds the lock of the digest.
    pub(super) fn withdraw(&self, repository: &Repository, digest: &Digest) {
        lock(&self.withdrawn).insert((repository.clone(), digest.clone()));
    }

    /// Returns whether the removal of a manifest has begun, and it was not pushed since. The caller
    /// holds the lock of the digest.
    pub(in crate::registry) fn is_withdrawn(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> bool {
        let withdrawn = lock(&self.withdrawn);
        !withdrawn.is_empty() && withdrawn.contains(&(repository.clone(), digest.clone()))
    }
}
