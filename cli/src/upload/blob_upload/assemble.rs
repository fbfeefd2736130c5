//! Lets the registry assemble a layer from a delta whose bytes have all been sent.
//!
//! The delta stays in its upload session until the layer is stored, so every request can be repeated:
//! after a lost response, and after a restart of the registry. Start reading at
//! [`BlobUpload::assemble`].

use std::time::{Duration, Instant};

use imgsync_oci::client::upload::UploadSession;
use imgsync_oci::client::{AssembleAnswer, AssemblyProgress, Error, RetryVerdict, backoff};
use imgsync_oci::delta;
use imgsync_oci::ext::assemble::{AssembleRequest, AssemblyState};

use super::super::outgoing_blob::LayerAssembly;
use super::{BlobUpload, SessionOutcome};
use crate::compress;
use crate::exit::Failure;
use crate::report::ProgressTask;
use crate::upload::PendingBlob;

/// How many bytes of a layer make the longest time without any progress of its assembly a second longer
/// than that of a connection: the registry first decodes the earlier version, which is about as large,
/// and other layers may come before.
const BYTES_PER_STALLED_SECOND: u64 = 5_000_000;
/// How many times as long an assembly may take in all.
const MAX_STALLS: u32 = 10;
/// The number of requests in a row that may fail, each after retries for about 15 seconds. The layer
/// is sent whole then: a proxy may refuse nothing but these requests.
const MAX_ASSEMBLY_FAULTS: u32 = 1;
/// The most characters of a reason that are shown.
const MAX_REASON_CHARS: usize = 300;
/// The number of times that the registry may forget an assembly, as it does when it is restarted.
const MAX_FORGOTTEN: u32 = 20;
/// The time between two questions for the state, unless the registry names one: this part of the time
/// that the assembly has taken so far, within these limits. The push then waits too long by at most this
/// part, and a small layer is not waited for longer than it takes.
const POLL_INTERVAL_DIVISOR: u32 = 3;
const MIN_POLL_INTERVAL: Duration = Duration::from_millis(100);
const MAX_POLL_INTERVAL: Duration = Duration::from_secs(2);
/// The longest time between two questions that the registry can ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(30);

/// How the wait for an assembly ended.
enum AssemblyEnd {
    Session(SessionOutcome),
    /// The registry knows of no assembly of the layer any more.
    Forgotten,
    /// The registry could not assemble the layer from the delta of some session. The text tells why.
    Failed(String),
}

