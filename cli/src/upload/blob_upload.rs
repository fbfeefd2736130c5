//! Uploads one blob through upload sessions: after a fault, asks the registry for the offset of the
//! session, and resumes there.
//!
//! This module decides when to retry, resume or start over; a single request is sent by
//! [`BlobSender`]. Start reading at [`upload_blob`].

mod assemble;
mod opening;
mod retry;
mod session;
mod sessions;

use std::sync::Arc;

use futures::FutureExt;
use imgsync_oci::client::Error;

use super::barrier::{self, BarrierPass};
use super::blob_sender::BlobSender;
use super::concurrency_limiter::UploadPermit;
use super::host_profile::UploadMode;
use super::journal::JournalEntry;
use super::outgoing_blob::OutgoingBlob;
use super::{PendingBlob, RepositoryWriter};
use crate::exit::{Failure, FailureKind};
use crate::report::Report;
use crate::text::format_bytes;

/// The number of faults in a row without progress after which the upload fails.
const MAX_FAULTS: u32 = 10;

/// How the registry got a blob that it was thought to lack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UploadOutcome {
    /// The registry had the blob already.
    AlreadyPresent,
    /// The registry mounted the blob from another of its repositories.
    Mounted,
    /// The blob was sent.
    Sent {
        /// The bytes sent to the target, each counted once. Bytes that an earlier run sent do not
        /// count.
        bytes: u64,
        /// The bytes that were sent again, after an error.
        resent: u64,
    },
}

/// How the upload of an outgoing blob ended.
#[derive(Debug)]
pub(super) enum UploadEnd {
    /// The registry has the blob, or the layer that a delta describes.
    Stored(UploadOutcome),
    /// The registry did not assemble the layer from its delta. The text tells why.
    NotAssembled(String),
}

/// The upload of one blob.
struct BlobUpload<'a> {
    writer: &'a RepositoryWriter,
    blob: OutgoingBlob,
    report: &'a Arc<dyn Report>,
    sender: BlobSender<'a>,
    /// The upload mode of this session.
    mode: UploadMode,
    progress: UploadProgress,
    /// The permit to send. Released while the upload waits for other blobs.
    permit: Option<UploadPermit<'a>>,
    /// The journal entry that keeps the open session for a later push.
    entry: JournalEntry,
    /// The barrier that keeps blobs from being finished before all of them have been sent.
    pass: BarrierPass,
}

/// The progress and the faults of an upload so far.
#[derive(Debug, Default)]
struct UploadProgress {
    /// The largest offset that the registry has confirmed in this session.
    confirmed: u64,
    /// The offset after the chunks that the registry has accepted in this session.
    accepted: u64,
    /// The number of chunks accepted in this session.
    chunks: u32,
    /// The number of faults since `confirmed` last grew.
    faults: u32,
    /// The largest offset confirmed in any session.
    best: u64,
    /// The number of sessions lost since `best` last grew.
    lost_sessions: u32,
    /// The number of refused chunks since a session last accepted several.
    refusals: u32,
    /// Whether the session was opened by an earlier push or has had a fault. The bytes that the
    /// registry holds may then be wrong.
    is_resumed: bool,
    /// Whether a session that had a fault turned out to hold wrong bytes. No session is resumed
    /// after a fault then.
    is_untrusted: bool,
    /// Whether the bytes sent so far are useless to a later push too, so that the session is
    /// cancelled.
    is_unusable: bool,
    /// Whether the start of the upload was reported. The upload of a mounted blob never starts.
    is_reported: bool,
    /// The offset of the session when this push opened or resumed it.
    first_offset: u64,
}

/// How a session ended.
enum SessionOutcome {
    /// The registry has the blob.
    Finished,
    /// The registry had the blob before, and the session is not needed.
    AlreadyPresent,
    /// The session is lost. Another one may be opened.
    SessionLost,
    /// There was a fault, and the blob is sent again from the start.
    StartOver,
    /// The registry refuses this upload mode.
    ModeRefused(Error),
    /// The registry did not assemble the layer from its delta.
    NotAssembled(String),
}

/// Uploads a blob, and finishes its session without waiting for other blobs.
///
/// # Errors
/// Fails if the registry refuses the blob, if too many retries fail, or if the bytes cannot be
/// read.
pub async fn upload_blob(
    writer: &RepositoryWriter,
    blob: &PendingBlob,
    report: &Arc<dyn Report>,
) -> Result<UploadOutcome, Failure> {
    let blob = OutgoingBlob::complete(blob, None);
    match upload_behind_barrier(writer, blob, report, barrier::open_pass()).await? {
        UploadEnd::Stored(outcome) => Ok(outcome),
        UploadEnd::NotAssembled(reason) => Err(Failure::new(FailureKind::Target, reason)),
    }
}

