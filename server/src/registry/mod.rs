//! Implements the rules of a registry: which repository holds which blobs, manifests and tags.
//!
//! This module knows neither HTTP nor paths: requests are parsed in `http`, files are written by
//! `store`. All functions block on the disk; call them on a thread where blocking is allowed. Start reading
//! at [`Registry`].

mod assemble;
mod backup;
mod blob_links;
mod blobs;
mod cache;
mod check;
mod collect;
mod deletes;
mod diffids;
mod digest_prefix;
mod error;
mod lists;
mod locks;
mod manifest_index;
mod manifests;
mod missing_children;
mod open_uploads;
mod purge;
mod recent_tags;
mod referrers;
mod retention;
mod reverify;
mod space;
mod upload_locks;
mod uploads;
mod usage;

use std::path::Path;
use std::sync::Arc;

use imgsync_oci::{Algorithm, Digest};

pub(crate) use self::backup::{BackupOutcome, BackupStats};
pub(crate) use self::blobs::OpenBlob;
pub(crate) use self::cache::{
    BlobState, BlobUse, CacheFill, CacheLimits, EvictionStats, ManifestState, PartialBlob,
    TagState, UpstreamManifest,
};
pub(crate) use self::check::{
    AffectedImage, CheckEvent, CheckOptions, CheckStats, Finding, Repair,
};
pub(crate) use self::collect::{
    CollectOptions, CollectStats, CollectionRecord, ContentTarget, DeletedTag, ImageName,
    PurgeOptions, PurgeOutcome, PurgeReport, RestoreReport, UntaggedPolicy,
};
pub(crate) use self::deletes::DeletedRepository;
pub(crate) use self::diffids::StoredLayerIndex;
pub(crate) use self::error::Error;
pub(crate) use self::lists::NamePage;
pub(crate) use self::manifests::StoredManifest;
pub(crate) use self::open_uploads::{OpenUpload, UploadOwner};
pub(crate) use self::retention::{RetentionStats, TagFacts, TagVerdict};
pub(crate) use self::uploads::UploadWriter;
pub(crate) use self::usage::{OpenUploadsSummary, RepositoryUsage, StorageUsage, TrashSummary};
pub(crate) use crate::store::{BackupState, DiskSample, DiskSpace, OpenedBackup, TrashEntry};

use self::assemble::Assemblies;
use self::blob_links::BlobLinkLogs;
use self::cache::CacheState;
use self::collect::CollectState;
use self::error::Result;
use self::locks::LockTable;
use self::manifest_index::ManifestIndexState;
use self::open_uploads::OpenUploads;
use self::retention::PullTimes;
use self::reverify::Reverifier;
use self::space::SpaceState;
use self::upload_locks::UploadLocks;
pub(crate) use crate::store::Walk;
use crate::store::{self, ObjectKey, Store};

/// A registry over one store. Clones share all state.
#[derive(Clone)]
pub(crate) struct Registry {
    store: Arc<Store>,
    locks: Arc<LockTable>,
    upload_locks: Arc<UploadLocks>,
    open_uploads: Arc<OpenUploads>,
    reverifier: Arc<Reverifier>,
    manifest_indexes: Arc<ManifestIndexState>,
    blob_link_logs: Arc<BlobLinkLogs>,
    cache: Arc<CacheState>,
    collect: Arc<CollectState>,
    space: Arc<SpaceState>,
    pull_times: Arc<PullTimes>,
    diff_id_queue: Arc<diffids::DiffIdQueue>,
    assemblies: Arc<Assemblies>,
}

/// Bounds how much of a link is read; real ones have at most 135 bytes.
const MAX_LINK_BYTES: usize = 1024;

