//! Reserves room in the cache and on the disk for a blob, before it is fetched.
//!
//! The upstream announces the size of a blob. Without a reservation, fetches that run at the same
//! time would each find room for themselves, and together fill the disk. Start reading at
//! [`Registry::reserve_room`].

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use imgsync_oci::Digest;

use super::super::Registry;
use super::super::error::Result;
use super::super::space::MANIFEST_RESERVE_DIVISOR;
use super::CacheLimits;
use super::evict::{SLACK_DIVISOR, Shortage};

/// How much manifests may exceed the limit of the cache at least, in bytes.
const MIN_MANIFEST_EXCESS_BYTES: u64 = 16 * 1024 * 1024;

/// The bytes that the running fetches have reserved.
#[derive(Default)]
pub(super) struct ReservedRoom(Mutex<ReservedBytes>);

#[derive(Default)]
struct ReservedBytes {
    digests: HashSet<Digest>,
    /// The sizes of the blobs.
    announced: u64,
    /// The bytes of them that are not on disk yet.
    unwritten: u64,
}

impl ReservedRoom {
    /// Returns the bytes that the running fetches will still write.
    pub(super) fn unwritten(&self) -> u64 {
        self.lock().unwritten
    }

    fn lock(&self) -> MutexGuard<'_, ReservedBytes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Room for one blob, released on drop.
pub(super) struct RoomReservation {
    registry: Registry,
    digest: Digest,
    /// The size of the blob in bytes.
    pub(super) size: u64,
    unwritten: u64,
    /// Whether the written bytes remain on disk as an interrupted fetch.
    leaves_partial_blob: bool,
}

impl RoomReservation {
    /// Records that the first `stored` bytes of the blob are on disk.
    pub(super) fn set_stored(&mut self, stored: u64) {
        let mut reserved = self.registry.cache.reserved_room.lock();
        reserved.unwritten -= self.unwritten;
        self.unwritten = self.size.saturating_sub(stored);
        reserved.unwritten += self.unwritten;
    }

    /// Records that the written bytes were removed, or became a cached blob, which is counted
    /// elsewhere.
    pub(super) fn leave_nothing(&mut self) {
        self.leaves_partial_blob = false;
    }
}

impl Drop for RoomReservation {
    fn drop(&mut self) {
        let cache = &self.registry.cache;
        let mut reserved = cache.reserved_room.lock();
        reserved.digests.remove(&self.digest);
        reserved.announced -= self.size;
        reserved.unwritten -= self.unwritten;
        if self.leaves_partial_blob {
            cache.size.add(self.size - self.unwritten);
        }
    }
}

impl Registry {
    /// Reserves room for a blob of `size` bytes, of which `stored` are on disk already. If the cache
    /// or the disk is full, evicts images first. Returns `None` if the blob does not fit into the
    /// cache, or into the free space of the disk.
    ///
    /// # Errors
    /// Returns the errors of the store.
    pub(super) fn reserve_room(
        &self,
        digest: &Digest,
        (size, stored): (u64, u64),
        limits: &CacheLimits,
        now: u64,
    ) -> Result<Option<RoomReservation>> {
        let blob = (digest, size, stored.min(size));
        let max_bytes = limits.max_bytes;
        if max_bytes.is_some_and(|max_bytes| size > max_bytes) {
            return Ok(None);
        }
        match self.try_reserve(blob, max_bytes)? {
            Ok(reservation) => return Ok(Some(reservation)),
            Err(shortage) => self.make_room(limits, shortage, now)?,
        }
        Ok(self.try_reserve(blob, max_bytes)?.ok())
    }

    /// Evicts cached images if the disk has less free space than is needed: `announced` bytes, or the
    /// reserve. A failure is only logged.
    pub(crate) fn make_disk_room(&self, announced: Option<u64>, limits: &CacheLimits, now: u64) {
        let make_room = || -> Result<()> {
            let disk = self.store.disk_space()?;
            // The room that fetches have reserved is free until they have written it.
            let reserved = self.cache.reserved_room.unwritten();
            let needed = announced.unwrap_or_else(|| self.reserve_bytes(disk));
            let lacking = needed.saturating_add(reserved).saturating_sub(disk.free);
            self.evict_from_disk(lacking, limits, now)
        };
        if let Err(error) = make_room() {
            tracing::warn!(%error, "cannot evict cached images to store more");
        }
    }

