//! Uploads one blob through upload sessions: after a fault, asks the registry for the offset of the
//! session, and resumes there.
//!
//! This module decides when to retry, resume or start over; a single request is sent by
//! [`BlobSender`]. Start reading at [`upload_blob`].

mod retry;
mod session;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use imgsync_oci::Repository;
use imgsync_oci::client::upload::{UploadSession, UploadStart};
use imgsync_oci::client::{Error, RetryVerdict};
use imgsync_oci::endpoint::Mount;

use super::barrier::{self, BarrierPass};
use super::blob_sender::BlobSender;
use super::concurrency_limiter::UploadPermit;
use super::host_profile::UploadMode;
use super::journal::JournalEntry;
use super::{PendingBlob, RepositoryWriter};
use crate::exit::{Failure, FailureKind};
use crate::report::Report;

/// The number of faults in a row without progress after which the upload fails.
const MAX_FAULTS: u32 = 10;
/// The number of sessions in a row that the registry may lose without progress before the upload
/// fails.
const MAX_LOST_SESSIONS: u32 = 5;

/// How the registry got a blob that it was thought to lack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UploadOutcome {
    /// The registry had the blob already.
    AlreadyPresent,
    /// The registry mounted the blob from another of its repositories.
    Mounted,
    /// The blob was sent.
    Sent {
        /// The bytes sent to the target, repeated ones included.
        bytes: u64,
    },
}

/// The state of one blob's upload.
struct BlobUpload<'a> {
    writer: &'a RepositoryWriter,
    blob: &'a PendingBlob,
    report: &'a Arc<dyn Report>,
    sender: BlobSender<'a>,
    /// Whether the bytes sent so far are useless to a later push too, so that the session is
    /// cancelled.
    is_unusable: bool,
    /// The upload mode of this session.
    mode: UploadMode,
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
    /// The permit to send. Released while the upload waits for other blobs.
    permit: Option<UploadPermit<'a>>,
    /// The journal entry that keeps the open session for a later push.
    entry: JournalEntry,
    /// Whether the session was opened by an earlier push or has had a fault. The bytes that the
    /// registry holds may then be wrong.
    is_resumed: bool,
    /// Whether a session that had a fault turned out to hold wrong bytes. No session is resumed
    /// after a fault then.
    is_untrusted: bool,
    /// The barrier that keeps blobs from being finished before all of them have been sent.
    pass: BarrierPass,
    /// Whether the start of the upload was reported. The upload of a mounted blob never starts.
    is_begun: bool,
}

/// How a session ended.
enum SessionOutcome {
    /// The registry has the blob.
    Finished,
    /// The session is lost. Another one may be opened.
    SessionLost,
    /// There was a fault, and the blob is sent again from the start.
    StartOver,
    /// The registry refuses this upload mode.
    ModeRefused(Error),
}

/// Uploads a blob, unless the registry has it: resumes the session that an earlier push left open,
/// or opens one, and finishes the session once the barrier opens. When this function returns `Ok`,
/// the registry has the blob.
///
/// # Errors
/// Fails if the registry refuses the blob, if too many retries fail, or if the bytes cannot be
/// read.
pub(super) async fn upload_behind_barrier(
    line: &RepositoryWriter,
    blob: &PendingBlob,
    report: &Arc<dyn Report>,
    mut pass: BarrierPass,
) -> Result<UploadOutcome, Failure> {
    let entry = match line.try_lock(blob) {
        Some(entry) => entry,
        None => {
            // The other push may itself wait for a blob that this push is uploading.
            pass.arrive();
            report.note(&format!(
                "{}: another push is sending it; waiting",
                blob.label
            ));
            line.lock(blob).await
        }
    };
    // Waiting for a permit or for the barrier can exceed the timeout of another push that waits for
    // this lock, so the entry is touched regularly.
    let alive = entry.keep_alive(line.client.stall_timeout());
    tokio::select! {
        moved = upload_locked(line, blob, report, pass, entry) => moved,
        never = alive => match never {},
    }
}

