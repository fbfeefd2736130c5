//! What eviction has found to be of no more use, and is about to take away.
//!
//! Eviction writes it down here first, then looks through what is linked and named, and strikes off
//! what it finds; whoever links to any of it, or names it, strikes it off while they hold the
//! digest, once that is on the disk. Eviction looks here again while it holds the digest. So what is
//! wanted again between the look and the deed stays.

use std::collections::HashSet;
use std::sync::{MutexGuard, PoisonError};

use imgsync_oci::{Digest, Repository};

use super::CacheState;

/// What is to go.
#[derive(Default)]
pub(super) struct EvictionMarks {
    /// Links and manifests of one repository.
    repository: Option<Repository>,
    digests: HashSet<Digest>,
    /// Bytes that no repository was found to link to.
    unlinked: HashSet<Digest>,
}

impl CacheState {
    fn lock_eviction_marks(&self) -> MutexGuard<'_, EvictionMarks> {
        self.eviction_marks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// A repository begins to link to these bytes.
    pub(in crate::registry) fn unmark_bytes(&self, digest: &Digest) {
        self.lock_eviction_marks().unlinked.remove(digest);
    }

    /// A repository's manifest is used or kept that has, or names, these digests.
    pub(in crate::registry) fn unmark_named<'a>(
        &self,
        repository: &Repository,
        digests: impl IntoIterator<Item = &'a Digest>,
    ) {
        let mut going = self.lock_eviction_marks();
        if going.repository.as_ref() == Some(repository) {
            for digest in digests {
                going.digests.remove(digest);
            }
        }
    }

    /// Says what is to go out of a repository; only one at a time.
    pub(super) fn mark_for_eviction(&self, repository: &Repository, digests: HashSet<Digest>) {
        let mut going = self.lock_eviction_marks();
        going.repository = Some(repository.clone());
        going.digests = digests;
    }

    /// Whether something is still to go out of the repository that was named last.
    pub(super) fn is_marked_for_eviction(&self, digest: &Digest) -> bool {
        self.lock_eviction_marks().digests.contains(digest)
    }

    /// Says which bytes are to go.
    pub(super) fn mark_bytes_for_eviction(&self, digests: HashSet<Digest>) {
        self.lock_eviction_marks().unlinked = digests;
    }

    /// The bytes that are still to go.
    pub(super) fn bytes_marked_for_eviction(&self) -> Vec<Digest> {
        self.lock_eviction_marks()
            .unlinked
            .iter()
            .cloned()
            .collect()
    }

    /// Whether bytes are still to go.
    pub(super) fn has_bytes_marked_for_eviction(&self, digest: &Digest) -> bool {
        self.lock_eviction_marks().unlinked.contains(digest)
    }
}
