//! When an upload waits: after a fault, for its turn, for the others.

use std::time::Duration;

use http::StatusCode;
use imgsync_oci::client::{Error, Retry, backoff};

use super::super::flow::Unreadable;
use super::{MOST_FAULTS, Upload};
use crate::exit::{Failure, Kind};

/// After so many faults in a row somebody who looks on should know why nothing moves: seconds have
/// passed, and more will.
const WORTH_TELLING: u32 = 4;

impl Upload<'_> {
    /// Gives the slot to another blob, and waits until all bytes of all blobs are there.
    pub(super) async fn wait_for_the_others(&mut self) -> Result<(), Failure> {
        self.slot = None;
        match self.pass.through().await {
            true => {
                self.slot = Some(self.line.slots.acquire().await);
                Ok(())
            }
            false => Err(Failure::new(Kind::Target, "target: another blob failed")),
        }
    }

    /// Lets another blob go first where there are too many on their way.
    pub(super) async fn share_slot(&mut self) {
        if let Some(slot) = self.slot.take() {
            self.slot = Some(slot.share().await);
        }
    }

    /// Waits before another try.
    ///
    /// # Errors
    /// No other try is worth it: the fault counts.
    pub(super) async fn pause(&mut self, error: Error) -> Result<(), Failure> {
        match error.status() {
            // The session is not where it was thought to be; the next question tells.
            Some(StatusCode::NOT_FOUND | StatusCode::RANGE_NOT_SATISFIABLE) => {
                self.wait(error, None).await
            }
            Some(_) | None => self.wait_out(error).await,
        }
    }

    /// The same, after a question that is no part of a session.
    pub(super) async fn wait_out(&mut self, error: Error) -> Result<(), Failure> {
        match error.retry() {
            Retry::After(asked) => self.wait(error, asked).await,
            Retry::Never => Err(error.into()),
        }
    }

    /// The same, after bytes could not be read.
    pub(super) async fn pause_for_source(&mut self, error: Unreadable) -> Result<(), Failure> {
        self.faults += 1;
        self.resumed = true;
        match error.retry() {
            Retry::After(asked) if self.faults < MOST_FAULTS => {
                let pause = backoff(self.faults, asked);
                let failure = error.failure(&self.blob.label);
                let (label, seconds) = (&self.blob.label, pause.as_secs_f64());
                let text = format!("{label}: {}; trying again in {seconds:.1} s", failure.what);
                self.report.detail(&text);
                tokio::time::sleep(pause).await;
                Ok(())
            }
            Retry::After(_) | Retry::Never => {
                self.spoilt = match &error {
                    Unreadable::Here(_) | Unreadable::Wrong(_) => true,
                    Unreadable::There(_) => false,
                };
                Err(error.failure(&self.blob.label))
            }
        }
    }

    /// Counts a fault, and waits.
    ///
    /// # Errors
    /// There were too many.
    pub(super) async fn wait(
        &mut self,
        error: Error,
        asked: Option<Duration>,
    ) -> Result<(), Failure> {
        self.faults += 1;
        self.resumed = true;
        if self.faults >= MOST_FAULTS {
            return Err(error.into());
        }
        self.line.pace().faulted();
        self.line.slots.faulted();
        let pause = backoff(self.faults, asked);
        let (label, seconds) = (&self.blob.label, pause.as_secs_f64());
        let text = format!("{label}: {error}; trying again in {seconds:.1} s");
        match self.faults {
            WORTH_TELLING => self.report.note(&text),
            _ => self.report.detail(&text),
        }
        tokio::time::sleep(pause).await;
        Ok(())
    }
}