/// Uploads a blob whose journal entry is locked, so that no other push is uploading it.
async fn upload_locked(
    line: &RepositoryWriter,
    blob: &PendingBlob,
    report: &Arc<dyn Report>,
    pass: BarrierPass,
    entry: JournalEntry,
) -> Result<UploadOutcome, Failure> {
    let slot = Some(line.limiter.acquire().await);
    let mut upload = BlobUpload {
        writer: line,
        blob,
        report,
        sender: BlobSender::new(line, blob, report),
        is_unusable: false,
        entry,
        mode: UploadMode::Chunks,
        is_resumed: false,
        is_untrusted: false,
        confirmed: 0,
        accepted: 0,
        chunks: 0,
        faults: 0,
        best: 0,
        lost_sessions: 0,
        refusals: 0,
        permit: slot,
        pass,
        is_begun: false,
    };
    // Another push may have finished the blob just before this one got the lock.
    if upload.is_present().await? {
        report.note(&format!("{}: already there", blob.label));
        upload.entry.remove();
        line.remember(&blob.digest);
        return Ok(UploadOutcome::AlreadyPresent);
    }
    let moved = upload.run_sessions().await?;
    upload.entry.remove();
    line.remember(&blob.digest);
    match (moved, &blob.mount) {
        (UploadOutcome::Sent { .. }, _) => report.finish_blob(&blob.digest),
        (UploadOutcome::Mounted, Some(from)) => {
            // A detail and not a note: images that share many layers would print many lines.
            report.detail(&format!("{}: linked from {from}", blob.label));
        }
        (UploadOutcome::Mounted, None) | (UploadOutcome::AlreadyPresent, _) => {}
    }
    Ok(moved)
}

/// Uploads a blob, and finishes its session without waiting for other blobs.
///
/// # Errors
/// Fails if the registry refuses the blob, if too many retries fail, or if the bytes cannot be
/// read.
pub async fn upload_blob(
    line: &RepositoryWriter,
    blob: &PendingBlob,
    report: &Arc<dyn Report>,
) -> Result<UploadOutcome, Failure> {
    upload_behind_barrier(line, blob, report, barrier::open_pass()).await
}

