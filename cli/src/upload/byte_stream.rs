//! Streams ranges of a blob's bytes as the bodies of requests.
//!
//! This module does not reopen or verify the source; the [`BlobReader`] does. Start reading at
//! [`stream_range`].

use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, Stream};
use tokio::sync::Mutex;

use super::BlobSource;
use super::blob_reader::{BlobReader, SourceReadError};
use super::rate_limiter::RateLimiter;

/// The largest number of bytes to read at a time.
const MAX_READ_BYTES: u64 = 256 * 1024;

/// The bytes of a blob that were passed to the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SentBytes {
    /// The bytes that the target lacked, each counted once.
    pub(super) bytes: u64,
    /// The bytes that were sent again, after an error.
    pub(super) resent: u64,
}

/// Reads the bodies of one blob's requests, one request at a time.
pub(super) struct BodyReader {
    reader: BlobReader,
    rate_limiter: Arc<RateLimiter>,
    /// Called with the number of bytes passed to the network, and the offset after them.
    on_sent: Box<dyn Fn(u64, u64) + Send>,
    /// The bytes passed to the network, repeated ones included.
    bytes_sent: u64,
    /// The smallest offset of a byte that was passed to the network.
    first_offset: Option<u64>,
    /// The error that ended the last body. For the HTTP client it looks like a lost connection.
    pub(super) error: Option<SourceReadError>,
}

impl BodyReader {
    /// Creates a reader that reads no faster than `rate_limiter` allows. The source is opened
    /// later.
    pub(super) fn new(
        source: BlobSource,
        rate_limiter: &Arc<RateLimiter>,
        on_sent: impl Fn(u64, u64) + Send + 'static,
    ) -> Self {
        Self {
            reader: BlobReader::new(source),
            rate_limiter: Arc::clone(rate_limiter),
            on_sent: Box::new(on_sent),
            bytes_sent: 0,
            first_offset: None,
            error: None,
        }
    }

    /// Opens the source before the request starts, because a remote source may be slow to answer
    /// and the registry would time out.
    pub(super) async fn open_at(&mut self, offset: u64) -> Result<(), SourceReadError> {
        self.error = None;
        self.reader.open_at(offset).await
    }

    /// Checks the digest of a blob whose last bytes an earlier run may have sent.
    pub(super) async fn verify_rest(&mut self) -> Result<(), SourceReadError> {
        self.reader.verify_rest().await
    }

    /// Returns how many bytes of a blob of `size` bytes were passed to the network, once its last one
    /// was.
    pub(super) fn sent_bytes(&self, size: u64) -> SentBytes {
        let needed = size - self.first_offset.unwrap_or(size).min(size);
        let bytes = self.bytes_sent.min(needed);
        SentBytes {
            bytes,
            resent: self.bytes_sent - bytes,
        }
    }

    async fn next(&mut self, offset: u64, left: u64) -> io::Result<Bytes> {
        let max_bytes = left.min(self.rate_limiter.max_piece(MAX_READ_BYTES));
        let piece = match self.reader.read(offset, max_bytes).await {
            Ok(piece) if piece.is_empty() => {
                let what = format!("the blob ends after {offset} bytes");
                Err(SourceReadError::Mismatch(what))
            }
            read => read,
        };
        let piece = piece.map_err(|error| {
            self.error = Some(error);
            io::Error::from(io::ErrorKind::BrokenPipe)
        })?;
        let len = piece.len() as u64;
        self.rate_limiter.acquire(len).await;
        self.bytes_sent += len;
        self.first_offset = Some(self.first_offset.unwrap_or(offset).min(offset));
        (self.on_sent)(len, offset + len);
        Ok(piece)
    }
}

/// Returns a range of a blob. The stream ends with an error if the blob is shorter.
pub(super) fn stream_range(
    body: &Arc<Mutex<BodyReader>>,
    range: Range<u64>,
) -> impl Stream<Item = io::Result<Bytes>> + Send + use<> {
    let body = Arc::clone(body);
    stream::try_unfold(range, move |range| {
        let body = Arc::clone(&body);
        async move {
            let left = range.end - range.start;
            if left == 0 {
                return Ok(None);
            }
            let piece = body.lock().await.next(range.start, left).await?;
            let rest = range.start + piece.len() as u64..range.end;
            Ok::<_, io::Error>(Some((piece, rest)))
        }
    })
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt;

    use super::*;
    use crate::image::Slice;

    async fn read(slice: &Slice, first: u64, len: u64) -> io::Result<Vec<u8>> {
        let source = BlobSource::Local(slice.clone());
        let body = BodyReader::new(source, &Arc::new(RateLimiter::new(None)), |_, _| {});
        let stream = stream_range(&Arc::new(Mutex::new(body)), first..first + len);
        let pieces: Vec<Bytes> = stream.try_collect().await?;
        Ok(pieces.concat())
    }

    #[tokio::test]
    async fn bytes_count_once_and_again() {
        let source = BlobSource::Local(Slice::memory(Bytes::from(vec![0; 100])));
        let body = BodyReader::new(source, &Arc::new(RateLimiter::new(None)), |_, _| {});
        let body = Arc::new(Mutex::new(body));
        let sent = async || body.lock().await.sent_bytes(100);
        let (bytes, resent) = (0, 0);
        assert_eq!(sent().await, SentBytes { bytes, resent });
        // An earlier push has sent 40 bytes. The connection breaks, and 20 bytes are lost.
        for range in [40..80, 60..100] {
            let stream = stream_range(&body, range);
            stream.try_collect::<Vec<_>>().await.unwrap();
        }
        let (bytes, resent) = (60, 20);
        assert_eq!(sent().await, SentBytes { bytes, resent });
        // The registry loses the session, with the bytes of the earlier push.
        let stream = stream_range(&body, 0..100);
        stream.try_collect::<Vec<_>>().await.unwrap();
        let (bytes, resent) = (100, 80);
        assert_eq!(sent().await, SentBytes { bytes, resent });
    }

    #[tokio::test]
    async fn any_range_is_read_in_full_or_fails() {
        let size = MAX_READ_BYTES * 2 + 77;
        let bytes: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
        let slice = Slice::memory(Bytes::from(bytes.clone()));
        for (first, len) in [(0, size), (0, 0), (5, 1), (3, size - 3), (size - 1, 1)] {
            let range = first as usize..(first + len) as usize;
            assert_eq!(read(&slice, first, len).await.unwrap(), bytes[range]);
        }
        assert!(read(&slice, 0, size + 1).await.is_err());
        assert!(read(&slice, size, 1).await.is_err());
    }
}
