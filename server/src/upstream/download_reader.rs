//! Somebody who reads a blob while it comes.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures::Stream;
use tokio::sync::watch;

use super::download::DownloadProgress;
use super::run_blocking;
use crate::registry::PartialBlob;

/// Reads a piece of a file from an offset on: so many bytes, or fewer where it ends.
pub(crate) type ReadPiece =
    Arc<dyn Fn(&PartialBlob, u64, usize) -> io::Result<Bytes> + Send + Sync>;

/// Somebody who reads along.
pub(crate) struct DownloadReader {
    progress: watch::Receiver<DownloadProgress>,
    partial: PartialBlob,
    size: u64,
}

impl DownloadReader {
    /// Reads `partial` as far as `progress` says, and as long as that speaks of this size.
    pub(super) fn new(
        progress: watch::Receiver<DownloadProgress>,
        partial: PartialBlob,
        size: u64,
    ) -> Self {
        Self {
            progress,
            partial,
            size,
        }
    }

    /// The size in bytes of the whole blob.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// `len` bytes from `first` on, as they come, in pieces of at most `piece` bytes, into whatever
    /// buffers `read` has. The blob's last byte is held back until all of it turned out to be right.
    pub(crate) fn stream(
        self,
        first: u64,
        len: u64,
        piece: u64,
        read: ReadPiece,
    ) -> impl Stream<Item = io::Result<Bytes>> + Send + use<> {
        let start = Some((self, first, first + len, read));
        futures::stream::unfold(start, move |state| async move {
            let (mut follower, at, end, read) = state?;
            if at >= end {
                return None;
            }
            match follower.next(at, end, piece, &read).await {
                Ok(bytes) => {
                    let at = at + bytes.len() as u64;
                    Some((Ok(bytes), Some((follower, at, end, read))))
                }
                Err(error) => Some((Err(error), None)),
            }
        })
    }

    async fn next(&mut self, at: u64, end: u64, piece: u64, read: &ReadPiece) -> io::Result<Bytes> {
        loop {
            let ready = match &*self.progress.borrow_and_update() {
                // Its caller was told another size, and must not take what came for all of it.
                DownloadProgress::Receiving { size, .. } | DownloadProgress::Done { size }
                    if *size != self.size =>
                {
                    return Err(io::ErrorKind::InvalidData.into());
                }
                DownloadProgress::Receiving {
                    size,
                    received: filled,
                } => (*filled).min(size.saturating_sub(1)),
                DownloadProgress::Done { size } => *size,
                DownloadProgress::Failed(failed) => return Err(io::Error::other(failed.clone())),
                DownloadProgress::Waiting | DownloadProgress::Absent => 0,
            };
            let ready = ready.min(end);
            if ready > at {
                let len = (ready - at).min(piece);
                let len = usize::try_from(len).map_err(io::Error::other)?;
                let (partial, read) = (self.partial.clone(), Arc::clone(read));
                let bytes = run_blocking(move || read(&partial, at, len)).await?;
                if bytes.is_empty() {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                return Ok(bytes);
            }
            self.progress.changed().await.map_err(io::Error::other)?;
        }
    }
}
