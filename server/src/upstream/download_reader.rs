//! Streams a blob to one client while it is still being downloaded.
//!
//! This module only reads the partial file; [`super::download`] writes it. Start reading at
//! [`DownloadReader`].

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures::Stream;
use tokio::sync::watch;

use super::download::{DownloadProgress, UpstreamDownload};
use super::error::UpstreamFailure;
use super::run_blocking;
use crate::registry::PartialBlob;

/// Reads a number of bytes from a file at an offset. Returns fewer at the end of the file.
pub(crate) type ReadPiece =
    Arc<dyn Fn(&PartialBlob, u64, usize) -> io::Result<Bytes> + Send + Sync>;

/// Reads a blob at the pace of its download.
pub(crate) struct DownloadReader {
    progress: watch::Receiver<DownloadProgress>,
    partial: PartialBlob,
    size: u64,
}

/// How a blob can be read, once the upstream has answered.
pub(super) enum OpenedDownload {
    /// While it is downloaded.
    Reader(DownloadReader),
    /// Only from the upstream, because it does not fit into the cache.
    NotKept,
    /// Not at all: the upstream does not have it.
    Absent,
}

impl UpstreamDownload {
    /// Waits until the size is known, and returns a reader. The reader fails as soon as the download
    /// reports another size.
    ///
    /// # Errors
    /// Returns the failure of the download.
    pub(super) async fn open_reader(&self) -> Result<OpenedDownload, UpstreamFailure> {
        let is_answered = |progress: &DownloadProgress| *progress != DownloadProgress::Waiting;
        let (progress, receiver) = self.wait_until(is_answered).await?;
        let size = match progress {
            DownloadProgress::Receiving { size, .. } | DownloadProgress::Done { size } => size,
            DownloadProgress::NotKept => return Ok(OpenedDownload::NotKept),
            _ => return Ok(OpenedDownload::Absent),
        };
        // The partial file is always set before the size is known.
        let partial = self.partial.get().cloned();
        Ok(partial.map_or(OpenedDownload::Absent, |partial| {
            OpenedDownload::Reader(DownloadReader {
                progress: receiver,
                partial,
                size,
            })
        }))
    }
}

impl DownloadReader {
    /// Returns the size in bytes of the whole blob.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Streams `len` bytes from offset `first` as they arrive, in chunks of at most `piece` bytes
    /// that `read` allocates. The last byte of the blob is withheld until its digest is verified,
    /// so that a client never receives a complete blob with wrong content.
    pub(crate) fn stream(
        self,
        first: u64,
        len: u64,
        piece: u64,
        read: ReadPiece,
    ) -> impl Stream<Item = io::Result<Bytes>> + Send + use<> {
        let start = Some((self, first, first + len, read));
        futures::stream::unfold(start, move |state| async move {
            let (mut reader, offset, end, read) = state?;
            if offset >= end {
                return None;
            }
            match reader.next(offset, end, piece, &read).await {
                Ok(bytes) => {
                    let offset = offset + bytes.len() as u64;
                    Some((Ok(bytes), Some((reader, offset, end, read))))
                }
                Err(error) => Some((Err(error), None)),
            }
        })
    }

    /// Returns the next chunk from `offset` on, and waits until at least one byte is available.
    async fn next(
        &mut self,
        offset: u64,
        end: u64,
        piece: u64,
        read: &ReadPiece,
    ) -> io::Result<Bytes> {
        loop {
            let available = match &*self.progress.borrow_and_update() {
                // The client received another size in `Content-Length`, and must not take these
                // bytes for the whole blob.
                DownloadProgress::Receiving { size, .. } | DownloadProgress::Done { size }
                    if *size != self.size =>
                {
                    return Err(io::ErrorKind::InvalidData.into());
                }
                DownloadProgress::Receiving { size, received } => {
                    (*received).min(size.saturating_sub(1))
                }
                DownloadProgress::Done { size } => *size,
                DownloadProgress::Failed(failure) => return Err(io::Error::other(failure.clone())),
                // An attempt to resume the download showed that it does not fit after all.
                DownloadProgress::NotKept => return Err(io::ErrorKind::StorageFull.into()),
                DownloadProgress::Waiting | DownloadProgress::Absent => 0,
            };
            let available = available.min(end);
            if available > offset {
                let len = (available - offset).min(piece);
                let len = usize::try_from(len).map_err(io::Error::other)?;
                let (partial, read) = (self.partial.clone(), Arc::clone(read));
                let bytes = run_blocking(move || read(&partial, offset, len)).await?;
                if bytes.is_empty() {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                return Ok(bytes);
            }
            self.progress.changed().await.map_err(io::Error::other)?;
        }
    }
}
