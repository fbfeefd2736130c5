//! The registry itself: what repositories hold, and by which rules. It knows no HTTP and no paths.
//!
//! Everything here blocks on the disk, and is called where that is allowed.

mod blobs;
mod cache;
mod deletes;
mod diffids;
mod error;
mod lists;
mod locks;
mod manifests;
mod purge;
mod referrers;
mod reverify;
mod upload_locks;
mod uploads;

use std::path::Path;
use std::sync::Arc;

use imgsync_oci::{Algorithm, Digest};

pub(crate) use self::blobs::OpenBlob;
pub(crate) use self::cache::{
    BlobState, CacheFill, CacheLimits, EvictionStats, ManifestState, PartialBlob, TagState,
    UpstreamManifest,
};
pub(crate) use self::error::Error;
pub(crate) use self::lists::NamePage;
pub(crate) use self::manifests::StoredManifest;
pub(crate) use self::uploads::UploadWriter;

use self::cache::CacheState;
use self::error::Result;
use self::locks::LockTable;
use self::referrers::ReconciledRepositories;
use self::reverify::Reverifier;
use self::upload_locks::UploadLocks;
use crate::store::{self, ObjectKey, Store};

/// The registry over one store. Clones share everything.
#[derive(Clone)]
pub(crate) struct Registry {
    store: Arc<Store>,
    locks: Arc<LockTable>,
    upload_locks: Arc<UploadLocks>,
    reverifier: Arc<Reverifier>,
    reconciled_repositories: Arc<ReconciledRepositories>,
    cache: Arc<CacheState>,
    diff_id_queue: Arc<diffids::DiffIdQueue>,
}

/// More than a link ever has.
const MAX_LINK_BYTES: usize = 1024;

impl Registry {
    /// Opens the registry that lies in a folder.
    ///
    /// # Errors
    /// Those of opening the store.
    pub(crate) fn open(root: &Path) -> std::result::Result<Self, store::Error> {
        Store::open(root).map(Self::with_store)
    }

    /// The same, for one who is not to change anything; the folder need not be writable then.
    ///
    /// # Errors
    /// As [`Registry::open`].
    pub(crate) fn open_read_only(root: &Path) -> std::result::Result<Self, store::Error> {
        Store::open_read_only(root).map(Self::with_store)
    }

    fn with_store(store: Store) -> Self {
        Self {
            store: Arc::new(store),
            locks: Arc::default(),
            upload_locks: Arc::default(),
            reverifier: Arc::default(),
            reconciled_repositories: Arc::default(),
            cache: Arc::default(),
            diff_id_queue: Arc::default(),
        }
    }

    /// What the link to `digest` points at: the same, or another only where a stock registry stored
    /// a sha512 digest's content, which it does under sha256. Any other link counts as damaged.
    fn resolve_link(&self, key: ObjectKey<'_>, digest: &Digest) -> Result<Option<Digest>> {
        let Some(target) = self.read_link(key)? else {
            return Ok(None);
        };
        let (asked, stored) = (digest.algorithm(), target.algorithm());
        let is_alias = asked == Algorithm::Sha512 && stored == Algorithm::Sha256;
        if target != *digest && !is_alias {
            tracing::warn!(%digest, %target, "a link to other content counts as absent");
            return Ok(None);
        }
        Ok(Some(target))
    }

    /// What a link points at. A damaged one counts as absent, so that the next push mends it.
    fn read_link(&self, key: ObjectKey<'_>) -> Result<Option<Digest>> {
        let Some(bytes) = self.store.get(key, MAX_LINK_BYTES)? else {
            return Ok(None);
        };
        let digest = std::str::from_utf8(&bytes)
            .ok()
            .and_then(|text| text.parse().ok());
        if digest.is_none() {
            tracing::warn!(?key, "a damaged link counts as absent");
        }
        Ok(digest)
    }
}

#[cfg(test)]
mod power_cuts;
#[cfg(test)]
mod power_tests;
#[cfg(test)]
mod tests;
