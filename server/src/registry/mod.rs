//! The registry itself: what repositories hold, and by which rules. It knows no HTTP and no paths.
//!
//! Everything here blocks on the disk, and is called where that is allowed.

mod blobs;
mod cache;
mod deletes;
mod diffids;
mod doubt;
mod error;
mod hold;
mod lists;
mod manifests;
mod purge;
mod referrers;
mod turns;
mod uploads;

use std::path::Path;
use std::sync::Arc;

use imgsync_oci::{Algorithm, Digest};

pub(crate) use self::blobs::Blob;
pub(crate) use self::cache::{
    BlobState, Evicted, Filling, Incoming, Limits, ManifestState, Partial, TagState,
};
pub(crate) use self::error::Error;
pub(crate) use self::lists::Names;
pub(crate) use self::manifests::StoredManifest;
pub(crate) use self::uploads::Append;

use self::cache::Cache;
use self::doubt::Doubts;
use self::error::Result;
use self::hold::Holds;
use self::referrers::Reconciled;
use self::turns::Turns;
use crate::store::{self, Key, Store};

/// The registry over one store. Clones share everything.
#[derive(Clone)]
pub(crate) struct Registry {
    store: Arc<Store>,
    holds: Arc<Holds>,
    turns: Arc<Turns>,
    doubts: Arc<Doubts>,
    reconciled: Arc<Reconciled>,
    cache: Arc<Cache>,
    diff_ids: Arc<diffids::Queue>,
}

/// More than a link ever has.
const MAX_LINK_BYTES: usize = 1024;

impl Registry {
    /// Opens the registry that lies in a folder.
    ///
    /// # Errors
    /// Those of opening the store.
    pub(crate) fn open(root: &Path) -> std::result::Result<Self, store::Error> {
        Store::open(root).map(Self::over)
    }

    /// The same, for one who is not to change anything; the folder need not be writable then.
    ///
    /// # Errors
    /// As [`Registry::open`].
    pub(crate) fn open_to_read_only(root: &Path) -> std::result::Result<Self, store::Error> {
        Store::open_to_read_only(root).map(Self::over)
    }

    fn over(store: Store) -> Self {
        Self {
            store: Arc::new(store),
            holds: Arc::default(),
            turns: Arc::default(),
            doubts: Arc::default(),
            reconciled: Arc::default(),
            cache: Arc::default(),
            diff_ids: Arc::default(),
        }
    }

    /// What the link to `digest` points at: the same, or another only where a stock registry stored
    /// a sha512 digest's content, which it does under sha256. Any other link counts as damaged.
    fn link_of(&self, key: Key<'_>, digest: &Digest) -> Result<Option<Digest>> {
        let Some(target) = self.link(key)? else {
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
    fn link(&self, key: Key<'_>) -> Result<Option<Digest>> {
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
