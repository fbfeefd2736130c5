//! The room that a request has claimed for the bytes of its upload session.

use imgsync_oci::Repository;
use imgsync_oci::endpoint::UploadId;

use super::super::Registry;
use super::super::error::Result;

/// The claim of a request that writes to an upload session. On drop, what was not written is
/// released.
pub(in crate::registry) struct UploadClaim {
    registry: Registry,
    repository: Repository,
    id: UploadId,
    /// How many bytes of the session are kept if the request ends now.
    kept: u64,
}

impl UploadClaim {
    /// Opens the claim of a session that has `written` bytes.
    pub(in crate::registry) fn open(
        registry: &Registry,
        repository: &Repository,
        id: UploadId,
        written: u64,
    ) -> Self {
        registry.space.ledger().open(repository, id, written);
        Self {
            registry: registry.clone(),
            repository: repository.clone(),
            id,
            kept: written,
        }
    }

    /// Claims the bytes of the session up to `end`.
    ///
    /// # Errors
    /// [`Error::NoSpace`](super::super::error::Error::NoSpace);
    /// [`Error::Store`](super::super::error::Error::Store).
    pub(in crate::registry) fn extend(&self, end: u64) -> Result<()> {
        self.registry.claim_space(&self.repository, self.id, end)
    }

    /// Records that the session has `written` bytes on the disk, of which `kept` survive a crash.
    pub(in crate::registry) fn set_written(&mut self, written: u64, kept: u64) {
        self.kept = kept;
        self.registry.space.ledger().set_written(self.id, written);
    }
}

impl Drop for UploadClaim {
    fn drop(&mut self) {
        self.registry.space.ledger().settle(self.id, self.kept);
    }
}
