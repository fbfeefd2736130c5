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
use super::{PendingBlob, RepositoryWriter, refusal};
use crate::exit::{Failure, describe_body_limit, request_too_large};
use crate::report::Report;
use crate::text::format_bytes;

/// Sends parts of one blob.
pub(super) struct BlobSender<'a> {
    writer: &'a RepositoryWriter,
    blob: &'a PendingBlob,
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
        blob: &'a PendingBlob,
        report: &'a Arc<dyn Report>,
    ) -> Self {
        let (shown, digest) = (Arc::clone(report), blob.digest.clone());
        let total = Arc::clone(&writer.bytes_sent);
        let on_sent = move |bytes, offset| {
            total.fetch_add(bytes, Ordering::Relaxed);
            shown.update_blob(&digest, offset);
        };
        let body = BodyReader::new(blob.source.clone(), &writer.rate_limiter, on_sent);
        Self {
            writer,
            blob,
            report,
            body: Arc::new(Mutex::new(body)),
        }
    }

    /// Returns the bytes of the blob that were passed to the network.
    pub(super) async fn sent_bytes(&self) -> SentBytes {
        self.body.lock().await.sent_bytes(self.blob.size)
    }

    /// Checks the digest of a blob whose last bytes an earlier push may have sent.
    ///
    /// # Errors
    /// Fails if the bytes at the source are not those of the blob.
    pub(super) async fn verify_source(&self) -> Result<(), SourceReadError> {
        self.body.lock().await.verify_rest().await
    }

    /// Sends the next chunk of a session, and smaller ones if it is refused as too large.
    ///
    /// # Errors
    /// See [`SendError`].
    pub(super) async fn send_chunk(&self, session: &mut UploadSession) -> Result<(), SendError> {
        let (client, host_profile) = (&self.writer.client, &self.writer.host_profile);
        let first = session.offset();
        let minimum = session.chunk_min().max(host_profile.chunk_min);
        let maximum = session.chunk_max();
        let chunk_sizer = || self.writer.chunk_sizer();
        let next_len = || chunk_sizer().next(self.blob.size - first, minimum, maximum);
        let mut refused = None;
        loop {
            let len = next_len();
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
            let next = next_len();
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
        mode: UploadMode,
    ) -> Result<(), SendError> {
        let (client, size) = (&self.writer.client, self.blob.size);
        let body = self.open_body(0..size).await?;
        let sent = if mode == UploadMode::Monolithic {
            let request = client.finish_with_blob(session, &self.blob.digest, body, size);
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
