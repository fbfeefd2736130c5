//! One blob through upload sessions, whatever the line does: after any fault the registry is asked
//! where it stands, and the upload goes on from there.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use http::StatusCode;
use imgsync_oci::client::upload::{Session, Start};
use imgsync_oci::client::{Error, Retry, backoff};
use imgsync_oci::endpoint::Mount;
use tokio::sync::SemaphorePermit;

use super::flow::{Flow, Unreadable};
use super::gate::{self, Pass};
use super::journal::Entry;
use super::pieces::pieces;
use super::{Line, Outgoing};
use crate::exit::{Failure, Kind};
use crate::report::Report;

/// Faults in a row without a byte of progress before the upload gives up.
const MOST_FAULTS: u32 = 10;
/// Sessions that one blob may use up before the registry is not worth trusting with it.
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
    /// Its bytes, one reader at a time.
    flow: Arc<tokio::sync::Mutex<Flow>>,
    /// How many of them were handed to the network, repeated ones included.
    sent: Arc<AtomicU64>,
    /// Whether what arrived so far is of no use to a later push either.
    spoilt: bool,
    report: &'a Arc<dyn Report>,
    /// The most bytes that the registry ever confirmed in this session.
    confirmed: u64,
    /// Faults since that last grew.
    faults: u32,
    /// Held while bytes are sent, and not while the upload waits for others.
    slot: Option<SemaphorePermit<'a>>,
    /// Where the open session is kept for a later push.
    entry: Entry,
    /// Whether the session is an earlier push's, or had a fault: then what the registry holds may
    /// not be what it should be.
    resumed: bool,
    /// What keeps blobs from counting before all of them are there.
    pass: Pass,
}

/// How a session went.
enum Ended {
    /// The registry has the blob.
    Finished,
    /// The session is gone, and another may be opened.
    Lost,
}