/// Uploads a blob, unless the registry has it: resumes the session that an earlier push left open,
/// or opens one, and finishes the session once the barrier opens.
///
/// # Errors
/// As [`upload_blob`].
pub(super) async fn upload_behind_barrier(
    writer: &RepositoryWriter,
    blob: OutgoingBlob,
    report: &Arc<dyn Report>,
    mut pass: BarrierPass,
) -> Result<UploadEnd, Failure> {
    let path = writer.journal_path(&blob.journal_name());
    let entry = match JournalEntry::try_lock(&path) {
        Some(entry) => entry,
        None => {
            // The other push may itself wait for a blob that this push is uploading.
            pass.arrive();
            let label = blob.label();
            report.note(&format!(
                "{label}: another push is sending this blob; waiting"
            ));
            writer.lock(&path).await
        }
    };
    // Waiting for a permit or for the barrier can exceed the timeout of another push that waits for
    // this lock, so the entry is touched regularly.
    let keep_alive = entry.keep_alive(writer.client.stall_timeout());
    tokio::select! {
        uploaded = upload_locked(writer, blob, report, pass, entry) => uploaded,
        never = keep_alive => match never {},
    }
}

/// Uploads a blob whose journal entry is locked, so that no other push is uploading it.
async fn upload_locked(
    writer: &RepositoryWriter,
    mut blob: OutgoingBlob,
    report: &Arc<dyn Report>,
    pass: BarrierPass,
    entry: JournalEntry,
) -> Result<UploadEnd, Failure> {
    let sender = BlobSender::new(writer, &blob, report);
    // A layer that is compressed before its first chunk is full needs no session if the registry has
    // it.
    let is_claimed = blob.diff_id().is_some_and(|id| writer.is_claimed(id));
    let first_end = if is_claimed {
        u64::MAX
    } else {
        sender.growing_chunk_end(None)
    };
    blob.wait_for(first_end).await;
    let mut upload = BlobUpload {
        writer,
        blob,
        report,
        sender,
        mode: UploadMode::Chunks,
        progress: UploadProgress::default(),
        permit: Some(writer.limiter.acquire().await),
        entry,
        pass,
    };
    let end = match upload.blob.stored() {
        Some(blob) if upload.is_already_present(&blob).await? => {
            UploadEnd::Stored(UploadOutcome::AlreadyPresent)
        }
        _ => upload.run_sessions().await?,
    };
    upload.entry.remove();
    let UploadEnd::Stored(outcome) = end else {
        return Ok(end);
    };
    let label = upload.blob.label();
    if let Some(stored) = upload.blob.stored() {
        writer.remember(&stored.digest);
    }
    let Some(blob) = upload.blob.known() else {
        return Ok(end);
    };
    if !matches!(outcome, UploadOutcome::Sent { .. }) {
        report.skip_blob(blob.size);
    }
    match (outcome, &blob.mount) {
        (UploadOutcome::AlreadyPresent, _) => {
            let size = format_bytes(blob.size);
            report.note(&format!(
                "{label}: already exists ({size}; found in the registry)"
            ));
        }
        (UploadOutcome::Sent { .. }, _) => report.finish_blob(&blob.digest),
        (UploadOutcome::Mounted, Some(from)) => {
            // A detail and not a note: images that share many layers would print many lines.
            report.detail(&format!("{label}: mounted from {from}"));
        }
        (UploadOutcome::Mounted, None) => {}
    }
    Ok(end)
}

impl BlobUpload<'_> {
    /// Waits until the blob has at least `len` bytes, or all of them, and gives the permit to others
    /// meanwhile. Returns how many can be sent.
    async fn wait_for_growth(&mut self, len: u64) -> u64 {
        if let Some(end) = self.blob.wait_for(len).now_or_never() {
            return end;
        }
        self.permit = None;
        let end = self.blob.wait_for(len).await;
        self.permit = Some(self.writer.limiter.acquire().await);
        end
    }

    /// Reports once that the upload of a known blob has started, and how many bytes an earlier push
    /// has sent.
    fn report_start(&mut self) {
        let Some(blob) = self.blob.known() else {
            return;
        };
        if std::mem::replace(&mut self.progress.is_reported, true) {
            return;
        }
        let report = self.report;
        report.start_blob(
            &blob.digest,
            &blob.label,
            blob.size,
            self.progress.first_offset,
        );
    }

    fn report_offset(&self, offset: u64) {
        if let Some(blob) = self.blob.known() {
            self.report.update_blob(&blob.digest, offset);
        }
    }
}
