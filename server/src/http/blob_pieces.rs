//! Streams the bytes of a stored blob in pieces, reading one piece ahead of the client.
//!
//! Nothing is known here about requests. Start reading at [`read_pieces`].

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures::Stream;
use tokio::task::JoinHandle;

use super::buffer_pool::{BUFFER_BYTES, Buffer, BufferPool};
use crate::registry::OpenBlob;

/// The bytes that are read at a time while no buffer is free.
pub(super) const UNBUFFERED_READ_BYTES: u64 = 64 * 1024;

/// Streams a part of a blob, reading one piece ahead of the client.
pub(super) fn read_pieces(
    blob: Arc<OpenBlob>,
    first: u64,
    len: u64,
    buffers: &Arc<BufferPool>,
) -> impl Stream<Item = io::Result<Bytes>> + Send + use<> {
    let pieces = BlobPieces {
        blob,
        offset: first,
        end: first + len,
        buffers: Arc::clone(buffers),
        ahead: None,
    };
    let next = |mut pieces: BlobPieces| async move {
        let bytes = pieces.next().await.transpose()?;
        Some((bytes, pieces))
    };
    futures::stream::unfold(pieces, next)
}

/// The pieces of a blob that are still to be sent.
struct BlobPieces {
    blob: Arc<OpenBlob>,
    /// The start of the first piece that is not being read.
    offset: u64,
    end: u64,
    buffers: Arc<BufferPool>,
    /// The next piece, which is read while the client receives the piece before.
    ahead: Option<JoinHandle<io::Result<Bytes>>>,
}

impl BlobPieces {
    /// Returns the next piece; `None` at the end.
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        let reading = match self.ahead.take() {
            Some(reading) => reading,
            None if self.offset == self.end => return Ok(None),
            None => {
                let buffer = self.buffers.lend();
                self.start_read(buffer)
            }
        };
        let bytes = reading.await.map_err(io::Error::other)??;
        // Without a free buffer, nothing is read ahead.
        if self.offset < self.end
            && let Some(buffer) = self.buffers.lend()
        {
            self.ahead = Some(self.start_read(Some(buffer)));
        }
        Ok(Some(bytes))
    }

    /// Starts to read the next piece, into a buffer if there is one.
    fn start_read(&mut self, buffer: Option<Buffer>) -> JoinHandle<io::Result<Bytes>> {
        let start = self.offset;
        let len = piece_len(buffer.is_some()).min(self.end - start);
        self.offset += len;
        let blob = Arc::clone(&self.blob);
        tokio::task::spawn_blocking(move || read_piece(&blob, start, len, buffer))
    }
}

/// Returns the length of a piece that is read into a buffer, or without one.
pub(super) fn piece_len(has_buffer: bool) -> u64 {
    if has_buffer {
        BUFFER_BYTES as u64
    } else {
        UNBUFFERED_READ_BYTES
    }
}

/// Reads one piece, into a buffer if there is one.
pub(super) fn read_piece(
    blob: &OpenBlob,
    first: u64,
    len: u64,
    buffer: Option<Buffer>,
) -> io::Result<Bytes> {
    let len = usize::try_from(len).map_err(io::Error::other)?;
    let Some(mut buffer) = buffer else {
        return blob.read(first, len).map(Bytes::from);
    };
    buffer.fill(len, |bytes| blob.read_into(first, bytes).map(|()| len))?;
    Ok(Bytes::from_owner(buffer))
}
