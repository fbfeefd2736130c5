//! Refuses uploads for which there is no room: on the disk, or in a quota of their repository.
//!
//! An upload is refused before its bytes are written, and leaves no bytes. Before that, cached images
//! are evicted, the trash is emptied and abandoned uploads are cancelled. What a quota counts is
//! counted by a walk ([`count`]) at the start and after removals; what is added in between is added
//! to the result. Start reading at [`Registry::claim_space`].

mod count;
mod ledger;
mod refusal;
mod relief;
mod scratch_claim;
mod shortage;
mod upload_claim;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use imgsync_oci::Repository;
use imgsync_oci::endpoint::UploadId;

pub(in crate::registry) use self::scratch_claim::ScratchClaim;
pub(crate) use self::shortage::SpaceShortage;
pub(in crate::registry) use self::upload_claim::UploadClaim;

use self::ledger::{DiskRoom, Ledger};
use super::Registry;
use super::blobs::LinkedBlob;
use super::cache::CacheLimits;
use super::error::{Error, Result};
use super::open_uploads::UploadOwner;
use crate::config::SpaceConfig;
use crate::store::DiskSpace;

/// The part of the disk that stays free by default.
const DEFAULT_RESERVE_DIVISOR: u64 = 20;
/// Upper bound of the space that stays free by default.
const MAX_DEFAULT_RESERVE_BYTES: u64 = 512_000_000;
/// The part of the reserve that manifests leave free, too. Without its manifest nothing of an image
/// can be pulled, so a manifest is stored where a blob is not.
pub(super) const MANIFEST_RESERVE_DIVISOR: u64 = 16;
/// Marks that the bytes of untagged images are not known.
const UNKNOWN_BYTES: u64 = u64::MAX;

/// The limits of the space, and what is used of it.
pub(super) struct SpaceState {
    ledger: Mutex<Ledger>,
    limits: Mutex<SpaceLimits>,
    count: Mutex<count::CountState>,
    /// When abandoned uploads were last searched for.
    last_relief: Mutex<Option<Instant>>,
    /// The bytes that only untagged images hold, or [`UNKNOWN_BYTES`].
    untagged_bytes: AtomicU64,
}

#[derive(Debug, Default, Clone, Copy)]
struct SpaceLimits {
    /// How many bytes must stay free; `None` means the default.
    reserve: Option<u64>,
    /// The limits of the cache, if there is one.
    cache: Option<CacheLimits>,
}

impl Default for SpaceState {
    fn default() -> Self {
        Self {
            ledger: Mutex::default(),
            limits: Mutex::default(),
            count: Mutex::default(),
            last_relief: Mutex::default(),
            untagged_bytes: AtomicU64::new(UNKNOWN_BYTES),
        }
    }
}

impl SpaceState {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        lock(&self.ledger)
    }
}

