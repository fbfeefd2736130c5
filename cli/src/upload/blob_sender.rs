//! Sends single requests of an upload session, and classifies their errors.
//!
//! This module does not retry. Start reading at [`BlobSender::send_chunk`].

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::Bytes;
use futures::Stream;
use http::StatusCode;
use imgsync_oci::client::Error;
use imgsync_oci::client::upload::UploadSession;
use tokio::sync::Mutex;

use super::blob_reader::SourceReadError;
use super::byte_stream::{BodyReader, SentBytes, stream_range};
use super::host_profile::UploadMode;
use super::outgoing_blob::OutgoingBlob;
use super::{PendingBlob, RepositoryWriter, refusal};
use crate::exit::{Failure, describe_body_limit, request_too_large};
use crate::report::Report;
use crate::text::format_bytes;

/// The largest chunk in bytes of a layer that is still being compressed. A larger one would leave
/// the connection idle until it is written, and be sent when nothing else is left to do.
const MAX_GROWING_CHUNK_BYTES: u64 = 8 * 1024 * 1024;

/// Sends parts of one blob.
pub(super) struct BlobSender<'a> {
    writer: &'a RepositoryWriter,
    report: &'a Arc<dyn Report>,
    body: Arc<Mutex<BodyReader>>,
}

/// Why a request of a session failed.
pub(super) enum SendError {
    /// The bytes could not be read.
    Source(SourceReadError),
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
        blob: &OutgoingBlob,
        report: &'a Arc<dyn Report>,
    ) -> Self {
        let report_offset = blob.offset_reporter(report);
        let total = Arc::clone(&writer.bytes_sent);
        let on_sent = move |bytes, offset| {
            total.fetch_add(bytes, Ordering::Relaxed);
            report_offset(offset);
        };
        let body = BodyReader::new(blob.source(), &writer.rate_limiter, on_sent);
        Self {
            writer,
            report,
            body: Arc::new(Mutex::new(body)),
        }
    }

    /// Returns the bytes of a blob of `size` bytes that were passed to the network.
    pub(super) async fn sent_bytes(&self, size: u64) -> SentBytes {
        self.body.lock().await.sent_bytes(size)
    }

    /// Checks the digest of a blob whose last bytes an earlier push may have sent.
    ///
    /// # Errors
    /// Fails if the bytes at the source are not those of the blob.
    pub(super) async fn verify_source(&self) -> Result<(), SourceReadError> {
        self.body.lock().await.verify_rest().await
    }

    /// Returns how many bytes of a layer that is still being compressed must be written before the
    /// next chunk is sent. Without a session, that is the first one.
    pub(super) fn growing_chunk_end(&self, session: Option<&UploadSession>) -> u64 {
        let minimum = self.minimum_chunk(session).unwrap_or(0);
        let len = self.next_len(session, MAX_GROWING_CHUNK_BYTES.max(minimum));
        let offset = session.map_or(0, UploadSession::offset);
        offset.saturating_add(len)
    }

    /// Returns the size in bytes of the next chunk of a session, with `left` bytes to send.
    fn next_len(&self, session: Option<&UploadSession>, left: u64) -> u64 {
        let minimum = self.minimum_chunk(session);
        let maximum = session.and_then(UploadSession::chunk_max);
        self.writer.chunk_sizer().next(left, minimum, maximum)
    }

    /// Returns the smallest chunk in bytes that the registry accepts.
    fn minimum_chunk(&self, session: Option<&UploadSession>) -> Option<u64> {
        let announced = session.and_then(UploadSession::chunk_min);
        announced.max(self.writer.host_profile.chunk_min)
    }

    /// Sends the next chunk of a session, and smaller ones if it is refused as too large. The chunk
    /// ends at `end` at the latest.
    ///
    /// # Errors
    /// See [`SendError`].
    pub(super) async fn send_chunk(
        &self,
        session: &mut UploadSession,
        end: u64,
    ) -> Result<(), SendError> {
        let (client, host_profile) = (&self.writer.client, &self.writer.host_profile);
        let first = session.offset();
        let minimum = self.minimum_chunk(Some(session));
        let chunk_sizer = || self.writer.chunk_sizer();
        let next_len = |session: &UploadSession| self.next_len(Some(session), end - first);
        let mut refused = None;
        loop {
            let len = next_len(session);
            let body = self.open_body(first..first + len).await?;
            let error = match self
                .send(len, client.append_upload(session, body, len))
                .await
            {
                Ok(()) => {
                    host_profile.raise_max_body(len);
                    if let Some((error, refused)) = refused {
                        self.note_body_limit(&error, refused, len);
                    }
                    return Ok(());
                }
                Err(SendError::Request(error)) if is_too_large(&error) => error,
                Err(error) => return Err(error),
            };
            let can_shrink = chunk_sizer().record_too_large(len);
            if can_shrink {
                // A limit that makes the push fail is not saved, because the user is asked to raise
                // it.
                host_profile.set_max_body(chunk_sizer().ceiling());
            }
            let next = next_len(session);
            if can_shrink && next < len {
                refused = Some((error, len));
                continue;
            }
            let reason = match minimum.filter(|minimum| next >= len && *minimum >= len) {
                Some(minimum) => {
                    let minimum = format_bytes(minimum);
                    format!("the registry accepts no chunks below {minimum}")
                }
                None => "imgsync sends no smaller chunks".to_owned(),
            };
            return Err(SendError::SizeLimit(request_too_large(
                &error, len, &reason,
            )));
        }
    }

    /// Tells the user once that a proxy limits the size of requests, and how to raise the limit.
    fn note_body_limit(&self, error: &Error, refused: u64, accepted: u64) {
        if self.writer.is_first_limit() {
            let text = describe_body_limit(error, refused, accepted);
            self.report.note(&text);
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
        blob: &PendingBlob,
        mode: UploadMode,
    ) -> Result<(), SendError> {
        let (client, size) = (&self.writer.client, blob.size);
        let body = self.open_body(0..size).await?;
        let sent = if mode == UploadMode::Monolithic {
            let request = client.finish_with_blob(session, &blob.digest, body, size);
            self.send(size, request).await
        } else {
            let request = client.append_whole_blob(session, body, size);
            self.send(size, request).await
        };
        match sent {
            Err(SendError::Request(error)) if is_too_large(&error) => {
                let reason = "the registry accepts a blob only in one request";
                Err(SendError::SizeLimit(request_too_large(
                    &error, size, reason,
                )))
            }
            sent => sent,
        }
    }

    async fn open_body(
        &self,
        range: Range<u64>,
    ) -> Result<impl Stream<Item = io::Result<Bytes>> + Send + use<>, SendError> {
        let opened = self.body.lock().await.open_at(range.start).await;
        opened.map_err(SendError::Source)?;
        Ok(stream_range(&self.body, range))
    }

    /// Waits for a request with `len` bytes, records its result, and classifies its error.
    async fn send(
        &self,
        len: u64,
        request: impl Future<Output = Result<(), Error>>,
    ) -> Result<(), SendError> {
        let start = Instant::now();
        let Err(error) = request.await else {
            let duration = start.elapsed();
            self.writer.chunk_sizer().record_chunk(len, duration);
            let total = self.writer.bytes_sent();
            self.writer.limiter.record_chunk(total, duration);
            return Ok(());
        };
        if let Error::ConnectionLost { .. } = error {
            if let Some(error) = self.body.lock().await.error.take() {
                return Err(SendError::Source(error));
            }
            self.writer.chunk_sizer().record_connection_loss(len);
        }
        Err(match error.status() {
            Some(status) if refusal::is_request_refused(status) => {
                SendError::Refused(error, status)
            }
            _ => SendError::Request(error),
        })
    }
}

fn is_too_large(error: &Error) -> bool {
    error.status() == Some(StatusCode::PAYLOAD_TOO_LARGE)
}
