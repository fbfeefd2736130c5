//! What eviction has found to be of no more use, and is about to take away.
//!
//! Eviction writes it down here first, then looks through what is linked and named, and strikes off
//! what it finds; whoever links to any of it, or names it, strikes it off while they hold the
//! digest, once that is on the disk. Eviction looks here again while it holds the digest. So what is
//! wanted again between the look and the deed stays.

use std::collections::HashSet;
use std::sync::{MutexGuard, PoisonError};

use imgsync_oci::{Digest, Repository};

use super::Cache;

/// What is to go.
#[derive(Default)]
pub(super) struct Going {
    /// Links and manifests of one repository.
    of: Option<Repository>,
    digests: HashSet<Digest>,
    /// Bytes that no repository was found to link to.
    bytes: HashSet<Digest>,
}

impl Cache {
    fn going(&self) -> MutexGuard<'_, Going> {
        self.going.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A repository begins to link to these bytes.
    pub(in crate::registry) fn linked(&self, digest: &Digest) {
        self.going().bytes.remove(digest);
    }

    /// A repository's manifest is used or kept that has, or names, these digests.
    pub(in crate::registry) fn named<'a>(
        &self,
        repository: &Repository,
        digests: impl IntoIterator<Item = &'a Digest>,
    ) {
        let mut going = self.going();
        if going.of.as_ref() == Some(repository) {
            for digest in digests {
                going.digests.remove(digest);
            }
        }
    }

    /// Says what is to go out of a repository; only one at a time.
    pub(super) fn let_go(&self, repository: &Repository, digests: HashSet<Digest>) {
        let mut going = self.going();
        going.of = Some(repository.clone());
        going.digests = digests;
    }

    /// Whether something is still to go out of the repository that was named last.
    pub(super) fn may_go(&self, digest: &Digest) -> bool {
        self.going().digests.contains(digest)
    }

    /// Says which bytes are to go.
    pub(super) fn let_bytes_go(&self, digests: HashSet<Digest>) {
        self.going().bytes = digests;
    }

    /// The bytes that are still to go.
    pub(super) fn bytes_going(&self) -> Vec<Digest> {
        self.going().bytes.iter().cloned().collect()
    }

    /// Whether bytes are still to go.
    pub(super) fn may_bytes_go(&self, digest: &Digest) -> bool {
        self.going().bytes.contains(digest)
    }
}
