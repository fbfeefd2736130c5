//! The bytes of a blob on their way: one request, and what became of it.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use http::StatusCode;
use imgsync_oci::client::Error;
use imgsync_oci::client::upload::Session;

use super::flow::{Flow, Unreadable};
use super::host::Way;
use super::pieces::pieces;
use super::refusal;
use super::{Line, Outgoing};
use crate::exit::{Failure, too_large};
use crate::report::{Report, bytes as bytes_of};

/// Sends parts of one blob.
pub(super) struct Sending<'a> {
    line: &'a Line,
    blob: &'a Outgoing,
    report: &'a Arc<dyn Report>,
    /// The bytes, one reader at a time.
    flow: Arc<tokio::sync::Mutex<Flow>>,
    /// How many of them were handed to the network, repeated ones included.
    pub(super) sent: Arc<AtomicU64>,
}

/// Why a request of a session did not go through.
pub(super) enum Fault {
    /// The bytes could not be read.
    Source(Unreadable),
    /// Something on the way refuses chunks of this size; a smaller one is worth a try.
    TooLarge,
    /// It refuses what cannot be made smaller.
    Limit(Failure),
    /// The registry refuses the request for what it is.
    Refused(Error, StatusCode),
    /// The line, or the registry.
    Line(Error),
}

impl<'a> Sending<'a> {
    /// Opens nothing yet.
    pub(super) fn new(line: &'a Line, blob: &'a Outgoing, report: &'a Arc<dyn Report>) -> Self {
        Self {
            line,
            blob,
            report,
            flow: Arc::new(tokio::sync::Mutex::new(Flow::new(blob.body.clone()))),
            sent: Arc::default(),
        }
    }
}

impl Sending<'_> {
    /// The next chunk of a session.
    ///
    /// # Errors
    /// See [`Fault`].
    pub(super) async fn chunk(&self, session: &mut Session) -> Result<(), Fault> {
        let first = session.offset();
        self.ready(first).await?;
        let left = self.blob.size - first;
        let minimum = session.chunk_min().max(self.line.host.chunk_min);
        let maximum = session.chunk_max();
        let len = self.line.pace().next(left, minimum, maximum);
        let unreadable = Arc::default();
        let bytes = self.bytes(first, len, &unreadable);
        let began = Instant::now();
        let sent = self.line.client.append_upload(session, bytes, len).await;
        let error = match self.judge(sent, &unreadable, len, began.elapsed()) {
            Ok(()) => {
                self.line.host.takes_body(len);
                return Ok(());
            }
            Err(Fault::Line(error)) => error,
            Err(fault) => return Err(fault),
        };
        match error.status() {
            Some(StatusCode::PAYLOAD_TOO_LARGE) => {
                let worth_it = self.line.pace().too_large(len);
                if worth_it {
                    // A limit that ends a push is one to be lifted, and not to be kept to.
                    self.line.host.limits_body(self.line.pace().ceiling());
                }
                let next = self.line.pace().next(left, minimum, maximum);
                let floor = minimum.filter(|minimum| next >= len && *minimum >= len);
                Err(match (worth_it && next < len, floor) {
                    (true, _) => Fault::TooLarge,
                    (false, Some(minimum)) => {
                        let least = bytes_of(minimum);
                        let what = format!("the registry takes no chunks below {least}");
                        Fault::Limit(too_large(&error, len, &what))
                    }
                    (false, None) => {
                        let what = "smaller ones are not worth sending";
                        Fault::Limit(too_large(&error, len, what))
                    }
                })
            }
            Some(status) if refusal::is_about_the_request(status) => {
                Err(Fault::Refused(error, status))
            }
            Some(_) | None => Err(Fault::Line(error)),
        }
    }

    /// All of the blob in one request; with [`Way::Whole`] that also finishes it.
    ///
    /// # Errors
    /// See [`Fault`].
    pub(super) async fn whole(&self, session: &mut Session, way: Way) -> Result<(), Fault> {
        self.ready(0).await?;
        let (client, size) = (&self.line.client, self.blob.size);
        let unreadable = Arc::default();
        let bytes = self.bytes(0, size, &unreadable);
        let began = Instant::now();
        let sent = match way {
            Way::Whole => {
                let digest = &self.blob.digest;
                client.finish_whole(session, digest, bytes, size).await
            }
            Way::Stream | Way::Chunks => client.append_whole(session, bytes, size).await,
        };
        let error = match self.judge(sent, &unreadable, size, began.elapsed()) {
            Err(Fault::Line(error)) => error,
            judged => return judged,
        };
        Err(match error.status() {
            Some(StatusCode::PAYLOAD_TOO_LARGE) => {
                let what = "the registry takes a blob only in one request";
                Fault::Limit(too_large(&error, size, what))
            }
            Some(status) if refusal::is_about_the_request(status) => Fault::Refused(error, status),
            Some(_) | None => Fault::Line(error),
        })
    }

    /// Has the bytes at hand before the registry waits for them: a source that is far away may take
    /// its time.
    async fn ready(&self, first: u64) -> Result<(), Fault> {
        let ready = self.flow.lock().await.ready(first).await;
        ready.map_err(Fault::Source)
    }

    /// What became of `len` bytes: a read that failed here is told from a fault of the line.
    fn judge(
        &self,
        sent: Result<(), Error>,
        unreadable: &Mutex<Option<Unreadable>>,
        len: u64,
        took: Duration,
    ) -> Result<(), Fault> {
        let Err(error) = sent else {
            self.line.pace().passed(len, took);
            self.line.slots.passed(self.line.sent(), took);
            return Ok(());
        };
        let mut unreadable = unreadable.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = unreadable.take() {
            return Err(Fault::Source(error));
        }
        if matches!(error, Error::Broken { .. }) {
            self.line.pace().broke(len);
        }
        Err(Fault::Line(error))
    }

    /// The `len` bytes of the blob from `first` on, counted.
    fn bytes(
        &self,
        first: u64,
        len: u64,
        unreadable: &Arc<Mutex<Option<Unreadable>>>,
    ) -> impl Stream<Item = io::Result<Bytes>> + Send + use<> {
        let bytes = pieces(&self.flow, first, len, &self.line.limit);
        self.counted(first, bytes, unreadable)
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
