//! Caches what a run has learned, so that no request, read or upload is repeated. Every entry may be
//! dropped at any time, and a map that gets too large is cleared.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use imgsync_oci::{Digest, Registry, Repository};
use tokio::sync::OnceCell;

use crate::transports::VerifiedManifest;

/// The most entries of one map, which then has about ten megabytes.
const MAX_ENTRIES: usize = 50_000;
/// The most bytes of cached manifests.
const MAX_CACHED_MANIFEST_BYTES: usize = 4 * 1024 * 1024;

/// The state of a blob at one target.
#[derive(Debug, Default)]
pub(super) struct BlobTransfer {
    /// Whether the target had the blob when it was asked.
    pub(super) is_present: OnceCell<bool>,
    /// Set once the blob was copied.
    pub(super) transferred: OnceCell<()>,
    /// Whether the plan of some image copies the blob.
    pub(super) is_claimed: AtomicBool,
}

/// Content at a target, which is identified by its name.
type TargetKey = (String, Digest);

/// A lock that a task holds while it copies an image.
type CopyLock = Arc<tokio::sync::Mutex<()>>;

#[derive(Default)]
pub(super) struct RunCache {
    blobs: Mutex<HashMap<TargetKey, Arc<BlobTransfer>>>,
    /// Manifests that a target has with everything below them.
    complete_manifests: Mutex<HashSet<TargetKey>>,
    /// Images whose referrers were copied.
    copied_referrers: Mutex<HashSet<TargetKey>>,
    /// The locks of images.
    copy_locks: Mutex<HashMap<TargetKey, CopyLock>>,
    /// A repository that holds a blob.
    blob_locations: Mutex<HashMap<(Registry, Digest), Repository>>,
    /// Held while a list of referrers is read, changed and written.
    pub(super) referrer_list_lock: tokio::sync::Mutex<()>,
    /// Manifests that were read lately, and their size in bytes.
    manifests: Mutex<(HashMap<Digest, VerifiedManifest>, usize)>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the value of a key, which is created if it does not exist.
fn entry<K: Hash + Eq, V: Clone + Default>(map: &Mutex<HashMap<K, V>>, key: K) -> V {
    let mut map = lock(map);
    if map.len() >= MAX_ENTRIES {
        map.clear();
    }
    map.entry(key).or_default().clone()
}

fn insert(set: &Mutex<HashSet<TargetKey>>, key: TargetKey) {
    let mut set = lock(set);
    if set.len() >= MAX_ENTRIES {
        set.clear();
    }
    set.insert(key);
}

impl RunCache {
    pub(super) fn blob_transfer(&self, target: &str, digest: &Digest) -> Arc<BlobTransfer> {
        entry(&self.blobs, (target.to_owned(), digest.clone()))
    }

    /// Returns the lock for copies of an image to a target.
    pub(super) fn copy_lock(&self, target: &str, digest: &Digest) -> CopyLock {
        entry(&self.copy_locks, (target.to_owned(), digest.clone()))
    }

    pub(super) fn is_complete(&self, target: &str, digest: &Digest) -> bool {
        lock(&self.complete_manifests).contains(&(target.to_owned(), digest.clone()))
    }

    pub(super) fn mark_complete(&self, target: &str, digest: &Digest) {
        insert(
            &self.complete_manifests,
            (target.to_owned(), digest.clone()),
        );
    }

    pub(super) fn has_copied_referrers(&self, target: &str, digest: &Digest) -> bool {
        lock(&self.copied_referrers).contains(&(target.to_owned(), digest.clone()))
    }

    pub(super) fn mark_referrers_copied(&self, target: &str, digest: &Digest) {
        insert(&self.copied_referrers, (target.to_owned(), digest.clone()));
    }

    /// Returns a repository of the registry that holds a blob.
    pub(super) fn find_blob_location(
        &self,
        registry: &Registry,
        digest: &Digest,
    ) -> Option<Repository> {
        let key = (registry.clone(), digest.clone());
        lock(&self.blob_locations).get(&key).cloned()
    }

    pub(super) fn record_blob_location(
        &self,
        location: Option<(&Registry, &Repository)>,
        digest: &Digest,
    ) {
        if let Some((registry, repository)) = location {
            let mut map = lock(&self.blob_locations);
            if map.len() >= MAX_ENTRIES {
                map.clear();
            }
            map.insert((registry.clone(), digest.clone()), repository.clone());
        }
    }

    pub(super) fn manifest(&self, digest: &Digest) -> Option<VerifiedManifest> {
        lock(&self.manifests).0.get(digest).cloned()
    }

    pub(super) fn insert_manifest(&self, manifest: &VerifiedManifest) {
        let mut cached = lock(&self.manifests);
        let (all, bytes) = &mut *cached;
        if *bytes + manifest.bytes.len() > MAX_CACHED_MANIFEST_BYTES {
            all.clear();
            *bytes = 0;
        }
        if manifest.bytes.len() <= MAX_CACHED_MANIFEST_BYTES
            && all
                .insert(manifest.digest.clone(), manifest.clone())
                .is_none()
        {
            *bytes += manifest.bytes.len();
        }
    }
}
