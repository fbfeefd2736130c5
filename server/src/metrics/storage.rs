//! The metrics of the storage: its content when it was last measured, the disk, and collections.

use prometheus::proto::MetricFamily;

use super::families::{gauge, single};
use crate::registry::CollectionRecord;
use crate::status::StorageMeasurement;

/// The most repositories with a time series of their own, the largest ones.
const MAX_REPOSITORIES: usize = 50;

/// Returns the metrics of the storage. Without a measurement, those of its content are absent.
/// `next_collection` is in Unix seconds.
pub(super) fn families(
    measurement: Option<&StorageMeasurement>,
    next_collection: Option<u64>,
    last_collection: Option<&CollectionRecord>,
) -> Vec<MetricFamily> {
    let mut families = vec![gauge(
        "imgsync_build_info",
        "The version of the server.",
        [(vec![("version", env!("CARGO_PKG_VERSION"))], 1)],
    )];
    families.extend(measurement.into_iter().flat_map(content));
    families.extend(last_collection.into_iter().flat_map(collection));
    families.extend(next_collection.map(|next| {
        gauge(
            "imgsync_collection_next_timestamp_seconds",
            "When the next garbage collection begins.",
            single(next),
        )
    }));
    families
}

#[rustfmt::skip]
fn content(measurement: &StorageMeasurement) -> Vec<MetricFamily> {
    let (usage, sample) = (&measurement.usage, &measurement.sample);
    let gauges = [
        ("imgsync_storage_measured_timestamp_seconds", "When the storage was last measured.", sample.time),
        ("imgsync_storage_blobs", "Stored blobs and manifests.", usage.blobs),
        ("imgsync_storage_blob_bytes", "The size of stored blobs and manifests.", usage.blob_bytes),
        ("imgsync_storage_unlinked_bytes", "The size of blobs and manifests that no repository links.", usage.unlinked_bytes),
        ("imgsync_storage_untagged_bytes", "Bytes that would be freed without the manifests that no tag needs.", usage.untagged_bytes),
        ("imgsync_storage_trash_bytes", "The size of the trash.", sample.trash),
        ("imgsync_storage_upload_bytes", "The bytes that open upload sessions hold.", sample.uploads),
        ("imgsync_storage_open_uploads", "Open upload sessions.", measurement.open_uploads),
        ("imgsync_storage_repositories", "Repositories.", usage.repositories),
        ("imgsync_storage_shared_saved_bytes", "How much less is stored because repositories share blobs.", usage.saved_bytes()),
        ("imgsync_disk_size_bytes", "The size of the disk with the storage folder.", sample.total),
        ("imgsync_disk_free_bytes", "The free space of that disk.", sample.free),
    ];
    let repositories = usage.largest.iter().take(MAX_REPOSITORIES);
    let repositories: Vec<_> = repositories
        .map(|usage| (usage.repository.to_string(), usage.bytes))
        .collect();
    let by_repository = gauge(
        "imgsync_repository_bytes",
        "The size of the largest repositories. Shared blobs count for each of them.",
        repositories.iter().map(|(name, bytes)| (vec![("repository", name.as_str())], *bytes)),
    );
    let gauges = gauges.map(|(name, help, value)| gauge(name, help, single(value)));
    gauges.into_iter().chain([by_repository]).collect()
}

#[rustfmt::skip]
fn collection(record: &CollectionRecord) -> Vec<MetricFamily> {
    let stats = &record.stats;
    let gauges = [
        ("imgsync_collection_last_timestamp_seconds", "When the last garbage collection ended.", record.ended_at),
        ("imgsync_collection_last_success", "Whether the last garbage collection ended without an error.", u64::from(!record.is_failed)),
        ("imgsync_collection_last_blobs", "Blobs that the last garbage collection removed.", stats.blobs as u64),
        ("imgsync_collection_last_manifests", "Manifests that the last garbage collection removed.", stats.manifests as u64),
        ("imgsync_collection_last_bytes", "Bytes that the last garbage collection moved to the trash.", stats.bytes),
    ];
    gauges.map(|(name, help, value)| gauge(name, help, single(value))).to_vec()
}
