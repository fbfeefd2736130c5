//! What the storage holds now, for a command that may wait for a measurement.

use std::sync::Arc;
use std::time::Duration;

use super::{ServerState, StorageMeasurement};
use crate::registry::{
    CollectionRecord, DiskSpace, Error, OpenUploadsSummary, Registry, TrashSummary, Walk,
};

/// The content of the storage, and the collection of its garbage.
pub(crate) struct StorageFacts {
    pub(crate) measurement: Arc<StorageMeasurement>,
    pub(crate) space: DiskSpace,
    pub(crate) uploads: OpenUploadsSummary,
    pub(crate) trash: TrashSummary,
    /// `None` if there was none.
    pub(crate) last_collection: Option<CollectionRecord>,
}

impl StorageFacts {
    /// Gathers the facts, with the `limit` largest repositories. The content of the trash is kept for
    /// `undo`. Blocks for as long as a measurement of the storage takes, or until `is_gone`.
    ///
    /// # Errors
    /// Returns the reason for which the storage cannot be read.
    pub(crate) fn gather(
        registry: &Registry,
        server: &ServerState,
        undo: Duration,
        limit: usize,
        is_gone: &(dyn Fn() -> bool + Sync),
    ) -> Result<Self, String> {
        let text = |error: Error| error.to_string();
        let walk = Walk::new(u64::MAX, is_gone);
        Ok(Self {
            uploads: registry.summarize_uploads(&walk).map_err(text)?,
            trash: registry.summarize_trash(undo, &walk).map_err(text)?,
            space: registry.disk_space().map_err(text)?,
            last_collection: registry.last_collection().map_err(text)?,
            measurement: server.storage_meter.measure(registry, limit, is_gone)?,
        })
    }

    /// Returns the size of blobs, trash and open uploads in bytes.
    pub(crate) fn used_bytes(&self) -> u64 {
        self.measurement.usage.blob_bytes + self.trash.bytes + self.uploads.bytes
    }
}
