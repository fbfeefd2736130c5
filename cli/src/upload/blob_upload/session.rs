//! Sends the bytes of one upload session and finishes the session: in chunks, or in one request.
//!
//! This module opens no session; its caller does. Start reading at [`BlobUpload::upload_chunked`].

use http::StatusCode;
use imgsync_oci::client::Error;
use imgsync_oci::client::upload::UploadSession;

use super::super::blob_sender::SendError;
use super::super::host_profile::UploadMode;
use super::super::refusal::{self, RefusalAction, RefusedChunk, SessionStatus};
use super::{BlobUpload, SessionOutcome};
use crate::exit::Failure;

impl BlobUpload<'_> {
    /// Uploads the rest of a session in chunks, and finishes the session.
    pub(super) async fn upload_chunked(
        &mut self,
        session: &mut UploadSession,
    ) -> Result<SessionOutcome, Failure> {
        let client = &self.writer.client;
        loop {
            let before = session.offset();
            let step = if before < self.blob.size {
                self.share_permit().await;
                self.sender.send_chunk(session).await
            } else {
                self.wait_at_barrier().await?;
                match client.finish_upload(session, &self.blob.digest).await {
                    Ok(()) => return Ok(SessionOutcome::Finished),
                    Err(error) => Err(SendError::Request(error)),
                }
            };
            match step {
                Ok(()) => {
                    self.entry.save(session);
                    self.accepted = session.offset();
                    self.chunks += 1;
                    self.note_progress(session);
                    if session.offset() > before {
                        continue;
                    }
                    self.back_off_in_session(self.no_progress_error()).await?;
                }
                Err(SendError::Source(error)) => self.back_off_after_read_error(error).await?,
                Err(SendError::SizeLimit(failure)) => return Err(failure),
                Err(SendError::TooLarge) => continue,
                Err(SendError::Refused(error, status)) => {
                    match self.handle_refusal(session, error, status).await? {
                        Some(ended) => return Ok(ended),
                        None => continue,
                    }
                }
                Err(SendError::Request(error)) if before == self.blob.size => {
                    if self.is_corrupted(&error) {
                        return Ok(SessionOutcome::SessionLost);
                    }
                    let refused = error.status().is_some_and(refusal::is_request_refused);
                    if refused && self.chunks > 1 && !self.is_resumed {
                        // All chunks were accepted without a fault, but the registry did not
                        // assemble them.
                        return Ok(SessionOutcome::ModeRefused(error));
                    }
                    self.back_off_in_session(error).await?;
                    if self.is_present().await? {
                        // Only the response to the finishing request was lost.
                        return Ok(SessionOutcome::Finished);
                    }
                }
                Err(SendError::Request(error)) => {
                    self.back_off_in_session(error).await?;
                    if self.is_untrusted {
                        return Ok(SessionOutcome::SessionLost);
                    }
                }
            }
            match client.sync_upload_offset(session).await {
                Ok(true) if session.offset() <= self.blob.size => {}
                Ok(true | false) => return Ok(SessionOutcome::SessionLost),
                Err(error) => self.back_off_in_session(error).await?,
            }
            self.note_progress(session);
            self.report.update_blob(&self.blob.digest, session.offset());
        }
    }

    /// Handles a chunk that the registry refused. Returns how the session ended, or `None` if the
    /// session continues.
    async fn handle_refusal(
        &mut self,
        session: &mut UploadSession,
        error: Error,
        status: StatusCode,
    ) -> Result<Option<SessionOutcome>, Failure> {
        let first = session.offset();
        self.refusals += 1;
        let refused = RefusedChunk {
            status,
            first,
            accepted: self.accepted,
            is_clean: !self.is_resumed,
            times: self.refusals,
        };
        let said = match self.writer.client.sync_upload_offset(session).await {
            Ok(true) if session.offset() <= self.blob.size => SessionStatus::At(session.offset()),
            Ok(true | false) => SessionStatus::Unknown,
            Err(error) => {
                self.back_off_in_session(error).await?;
                return Ok(None);
            }
        };
        match refusal::decide(refused, said) {
            RefusalAction::ResumeAt(at) => {
                session.set_offset(at);
                self.back_off(error, None).await?;
                self.report.update_blob(&self.blob.digest, at);
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
    ) -> Result<SessionOutcome, Failure> {
        if self.mode == UploadMode::Monolithic {
            // The request with the bytes also finishes the blob, so the wait comes first.
            self.wait_at_barrier().await?;
        } else {
            self.share_permit().await;
        }
        match self.sender.send_whole(session, self.mode).await {
            Ok(()) => {}
            Err(SendError::Source(error)) => {
                self.back_off_after_read_error(error).await?;
                return Ok(SessionOutcome::StartOver);
            }
            Err(SendError::SizeLimit(failure)) => return Err(failure),
            Err(SendError::TooLarge) => return Ok(SessionOutcome::StartOver),
            Err(SendError::Refused(error, status)) => {
                self.refusals += 1;
                let gone = status == StatusCode::NOT_FOUND && self.refusals == 1;
                return Ok(match gone {
                    true => SessionOutcome::SessionLost,
                    false => SessionOutcome::ModeRefused(error),
                });
            }
            Err(SendError::Request(error)) => {
                self.back_off_in_session(error).await?;
                return Ok(match self.is_present().await? {
                    true => SessionOutcome::Finished,
                    false => SessionOutcome::StartOver,
                });
            }
        }
        if self.mode == UploadMode::Monolithic {
            return Ok(SessionOutcome::Finished);
        }
        self.wait_at_barrier().await?;
        let client = &self.writer.client;
        loop {
            let Err(error) = client.finish_upload(session, &self.blob.digest).await else {
                return Ok(SessionOutcome::Finished);
            };
            if error.status().is_some_and(refusal::is_request_refused) {
                return Ok(SessionOutcome::ModeRefused(error));
            }
            self.back_off_in_session(error).await?;
            if self.is_present().await? {
                return Ok(SessionOutcome::Finished);
            }
        }
    }

    /// Resets the fault counters if the registry has confirmed a larger offset than ever before in
    /// this session. Nothing else is progress; otherwise a registry that loses bytes would be sent
    /// them for ever.
    fn note_progress(&mut self, session: &UploadSession) {
        if session.offset() > self.confirmed {
            self.confirmed = session.offset();
            self.faults = 0;
            if self.confirmed > self.best {
                self.best = self.confirmed;
                self.lost_sessions = 0;
            }
            // The first chunk of a session proves little: some registries accept one chunk and no
            // more.
            if self.chunks > 1 || self.is_resumed {
                self.refusals = 0;
            }
        }
    }

    fn no_progress_error(&self) -> Error {
        Error::ConnectionLost {
            registry: self.writer.client.registry().clone(),
            operation: "PATCH of an upload".to_owned(),
            what: "the registry took a chunk and kept no more than before".to_owned(),
        }
    }

    /// Returns whether finishing failed because the bytes sent before a fault are wrong. Such a
    /// blob is worth a new session.
    fn is_corrupted(&mut self, error: &Error) -> bool {
        let refused = error.status() == Some(StatusCode::BAD_REQUEST);
        let spoilt = refused && std::mem::take(&mut self.is_resumed);
        self.is_untrusted |= spoilt;
        spoilt
    }
}