    /// Evicts cached images until `lacking` more bytes of the disk are free, if possible.
    ///
    /// # Errors
    /// Returns the errors of the store.
    pub(in crate::registry) fn evict_from_disk(
        &self,
        lacking: u64,
        limits: &CacheLimits,
        now: u64,
    ) -> Result<()> {
        if lacking == 0 {
            return Ok(());
        }
        let shortage = Shortage {
            room: 0,
            disk: lacking,
        };
        self.make_room(limits, shortage, now)
    }

    /// Reports whether a manifest of `size` bytes may be stored. It may exceed the limit of the cache a
    /// little. If the cache is full, evicts images first.
    ///
    /// # Errors
    /// Returns the errors of the store.
    pub(crate) fn has_room_for_manifest(
        &self,
        size: u64,
        limits: &CacheLimits,
        now: u64,
    ) -> Result<bool> {
        let disk = self.store.disk_space()?;
        if disk
            .free
            .saturating_sub(self.reserve_bytes(disk) / MANIFEST_RESERVE_DIVISOR)
            < size
        {
            return Ok(false);
        }
        let Some(max_bytes) = limits.max_bytes else {
            return Ok(true);
        };
        let excess = (max_bytes / SLACK_DIVISOR).max(MIN_MANIFEST_EXCESS_BYTES);
        let is_within_limit = || {
            let cached = self.cache.size.get();
            cached.is_none_or(|cached| {
                cached.saturating_add(size) <= max_bytes.saturating_add(excess)
            })
        };
        if is_within_limit() {
            return Ok(true);
        }
        let slack = max_bytes / SLACK_DIVISOR;
        let shortage = Shortage {
            room: size.saturating_add(slack),
            disk: 0,
        };
        self.make_room(limits, shortage, now)?;
        Ok(is_within_limit())
    }

    /// Reports whether room is reserved for a blob.
    pub(super) fn has_reserved_room(&self, digest: &Digest) -> bool {
        self.cache.reserved_room.lock().digests.contains(digest)
    }

    fn try_reserve(
        &self,
        (digest, size, stored): (&Digest, u64, u64),
        max_bytes: Option<u64>,
    ) -> Result<std::result::Result<RoomReservation, Shortage>> {
        let disk = self.store.disk_space()?;
        let kept = self
            .reserve_bytes(disk)
            .saturating_add(self.claimed_bytes());
        let mut reserved = self.cache.reserved_room.lock();
        let announced = reserved.announced.saturating_add(size);
        // Until the first count, the size of the cache is unknown, and an eviction must count it.
        let is_within_limit = max_bytes.is_none_or(|max_bytes| {
            let cached = self.cache.size.get();
            // The bytes that are stored are part of both.
            let total =
                cached.map(|cached| cached.saturating_sub(stored).saturating_add(announced));
            total.is_some_and(|total| total <= max_bytes)
        });
        let unwritten = size - stored;
        let needed = reserved.unwritten.saturating_add(unwritten);
        let lacking = needed.saturating_sub(disk.free.saturating_sub(kept));
        if !is_within_limit || lacking > 0 {
            let slack = max_bytes.unwrap_or_default() / SLACK_DIVISOR;
            let added = reserved.announced.saturating_add(unwritten);
            return Ok(Err(Shortage {
                room: added.saturating_add(slack),
                disk: lacking,
            }));
        }
        self.cache.size.remove(stored);
        reserved.digests.insert(digest.clone());
        reserved.announced = announced;
        reserved.unwritten = needed;
        Ok(Ok(RoomReservation {
            registry: self.clone(),
            digest: digest.clone(),
            size,
            unwritten,
            leaves_partial_blob: true,
        }))
    }
}
