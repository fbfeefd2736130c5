//! One blob through upload sessions, whatever the line does: after any fault the registry is asked
//! where it stands, and the upload goes on from there.

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

/// Faults in a row without a byte of progress before the upload gives up.
const MAX_FAULTS: u32 = 10;
/// Sessions that one blob may use up, none coming further than those before, until the registry is
/// not worth trusting with it.
const MAX_LOST_SESSIONS: u32 = 5;

/// What became of a blob that the target was thought to lack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UploadOutcome {
    /// It was there by then.
    AlreadyPresent,
    /// The target linked it from another of its repositories.
    Mounted,
    /// It was sent.
    Sent {
        /// Bytes that went to the target, repeated ones included.
        bytes: u64,
    },
}

/// One blob on its way.
struct BlobUpload<'a> {
    writer: &'a RepositoryWriter,
    blob: &'a PendingBlob,
    report: &'a Arc<dyn Report>,
    sender: BlobSender<'a>,
    /// Whether what arrived so far is of no use to a later push either.
    is_unusable: bool,
    /// How it goes in this session.
    mode: UploadMode,
    /// The most bytes that the registry ever confirmed in this session.
    confirmed: u64,
    /// How many bytes it took, by its answers to the chunks of this session.
    accepted: u64,
    /// The chunks that went through in this session.
    chunks: u32,
    /// Faults since `confirmed` last grew.
    faults: u32,
    /// The most bytes that were ever confirmed in any session.
    best: u64,
    /// Sessions that were lost since that last grew.
    lost_sessions: u32,
    /// Chunks that were refused for what they are, since a session last took several.
    refusals: u32,
    /// Held while bytes are sent, and not while the upload waits for others.
    permit: Option<UploadPermit<'a>>,
    /// Where the open session is kept for a later push.
    entry: JournalEntry,
    /// Whether the session is an earlier push's, or had a fault: then what the registry holds may
    /// not be what it should be.
    is_resumed: bool,
    /// Whether the registry once said of a session what was not so: then none is gone on with
    /// after a fault.
    is_untrusted: bool,
    /// What keeps blobs from counting before all of them are there.
    pass: BarrierPass,
    /// Whether it was told that bytes are on their way: of a blob that is linked none ever are.
    is_begun: bool,
}

/// How a session went.
enum SessionOutcome {
    /// The registry has the blob.
    Finished,
    /// The session is gone, and another may be opened.
    SessionLost,
    /// There was a fault, and it is best to begin again.
    StartOver,
    /// The registry does not take blobs in this way.
    ModeRefused(Error),
}

/// Brings a blob to the registry, unless it is there: goes on with the session that an earlier push
/// left open, or opens one, and finishes it once `pass` lets it through. When this yields, the
/// registry has the blob.
///
/// # Errors
/// The registry does not take it; the line stays down; the bytes cannot be read.
pub(super) async fn upload_behind_barrier(
    line: &RepositoryWriter,
    blob: &PendingBlob,
    report: &Arc<dyn Report>,
    mut pass: BarrierPass,
) -> Result<UploadOutcome, Failure> {
    let entry = match line.try_lock(blob) {
        Some(entry) => entry,
        None => {
            // Another push is sending it, and may itself wait for what this one is sending.
            pass.arrive();
            report.note(&format!(
                "{}: another push is sending it; waiting",
                blob.label
            ));
            line.lock(blob).await
        }
    };
    // For a turn and for the others it may have to wait for longer than who waits for this one would.
    let alive = entry.keep_alive(line.client.stall_timeout());
    tokio::select! {
        moved = upload_locked(line, blob, report, pass, entry) => moved,
        never = alive => match never {},
    }
}

/// The same, of a blob that no other push is sending.
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
    // Asked under the lock: the other push may have sent it just now.
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
            // Of many images that share their layers these would be many lines.
            report.detail(&format!("{}: linked from {from}", blob.label));
        }
        (UploadOutcome::Mounted, None) | (UploadOutcome::AlreadyPresent, _) => {}
    }
    Ok(moved)
}

/// The same, of a blob that counts as soon as it is there.
///
/// # Errors
/// As [`upload`].
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
                // What is sent as one piece is not gone on with.
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
                        // What this side cannot finish, the other need not keep. A courtesy: the
                        // failure that counts is the first.
                        let _ = client.cancel_upload(session).await;
                        self.entry.remove();
                    }
                    return Err(failure);
                }
            }
        }
    }

    /// The session that an earlier push of this blob left open, if the registry still has it. A
    /// question that failed for now leaves it worth a try.
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

    /// Tells, once, that bytes are on their way, and how many of them an earlier push has brought.
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

    /// A session without bytes, unless the registry links the blob from another repository. One
    /// that refuses to link may still take the blob.
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
                // Some say so, and have not.
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
            // It has waited: that it is gone would say nothing of the registry.
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

    /// Whether the registry has the blob.
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

    /// Counts a session that is gone.
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

    /// Takes the next way, if there is one.
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
