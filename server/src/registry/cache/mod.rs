//! What came from an upstream: it lies in the tree like everything else, and is marked beside it.
//! What has no mark was pushed: it is ours, is never evicted, and no upstream overwrites it.
//!
//! The order of things, so that no crash makes a wrong promise:
//! - Something is kept: first its mark, then its link and its bytes. A mark alone means nothing, and
//!   a link without bytes counts as absent.
//! - Something is pushed: first its bytes and its link, then its mark goes, then it is acknowledged.
//! - Something is evicted or deleted: first its link, then its mark; bytes last, when no repository
//!   links to them.
//!
//! All of this happens under the holds of what it is about. A tag's mark names what the upstream
//! said: when the tag points at something else, somebody pushed that.

mod blobs;
mod claim;
mod evict;
mod eviction_marks;
mod fill;
mod images;
mod import;
mod lru;
mod manifests;
mod scan;
mod sweep;
mod tags;

use std::collections::HashSet;
use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use imgsync_oci::Digest;

pub(crate) use self::blobs::BlobState;
pub(super) use self::claim::CachedDescendants;
pub(crate) use self::evict::{CacheLimits, EvictionStats};
pub(crate) use self::fill::CacheFill;
pub(crate) use self::manifests::{ManifestState, UpstreamManifest};
pub(crate) use self::tags::TagState;
pub(crate) use crate::store::PartialBlob;

use self::evict::{CacheSize, EvictionSchedule};
use self::eviction_marks::EvictionMarks;
use self::lru::{BlobLeases, LruIndex};

/// What is known of the cache beside what is on the disk.
#[derive(Default)]
pub(super) struct CacheState {
    lru: Mutex<LruIndex>,
    leases: Mutex<BlobLeases>,
    eviction_marks: Mutex<EvictionMarks>,
    /// The blobs that are being filled.
    fills_in_progress: Mutex<HashSet<Digest>>,
    size: CacheSize,
    eviction_schedule: Mutex<EvictionSchedule>,
}

fn from_unix_seconds(seconds: u64) -> SystemTime {
    let moment = UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
    moment.unwrap_or(UNIX_EPOCH)
}

fn to_unix_seconds(moment: SystemTime) -> u64 {
    let since = moment.duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod evict_tests;
#[cfg(test)]
mod power_tests;
#[cfg(test)]
mod tests;
