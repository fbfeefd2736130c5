//! What a run has learned already, so that nothing is asked, read or sent twice. All of it may be
//! forgotten at any time, and is where it becomes too much.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use imgsync_oci::{Digest, Registry, Repository};
use tokio::sync::OnceCell;

use super::ends::Held;

/// The most entries of one kind: some ten megabytes.
const MOST: usize = 50_000;
/// The most bytes of manifests that are kept.
const MOST_BYTES: usize = 4 * 1024 * 1024;

/// A blob at one target.
#[derive(Debug, Default)]
pub(super) struct Blob {
    /// Whether the target held it when it was asked.
    pub(super) held: OnceCell<bool>,
    /// Set once it was brought.
    pub(super) moved: OnceCell<()>,
    /// Whether somebody is to bring it.
    pub(super) claimed: AtomicBool,
}

/// Content at a target, by the target's name.
type Place = (String, Digest);

/// A lock that is held while an image is copied.
type Turn = Arc<tokio::sync::Mutex<()>>;

#[derive(Default)]
pub(super) struct Memory {
    blobs: Mutex<HashMap<Place, Arc<Blob>>>,
    /// Manifests that are at a target with all their parts.
    complete: Mutex<HashSet<Place>>,
    /// Images whose companions were looked after.
    accompanied: Mutex<HashSet<Place>>,
    /// Images that are being copied.
    turns: Mutex<HashMap<Place, Turn>>,
    /// A repository that is known to hold a blob.
    whereabouts: Mutex<HashMap<(Registry, Digest), Repository>>,
    /// Held while a list of referrers is read, added to and written.
    pub(super) lists: tokio::sync::Mutex<()>,
    /// Manifests that were read lately.
    manifests: Mutex<(HashMap<Digest, Held>, usize)>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The value of a key, made where there is none.
fn entry<K: Hash + Eq, V: Clone + Default>(map: &Mutex<HashMap<K, V>>, key: K) -> V {
    let mut map = lock(map);
    if map.len() >= MOST {
        map.clear();
    }
    map.entry(key).or_default().clone()
}

fn insert(set: &Mutex<HashSet<Place>>, place: Place) -> bool {
    let mut set = lock(set);
    if set.len() >= MOST {
        set.clear();
    }
    set.insert(place)
}

impl Memory {
    pub(super) fn blob(&self, target: &str, digest: &Digest) -> Arc<Blob> {
        entry(&self.blobs, (target.to_owned(), digest.clone()))
    }

    /// A lock for who copies this image to this target.
    pub(super) fn turn(&self, target: &str, digest: &Digest) -> Turn {
        entry(&self.turns, (target.to_owned(), digest.clone()))
    }

    pub(super) fn is_complete(&self, target: &str, digest: &Digest) -> bool {
        lock(&self.complete).contains(&(target.to_owned(), digest.clone()))
    }

    pub(super) fn completed(&self, target: &str, digest: &Digest) {
        insert(&self.complete, (target.to_owned(), digest.clone()));
    }

    pub(super) fn is_accompanied(&self, target: &str, digest: &Digest) -> bool {
        lock(&self.accompanied).contains(&(target.to_owned(), digest.clone()))
    }

    pub(super) fn accompanied(&self, target: &str, digest: &Digest) {
        insert(&self.accompanied, (target.to_owned(), digest.clone()));
    }

    /// A repository of the registry that is known to hold the blob.
    pub(super) fn whereabouts(&self, registry: &Registry, digest: &Digest) -> Option<Repository> {
        let place = (registry.clone(), digest.clone());
        lock(&self.whereabouts).get(&place).cloned()
    }

    pub(super) fn holds(&self, place: Option<(&Registry, &Repository)>, digest: &Digest) {
        if let Some((registry, repository)) = place {
            let mut map = lock(&self.whereabouts);
            if map.len() >= MOST {
                map.clear();
            }
            map.insert((registry.clone(), digest.clone()), repository.clone());
        }
    }

    pub(super) fn manifest(&self, digest: &Digest) -> Option<Held> {
        lock(&self.manifests).0.get(digest).cloned()
    }

    pub(super) fn read(&self, manifest: &Held) {
        let mut kept = lock(&self.manifests);
        let (all, bytes) = &mut *kept;
        if *bytes + manifest.bytes.len() > MOST_BYTES {
            all.clear();
            *bytes = 0;
        }
        if manifest.bytes.len() <= MOST_BYTES
            && all
                .insert(manifest.digest.clone(), manifest.clone())
                .is_none()
        {
            *bytes += manifest.bytes.len();
        }
    }
}
