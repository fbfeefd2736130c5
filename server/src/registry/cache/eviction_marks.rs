//! Marks of content that is about to be evicted.
//!
//! Eviction first marks what looks unused, then scans all links and manifests and unmarks what they
//! name. A request that links or names a marked digest also unmarks it, after the write is durable
//! and while it holds the lock of the digest. Eviction checks the mark again under the same lock
//! before it deletes anything. So content that is used again between the scan and the deletion
//! stays. Start reading at [`EvictionMarks`].

use std::collections::HashSet;
use std::sync::{MutexGuard, PoisonError};

use imgsync_oci::{Digest, Repository};

use super::CacheState;

/// The content marked for eviction.
#[derive(Default)]
pub(super) struct EvictionMarks {
    /// The repository whose links and manifests are marked by `digests`.
    repository: Option<Repository>,
    digests: HashSet<Digest>,
    /// Digests of bytes that no repository links.
    unlinked: HashSet<Digest>,
}

impl CacheState {
    fn lock_eviction_marks(&self) -> MutexGuard<'_, EvictionMarks> {
        self.eviction_marks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Unmarks bytes, because a repository links them.
    pub(in crate::registry) fn unmark_bytes(&self, digest: &Digest) {
        self.lock_eviction_marks().unlinked.remove(digest);
    }

    /// Unmarks digests in a repository, because a manifest that is one of them or names them is
    /// used or stored.
    pub(in crate::registry) fn unmark_named<'a>(
        &self,
        repository: &Repository,
        digests: impl IntoIterator<Item = &'a Digest>,
    ) {
        let mut marks = self.lock_eviction_marks();
        if marks.repository.as_ref() == Some(repository) {
            for digest in digests {
                marks.digests.remove(digest);
            }
        }
    }

    /// Marks digests for eviction from a repository. Replaces the marks of the previous repository.
    pub(super) fn mark_for_eviction(&self, repository: &Repository, digests: HashSet<Digest>) {
        let mut marks = self.lock_eviction_marks();
        marks.repository = Some(repository.clone());
        marks.digests = digests;
    }

    /// Reports whether a digest is still marked in the repository that was marked last.
    pub(super) fn is_marked_for_eviction(&self, digest: &Digest) -> bool {
        self.lock_eviction_marks().digests.contains(digest)
    }

    /// Marks bytes for eviction. Replaces the previous marks of bytes.
    pub(super) fn mark_bytes_for_eviction(&self, digests: HashSet<Digest>) {
        self.lock_eviction_marks().unlinked = digests;
    }

    /// Returns the digests of the bytes that are still marked.
    pub(super) fn bytes_marked_for_eviction(&self) -> Vec<Digest> {
        self.lock_eviction_marks()
            .unlinked
            .iter()
            .cloned()
            .collect()
    }

    /// Reports whether bytes are still marked.
    pub(super) fn has_bytes_marked_for_eviction(&self, digest: &Digest) -> bool {
        self.lock_eviction_marks().unlinked.contains(digest)
    }
}