/// Why a request of a session did not go through.
enum Fault {
    /// The bytes could not be read.
    Source(Unreadable),
    /// Something on the way refuses chunks of this size.
    TooLarge(Error),
    /// The line, or the registry.
    Line(Error),
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
    let slot = line.slots.acquire().await.ok();
    // Asked under the lock: the other push may have sent it just now.
    if line.holds(blob).await? {
        report.note(&format!("{}: already there", blob.label));
        entry.clear();
        return Ok(Moved::There);
    }
    let mut upload = Upload {
        line,
        blob,
        flow: Arc::new(tokio::sync::Mutex::new(Flow::new(blob.body.clone()))),
        sent: Arc::default(),
        spoilt: false,
        report,
        entry,
        resumed: false,
        confirmed: 0,
        faults: 0,
        slot,
        pass,
    };
    report.begin(&blob.digest, &blob.label, blob.size);
    let moved = upload.through_sessions().await?;
    upload.entry.clear();
    report.done(&blob.digest);
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
        let mut mount = self.blob.mount.clone().map(|from| Mount {
            digest: self.blob.digest.clone(),
            from: Some(from),
        });
        for _ in 0..MOST_SESSIONS {
            let mut session = match earlier.take() {
                Some(session) => session,
                None => match self.start(mount.take()).await? {
                    Start::Mounted => return Ok(Moved::Linked),
                    Start::Open(session) => session,
                },
            };
            self.confirmed = session.offset();
            self.entry.save(&session);
            match self.run(&mut session).await {
                Ok(Ended::Finished) => {
                    let bytes = self.sent.load(Ordering::Relaxed);
                    return Ok(Moved::Sent { bytes });
                }
                Ok(Ended::Lost) => self.entry.clear(),
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
        let what = format!(
            "target: {} lost the upload of {} {MOST_SESSIONS} times",
            client.registry(),
            self.blob.digest
        );
        Err(Failure::new(Kind::Target, what))
    }

    /// Opens a session. A registry that refuses to link from elsewhere may take the blob.
    async fn start(&self, mount: Option<Mount>) -> Result<Start, Error> {
        let (client, repository) = (&self.line.client, &self.line.repository);
        let mounts = mount.is_some();
        match client.start_upload(repository, mount).await {
            Err(error) if mounts && error.status().is_some_and(|it| it.is_client_error()) => {
                client.start_upload(repository, None).await
            }
            started => started,
        }
    }

    /// The session that an earlier push of this blob left open, if the registry still has it. A
    /// question that failed for now leaves it worth a try.
    async fn earlier_session(&mut self) -> Option<Session> {
        let mut session = self.entry.session()?;
        let there = match self.line.client.upload_offset(&mut session).await {
            Ok(there) => there,
            Err(error) => matches!(error.retry(), Retry::After(_)),
        };
        if !there || session.offset() > self.blob.size {
            return None;
        }
        self.resumed = true;
        self.report.position(&self.blob.digest, session.offset());
        Some(session)
    }

    /// Carries a session to its end.
    async fn run(&mut self, session: &mut Session) -> Result<Ended, Failure> {
        let client = &self.line.client;
        loop {
            let before = session.offset();
            let step = if before < self.blob.size {
                self.send_chunk(session).await
            } else {
                self.wait_for_the_others().await?;
                match client.finish_upload(session, &self.blob.digest).await {
                    Ok(()) => return Ok(Ended::Finished),
                    Err(error) => Err(Fault::Line(error)),
                }
            };
            match step {
                Ok(()) => {
                    self.entry.save(session);
                    if self.progress(session) {
                        continue;
                    }
                    self.pause(self.nothing_kept()).await?;
                }
                Err(Fault::Source(error)) => self.pause_for_source(error).await?,
                Err(Fault::TooLarge(_)) => {}
                Err(Fault::Line(error)) if before == self.blob.size && self.was_spoilt(&error) => {
                    return Ok(Ended::Lost);
                }
                Err(Fault::Line(error)) => self.pause(error).await?,
            }
            if before == self.blob.size && self.line.holds(self.blob).await? {
                // Only the answer to the finish was lost.
                return Ok(Ended::Finished);
            }
            match client.upload_offset(session).await {
                Ok(true) if session.offset() <= self.blob.size => {}
                Ok(true | false) => return Ok(Ended::Lost),
                Err(error) => self.pause(error).await?,
            }
            self.progress(session);
            self.report.position(&self.blob.digest, session.offset());
        }
    }

    /// Whether the registry has come further than ever before in this session; only that is
    /// progress, or a registry that forgets would be fed for ever.
    fn progress(&mut self, session: &Session) -> bool {
        let grew = session.offset() > self.confirmed;
        if grew {
            self.confirmed = session.offset();
            self.faults = 0;
        }
        grew
    }

    fn nothing_kept(&self) -> Error {
        Error::Broken {
            registry: self.line.client.registry().clone(),
            operation: "PATCH of an upload".to_owned(),
            what: "the registry took a chunk and kept no more than before".to_owned(),
        }
    }

    /// Whether a finish failed because the bytes that an earlier push had sent are not what they
    /// should be: worth one new session.
    fn was_spoilt(&mut self, error: &Error) -> bool {
        let refused = error.status() == Some(StatusCode::BAD_REQUEST);
        refused && std::mem::take(&mut self.resumed)
    }

    /// Gives the slot to another blob, and waits until all bytes of all blobs are there.
    async fn wait_for_the_others(&mut self) -> Result<(), Failure> {
        self.slot = None;
        match self.pass.through().await {
            true => {
                self.slot = self.line.slots.acquire().await.ok();
                Ok(())
            }
            false => Err(Failure::new(Kind::Target, "target: another blob failed")),
        }
    }

    /// Waits before another try.
    ///
    /// # Errors
    /// No other try is worth it: the fault counts.
    async fn pause(&mut self, error: Error) -> Result<(), Failure> {
        self.faults += 1;
        self.resumed = true;
        let retry = match error.status() {
            // The session is not where it was thought to be; the next question tells.
            Some(StatusCode::NOT_FOUND | StatusCode::RANGE_NOT_SATISFIABLE) => Retry::After(None),
            Some(_) | None => error.retry(),
        };
        match retry {
            Retry::After(asked) if self.faults < MOST_FAULTS => {
                self.line.pace().faulted();
                let pause = backoff(self.faults, asked);
                let (label, seconds) = (&self.blob.label, pause.as_secs_f64());
                let text = format!("{label}: {error}; trying again in {seconds:.1} s");
                self.report.detail(&text);
                tokio::time::sleep(pause).await;
                Ok(())
            }
            Retry::After(_) | Retry::Never => Err(error.into()),
        }
    }

    /// The same, after bytes could not be read.
    async fn pause_for_source(&mut self, error: Unreadable) -> Result<(), Failure> {
        self.faults += 1;
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

    async fn send_chunk(&self, session: &mut Session) -> Result<(), Fault> {
        let first = session.offset();
        // Before the registry waits for bytes: a source that is far away may take its time.
        let ready = self.flow.lock().await.ready(first).await;
        ready.map_err(Fault::Source)?;
        let left = self.blob.size - first;
        let (minimum, maximum) = (session.chunk_min(), session.chunk_max());
        let len = self.line.pace().next(left, minimum, maximum);
        let unreadable = Arc::default();
        let bytes = pieces(&self.flow, first, len, &self.line.limit);
        let bytes = self.counted(first, bytes, &unreadable);
        let began = Instant::now();
        let sent = self.line.client.append_upload(session, bytes, len).await;
        match self.judge(sent, &unreadable, len, began.elapsed()) {
            // The registry's own minimum may keep chunks as large as they were.
            Err(Fault::TooLarge(error)) if self.line.pace().next(left, minimum, maximum) >= len => {
                Err(Fault::Line(error))
            }
            judged => judged,
        }
    }

    fn judge(
        &self,
        sent: Result<(), Error>,
        unreadable: &Mutex<Option<Unreadable>>,
        len: u64,
        took: Duration,
    ) -> Result<(), Fault> {
        let Err(error) = sent else {
            self.line.pace().passed(len, took);
            return Ok(());
        };
        let mut unreadable = unreadable.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = unreadable.take() {
            return Err(Fault::Source(error));
        }
        let too_large = error.status() == Some(StatusCode::PAYLOAD_TOO_LARGE);
        if too_large && self.line.pace().too_large(len) {
            return Err(Fault::TooLarge(error));
        }
        Err(Fault::Line(error))
    }

    /// Counts bytes as the network takes them, and keeps the error of a read that failed: on the
    /// wire it looks like a broken line.
    fn counted<P>(
        &self,
        first: u64,
        pieces: P,
        unreadable: &Arc<Mutex<Option<Unreadable>>>,
    ) -> impl Stream<Item = io::Result<Bytes>> + Send + use<P>
    where
        P: Stream<Item = Result<Bytes, Unreadable>> + Send + 'static,
    {
        let digest = self.blob.digest.clone();
        let (sent, report) = (Arc::clone(&self.line.sent), Arc::clone(self.report));
        let own = Arc::clone(&self.sent);
        let unreadable = Arc::clone(unreadable);
        let mut position = first;
        pieces.map(move |piece| match piece {
            Ok(piece) => {
                let len = piece.len() as u64;
                position += len;
                sent.fetch_add(len, Ordering::Relaxed);
                own.fetch_add(len, Ordering::Relaxed);
                report.position(&digest, position);
                Ok(piece)
            }
            Err(error) => {
                *unreadable.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                Err(io::ErrorKind::BrokenPipe.into())
            }
        })
    }
}
