//! Reads on a thread that may block what a task receives from the daemon.

use std::io::{self, Read};

use bytes::Bytes;
use tokio::sync::mpsc;

/// Reads chunks in the order in which a task sends them. The task ends the stream by dropping the
/// sender, and notices that the reader is gone when it sends the next chunk.
#[derive(Debug)]
pub(super) struct ChunkReader {
    chunks: mpsc::Receiver<io::Result<Bytes>>,
    rest: Bytes,
}

/// Returns a reader, and the sender of its chunks; up to `queued` of them wait for the reader.
pub(super) fn chunk_channel(queued: usize) -> (mpsc::Sender<io::Result<Bytes>>, ChunkReader) {
    let (sender, chunks) = mpsc::channel(queued);
    let rest = Bytes::new();
    (sender, ChunkReader { chunks, rest })
}

impl Read for ChunkReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match self.chunks.blocking_recv() {
                Some(chunk) => self.rest = chunk?,
                None => return Ok(0),
            }
        }
        let chunk = self.rest.split_to(buffer.len().min(self.rest.len()));
        buffer[..chunk.len()].copy_from_slice(&chunk);
        Ok(chunk.len())
    }
}
