//! What a run has learned already, so that nothing is asked, read or sent twice. All of it may be
//! forgotten at any time, and is where it becomes too much.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use imgsync_oci::{Digest, Registry, Repository};
use tokio::sync::OnceCell;

use crate::transports::VerifiedManifest;

/// The most entries of one kind: some ten megabytes.
const MAX_ENTRIES: usize = 50_000;
/// The most bytes of manifests that are kept.
const MAX_CACHED_MANIFEST_BYTES: usize = 4 * 1024 * 1024;

/// A blob at one target.
#[derive(Debug, Default)]
pub(super) struct BlobTransfer {
    /// Whether the target held it when it was asked.
    pub(super) is_present: OnceCell<bool>,
    /// Set once it was brought.
    pub(super) transferred: OnceCell<()>,
    /// Whether somebody is to bring it.
    pub(super) is_claimed: AtomicBool,
}

/// Content at a target, by the target's name.
type TargetKey = (String, Digest);

/// A lock that is held while an image is copied.
type CopyLock = Arc<tokio::sync::Mutex<()>>;

#[derive(Default)]
pub(super) struct RunCache {
    blobs: Mutex<HashMap<TargetKey, Arc<BlobTransfer>>>,
    /// Manifests that are at a target with all their parts.
    complete_manifests: Mutex<HashSet<TargetKey>>,
    /// Images whose companions were looked after.
    copied_referrers: Mutex<HashSet<TargetKey>>,
    /// Images that are being copied.
    copy_locks: Mutex<HashMap<TargetKey, CopyLock>>,
    /// A repository that is known to hold a blob.
    blob_locations: Mutex<HashMap<(Registry, Digest), Repository>>,
    /// Held while a list of referrers is read, added to and written.
    pub(super) referrer_list_lock: tokio::sync::Mutex<()>,
    /// Manifests that were read lately.
    manifests: Mutex<(HashMap<Digest, VerifiedManifest>, usize)>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The value of a key, made where there is none.
fn entry<K: Hash + Eq, V: Clone + Default>(map: &Mutex<HashMap<K, V>>, key: K) -> V {
    let mut map = lock(map);
    if map.len() >= MAX_ENTRIES {
        map.clear();
    }
    map.entry(key).or_default().clone()
}

fn insert(set: &Mutex<HashSet<TargetKey>>, place: TargetKey) -> bool {
    let mut set = lock(set);
    if set.len() >= MAX_ENTRIES {
        set.clear();
    }
    set.insert(place)
}

impl RunCache {
    pub(super) fn blob_transfer(&self, target: &str, digest: &Digest) -> Arc<BlobTransfer> {
        entry(&self.blobs, (target.to_owned(), digest.clone()))
    }

    /// A lock for who copies this image to this target.
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

    /// A repository of the registry that is known to hold the blob.
    pub(super) fn find_blob_location(
        &self,
        registry: &Registry,
        digest: &Digest,
    ) -> Option<Repository> {
        let place = (registry.clone(), digest.clone());
        lock(&self.blob_locations).get(&place).cloned()
    }

    pub(super) fn record_blob_location(
        &self,
        place: Option<(&Registry, &Repository)>,
        digest: &Digest,
    ) {
        if let Some((registry, repository)) = place {
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
        let mut kept = lock(&self.manifests);
        let (all, bytes) = &mut *kept;
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
