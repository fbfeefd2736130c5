//! Sends the bytes of one upload session and finishes the session: in chunks, or in one request.
//!
//! This module opens no session; its caller does. Start reading at [`BlobUpload::upload_chunked`].

use std::sync::Arc;

use http::StatusCode;
use imgsync_oci::client::Error;
use imgsync_oci::client::upload::UploadSession;

use super::super::blob_sender::SendError;
use super::super::host_profile::UploadMode;
use super::super::refusal::{self, RefusalAction, RefusedChunk, SessionStatus};
use super::{BlobUpload, PendingBlob, SessionOutcome};
use crate::exit::Failure;

/// Which bytes of a session can be sent.
enum NextBytes {
    /// The bytes before this offset.
    Until(u64),
    /// None: the registry has all bytes of this blob.
    None(Arc<PendingBlob>),
    /// The registry has the blob already.
    NotNeeded,
    /// The session has more bytes than the blob.
    Invalid,
}

impl BlobUpload<'_> {
    /// Uploads the rest of a session in chunks, and finishes the session.
    pub(super) async fn upload_chunked(
        &mut self,
        session: &mut UploadSession,
    ) -> Result<SessionOutcome, Failure> {
        loop {
            let before = session.offset();
            let end = match self.next_bytes(session).await? {
                NextBytes::Until(end) => end,
                NextBytes::None(blob) => {
                    if let Some(outcome) = self.finish(session, &blob).await? {
                        return Ok(outcome);
                    }
                    before
                }
                NextBytes::NotNeeded => return Ok(SessionOutcome::AlreadyPresent),
                NextBytes::Invalid => return Ok(SessionOutcome::SessionLost),
            };
            if end > before {
                self.share_permit().await;
                match self.sender.send_chunk(session, end).await {
                    Ok(()) => {
                        self.entry.save(session);
                        self.progress.accepted = session.offset();
                        self.progress.chunks += 1;
                        self.note_progress(session);
                        if session.offset() > before {
                            continue;
                        }
                        self.back_off_in_session(self.no_progress_error()).await?;
                    }
                    Err(SendError::Source(error)) => self.back_off_after_read_error(error).await?,
                    Err(SendError::SizeLimit(failure)) => return Err(failure),
                    Err(SendError::Refused(error, status)) => {
                        match self.handle_refusal(session, error, status).await? {
                            Some(outcome) => return Ok(outcome),
                            None => continue,
                        }
                    }
                    Err(SendError::Request(error)) => {
                        self.back_off_in_session(error).await?;
                        if self.progress.is_untrusted {
                            return Ok(SessionOutcome::SessionLost);
                        }
                    }
                }
            }
            match self.sync_offset(session).await {
                Ok(SessionStatus::At(_)) => {}
                Ok(SessionStatus::Unknown) => return Ok(SessionOutcome::SessionLost),
                Err(error) => self.back_off_in_session(error).await?,
            }
            self.note_progress(session);
            self.report_offset(session.offset());
        }
    }

    /// Returns which bytes can be sent, and waits for some of a layer that is still being
    /// compressed, without the permit. When the layer is complete, asks the registry for it: nobody
    /// could know before which blob it is.
    async fn next_bytes(&mut self, session: &UploadSession) -> Result<NextBytes, Failure> {
        let offset = session.offset();
        if self.blob.known().is_none() {
            let wanted = self.sender.growing_chunk_end(Some(session));
            let end = self.wait_for_growth(wanted).await;
            let Some(blob) = self.blob.known().cloned() else {
                return Ok(NextBytes::Until(end));
            };
            if self.is_already_present(&blob.blob_ref()).await? {
                return Ok(NextBytes::NotNeeded);
            }
            self.report_start();
            self.report_offset(offset);
        }
        Ok(match self.blob.known() {
            // An earlier push has sent more bytes than the layer has now.
            Some(blob) if offset > blob.size => NextBytes::Invalid,
            Some(blob) if offset == blob.size => NextBytes::None(blob.clone()),
            Some(blob) => NextBytes::Until(blob.size),
            None => NextBytes::Until(offset),
        })
    }

    /// Asks the registry for the offset of a session.
    async fn sync_offset(&self, session: &mut UploadSession) -> Result<SessionStatus, Error> {
        let is_known = self.writer.client.sync_upload_offset(session).await?;
        let offset = session.offset();
        let is_within = self.blob.known().is_none_or(|blob| offset <= blob.size);
        Ok(if is_known && is_within {
            SessionStatus::At(offset)
        } else {
            SessionStatus::Unknown
        })
    }

    /// Handles a chunk that the registry refused. Returns how the session ended, or `None` if the
    /// session continues.
    async fn handle_refusal(
        &mut self,
        session: &mut UploadSession,
        error: Error,
        status: StatusCode,
    ) -> Result<Option<SessionOutcome>, Failure> {
        self.progress.refusals += 1;
        let refused = RefusedChunk {
            status,
            first: session.offset(),
            accepted: self.progress.accepted,
            is_clean: !self.progress.is_resumed,
            times: self.progress.refusals,
        };
        let reported = match self.sync_offset(session).await {
            Ok(reported) => reported,
            Err(error) => {
                self.back_off_in_session(error).await?;
                return Ok(None);
            }
        };
        match refusal::decide(refused, reported) {
            RefusalAction::ResumeAt(offset) => {
                session.set_offset(offset);
                self.back_off(error, None).await?;
                self.report_offset(offset);
                Ok(None)
            }
            RefusalAction::NewSession => Ok(Some(SessionOutcome::SessionLost)),
            RefusalAction::ChangeMode => Ok(Some(SessionOutcome::ModeRefused(error))),
        }
    }

    /// Uploads the blob in one request, and finishes the session.
    pub(super) async fn upload_whole(
        &mut self,
        session: &mut UploadSession,
        blob: &PendingBlob,
    ) -> Result<SessionOutcome, Failure> {
        if self.mode == UploadMode::Monolithic {
            // The request with the bytes also finishes the blob, so the wait comes first.
            self.wait_at_barrier().await?;
        } else {
            self.share_permit().await;
        }
        match self.sender.send_whole(session, blob, self.mode).await {
            Ok(()) if self.mode == UploadMode::Monolithic => return Ok(SessionOutcome::Finished),
            Ok(()) => {}
            Err(SendError::Source(error)) => {
                self.back_off_after_read_error(error).await?;
                return Ok(SessionOutcome::StartOver);
            }
            Err(SendError::SizeLimit(failure)) => return Err(failure),
            Err(SendError::Refused(error, status)) => {
                self.progress.refusals += 1;
                return Ok(match status {
                    StatusCode::NOT_FOUND if self.progress.refusals == 1 => {
                        SessionOutcome::SessionLost
                    }
                    _ => SessionOutcome::ModeRefused(error),
                });
            }
            Err(SendError::Request(error)) => {
                self.back_off_in_session(error).await?;
                return Ok(if self.is_present(&blob.blob_ref()).await? {
                    SessionOutcome::Finished
                } else {
                    SessionOutcome::StartOver
                });
            }
        }
        loop {
            if let Some(outcome) = self.finish(session, blob).await? {
                return Ok(outcome);
            }
        }
    }

    /// Waits for the other blobs, and finishes a session whose bytes have all been sent. Returns
    /// how the session ended, or `None` after a fault.
    async fn finish(
        &mut self,
        session: &UploadSession,
        blob: &PendingBlob,
    ) -> Result<Option<SessionOutcome>, Failure> {
        if let Err(error) = self.sender.verify_source().await {
            self.back_off_after_read_error(error).await?;
        }
        self.wait_at_barrier().await?;
        if let Some(assembly) = self.blob.assembly().cloned() {
            return self.assemble(session, blob, &assembly).await.map(Some);
        }
        let finished = self
            .writer
            .client
            .finish_upload(session, &blob.digest)
            .await;
        let Err(error) = finished else {
            return Ok(Some(SessionOutcome::Finished));
        };
        let is_refused = error.status().is_some_and(refusal::is_request_refused);
        let mode = self.mode;
        let is_mode_refused = match mode {
            UploadMode::Chunks if self.is_corrupted(&error) => {
                return Ok(Some(SessionOutcome::SessionLost));
            }
            // All chunks were accepted without a fault, but the registry did not assemble them. A
            // single chunk shows that only if another blob was refused too.
            UploadMode::Chunks => {
                let is_chunked = self.progress.chunks > 1
                    || self.writer.host_profile.mode() != UploadMode::Chunks;
                is_refused && is_chunked && !self.progress.is_resumed
            }
            UploadMode::Stream | UploadMode::Monolithic => is_refused,
        };
        if is_mode_refused {
            return Ok(Some(SessionOutcome::ModeRefused(error)));
        }
        self.back_off_in_session(error).await?;
        // Perhaps only the response to the finishing request was lost.
        let is_present = self.is_present(&blob.blob_ref()).await?;
        Ok(is_present.then_some(SessionOutcome::Finished))
    }

    /// Resets the fault counters if the registry has confirmed a larger offset than ever before in
    /// this session. Nothing else is progress; otherwise an upload to a registry that loses bytes
    /// would never end.
    fn note_progress(&mut self, session: &UploadSession) {
        let progress = &mut self.progress;
        if session.offset() <= progress.confirmed {
            return;
        }
        progress.confirmed = session.offset();
        progress.faults = 0;
        if progress.confirmed > progress.best {
            progress.best = progress.confirmed;
            progress.lost_sessions = 0;
        }
        // The first chunk of a session proves little: some registries accept one chunk and no more.
        if progress.chunks > 1 || progress.is_resumed {
            progress.refusals = 0;
        }
    }

    fn no_progress_error(&self) -> Error {
        Error::ConnectionLost {
            registry: self.writer.client.registry().clone(),
            operation: "PATCH of an upload".to_owned(),
            what: "the registry accepted a chunk, but its offset did not change".to_owned(),
        }
    }

    /// Returns whether finishing failed because the bytes sent before a fault are wrong. Such a
    /// blob is worth a new session.
    fn is_corrupted(&mut self, error: &Error) -> bool {
        let is_rejected = error.status() == Some(StatusCode::BAD_REQUEST);
        let is_corrupted = is_rejected && std::mem::take(&mut self.progress.is_resumed);
        self.progress.is_untrusted |= is_corrupted;
        is_corrupted
    }
}
