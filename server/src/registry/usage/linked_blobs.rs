//! The sizes of blobs, and who links them, in little memory.

use imgsync_oci::Digest;

use super::super::digest_prefix::digest_prefix;
use super::StorageUsage;

/// The number of blobs in one set, each of which takes 40 bytes.
pub(super) const MAX_BLOBS_PER_WALK: u64 = if cfg!(test) { 4 } else { 500_000 };

/// Facts about a blob.
struct LinkedBlob {
    prefix: u128,
    len: u64,
    is_linked: bool,
    /// Whether several repositories link it.
    is_shared: bool,
    /// Whether it is needed by more than untagged manifests.
    is_needed: bool,
}

/// A set of blobs with their sizes.
pub(super) struct LinkedBlobs {
    /// Sorted by their prefixes.
    blobs: Vec<LinkedBlob>,
    /// Number of manifests that no tag needs, in all repositories.
    pub(super) untagged_manifests: u64,
}

impl LinkedBlobs {
    /// Creates a set of blobs, given by [`digest_prefix`] and size in bytes, that nobody links yet.
    pub(super) fn new(sizes: Vec<(u128, u64)>) -> Self {
        let blobs = sizes.into_iter().map(|(prefix, len)| LinkedBlob {
            prefix,
            len,
            is_linked: false,
            is_shared: false,
            is_needed: false,
        });
        let mut blobs: Vec<LinkedBlob> = blobs.collect();
        blobs.sort_unstable_by_key(|blob| blob.prefix);
        Self {
            blobs,
            untagged_manifests: 0,
        }
    }

    fn position(&self, digest: &Digest) -> Option<usize> {
        let prefix = digest_prefix(digest);
        self.blobs
            .binary_search_by_key(&prefix, |blob| blob.prefix)
            .ok()
    }

    /// Adds the link of another repository to a blob, if the blob is in the set.
    pub(super) fn add_link(&mut self, digest: &Digest, is_untagged: bool) {
        let position = self.position(digest);
        if let Some(blob) = position.and_then(|position| self.blobs.get_mut(position)) {
            blob.is_shared = blob.is_linked;
            blob.is_linked = true;
            blob.is_needed |= !is_untagged;
        }
    }

    /// Returns the size of a blob in bytes if several repositories link it, or else 0.
    pub(super) fn shared_len(&self, digest: &Digest) -> u64 {
        let position = self.position(digest);
        let blob = position.and_then(|position| self.blobs.get(position));
        blob.map_or(0, |blob| if blob.is_shared { blob.len } else { 0 })
    }

    /// Adds the sizes of the blobs that nobody links, and of those that only untagged manifests
    /// need.
    pub(super) fn add_to(&self, usage: &mut StorageUsage) {
        for blob in &self.blobs {
            if !blob.is_linked {
                usage.unlinked_bytes += blob.len;
            } else if !blob.is_needed {
                usage.untagged_bytes += blob.len;
            }
        }
    }
}