impl BlobUpload<'_> {
    async fn run_sessions(&mut self) -> Result<UploadOutcome, Failure> {
        let client = &self.writer.client;
        let mut earlier = self.resume_session().await;
        let mut mount = self.blob.mount.as_ref();
        loop {
            let mut session = match earlier.take() {
                Some(session) => session,
                None => match self.open(mount.take()).await? {
                    UploadStart::Mounted => return Ok(UploadOutcome::Mounted),
                    UploadStart::Open(session) => session,
                },
            };
            self.tell_begun(session.offset());
            (self.confirmed, self.accepted) = (session.offset(), session.offset());
            self.chunks = 0;
            let ended = match self.mode {
                UploadMode::Chunks => {
                    self.entry.save(&session);
                    self.upload_chunked(&mut session).await
                }
                // A blob sent in one request cannot be resumed, so the session is not saved.
                UploadMode::Stream | UploadMode::Monolithic => {
                    self.upload_whole(&mut session).await
                }
            };
            match ended {
                Ok(SessionOutcome::Finished) => {
                    self.writer.host_profile.save_mode(self.mode);
                    let bytes = self.sender.bytes_sent.load(Ordering::Relaxed);
                    return Ok(UploadOutcome::Sent { bytes });
                }
                Ok(SessionOutcome::StartOver) => self.entry.clear_session(),
                Ok(SessionOutcome::SessionLost) => {
                    self.entry.clear_session();
                    self.count_lost_session()?;
                }
                Ok(SessionOutcome::ModeRefused(error)) => {
                    let _ = client.cancel_upload(session).await;
                    self.entry.clear_session();
                    self.change_mode(error)?;
                }
                Err(failure) => {
                    if self.is_unusable {
                        // The bytes sent so far are of no use, so the registry need not keep them.
                        // An error of this request is ignored; the first failure is returned.
                        let _ = client.cancel_upload(session).await;
                        self.entry.remove();
                    }
                    return Err(failure);
                }
            }
        }
    }

    /// Returns the session that an earlier push of this blob left open, if the registry still has
    /// it. A session whose offset request failed temporarily is returned too.
    async fn resume_session(&mut self) -> Option<UploadSession> {
        let mut session = self.entry.session()?;
        if self.writer.host_profile.mode() != UploadMode::Chunks {
            return None;
        }
        let there = match self.writer.client.sync_upload_offset(&mut session).await {
            Ok(there) => there,
            Err(error) => matches!(error.retry_verdict(), RetryVerdict::After(_)),
        };
        if !there || session.offset() > self.blob.size {
            return None;
        }
        self.is_resumed = true;
        Some(session)
    }

    /// Reports once that the upload has started, and how many bytes an earlier push has sent.
    fn tell_begun(&mut self, offset: u64) {
        if std::mem::replace(&mut self.is_begun, true) {
            return;
        }
        let (blob, report) = (self.blob, self.report);
        report.start_blob(&blob.digest, &blob.label, blob.size);
        if offset > 0 {
            report.update_blob(&blob.digest, offset);
        }
    }

    /// Opens a session, unless the registry mounts the blob from another repository. A registry
    /// that refuses the mount may still accept an upload.
    async fn open(&mut self, from: Option<&Repository>) -> Result<UploadStart, Failure> {
        self.mode = self.writer.host_profile.mode();
        self.is_resumed = false;
        let (client, repository) = (&self.writer.client, &self.writer.repository);
        if let Some(from) = from {
            let mount = Mount {
                digest: self.blob.digest.clone(),
                from: Some(from.clone()),
            };
            match client.start_upload(repository, Some(mount)).await {
                // Some registries answer 201 to a mount and do not hold the blob afterwards.
                Ok(UploadStart::Mounted) if self.is_present().await? => {
                    return Ok(UploadStart::Mounted);
                }
                Ok(UploadStart::Mounted) => {}
                Ok(opened) => return Ok(opened),
                Err(error) if error.status().is_some_and(|it| it.is_client_error()) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if let Some(session) = self.writer.take_spare_session() {
            // The session may have expired while it waited, which is no fault of the registry.
            self.is_resumed = true;
            return Ok(UploadStart::Open(session));
        }
        loop {
            match client.start_upload(repository, None).await {
                Ok(opened) => return Ok(opened),
                Err(error) => self.back_off_if_retryable(error).await?,
            }
        }
    }

    /// Returns whether the registry has the blob.
    async fn is_present(&mut self) -> Result<bool, Failure> {
        let (client, repository) = (&self.writer.client, &self.writer.repository);
        loop {
            let blob = self.blob;
            match client.has_blob(repository, &blob.digest, blob.size).await {
                Ok(is_present) => return Ok(is_present),
                Err(error) => self.back_off_if_retryable(error).await?,
            }
        }
    }

    /// Counts a lost session, and fails after [`MAX_LOST_SESSIONS`] without progress.
    fn count_lost_session(&mut self) -> Result<(), Failure> {
        self.lost_sessions += 1;
        if self.lost_sessions < MAX_LOST_SESSIONS {
            return Ok(());
        }
        let (registry, digest) = (self.writer.client.registry(), &self.blob.digest);
        let what =
            format!("target: {registry} lost the upload of {digest} {MAX_LOST_SESSIONS} times");
        Err(Failure::new(FailureKind::Target, what))
    }

    /// Falls back to the next upload mode, and returns `error` if there is none.
    fn change_mode(&mut self, error: Error) -> Result<(), Failure> {
        if !self.writer.host_profile.fall_back_from(self.mode) {
            return Err(error.into());
        }
        self.refusals = 0;
        let how = match self.writer.host_profile.mode() {
            UploadMode::Chunks => "in chunks",
            UploadMode::Stream => "as one piece",
            UploadMode::Monolithic => "in one request",
        };
        let label = &self.blob.label;
        let text = format!("{label}: {error}; sending it again, {how}");
        self.report.detail(&text);
        Ok(())
    }
}
