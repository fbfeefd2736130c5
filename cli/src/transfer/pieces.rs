//! Bytes that lie ready, as a stream for the network; any part of them, again and again.

use std::io::{self, Read};
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, Stream};

use super::limit::Limit;
use crate::source::{Reader, Slice};

/// How much is read at a time.
const PIECE: u64 = 256 * 1024;

/// The `len` bytes of `slice` from `first` on, as fast as `limit` lets them. Ends with an error where
/// there are fewer.
pub(super) fn pieces(
    slice: &Slice,
    first: u64,
    len: u64,
    limit: &Arc<Limit>,
) -> impl Stream<Item = io::Result<Bytes>> + Send + use<> {
    let start = Reading::Unopened(slice.clone(), first);
    let limit = Arc::clone(limit);
    stream::unfold((start, len), move |(reading, left)| {
        let limit = Arc::clone(&limit);
        async move {
            if left == 0 {
                return None;
            }
            let size = left.min(limit.piece(PIECE));
            limit.pass(size).await;
            let next = tokio::task::spawn_blocking(move || reading.next(size)).await;
            let next = next.unwrap_or_else(|_| Err(io::Error::other("the reading thread died")));
            Some(match next {
                Ok((piece, reader)) => {
                    let left = left - piece.len() as u64;
                    (Ok(piece), (Reading::Open(reader), left))
                }
                Err(error) => (Err(error), (Reading::Over, 0)),
            })
        }
    })
}

enum Reading {
    Unopened(Slice, u64),
    Open(Reader),
    Over,
}

impl Reading {
    fn next(self, size: u64) -> io::Result<(Bytes, Reader)> {
        let mut reader = match self {
            Self::Unopened(slice, first) => slice.read_from(first)?,
            Self::Open(reader) => reader,
            Self::Over => return Err(io::ErrorKind::UnexpectedEof.into()),
        };
        let mut piece = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
        reader.by_ref().take(size).read_to_end(&mut piece)?;
        if piece.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok((piece.into(), reader))
    }
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt;

    use super::*;

    async fn read(slice: &Slice, first: u64, len: u64) -> io::Result<Vec<u8>> {
        let limit = Arc::new(Limit::new(None));
        let pieces: Vec<Bytes> = pieces(slice, first, len, &limit).try_collect().await?;
        Ok(pieces.concat())
    }

    #[tokio::test]
    async fn any_part_and_never_less_than_was_asked() {
        let size = PIECE * 2 + 77;
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
