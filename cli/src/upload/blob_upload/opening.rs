//! Opens an upload session, or resumes the one of an earlier push, unless the registry has the blob.

use std::sync::Arc;

use imgsync_oci::Repository;
use imgsync_oci::client::RetryVerdict;
use imgsync_oci::client::upload::{UploadSession, UploadStart};

use super::BlobUpload;
use crate::cache::BlobRef;
use crate::exit::Failure;
use crate::upload::PendingBlob;
use crate::upload::host_profile::UploadMode;
use crate::upload::journal::JournalEntry;

impl BlobUpload<'_> {
    /// Returns the session that an earlier push of this blob left open, if the registry still has
    /// it. A session whose offset request failed temporarily is returned too. One at another address
    /// or of another repository is ignored: only the registry itself may say where the bytes go,
    /// and not a file.
    pub(super) async fn resume_session(&mut self) -> Option<UploadSession> {
        let mut session = match self.entry.session() {
            Some(session) => session,
            None => self.adopt_session()?,
        };
        let client = &self.writer.client;
        if self.writer.host_profile.mode() != UploadMode::Chunks
            || !client.is_upload_to(&session, &self.writer.repository)
        {
            return None;
        }
        let synced = self.writer.client.sync_upload_offset(&mut session).await;
        let is_usable =
            synced.unwrap_or_else(|error| matches!(error.retry_verdict(), RetryVerdict::After(_)));
        let size = self.blob.known().map(|blob| blob.size);
        let is_within = size.is_none_or(|size| session.offset() <= size);
        self.progress.is_resumed = is_usable && is_within;
        self.progress.is_resumed.then_some(session)
    }

    /// Takes over the session that an older version kept under the digest of a compressed layer.
    fn adopt_session(&mut self) -> Option<UploadSession> {
        let name = self.blob.known()?.digest.to_string();
        let path = self.writer.journal_path(&name);
        if name == self.blob.journal_name() || !path.exists() {
            return None;
        }
        let mut older = JournalEntry::try_lock(&path)?;
        let session = older.session();
        if let Some(session) = &session {
            self.entry.save(session);
        }
        older.remove();
        session
    }

    /// Opens a session, unless the registry mounts the blob from another repository.
    pub(super) async fn open(
        &mut self,
        mount: Option<(Arc<PendingBlob>, Repository)>,
    ) -> Result<UploadStart, Failure> {
        self.progress.is_resumed = false;
        let writer = self.writer;
        if let Some((blob, from)) = mount {
            match writer.try_mount(&blob.digest, &from).await? {
                // Some registries answer 201 to a mount and do not hold the blob afterwards.
                Some(UploadStart::Mounted) if !self.is_present(&blob.blob_ref()).await? => {}
                Some(start) => return Ok(start),
                None => {}
            }
        }
        if let Some(session) = writer.take_spare_session() {
            // The session may have expired while it waited, which is no fault of the registry.
            self.progress.is_resumed = true;
            return Ok(UploadStart::Open(session));
        }
        loop {
            match writer.client.start_upload(&writer.repository, None).await {
                Ok(start) => return Ok(start),
                Err(error) => self.back_off_if_retryable(error).await?,
            }
        }
    }

    /// Returns whether the registry has the blob, before any of its bytes are sent. Does not ask again
    /// if the plan did; but another push may have finished the blob just before this one got the
    /// lock. It has recorded that then.
    pub(super) async fn is_already_present(&mut self, blob: &BlobRef) -> Result<bool, Failure> {
        let writer = self.writer;
        let known = self.blob.known();
        let is_missing = known.is_some_and(|known| known.is_known_missing)
            || writer.is_missing(&blob.digest)
            || self.blob.diff_id().is_some_and(|id| writer.is_missing(id));
        let is_missing = is_missing && !writer.is_recorded(&blob.digest);
        Ok(!is_missing && self.is_present(blob).await?)
    }

    /// Returns whether the registry has the blob.
    pub(super) async fn is_present(&mut self, blob: &BlobRef) -> Result<bool, Failure> {
        let client = &self.writer.client;
        loop {
            let request = client.has_blob(&self.writer.repository, &blob.digest, blob.size);
            match request.await {
                Ok(is_present) => return Ok(is_present),
                Err(error) => self.back_off_if_retryable(error).await?,
            }
        }
    }
}
