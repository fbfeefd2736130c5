//! One blob through upload sessions, whatever the line does: after any fault the registry is asked
//! where it stands, and the upload goes on from there.

mod carry;
mod waiting;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use imgsync_oci::Repository;
use imgsync_oci::client::upload::{Session, Start};
use imgsync_oci::client::{Error, Retry};
use imgsync_oci::endpoint::Mount;

use super::gate::{self, Pass};
use super::host::Way;
use super::journal::Entry;
use super::sending::Sending;
use super::slots::Slot;
use super::{Line, Outgoing};
use crate::exit::{Failure, Kind};
use crate::report::Report;

/// Faults in a row without a byte of progress before the upload gives up.
const MOST_FAULTS: u32 = 10;
/// Sessions that one blob may use up, none coming further than those before, until the registry is
/// not worth trusting with it.
const MOST_SESSIONS: u32 = 5;

/// What became of a blob that the target was thought to lack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moved {
    /// It was there by then.
    There,
    /// The target linked it from another of its repositories.
    Linked,
    /// It was sent.
    Sent {
        /// Bytes that went to the target, repeated ones included.
        bytes: u64,
    },
}

/// One blob on its way.
struct Upload<'a> {
    line: &'a Line,
    blob: &'a Outgoing,
    report: &'a Arc<dyn Report>,
    bytes: Sending<'a>,
    /// Whether what arrived so far is of no use to a later push either.
    spoilt: bool,
    /// How it goes in this session.
    way: Way,
    /// The most bytes that the registry ever confirmed in this session.
    confirmed: u64,
    /// How many bytes it took, by its answers to the chunks of this session.
    taken: u64,
    /// The chunks that went through in this session.
    chunks: u32,
    /// Faults since `confirmed` last grew.
    faults: u32,
    /// The most bytes that were ever confirmed in any session.
    best: u64,
    /// Sessions that were lost since that last grew.
    lost: u32,
    /// Chunks that were refused for what they are, since a session last took several.
    refusals: u32,
    /// Held while bytes are sent, and not while the upload waits for others.
    slot: Option<Slot<'a>>,
    /// Where the open session is kept for a later push.
    entry: Entry,
    /// Whether the session is an earlier push's, or had a fault: then what the registry holds may
    /// not be what it should be.
    resumed: bool,
    /// Whether the registry once said of a session what was not so: then none is gone on with
    /// after a fault.
    is_doubted: bool,
    /// What keeps blobs from counting before all of them are there.
    pass: Pass,
    /// Whether it was told that bytes are on their way: of a blob that is linked none ever are.
    is_begun: bool,
}

/// How a session went.
enum Ended {
    /// The registry has the blob.
    Finished,
    /// The session is gone, and another may be opened.
    Lost,
    /// There was a fault, and it is best to begin again.
    Again,
    /// The registry does not take blobs in this way.
    Unfit(Error),
}

/// Brings a blob to the registry, unless it is there: goes on with the session that an earlier push
/// left open, or opens one, and finishes it once `pass` lets it through. When this yields, the
/// registry has the blob.
///
/// # Errors
/// The registry does not take it; the line stays down; the bytes cannot be read.
pub(super) async fn upload(
    line: &Line,
    blob: &Outgoing,
    report: &Arc<dyn Report>,
    mut pass: Pass,
) -> Result<Moved, Failure> {
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
    let alive = entry.show_life(line.client.stall());
    tokio::select! {
        moved = locked(line, blob, report, pass, entry) => moved,
        never = alive => match never {},
    }
}

/// The same, of a blob that no other push is sending.
async fn locked(
    line: &Line,
    blob: &Outgoing,
    report: &Arc<dyn Report>,
    pass: Pass,
    entry: Entry,
) -> Result<Moved, Failure> {
    let slot = Some(line.slots.acquire().await);
    let mut upload = Upload {
        line,
        blob,
        report,
        bytes: Sending::new(line, blob, report),
        spoilt: false,
        entry,
        way: Way::Chunks,
        resumed: false,
        is_doubted: false,
        confirmed: 0,
        taken: 0,
        chunks: 0,
        faults: 0,
        best: 0,
        lost: 0,
        refusals: 0,
        slot,
        pass,
        is_begun: false,
    };
    // Asked under the lock: the other push may have sent it just now.
    if upload.is_there().await? {
        report.note(&format!("{}: already there", blob.label));
        upload.entry.clear();
        line.remember(&blob.digest);
        return Ok(Moved::There);
    }
    let moved = upload.through_sessions().await?;
    upload.entry.clear();
    line.remember(&blob.digest);
    match (moved, &blob.mount) {
        (Moved::Sent { .. }, _) => report.done(&blob.digest),
        (Moved::Linked, Some(from)) => {
            // Of many images that share their layers these would be many lines.
            report.detail(&format!("{}: linked from {from}", blob.label));
        }
        (Moved::Linked, None) | (Moved::There, _) => {}
    }
    Ok(moved)
}

/// The same, of a blob that counts as soon as it is there.
///
/// # Errors
/// As [`upload`].
pub async fn send(
    line: &Line,
    blob: &Outgoing,
    report: &Arc<dyn Report>,
) -> Result<Moved, Failure> {
    upload(line, blob, report, gate::open()).await
}

