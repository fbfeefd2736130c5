//! The waits of an upload: for a retry, for an upload permit, and for the other blobs.

use std::time::Duration;

use http::StatusCode;
use imgsync_oci::client::{Error, RetryVerdict, backoff};

use super::super::blob_reader::SourceReadError;
use super::{BlobUpload, MAX_FAULTS};
use crate::exit::{Failure, FailureKind};

/// The number of faults in a row after which a retry is shown to the user without `-v`. By then the
/// upload has been waiting for several seconds.
const FAULTS_BEFORE_NOTE: u32 = 4;

impl BlobUpload<'_> {
    /// Releases the permit, and waits until all bytes of all blobs are at the registry.
    ///
    /// # Errors
    /// Fails if another blob has failed.
    pub(super) async fn wait_at_barrier(&mut self) -> Result<(), Failure> {
        self.permit = None;
        if !self.pass.wait().await {
            let what = "target: the upload of another blob failed";
            return Err(Failure::new(FailureKind::Target, what));
        }
        self.permit = Some(self.writer.limiter.acquire().await);
        Ok(())
    }

    /// Yields the permit to another blob if more uploads are running than should be.
    pub(super) async fn share_permit(&mut self) {
        if let Some(permit) = self.permit.take() {
            self.permit = Some(permit.yield_if_surplus().await);
        }
    }

    /// Waits before a retry of a request within a session.
    ///
    /// # Errors
    /// Returns the error of the request if a retry cannot help, or if there were too many faults.
    pub(super) async fn back_off_in_session(&mut self, error: Error) -> Result<(), Failure> {
        if let Some(StatusCode::NOT_FOUND | StatusCode::RANGE_NOT_SATISFIABLE) = error.status() {
            // The offset of the session is not the expected one, or the session is gone. The caller
            // asks for the offset next.
            return self.back_off(error, None).await;
        }
        self.back_off_if_retryable(error).await
    }

    /// Waits before a retry of a request outside a session, or returns its error if a retry cannot
    /// help.
    pub(super) async fn back_off_if_retryable(&mut self, error: Error) -> Result<(), Failure> {
        match error.retry_verdict() {
            RetryVerdict::After(retry_after) => self.back_off(error, retry_after).await,
            RetryVerdict::Never => Err(error.into()),
        }
    }

    /// Waits before the bytes are read again, or returns the read error if a retry cannot help.
    pub(super) async fn back_off_after_read_error(
        &mut self,
        error: SourceReadError,
    ) -> Result<(), Failure> {
        self.progress.faults += 1;
        self.progress.is_resumed = true;
        let retry = error.retry();
        let is_remote = matches!(error, SourceReadError::Remote(_));
        let failure = error.failure(self.blob.label());
        match retry {
            RetryVerdict::After(retry_after) if self.progress.faults < MAX_FAULTS => {
                self.pause(&failure.what, retry_after, false).await;
                Ok(())
            }
            _ => {
                self.progress.is_unusable = !is_remote;
                Err(failure)
            }
        }
    }

    /// Counts a fault, and waits; `retry_after` is the delay that the registry asked for, if any.
    ///
    /// # Errors
    /// Returns `error` after [`MAX_FAULTS`] faults in a row.
    pub(super) async fn back_off(
        &mut self,
        error: Error,
        retry_after: Option<Duration>,
    ) -> Result<(), Failure> {
        self.progress.faults += 1;
        self.progress.is_resumed = true;
        if self.progress.faults >= MAX_FAULTS {
            return Err(error.into());
        }
        self.writer.chunk_sizer().record_fault();
        self.writer.limiter.record_fault();
        let is_note = self.progress.faults == FAULTS_BEFORE_NOTE;
        self.pause(&error.to_string(), retry_after, is_note).await;
        Ok(())
    }

    /// Shows why the upload waits, as a note or as a detail, and waits.
    async fn pause(&self, reason: &str, retry_after: Option<Duration>, is_note: bool) {
        let pause = backoff(self.progress.faults, retry_after);
        let (label, seconds) = (self.blob.label(), pause.as_secs_f64());
        let text = format!("{label}: {reason}; retrying in {seconds:.1} s");
        if is_note {
            self.report.note(&text);
        } else {
            self.report.detail(&text);
        }
        tokio::time::sleep(pause).await;
    }
}
