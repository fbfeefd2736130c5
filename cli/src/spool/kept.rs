//! Keeps compressed layers after a push: the next push makes deltas from them.
//!
//! This module reads no layer. Start reading at [`Spool::keep_layers`].

use std::time::SystemTime;

use imgsync_oci::Digest;

use super::{Spool, SpoolKind};
use crate::disk;

/// The size in bytes of the smallest layer that is kept.
const MIN_KEPT_BYTES: u64 = 1024 * 1024;

impl Spool {
    /// Keeps the compressed layers with these diffIDs, as far as the spool has them, and deletes
    /// others, the oldest first, until all have at most `max_bytes` bytes together. Layers that
    /// another push uses count, but are not deleted.
    pub fn keep_layers(&self, diff_ids: &[Digest], max_bytes: u64) {
        if !self.is_persistent {
            return;
        }
        for diff_id in diff_ids {
            let path = self.path(SpoolKind::Compressed, diff_id);
            let Ok(file) = disk::open_to_use(&path) else {
                continue;
            };
            let size = file.metadata().map_or(0, |data| data.len());
            if size < MIN_KEPT_BYTES {
                self.remove(SpoolKind::Compressed, [diff_id]);
            } else {
                // If the time cannot be set, the layer is only deleted earlier.
                let _ = file.set_modified(SystemTime::now());
            }
        }
        let mut kept = self.list_kind(SpoolKind::Compressed);
        kept.sort_by_key(|layer| layer.last_used);
        let mut total = kept.iter().map(|layer| layer.len).sum::<u64>();
        for layer in kept {
            if total <= max_bytes {
                break;
            }
            if disk::remove_if_unused(&layer.path) {
                total -= layer.len;
            }
        }
    }
}