impl BlobUpload<'_> {
    /// Requests the assembly of a layer, and waits for its end.
    pub(super) async fn assemble(
        &mut self,
        session: &UploadSession,
        delta: &PendingBlob,
        assembly: &LayerAssembly,
    ) -> Result<SessionOutcome, Failure> {
        // The registry works now, so other blobs can be sent.
        self.permit = None;
        // Faults of the upload do not count.
        self.progress.faults = 0;
        let Some(id) = session.id() else {
            return Ok(not_assembled("the upload session has no ID"));
        };
        let request = AssembleRequest {
            session: id.to_owned(),
            delta_digest: delta.digest.clone(),
            bases: assembly.bases.clone(),
            diff_id: assembly.diff_id.clone(),
            raw_size: assembly.raw_size,
            format: delta::FORMAT_NAME.to_owned(),
            compression: compress::FORMAT_NAME.to_owned(),
        };
        let text = format!("waiting for the registry to assemble {}", assembly.label);
        let task = ProgressTask::start(self.report, &text, Some(assembly.raw_size));
        let (mut busy_since, mut forgotten, mut failure) = (None, 0, None);
        loop {
            let writer = self.writer;
            let request = writer.client.assemble_layer(&writer.repository, &request);
            let answer = match request.await {
                Ok(answer) => answer,
                Err(error) => match self.back_off_in_assembly(error).await? {
                    Some(outcome) => return Ok(outcome),
                    None => continue,
                },
            };
            match answer {
                AssembleAnswer::Accepted(progress) => {
                    self.progress.faults = 0;
                    match self.await_assembly(&task, assembly, progress).await? {
                        AssemblyEnd::Session(outcome) => return Ok(outcome),
                        // Another client may have sent the delta that failed. The registry assembles
                        // from this one if it has not done so yet.
                        AssemblyEnd::Failed(reason) if failure.is_none() => failure = Some(reason),
                        AssemblyEnd::Failed(reason) => return Ok(not_assembled(&reason)),
                        AssemblyEnd::Forgotten => {
                            forgotten += 1;
                            if forgotten == MAX_FORGOTTEN {
                                let reason = "the registry forgot the layer repeatedly";
                                return Ok(not_assembled(reason));
                            }
                        }
                    }
                }
                AssembleAnswer::Busy(retry_after) => {
                    let since: Instant = *busy_since.get_or_insert_with(Instant::now);
                    // A whole layer is sent then.
                    if since.elapsed() > self.writer.client.stall_timeout() {
                        return Ok(not_assembled("the registry is busy"));
                    }
                    tokio::time::sleep(backoff(4, retry_after)).await;
                }
                // The registry has removed the session with the delta that failed.
                AssembleAnswer::SessionUnknown => {
                    return Ok(failure
                        .map_or(SessionOutcome::SessionLost, |reason| not_assembled(&reason)));
                }
                AssembleAnswer::BaseUnknown => {
                    return Ok(not_assembled("the registry lost the earlier version"));
                }
                AssembleAnswer::DeltaDamaged if self.progress.is_resumed => {
                    // The bytes that were sent before a fault are wrong.
                    self.progress.is_untrusted = true;
                    return Ok(SessionOutcome::SessionLost);
                }
                AssembleAnswer::DeltaDamaged => {
                    return Ok(not_assembled("the registry received other bytes"));
                }
                AssembleAnswer::Refused(text) => return Ok(not_assembled(&text)),
            }
        }
    }

    /// Waits for the end of an assembly.
    async fn await_assembly(
        &mut self,
        task: &ProgressTask,
        assembly: &LayerAssembly,
        mut progress: AssemblyProgress,
    ) -> Result<AssemblyEnd, Failure> {
        let max_stall = self.max_stall(assembly.raw_size);
        let start = Instant::now();
        let (mut most_done, mut since) = (0, start);
        loop {
            match progress.state {
                AssemblyState::Held { blob } => {
                    let expected = &assembly.blob;
                    let is_expected =
                        (&blob.digest, blob.size) == (&expected.digest, expected.size);
                    return Ok(AssemblyEnd::Session(if is_expected {
                        SessionOutcome::Finished
                    } else {
                        not_assembled("the registry made another blob of it")
                    }));
                }
                AssemblyState::Failed { reason } => return Ok(AssemblyEnd::Failed(reason)),
                AssemblyState::Working { done, .. } => {
                    task.set_position(done);
                    if done > most_done {
                        (most_done, since) = (done, Instant::now());
                    }
                    if since.elapsed() > max_stall || start.elapsed() > max_stall * MAX_STALLS {
                        let outcome = not_assembled("the registry stalled");
                        return Ok(AssemblyEnd::Session(outcome));
                    }
                }
            }
            let asked = progress.retry_after;
            let interval = start.elapsed() / POLL_INTERVAL_DIVISOR;
            let interval = interval.clamp(MIN_POLL_INTERVAL, MAX_POLL_INTERVAL);
            tokio::time::sleep(asked.map_or(interval, |pause| pause.min(MAX_RETRY_AFTER))).await;
            let writer = self.writer;
            let request = writer
                .client
                .fetch_assembly(&writer.repository, &assembly.diff_id);
            progress = match request.await {
                Ok(Some(progress)) => progress,
                Ok(None) => return Ok(AssemblyEnd::Forgotten),
                Err(error) => {
                    let outcome = self.back_off_in_assembly(error).await?;
                    // The next request to assemble tells the state, too.
                    return Ok(outcome.map_or(AssemblyEnd::Forgotten, AssemblyEnd::Session));
                }
            };
        }
    }

    /// Returns the longest time without any progress of the assembly of a layer of `raw_size` bytes.
    fn max_stall(&self, raw_size: u64) -> Duration {
        let more = Duration::from_secs(raw_size / BYTES_PER_STALLED_SECOND);
        self.writer.client.stall_timeout() + more
    }

    /// Waits before a request about an assembly is sent again. Returns how the session ended if a
    /// retry cannot help, or after too many faults in a row.
    ///
    /// # Errors
    /// As [`BlobUpload::back_off`].
    async fn back_off_in_assembly(
        &mut self,
        error: Error,
    ) -> Result<Option<SessionOutcome>, Failure> {
        match error.retry_verdict() {
            RetryVerdict::After(retry_after) if self.progress.faults < MAX_ASSEMBLY_FAULTS => {
                self.back_off(error, retry_after).await?;
                Ok(None)
            }
            RetryVerdict::After(_) => Ok(Some(not_assembled(&error.to_string()))),
            RetryVerdict::Never => Ok(Some(not_assembled(&error.to_string()))),
        }
    }
}

fn not_assembled(reason: &str) -> SessionOutcome {
    SessionOutcome::NotAssembled(reason.chars().take(MAX_REASON_CHARS).collect())
}
