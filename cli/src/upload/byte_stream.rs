//! Streams a range of a blob's bytes as the body of a request.
//!
//! This module does not reopen or verify the source; the [`BlobReader`] does. Start reading at
//! [`read_range`].

use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, Stream};
use tokio::sync::Mutex;

use super::blob_reader::{BlobReader, SourceReadError};
use super::rate_limiter::RateLimiter;

/// The largest number of bytes to read at a time.
const MAX_READ_BYTES: u64 = 256 * 1024;

/// Returns `len` bytes of a blob from offset `first`, no faster than `limit` allows. The stream
/// ends with an error if the blob is shorter.
pub(super) fn read_range(
    flow: &Arc<Mutex<BlobReader>>,
    first: u64,
    len: u64,
    limit: &Arc<RateLimiter>,
) -> impl Stream<Item = Result<Bytes, SourceReadError>> + Send + use<> {
    let (flow, limit) = (Arc::clone(flow), Arc::clone(limit));
    stream::unfold((first, len), move |(at, left)| {
        let (flow, limit) = (Arc::clone(&flow), Arc::clone(&limit));
        async move {
            if left == 0 {
                return None;
            }
            let most = left.min(limit.max_piece(MAX_READ_BYTES));
            let read = flow.lock().await.read(at, most).await;
            let piece = match read {
                Ok(piece) if piece.is_empty() => {
                    let what = format!("it ends after {at} bytes");
                    Err(SourceReadError::Mismatch(what))
                }
                read => read,
            };
            let read = piece.as_ref().map_or(0, |piece| piece.len() as u64);
            limit.acquire(read).await;
            let left = match &piece {
                Ok(_) => left - read,
                Err(_) => 0,
            };
            Some((piece, (at + read, left)))
        }
    })
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt;

    use super::super::blob_source::BlobSource;
    use super::*;
    use crate::image::Slice;

    async fn read(slice: &Slice, first: u64, len: u64) -> Result<Vec<u8>, SourceReadError> {
        let limit = Arc::new(RateLimiter::new(None));
        let flow = Arc::new(Mutex::new(BlobReader::new(BlobSource::Local(
            slice.clone(),
        ))));
        let pieces: Vec<Bytes> = read_range(&flow, first, len, &limit).try_collect().await?;
        Ok(pieces.concat())
    }

    #[tokio::test]
    async fn any_part_and_never_less_than_was_asked() {
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
