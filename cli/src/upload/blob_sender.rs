//! Sends single requests of an upload session, and classifies their errors.
//!
//! This module does not retry. Start reading at [`BlobSender::send_chunk`].

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use http::StatusCode;
use imgsync_oci::client::Error;
use imgsync_oci::client::upload::UploadSession;

use super::blob_reader::{BlobReader, SourceReadError};
use super::byte_stream::read_range;
use super::host_profile::UploadMode;
use super::{PendingBlob, RepositoryWriter, refusal};
use crate::exit::{Failure, request_too_large};
use crate::report::Report;
use crate::text::format_bytes as bytes_of;

/// Sends parts of one blob.
pub(super) struct BlobSender<'a> {
    writer: &'a RepositoryWriter,
    blob: &'a PendingBlob,
    report: &'a Arc<dyn Report>,
    /// The reader of the bytes, used by one request at a time.
    reader: Arc<tokio::sync::Mutex<BlobReader>>,
    /// The bytes passed to the network, repeated ones included.
    pub(super) bytes_sent: Arc<AtomicU64>,
}

/// Why a request of a session failed.
pub(super) enum SendError {
    /// The bytes could not be read.
    Source(SourceReadError),
    /// The registry or a proxy refuses chunks of this size. A smaller chunk may pass.
    TooLarge,
    /// The registry or a proxy refuses the size, and the request cannot be made smaller.
    SizeLimit(Failure),
    /// The registry refuses the request itself, with this status.
    Refused(Error, StatusCode),
    /// The connection or the registry failed.
    Request(Error),
}

impl<'a> BlobSender<'a> {
    /// Creates a sender for a blob. The source is opened later.
    pub(super) fn new(
        writer: &'a RepositoryWriter,
        blob: &'a PendingBlob,
        report: &'a Arc<dyn Report>,
    ) -> Self {
        Self {
            writer,
            blob,
            report,
            reader: Arc::new(tokio::sync::Mutex::new(BlobReader::new(
                blob.source.clone(),
            ))),
            bytes_sent: Arc::default(),
        }
    }
}

