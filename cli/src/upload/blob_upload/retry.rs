//! When an upload waits: after a fault, for its turn, for the others.

use std::time::Duration;

use http::StatusCode;
use imgsync_oci::client::{Error, RetryVerdict, backoff};

use super::super::blob_reader::SourceReadError;
use super::{BlobUpload, MAX_FAULTS};
use crate::exit::{Failure, FailureKind};

/// After so many faults in a row somebody who looks on should know why nothing moves: seconds have
/// passed, and more will.
const FAULTS_BEFORE_NOTE: u32 = 4;

impl BlobUpload<'_> {
    /// Gives the slot to another blob, and waits until all bytes of all blobs are there.
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

    /// Lets another blob go first where there are too many on their way.
    pub(super) async fn share_permit(&mut self) {
        if let Some(slot) = self.permit.take() {
            self.permit = Some(slot.yield_if_surplus().await);
        }
    }

    /// Waits before another try.
    ///
    /// # Errors
    /// No other try is worth it: the fault counts.
    pub(super) async fn back_off_in_session(&mut self, error: Error) -> Result<(), Failure> {
        match error.status() {
            // The session is not where it was thought to be; the next question tells.
            Some(StatusCode::NOT_FOUND | StatusCode::RANGE_NOT_SATISFIABLE) => {
                self.back_off(error, None).await
            }
            Some(_) | None => self.back_off_if_retryable(error).await,
        }
    }

    /// The same, after a question that is no part of a session.
    pub(super) async fn back_off_if_retryable(&mut self, error: Error) -> Result<(), Failure> {
        match error.retry_verdict() {
            RetryVerdict::After(asked) => self.back_off(error, asked).await,
            RetryVerdict::Never => Err(error.into()),
        }
    }

    /// The same, after bytes could not be read.
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

    /// Counts a fault, and waits.
    ///
    /// # Errors
    /// There were too many.
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