/// Locks a mutex whose content is valid even if a thread has panicked.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Registry {
    /// Sets the limits of the space, and those of the cache, if there is one.
    pub(crate) fn set_space_limits(&self, config: &SpaceConfig, cache: Option<CacheLimits>) {
        *lock(&self.space.limits) = SpaceLimits {
            reserve: config.reserve,
            cache,
        };
        if self.space.ledger().set_configs(&config.quotas) {
            self.discard_count();
        }
    }

    /// Returns how many bytes of the disk stay free.
    pub(super) fn reserve_bytes(&self, disk: DiskSpace) -> u64 {
        let configured = lock(&self.space.limits).reserve;
        configured.unwrap_or_else(|| default_reserve(disk))
    }

    /// Returns how many bytes uploads have claimed that are not on the disk yet.
    pub(super) fn claimed_bytes(&self) -> u64 {
        self.space.ledger().unwritten()
    }

    /// Records how many bytes only images without a tag hold, for answers on a full disk.
    pub(in crate::registry) fn set_untagged_bytes(&self, bytes: Option<u64>) {
        let bytes = bytes.unwrap_or(UNKNOWN_BYTES);
        self.space.untagged_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Returns how many bytes only images without a tag hold, if that is known and they are kept.
    pub(crate) fn untagged_bytes(&self) -> Option<u64> {
        let bytes = self.space.untagged_bytes.load(Ordering::Relaxed);
        (bytes != UNKNOWN_BYTES).then_some(bytes)
    }

    /// Checks whether `owner` may start an upload to a repository, of `bytes` bytes if that is known.
    /// Makes room for it if necessary. If there is none, the other uploads of the push are removed.
    ///
    /// # Errors
    /// [`Error::NoSpace`]; [`Error::Store`].
    pub(crate) fn check_upload_space(
        &self,
        repository: &Repository,
        owner: &UploadOwner,
        bytes: Option<u64>,
    ) -> Result<()> {
        let bytes = bytes.unwrap_or(1);
        let checked = self.try_with_relief(&|| {
            let ledger = self.space.ledger();
            let disk = self.disk_room(&ledger)?;
            Ok(ledger.check(repository, bytes, &disk))
        });
        if let Err(Error::NoSpace { shortage, .. }) = &checked {
            self.cancel_push(repository, owner, shortage);
        }
        checked
    }

    /// Claims the bytes of an upload session up to `end`. Makes room for them if necessary.
    ///
    /// # Errors
    /// [`Error::NoSpace`]; [`Error::Store`].
    fn claim_space(&self, repository: &Repository, id: UploadId, end: u64) -> Result<()> {
        self.try_with_relief(&|| {
            let mut ledger = self.space.ledger();
            let disk = self.disk_room(&ledger)?;
            Ok(ledger.claim(repository, id, end, &disk))
        })
    }

    /// Checks whether a manifest of `bytes` bytes may be stored. It may exceed a quota by its own
    /// size, and most of the reserve is for manifests: the upload of their blobs was accepted.
    ///
    /// # Errors
    /// [`Error::NoSpace`]; [`Error::Store`].
    pub(super) fn check_manifest_space(&self, repository: &Repository, bytes: u64) -> Result<()> {
        self.try_with_relief(&|| {
            let ledger = self.space.ledger();
            let mut disk = self.disk_room(&ledger)?;
            let kept = disk.reserve / MANIFEST_RESERVE_DIVISOR;
            disk.writable = disk.free.saturating_sub(kept);
            let checked = disk.check(bytes);
            Ok(checked.and_then(|()| ledger.check_quotas(repository, 0)))
        })
    }

    /// Checks whether a blob may be mounted from another repository. It counts once for the quotas of
    /// both.
    ///
    /// # Errors
    /// [`Error::NoSpace`]; [`Error::Store`].
    pub(super) fn check_mount_space(
        &self,
        repository: &Repository,
        from: &Repository,
        blob: &LinkedBlob,
    ) -> Result<()> {
        self.try_with_relief(&|| {
            let ledger = self.space.ledger();
            Ok(ledger.check_quotas_except(repository, Some(from), blob.size))
        })
    }

    /// Returns the room for uploads. Read while the ledger is locked, so that bytes that are written
    /// meanwhile are not counted as both free and written.
    fn disk_room(&self, _ledger: &Ledger) -> Result<DiskRoom> {
        let disk = self.store.disk_space()?;
        let reserve = self.reserve_bytes(disk);
        let reserved = reserve.saturating_add(self.cache.reserved_bytes());
        Ok(DiskRoom {
            writable: disk.free.saturating_sub(reserved),
            free: disk.free,
            reserve,
        })
    }

    /// Tries something until there is room for it, or until no more room can be made.
    fn try_with_relief(
        &self,
        attempt: &dyn Fn() -> Result<std::result::Result<(), SpaceShortage>>,
    ) -> Result<()> {
        self.count_once()?;
        let mut result = attempt()?;
        for step in relief::STEPS {
            let Err(shortage) = &result else {
                return Ok(());
            };
            if self.relieve(*step, shortage)? {
                result = attempt()?;
            }
        }
        result.map_err(|shortage| self.no_space(shortage))
    }

    fn no_space(&self, shortage: SpaceShortage) -> Error {
        Error::NoSpace {
            shortage,
            untagged_bytes: self.untagged_bytes(),
        }
    }
}

/// Returns how many bytes of the disk stay free by default.
fn default_reserve(disk: DiskSpace) -> u64 {
    (disk.total / DEFAULT_RESERVE_DIVISOR).min(MAX_DEFAULT_RESERVE_BYTES)
}

#[cfg(test)]
mod tests;