impl BlobSender<'_> {
    /// Sends the next chunk of a session.
    ///
    /// # Errors
    /// See [`SendError`].
    pub(super) async fn send_chunk(&self, session: &mut UploadSession) -> Result<(), SendError> {
        let first = session.offset();
        self.open_source(first).await?;
        let left = self.blob.size - first;
        let minimum = session.chunk_min().max(self.writer.host_profile.chunk_min);
        let maximum = session.chunk_max();
        let len = self.writer.chunk_sizer().next(left, minimum, maximum);
        let unreadable = Arc::default();
        let bytes = self.bytes(first, len, &unreadable);
        let began = Instant::now();
        let sent = self.writer.client.append_upload(session, bytes, len).await;
        let error = match self.classify(sent, &unreadable, len, began.elapsed()) {
            Ok(()) => {
                self.writer.host_profile.raise_max_body(len);
                return Ok(());
            }
            Err(SendError::Request(error)) => error,
            Err(fault) => return Err(fault),
        };
        match error.status() {
            Some(StatusCode::PAYLOAD_TOO_LARGE) => {
                let worth_it = self.writer.chunk_sizer().record_too_large(len);
                if worth_it {
                    // A limit that makes the push fail is not saved, because the user is asked to
                    // raise it.
                    self.writer
                        .host_profile
                        .set_max_body(self.writer.chunk_sizer().ceiling());
                }
                let next = self.writer.chunk_sizer().next(left, minimum, maximum);
                let floor = minimum.filter(|minimum| next >= len && *minimum >= len);
                Err(match (worth_it && next < len, floor) {
                    (true, _) => SendError::TooLarge,
                    (false, Some(minimum)) => {
                        let least = bytes_of(minimum);
                        let what = format!("the registry takes no chunks below {least}");
                        SendError::SizeLimit(request_too_large(&error, len, &what))
                    }
                    (false, None) => {
                        let what = "smaller ones are not worth sending";
                        SendError::SizeLimit(request_too_large(&error, len, what))
                    }
                })
            }
            Some(status) if refusal::is_request_refused(status) => {
                Err(SendError::Refused(error, status))
            }
            Some(_) | None => Err(SendError::Request(error)),
        }
    }

    /// Sends the whole blob in one request, which with [`UploadMode::Monolithic`] also finishes the
    /// session.
    ///
    /// # Errors
    /// See [`SendError`].
    pub(super) async fn send_whole(
        &self,
        session: &mut UploadSession,
        way: UploadMode,
    ) -> Result<(), SendError> {
        self.open_source(0).await?;
        let (client, size) = (&self.writer.client, self.blob.size);
        let unreadable = Arc::default();
        let bytes = self.bytes(0, size, &unreadable);
        let began = Instant::now();
        let sent = match way {
            UploadMode::Monolithic => {
                let digest = &self.blob.digest;
                client.finish_with_blob(session, digest, bytes, size).await
            }
            UploadMode::Stream | UploadMode::Chunks => {
                client.append_whole_blob(session, bytes, size).await
            }
        };
        let error = match self.classify(sent, &unreadable, size, began.elapsed()) {
            Err(SendError::Request(error)) => error,
            judged => return judged,
        };
        Err(match error.status() {
            Some(StatusCode::PAYLOAD_TOO_LARGE) => {
                let what = "the registry takes a blob only in one request";
                SendError::SizeLimit(request_too_large(&error, size, what))
            }
            Some(status) if refusal::is_request_refused(status) => {
                SendError::Refused(error, status)
            }
            Some(_) | None => SendError::Request(error),
        })
    }

    /// Opens the source before the request starts, because a remote source may be slow to answer
    /// and the registry would time out.
    async fn open_source(&self, first: u64) -> Result<(), SendError> {
        let ready = self.reader.lock().await.open_at(first).await;
        ready.map_err(SendError::Source)
    }

    /// Records the result of a request with `len` bytes, and separates read errors from errors of
    /// the connection.
    fn classify(
        &self,
        sent: Result<(), Error>,
        unreadable: &Mutex<Option<SourceReadError>>,
        len: u64,
        took: Duration,
    ) -> Result<(), SendError> {
        let Err(error) = sent else {
            self.writer.chunk_sizer().record_chunk(len, took);
            self.writer
                .limiter
                .record_chunk(self.writer.bytes_sent(), took);
            return Ok(());
        };
        let mut unreadable = unreadable.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = unreadable.take() {
            return Err(SendError::Source(error));
        }
        if matches!(error, Error::ConnectionLost { .. }) {
            self.writer.chunk_sizer().record_connection_loss(len);
        }
        Err(SendError::Request(error))
    }

    /// Returns the `len` bytes of the blob from offset `first`, and counts them.
    fn bytes(
        &self,
        first: u64,
        len: u64,
        unreadable: &Arc<Mutex<Option<SourceReadError>>>,
    ) -> impl Stream<Item = io::Result<Bytes>> + Send + use<> {
        let bytes = read_range(&self.reader, first, len, &self.writer.rate_limiter);
        self.counted(first, bytes, unreadable)
    }

    /// Counts bytes as the network takes them, and keeps the error of a failed read. For the HTTP
    /// client that error looks like a broken connection.
    fn counted<P>(
        &self,
        first: u64,
        pieces: P,
        unreadable: &Arc<Mutex<Option<SourceReadError>>>,
    ) -> impl Stream<Item = io::Result<Bytes>> + Send + use<P>
    where
        P: Stream<Item = Result<Bytes, SourceReadError>> + Send + 'static,
    {
        let digest = self.blob.digest.clone();
        let (sent, report) = (Arc::clone(&self.writer.bytes_sent), Arc::clone(self.report));
        let own = Arc::clone(&self.bytes_sent);
        let unreadable = Arc::clone(unreadable);
        let mut position = first;
        pieces.map(move |piece| match piece {
            Ok(piece) => {
                let len = piece.len() as u64;
                position += len;
                sent.fetch_add(len, Ordering::Relaxed);
                own.fetch_add(len, Ordering::Relaxed);
                report.update_blob(&digest, position);
                Ok(piece)
            }
            Err(error) => {
                *unreadable.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                Err(io::ErrorKind::BrokenPipe.into())
            }
        })
    }
}
