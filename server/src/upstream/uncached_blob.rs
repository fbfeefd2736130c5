//! Streams a blob from its upstream to one client, without storing it.
//!
//! Used for blobs that do not fit into the cache. As in the cache, the last byte of the blob is sent
//! after the digest is verified, and a lost connection to the upstream is resumed. Start reading at
//! [`UncachedBlob`].

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use imgsync_oci::client::BlobDownload;
use imgsync_oci::{Digest, Hasher};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{sleep, timeout};

use super::UpstreamRepository;
use super::batch_reader::BatchReader;
use super::error::{UpstreamFailure, UpstreamFailureKind};
use super::retries::DownloadRetries;

/// How long a client waits until fewer blobs are streamed from the upstream.
const MAX_WAIT_FOR_PERMIT: Duration = Duration::from_secs(10);

/// A blob at an upstream, with a response that has not been read yet.
pub(crate) struct UncachedBlob {
    source: UpstreamRepository,
    digest: Digest,
    size: u64,
    response: BlobDownload,
    permit: OwnedSemaphorePermit,
}

impl UncachedBlob {
    /// Requests a blob, unless `unread` is a response with it and its size. Returns `None` if the
    /// upstream does not have the blob.
    ///
    /// # Errors
    /// Returns the failure of the upstream, or a failure if too many blobs are streamed from it.
    pub(super) async fn open(
        source: &UpstreamRepository,
        digest: &Digest,
        unread: Option<(BlobDownload, u64)>,
    ) -> Result<Option<Self>, UpstreamFailure> {
        let permits = Arc::clone(&source.upstream.stream_permits);
        let permit = timeout(MAX_WAIT_FOR_PERMIT, permits.acquire_owned()).await;
        // `acquire_owned` fails only on a closed semaphore, and this one is never closed.
        let Ok(Ok(permit)) = permit else {
            let message =
                "too many blobs that do not fit into the cache are being sent; try again later";
            return Err(source.failure(UpstreamFailureKind::Busy, message));
        };
        let opened = match unread {
            Some(opened) => Some(opened),
            None => source.open_blob(digest, 0).await?,
        };
        Ok(opened.map(|(response, size)| Self {
            source: source.clone(),
            digest: digest.clone(),
            size,
            response,
            permit,
        }))
    }

    /// Returns the size in bytes of the whole blob.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Streams `len` bytes from offset `first`. If they include the last byte of the blob, the whole
    /// blob is read and hashed, and the last byte is withheld until the digest is verified.
    pub(crate) fn stream(
        self,
        first: u64,
        len: u64,
    ) -> impl Stream<Item = io::Result<Bytes>> + Send + use<> {
        let reader = UncachedReader::new(self, first, first.saturating_add(len));
        futures::stream::unfold(Some(reader), |reader| async move {
            let mut reader = reader?;
            match reader.next().await {
                Ok(Some(bytes)) => Some((Ok(bytes), Some(reader))),
                Ok(None) => None,
                Err(failure) => {
                    let (source, digest) = (&reader.source, &reader.digest);
                    tracing::warn!(%digest, repository = %source.repository, "cannot send a blob from its upstream: {failure}");
                    Some((Err(io::Error::other(failure)), None))
                }
            }
        })
    }
}

/// Reads a part of a blob from the upstream.
struct UncachedReader {
    source: UpstreamRepository,
    digest: Digest,
    size: u64,
    /// The offset of the first byte to send, and that of the first byte after the part.
    part: (u64, u64),
    /// The hash of the bytes before `offset`; `None` if the last byte is not sent.
    hasher: Option<Hasher>,
    /// The offset of the next byte from the upstream.
    offset: u64,
    body: Option<BatchReader>,
    retries: DownloadRetries,
    /// The offset at which the last request began.
    requested_from: u64,
    /// The pieces that can be sent.
    ready: VecDeque<Bytes>,
    /// The last byte of the blob, until the digest is verified.
    withheld: Option<Bytes>,
    is_finished: bool,
    _permit: OwnedSemaphorePermit,
}