impl Registry {
    /// Opens the registry in a storage folder.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub(crate) fn open(root: &Path) -> std::result::Result<Self, store::Error> {
        Store::open(root).map(Self::with_store)
    }

    /// Opens the registry in a storage folder for a command of an operator.
    ///
    /// # Errors
    /// As [`Store::open_for_command`].
    pub(crate) fn open_for_command(
        root: &Path,
        is_read_only: bool,
    ) -> std::result::Result<Self, store::Error> {
        Store::open_for_command(root, is_read_only).map(Self::with_store)
    }

    /// Opens the registry for reading only if its storage folder cannot be written.
    ///
    /// # Errors
    /// As [`Store::open_read_only`].
    pub(crate) fn open_read_only(root: &Path) -> std::result::Result<Self, store::Error> {
        Store::open_read_only(root).map(Self::with_store)
    }

    /// Opens the registry for reading only, beside the server that uses its storage folder.
    ///
    /// # Errors
    /// As [`Store::open_beside_server`].
    pub(crate) fn open_beside_server(root: &Path) -> std::result::Result<Self, store::Error> {
        Store::open_beside_server(root).map(Self::with_store)
    }

    /// Opens a folder to write a backup of the registry in `source_root`.
    ///
    /// # Errors
    /// As [`Store::open_backup`].
    pub(crate) fn open_backup(
        root: &Path,
        source_root: &Path,
    ) -> std::result::Result<OpenedBackup<Self>, store::Error> {
        Ok(Store::open_backup(root, source_root)?.map(Self::with_store))
    }

    /// Makes the storage folder an ordinary one, if it is a backup and can be written. Returns the
    /// state of the backup.
    ///
    /// # Errors
    /// The error of the store.
    pub(crate) fn adopt_backup(&self) -> std::result::Result<Option<BackupState>, store::Error> {
        let state = self.store.backup_state()?;
        if state.is_some() && self.store.is_writable() {
            self.store.forget_backup()?;
        }
        Ok(state)
    }

    /// Checks, without a change, whether the registry could be opened in a storage folder.
    ///
    /// # Errors
    /// As [`Store::check`].
    pub(crate) fn check(root: &Path, is_read_only: bool) -> std::result::Result<(), store::Error> {
        Store::check(root, is_read_only)
    }

    fn with_store(store: Store) -> Self {
        Self {
            store: Arc::new(store),
            locks: Arc::default(),
            upload_locks: Arc::default(),
            open_uploads: Arc::default(),
            reverifier: Arc::default(),
            manifest_indexes: Arc::default(),
            blob_link_logs: Arc::default(),
            cache: Arc::default(),
            collect: Arc::default(),
            space: Arc::default(),
            pull_times: Arc::default(),
            diff_id_queue: Arc::default(),
            assemblies: Arc::default(),
        }
    }

    /// Returns the storage folders in which this user may not create files, although the registry
    /// is not opened for reading only.
    pub(crate) fn forbidden_folders(&self) -> Vec<std::path::PathBuf> {
        if !self.store.is_writable() {
            return Vec::new();
        }
        self.store.forbidden_folders()
    }

    /// Returns the path of the socket through which commands reach the server that uses the storage
    /// folder `root`.
    pub(crate) fn control_socket(root: &Path) -> std::path::PathBuf {
        Store::control_socket(root)
    }

    /// Returns the store, for the queues of events.
    pub(crate) fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Gives back the memory that lists took and that was not used lately.
    pub(crate) fn forget_unused_lists(&self) {
        self.store.forget_unused_listings();
    }

    /// Returns the digest under which the content of `digest` is stored; `None` if the link is
    /// missing or damaged.
    ///
    /// The two digests differ only for a sha512 digest that a stock registry stored, which it does
    /// under sha256. A link to any other content counts as damaged.
    fn resolve_link(&self, key: ObjectKey<'_>, digest: &Digest) -> Result<Option<Digest>> {
        let Some(target) = self.read_link(key)? else {
            return Ok(None);
        };
        let algorithms = (digest.algorithm(), target.algorithm());
        let is_alias = algorithms == (Algorithm::Sha512, Algorithm::Sha256);
        if target != *digest && !is_alias {
            tracing::warn!(%digest, %target, "treating a link as absent: it points to other content");
            return Ok(None);
        }
        Ok(Some(target))
    }

    /// Reads a link. A damaged link counts as absent, so that the next push repairs it.
    fn read_link(&self, key: ObjectKey<'_>) -> Result<Option<Digest>> {
        let Some(bytes) = self.store.get(key, MAX_LINK_BYTES)? else {
            return Ok(None);
        };
        let digest = std::str::from_utf8(&bytes)
            .ok()
            .and_then(|text| text.parse().ok());
        if digest.is_none() {
            tracing::warn!(?key, "treating a link as absent: it is damaged");
        }
        Ok(digest)
    }
}

#[cfg(test)]
mod damage_tests;
#[cfg(test)]
mod disk_failure_tests;
#[cfg(test)]
mod power_cuts;
#[cfg(test)]
mod power_tests;
#[cfg(test)]
mod tests;
