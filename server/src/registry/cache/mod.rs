//! Tracks which content was cached from an upstream, and evicts it when the cache exceeds its
//! limits.
//!
//! Cached content lies in the same tree as pushed content and has a mark beside the tree. Content
//! without a mark was pushed: it is never evicted, and no upstream overwrites it. This module sends
//! no requests; [`crate::upstream`] does. Start reading at [`CacheFill`] for caching, and at
//! [`CacheLimits`] for eviction.
//!
//! Writes are ordered so that the cache is consistent after a crash:
//!
//! - Caching: the mark is written first, then the link and the bytes. A mark alone has no effect,
//!   and a link without bytes counts as absent.
//! - Pushing: the bytes and the link are written first, then the mark is deleted, then the push is
//!   acknowledged.
//! - Eviction and deletion: the link is deleted first, then the mark, and the bytes last, once no
//!   repository links them.
//!
//! Every step holds the locks of the content that it changes. The mark of a tag stores the digest
//! that the upstream reported: if the tag points elsewhere, it was pushed.

mod blobs;
mod claim;
mod evict;
mod eviction_marks;
mod fill;
mod holders;
mod images;
mod import;
mod limits;
mod lru;
mod manifests;
mod room;
mod scan;
mod sweep;
mod tags;

use std::collections::HashSet;
use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use imgsync_oci::Digest;

pub(crate) use self::blobs::BlobState;
pub(super) use self::claim::CachedDescendants;
pub(crate) use self::evict::EvictionStats;
pub(crate) use self::fill::CacheFill;
pub(crate) use self::holders::BlobUse;
pub(crate) use self::limits::CacheLimits;
pub(crate) use self::manifests::{ManifestState, UpstreamManifest};
pub(super) use self::scan::{link_key, mark_key};
pub(crate) use self::tags::TagState;
pub(crate) use crate::store::PartialBlob;

use self::evict::EvictionSchedule;
use self::eviction_marks::EvictionMarks;
use self::limits::CacheSize;
use self::lru::{BlobLeases, LruIndex};
use self::room::ReservedRoom;

/// The state of the cache that is held in memory.
#[derive(Default)]
pub(super) struct CacheState {
    lru: Mutex<LruIndex>,
    leases: Mutex<BlobLeases>,
    eviction_marks: Mutex<EvictionMarks>,
    /// The digests of the blobs that are being fetched.
    fills_in_progress: Mutex<HashSet<Digest>>,
    size: CacheSize,
    reserved_room: ReservedRoom,
    eviction_schedule: Mutex<EvictionSchedule>,
}

impl CacheState {
    /// Returns how many bytes the running fetches will still write to the disk.
    pub(super) fn reserved_bytes(&self) -> u64 {
        self.reserved_room.unwritten()
    }
}

/// Converts Unix seconds to a time.
fn from_unix_seconds(seconds: u64) -> SystemTime {
    let time = UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
    time.unwrap_or(UNIX_EPOCH)
}

/// Converts a time to Unix seconds; a time before 1970 becomes 0.
pub(super) fn to_unix_seconds(time: SystemTime) -> u64 {
    let since_epoch = time.duration_since(UNIX_EPOCH);
    since_epoch.map_or(0, |duration| duration.as_secs())
}

#[cfg(test)]
mod evict_model_tests;
#[cfg(test)]
mod evict_push_tests;
#[cfg(test)]
mod evict_tests;
#[cfg(test)]
mod power_tests;
#[cfg(test)]
mod room_tests;
#[cfg(test)]
pub(super) mod tests;