impl UncachedReader {
    fn new(blob: UncachedBlob, first: u64, end: u64) -> Self {
        let includes_last_byte = end >= blob.size;
        let offset = if includes_last_byte { 0 } else { first };
        let hasher = includes_last_byte.then(|| Hasher::new(blob.digest.algorithm()));
        // The response begins at a later byte if a download that was resumed turned out not to fit.
        // To skip the first bytes of a long response takes longer than to request the others.
        let is_usable = blob.response.first <= offset && (offset == 0 || blob.response.first > 0);
        let body = is_usable.then(|| BatchReader::new(blob.response, offset));
        Self {
            source: blob.source,
            digest: blob.digest,
            size: blob.size,
            part: (first, end.min(blob.size)),
            hasher,
            offset,
            body,
            retries: DownloadRetries::default(),
            requested_from: offset,
            ready: VecDeque::new(),
            withheld: None,
            is_finished: first >= end,
            _permit: blob.permit,
        }
    }

    /// Returns the next bytes to send; `None` after the last ones.
    async fn next(&mut self) -> Result<Option<Bytes>, UpstreamFailure> {
        loop {
            if let Some(bytes) = self.ready.pop_front() {
                return Ok(Some(bytes));
            }
            if self.is_finished {
                return Ok(None);
            }
            if let Err(failure) = self.receive().await {
                self.body = None;
                let has_progressed = self.offset > self.requested_from;
                let Some(delay) = self.retries.delay_after(&failure, has_progressed) else {
                    return Err(failure);
                };
                sleep(delay).await;
            }
        }
    }

    /// Receives some bytes, and requests the rest of the blob if no response is open.
    async fn receive(&mut self) -> Result<(), UpstreamFailure> {
        let mut body = match self.body.take() {
            Some(body) => body,
            None => self.request().await?,
        };
        let batch = body.next_batch(&self.source).await;
        for piece in batch.pieces {
            self.accept(piece)?;
        }
        if self.offset == self.size && self.hasher.is_some() {
            return self.verify();
        }
        if self.offset >= self.part.1 && self.hasher.is_none() {
            self.is_finished = true;
            return Ok(());
        }
        match batch.end {
            None => self.body = Some(body),
            Some(Err(failure)) => return Err(failure),
            Some(Ok(())) => {
                let message = "connection closed before the end of the blob";
                return Err(self.fail(UpstreamFailureKind::Down, message));
            }
        }
        Ok(())
    }

    async fn request(&mut self) -> Result<BatchReader, UpstreamFailure> {
        self.requested_from = self.offset;
        let opened = self.source.open_blob(&self.digest, self.offset).await?;
        match opened {
            Some((response, size)) if size == self.size => {
                Ok(BatchReader::new(response, self.offset))
            }
            _ => {
                let message = "the blob has changed during the download";
                Err(self.fail(UpstreamFailureKind::InvalidResponse, message))
            }
        }
    }

    /// Hashes a piece, and keeps those of its bytes that belong to the part.
    fn accept(&mut self, mut piece: Bytes) -> Result<(), UpstreamFailure> {
        let start = self.offset;
        self.offset += piece.len() as u64;
        if self.offset > self.size {
            let message = "more bytes than announced";
            return Err(self.fail(UpstreamFailureKind::InvalidResponse, message));
        }
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&piece);
        }
        let (first, end) = self.part;
        // Both are at most the length of the piece, which is a usize.
        let before = first.saturating_sub(start).min(piece.len() as u64) as usize;
        let after = self.offset.saturating_sub(end).min(piece.len() as u64) as usize;
        piece.truncate(piece.len() - after);
        let mut piece = piece.split_off(before.min(piece.len()));
        let is_last = self.offset == self.size && self.hasher.is_some();
        if is_last && !piece.is_empty() {
            self.withheld = Some(piece.split_off(piece.len() - 1));
        }
        if !piece.is_empty() {
            self.ready.push_back(piece);
        }
        Ok(())
    }

    /// Verifies the digest of the whole blob, and releases the last byte.
    fn verify(&mut self) -> Result<(), UpstreamFailure> {
        let actual = self.hasher.take().map(Hasher::finish);
        if actual.as_ref() != Some(&self.digest) {
            let message = "the content does not match its digest";
            return Err(self.fail(UpstreamFailureKind::InvalidResponse, message));
        }
        self.ready.extend(self.withheld.take());
        self.is_finished = true;
        Ok(())
    }

    fn fail(&self, kind: UpstreamFailureKind, message: &str) -> UpstreamFailure {
        let failure = self.source.failure(kind, message);
        self.source.record_failure(failure)
    }
}
