//! Runs one upload session after another, until the registry has the blob or the upload fails.
//!
//! The requests of one session are sent by [`BlobUpload::upload_chunked`]. Start reading at
//! [`BlobUpload::run_sessions`].

use imgsync_oci::client::Error;
use imgsync_oci::client::upload::{UploadSession, UploadStart};

use super::super::byte_stream::SentBytes;
use super::super::host_profile::UploadMode;
use super::{BlobUpload, SessionOutcome, UploadEnd, UploadOutcome};
use crate::exit::{Failure, FailureKind};

/// The number of sessions in a row that the registry may lose without progress before the upload
/// fails.
const MAX_LOST_SESSIONS: u32 = 5;

impl BlobUpload<'_> {
    /// Resumes the session of an earlier push or opens one, and further ones as long as it makes sense.
    pub(super) async fn run_sessions(&mut self) -> Result<UploadEnd, Failure> {
        let mut earlier = self.resume_session().await;
        let mut mount = self.blob.known().and_then(|blob| {
            let from = blob.mount.clone()?;
            Some((blob.clone(), from))
        });
        loop {
            if earlier.is_none() {
                self.mode = self.writer.host_profile.mode();
            }
            // Without chunks, only a complete blob can be sent.
            if self.mode != UploadMode::Chunks {
                if self.blob.assembly().is_some() {
                    let reason = "the registry accepts no chunks".to_owned();
                    return Ok(UploadEnd::NotAssembled(reason));
                }
                if !self.complete().await? {
                    return Ok(UploadEnd::Stored(UploadOutcome::AlreadyPresent));
                }
            }
            let mut session = match earlier.take() {
                Some(session) => session,
                None => match self.open(mount.take()).await? {
                    UploadStart::Mounted => return Ok(UploadEnd::Stored(UploadOutcome::Mounted)),
                    UploadStart::Open(session) => session,
                },
            };
            let ended = self.run_session(&mut session).await;
            if let Some(end) = self.conclude(session, ended).await? {
                return Ok(end);
            }
        }
    }

    /// Sends the blob through a session.
    async fn run_session(
        &mut self,
        session: &mut UploadSession,
    ) -> Result<SessionOutcome, Failure> {
        let offset = session.offset();
        self.progress.first_offset = offset;
        self.report_start();
        (self.progress.confirmed, self.progress.accepted) = (offset, offset);
        self.progress.chunks = 0;
        match (self.mode, self.blob.known().cloned()) {
            // A blob sent in one request cannot be resumed, so the session is not saved.
            (UploadMode::Stream | UploadMode::Monolithic, Some(blob)) => {
                self.upload_whole(session, &blob).await
            }
            _ => {
                self.entry.save(session);
                self.upload_chunked(session).await
            }
        }
    }

    /// Returns how the upload ended with its last session; `None` if another session is needed.
    async fn conclude(
        &mut self,
        session: UploadSession,
        ended: Result<SessionOutcome, Failure>,
    ) -> Result<Option<UploadEnd>, Failure> {
        let client = &self.writer.client;
        match ended {
            Ok(SessionOutcome::Finished) => {
                if self.blob.assembly().is_some() {
                    // Still there if another client's delta has become the layer.
                    let _ = client.cancel_upload(session).await;
                }
                self.writer.host_profile.save_mode(self.mode);
                let size = self.blob.known().map_or(0, |blob| blob.size);
                let SentBytes { bytes, resent } = self.sender.sent_bytes(size).await;
                self.writer.record_resent(resent);
                self.writer.record_resumed(size.saturating_sub(bytes));
                return Ok(Some(UploadEnd::Stored(UploadOutcome::Sent {
                    bytes,
                    resent,
                })));
            }
            Ok(SessionOutcome::AlreadyPresent) => {
                // The registry removes unused sessions itself.
                let _ = client.cancel_upload(session).await;
                return Ok(Some(UploadEnd::Stored(UploadOutcome::AlreadyPresent)));
            }
            Ok(SessionOutcome::NotAssembled(reason)) => {
                let _ = client.cancel_upload(session).await;
                return Ok(Some(UploadEnd::NotAssembled(reason)));
            }
            Ok(SessionOutcome::StartOver) => self.entry.clear_session(),
            Ok(SessionOutcome::SessionLost) => {
                self.entry.clear_session();
                if self.progress.confirmed > 0 || self.progress.accepted > 0 {
                    self.writer.record_lost_upload();
                }
                match self.count_lost_session() {
                    Err(failure) if self.blob.assembly().is_some() => {
                        return Ok(Some(UploadEnd::NotAssembled(failure.what)));
                    }
                    counted => counted?,
                }
            }
            Ok(SessionOutcome::ModeRefused(error)) => {
                let _ = client.cancel_upload(session).await;
                self.entry.clear_session();
                self.change_mode(error)?;
            }
            Err(failure) => {
                if self.progress.is_unusable {
                    // The bytes sent so far are of no use, so the registry need not keep them.
                    // An error of this request is ignored; the first failure is returned.
                    let _ = client.cancel_upload(session).await;
                    std::mem::take(&mut self.entry).remove();
                }
                return Err(failure);
            }
        }
        Ok(None)
    }

    /// Waits until a layer is compressed. Returns whether it must be sent.
    async fn complete(&mut self) -> Result<bool, Failure> {
        if self.blob.known().is_some() {
            return Ok(true);
        }
        self.wait_for_growth(u64::MAX).await;
        match self.blob.known().cloned() {
            Some(blob) => Ok(!self.is_already_present(&blob.blob_ref()).await?),
            None => Ok(true),
        }
    }

    /// Counts a lost session, and fails after [`MAX_LOST_SESSIONS`] without progress.
    fn count_lost_session(&mut self) -> Result<(), Failure> {
        self.progress.lost_sessions += 1;
        if self.progress.lost_sessions < MAX_LOST_SESSIONS {
            return Ok(());
        }
        let (registry, label) = (self.writer.client.registry(), self.blob.label());
        let what = format!(
            "target: {registry} lost the upload session of {label} {MAX_LOST_SESSIONS} times"
        );
        let hint = "run the same command again; if several servers share this address, they must also \
             share their storage";
        Err(Failure::new(FailureKind::Target, what).with_hint(hint))
    }

    /// Falls back to the next upload mode, and returns `error` if there is none.
    fn change_mode(&mut self, error: Error) -> Result<(), Failure> {
        if !self.writer.host_profile.fall_back_from(self.mode) {
            return Err(error.into());
        }
        self.progress.refusals = 0;
        let how = match self.writer.host_profile.mode() {
            UploadMode::Chunks => "in chunks",
            UploadMode::Stream => "in one PATCH request",
            UploadMode::Monolithic => "in one PUT request",
        };
        let label = self.blob.label();
        let text = format!("{label}: {error}; sending the blob again {how}");
        self.report.detail(&text);
        Ok(())
    }
}