impl Upload<'_> {
    async fn through_sessions(&mut self) -> Result<Moved, Failure> {
        let client = &self.line.client;
        let mut earlier = self.earlier_session().await;
        let mut mount = self.blob.mount.as_ref();
        loop {
            let mut session = match earlier.take() {
                Some(session) => session,
                None => match self.open(mount.take()).await? {
                    Start::Mounted => return Ok(Moved::Linked),
                    Start::Open(session) => session,
                },
            };
            self.tell_begun(session.offset());
            (self.confirmed, self.taken) = (session.offset(), session.offset());
            self.chunks = 0;
            let ended = match self.way {
                Way::Chunks => {
                    self.entry.save(&session);
                    self.in_chunks(&mut session).await
                }
                // What is sent as one piece is not gone on with.
                Way::Stream | Way::Whole => self.in_one(&mut session).await,
            };
            match ended {
                Ok(Ended::Finished) => {
                    self.line.host.takes(self.way);
                    let bytes = self.bytes.sent.load(Ordering::Relaxed);
                    return Ok(Moved::Sent { bytes });
                }
                Ok(Ended::Again) => self.entry.forget(),
                Ok(Ended::Lost) => {
                    self.entry.forget();
                    self.lose()?;
                }
                Ok(Ended::Unfit(error)) => {
                    let _ = client.cancel_upload(session).await;
                    self.entry.forget();
                    self.change_way(error)?;
                }
                Err(failure) => {
                    if self.spoilt {
                        // What this side cannot finish, the other need not keep. A courtesy: the
                        // failure that counts is the first.
                        let _ = client.cancel_upload(session).await;
                        self.entry.clear();
                    }
                    return Err(failure);
                }
            }
        }
    }

    /// The session that an earlier push of this blob left open, if the registry still has it. A
    /// question that failed for now leaves it worth a try.
    async fn earlier_session(&mut self) -> Option<Session> {
        let mut session = self.entry.session()?;
        if self.line.host.way() != Way::Chunks {
            return None;
        }
        let there = match self.line.client.upload_offset(&mut session).await {
            Ok(there) => there,
            Err(error) => matches!(error.retry(), Retry::After(_)),
        };
        if !there || session.offset() > self.blob.size {
            return None;
        }
        self.resumed = true;
        Some(session)
    }

    /// Tells, once, that bytes are on their way, and how many of them an earlier push has brought.
    fn tell_begun(&mut self, offset: u64) {
        if std::mem::replace(&mut self.is_begun, true) {
            return;
        }
        let (blob, report) = (self.blob, self.report);
        report.begin(&blob.digest, &blob.label, blob.size);
        if offset > 0 {
            report.position(&blob.digest, offset);
        }
    }

    /// A session without bytes, unless the registry links the blob from another repository. One
    /// that refuses to link may still take the blob.
    async fn open(&mut self, from: Option<&Repository>) -> Result<Start, Failure> {
        self.way = self.line.host.way();
        self.resumed = false;
        let (client, repository) = (&self.line.client, &self.line.repository);
        if let Some(from) = from {
            let mount = Mount {
                digest: self.blob.digest.clone(),
                from: Some(from.clone()),
            };
            match client.start_upload(repository, Some(mount)).await {
                // Some say so, and have not.
                Ok(Start::Mounted) if self.is_there().await? => {
                    return Ok(Start::Mounted);
                }
                Ok(Start::Mounted) => {}
                Ok(opened) => return Ok(opened),
                Err(error) if error.status().is_some_and(|it| it.is_client_error()) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if let Some(session) = self.line.take_session() {
            // It has waited: that it is gone would say nothing of the registry.
            self.resumed = true;
            return Ok(Start::Open(session));
        }
        loop {
            match client.start_upload(repository, None).await {
                Ok(opened) => return Ok(opened),
                Err(error) => self.wait_out(error).await?,
            }
        }
    }

    /// Whether the registry has the blob.
    async fn is_there(&mut self) -> Result<bool, Failure> {
        let (client, repository) = (&self.line.client, &self.line.repository);
        loop {
            match client.head_blob(repository, &self.blob.digest).await {
                Ok(size) => return Ok(size == Some(self.blob.size)),
                Err(error) => self.wait_out(error).await?,
            }
        }
    }

    /// Counts a session that is gone.
    fn lose(&mut self) -> Result<(), Failure> {
        self.lost += 1;
        if self.lost < MOST_SESSIONS {
            return Ok(());
        }
        let (registry, digest) = (self.line.client.registry(), &self.blob.digest);
        let what = format!("target: {registry} lost the upload of {digest} {MOST_SESSIONS} times");
        Err(Failure::new(Kind::Target, what))
    }

    /// Takes the next way, if there is one.
    fn change_way(&mut self, error: Error) -> Result<(), Failure> {
        if !self.line.host.refuses(self.way) {
            return Err(error.into());
        }
        self.refusals = 0;
        let how = match self.line.host.way() {
            Way::Chunks => "in chunks",
            Way::Stream => "as one piece",
            Way::Whole => "in one request",
        };
        let label = &self.blob.label;
        let text = format!("{label}: {error}; sending it again, {how}");
        self.report.detail(&text);
        Ok(())
    }
}
