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
        match self.pass.wait().await {
            true => {
                self.permit = Some(self.writer.limiter.acquire().await);
                Ok(())
            }
            false => Err(Failure::new(
                FailureKind::Target,
                "target: another blob failed",
            )),
        }
    }

    /// Yields the permit to another blob if more uploads are running than should be.
    pub(super) async fn share_permit(&mut self) {
        if let Some(slot) = self.permit.take() {
            self.permit = Some(slot.yield_if_surplus().await);
        }
    }

    /// Waits before a retry of a request within a session.
    ///
    /// # Errors
    /// Returns the error of the request if a retry cannot help, or if there were too many faults.
    pub(super) async fn back_off_in_session(&mut self, error: Error) -> Result<(), Failure> {
        match error.status() {
            // The offset of the session is not the expected one, or the session is gone. The caller
            // asks for the offset next.
            Some(StatusCode::NOT_FOUND | StatusCode::RANGE_NOT_SATISFIABLE) => {
                self.back_off(error, None).await
            }
            Some(_) | None => self.back_off_if_retryable(error).await,
        }
    }

    /// Waits before a retry of a request outside a session, or returns its error if a retry cannot
    /// help.
    pub(super) async fn back_off_if_retryable(&mut self, error: Error) -> Result<(), Failure> {
        match error.retry_verdict() {
            RetryVerdict::After(asked) => self.back_off(error, asked).await,
            RetryVerdict::Never => Err(error.into()),
        }
    }

    /// Waits before the bytes are read again, or returns the read error if a retry cannot help.
    pub(super) async fn back_off_after_read_error(
        &mut self,
        error: SourceReadError,
    ) -> Result<(), Failure> {
        self.faults += 1;
        self.is_resumed = true;
        match error.retry() {
            RetryVerdict::After(asked) if self.faults < MAX_FAULTS => {
                let pause = backoff(self.faults, asked);
                let failure = error.failure(&self.blob.label);
                let (label, seconds) = (&self.blob.label, pause.as_secs_f64());
                let text = format!("{label}: {}; trying again in {seconds:.1} s", failure.what);
                self.report.detail(&text);
                tokio::time::sleep(pause).await;
                Ok(())
            }
            RetryVerdict::After(_) | RetryVerdict::Never => {
                self.is_unusable = match &error {
                    SourceReadError::Local(_) | SourceReadError::Mismatch(_) => true,
                    SourceReadError::Remote(_) => false,
                };
                Err(error.failure(&self.blob.label))
            }
        }
    }

    /// Counts a fault, and waits; `asked` is the delay that the registry asked for, if any.
    ///
    /// # Errors
    /// Returns `error` after [`MAX_FAULTS`] faults in a row.
    pub(super) async fn back_off(
        &mut self,
        error: Error,
        asked: Option<Duration>,
    ) -> Result<(), Failure> {
        self.faults += 1;
        self.is_resumed = true;
        if self.faults >= MAX_FAULTS {
            return Err(error.into());
        }
        self.writer.chunk_sizer().record_fault();
        self.writer.limiter.record_fault();
        let pause = backoff(self.faults, asked);
        let (label, seconds) = (&self.blob.label, pause.as_secs_f64());
        let text = format!("{label}: {error}; trying again in {seconds:.1} s");
        match self.faults {
            FAULTS_BEFORE_NOTE => self.report.note(&text),
            _ => self.report.detail(&text),
        }
        tokio::time::sleep(pause).await;
        Ok(())
    }
}
