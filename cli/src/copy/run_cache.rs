//! Caches what a run has learned, so that no request, read or upload is repeated. Every entry may
//! be dropped at any time, and a map that gets too large is cleared.

use std::collections::HashMap;
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

/// The state of an image, or of a manifest in one, at one target.
#[derive(Debug, Default)]
pub(super) struct ImageState {
    /// Held by the task that copies the image.
    pub(super) copy_lock: tokio::sync::Mutex<()>,
    /// Whether the target has the manifest with everything below it.
    pub(super) is_complete: AtomicBool,
    /// Whether the referrers were copied.
    pub(super) has_copied_referrers: AtomicBool,
}

/// A digest at a target, which is identified by its name.
type TargetKey = (String, Digest);

/// A map that is cleared when it gets too large.
type BoundedMap<K, V> = Mutex<HashMap<K, V>>;

/// Returns the value of a key; inserts `new` if the key does not exist.
fn get_or_insert<K: Hash + Eq, V: Clone>(map: &BoundedMap<K, V>, key: K, new: V) -> V {
    let mut map = lock(map);
    if map.len() >= MAX_ENTRIES {
        map.clear();
    }
    map.entry(key).or_insert(new).clone()
}

#[derive(Default)]
pub(super) struct RunCache {
    blobs: BoundedMap<TargetKey, Arc<BlobTransfer>>,
    images: BoundedMap<TargetKey, Arc<ImageState>>,
    /// A repository that holds a blob.
    blob_locations: BoundedMap<(Registry, Digest), Repository>,
    /// Held while a list of referrers is read, changed and written.
    pub(super) referrer_list_lock: tokio::sync::Mutex<()>,
    /// Manifests that were read lately, and their size in bytes.
    manifests: Mutex<(HashMap<Digest, VerifiedManifest>, usize)>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl RunCache {
    pub(super) fn blob_transfer(&self, target: &str, digest: &Digest) -> Arc<BlobTransfer> {
        let key = (target.to_owned(), digest.clone());
        get_or_insert(&self.blobs, key, Arc::default())
    }

    pub(super) fn image(&self, target: &str, digest: &Digest) -> Arc<ImageState> {
        let key = (target.to_owned(), digest.clone());
        get_or_insert(&self.images, key, Arc::default())
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
            let key = (registry.clone(), digest.clone());
            get_or_insert(&self.blob_locations, key, repository.clone());
        }
    }

    pub(super) fn manifest(&self, digest: &Digest) -> Option<VerifiedManifest> {
        lock(&self.manifests).0.get(digest).cloned()
    }

    pub(super) fn insert_manifest(&self, manifest: &VerifiedManifest) {
        let mut cached = lock(&self.manifests);
        let (all, bytes) = &mut *cached;
        let len = manifest.bytes.len();
        if *bytes + len > MAX_CACHED_MANIFEST_BYTES {
            all.clear();
            *bytes = 0;
        }
        if len > MAX_CACHED_MANIFEST_BYTES {
            return;
        }
        let (digest, manifest) = (manifest.digest.clone(), manifest.clone());
        if all.insert(digest, manifest).is_none() {
            *bytes += len;
        }
    }
}
