//! The JSON document of the command `status`. Later versions may add fields; they do not remove or
//! rename any.
//!
//! Sizes are in bytes, times in RFC 3339. Start reading at [`StatusDocument`].

use serde::Serialize;

/// The status of the server.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct StatusDocument {
    pub(super) version: &'static str,
    pub(super) started_at: String,
    pub(super) uptime_seconds: u64,
    /// The path of the configuration file; `None` without one.
    pub(super) configuration: Option<String>,
    pub(super) disk: DiskStatus,
    pub(super) storage: StorageStatus,
    pub(super) repositories: RepositoriesStatus,
    pub(super) uploads: UploadsStatus,
    pub(super) collection: CollectionStatus,
    pub(super) trash: TrashStatus,
    pub(super) upstreams: Vec<UpstreamStatus>,
    pub(super) events: Vec<EventReceiverStatus>,
    pub(super) certificates: Vec<CertificateStatus>,
}

/// The disk with the storage folder.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DiskStatus {
    pub(super) folder: String,
    pub(super) total_bytes: u64,
    pub(super) free_bytes: u64,
    /// The size of blobs, trash and open uploads.
    pub(super) used_bytes: u64,
}

/// The stored blobs and manifests.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct StorageStatus {
    pub(super) measured_at: String,
    pub(super) blobs: u64,
    pub(super) bytes: u64,
    /// The size of those that no repository links.
    pub(super) unlinked_bytes: u64,
    pub(super) untagged_manifests: u64,
    /// Bytes that would be freed without untagged manifests.
    pub(super) untagged_bytes: u64,
}

/// The repositories.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RepositoriesStatus {
    pub(super) count: u64,
    /// The sum of their sizes. What is shared counts for each of them.
    pub(super) bytes: u64,
    /// How much less is stored because of sharing.
    pub(super) saved_bytes: u64,
    /// The largest ones, the largest first.
    pub(super) largest: Vec<RepositoryStatus>,
    /// The number of the others.
    pub(super) unlisted: u64,
    /// The sum of the sizes of the others.
    pub(super) unlisted_bytes: u64,
}

/// A repository.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RepositoryStatus {
    pub(super) name: String,
    pub(super) bytes: u64,
    /// The size of what other repositories have, too.
    pub(super) shared_bytes: u64,
}

/// The open upload sessions.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct UploadsStatus {
    pub(super) open: u64,
    pub(super) bytes: u64,
    pub(super) oldest_started_at: Option<String>,
}

/// The garbage collection.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct CollectionStatus {
    pub(super) enabled: bool,
    /// `None` if there was none.
    pub(super) last: Option<LastCollection>,
    pub(super) next_at: Option<String>,
}

/// The last garbage collection.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LastCollection {
    pub(super) ended_at: String,
    pub(super) manifests: usize,
    pub(super) blobs: usize,
    /// The size of what was moved to the trash.
    pub(super) bytes: u64,
    pub(super) damaged_manifests: usize,
    pub(super) failed: bool,
}

/// The trash.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TrashStatus {
    pub(super) entries: u64,
    pub(super) bytes: u64,
    /// When the oldest entries are deleted.
    pub(super) first_deletion_at: Option<String>,
    /// When the latest entries are deleted.
    pub(super) last_deletion_at: Option<String>,
}

/// An upstream.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct UpstreamStatus {
    pub(super) name: String,
    pub(super) address: String,
    /// `None` if there was none since the start.
    pub(super) last_request_at: Option<String>,
    /// Why the last request failed.
    pub(super) error: Option<String>,
}

/// A receiver of events.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct EventReceiverStatus {
    pub(super) receiver: String,
    /// How many events wait to be sent.
    pub(super) waiting: u64,
    /// How many events the receiver has accepted since the start.
    pub(super) delivered: u64,
    /// How many events the receiver has rejected since the start. They are not sent again.
    pub(super) rejected: u64,
    /// How many events were lost since the start.
    pub(super) lost: u64,
    /// Why the last attempt failed.
    pub(super) error: Option<String>,
}

/// A certificate of the server.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct CertificateStatus {
    pub(super) file: String,
    pub(super) valid_until: Option<String>,
    /// Negative if the certificate is not valid any more.
    pub(super) days_left: Option<i64>,
    pub(super) error: Option<String>,
}
