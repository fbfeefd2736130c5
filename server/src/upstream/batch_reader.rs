//! Reads the body of a response of an upstream, several pieces at a time.
//!
//! Start reading at [`BatchReader`].

use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{FutureExt as _, StreamExt as _};
use imgsync_oci::client::{self, BlobDownload};
use tokio::time::timeout;

use super::UpstreamRepository;
use super::error::{UpstreamFailure, UpstreamFailureKind};

/// Time limit between two reads of a response body.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Number of bytes to collect before they are processed, if so many are available at once.
const MAX_BATCH_BYTES: usize = 256 * 1024;

/// Reads the body of a response in batches.
pub(super) struct BatchReader {
    pieces: BoxStream<'static, Result<Bytes, client::Error>>,
    /// The number of bytes to drop.
    skip: u64,
}

/// Pieces of a body that arrived together.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) pieces: Vec<Bytes>,
    /// How the body ended, if it did.
    pub(super) end: Option<Result<(), UpstreamFailure>>,
}

impl BatchReader {
    /// Reads the bytes of a blob from `offset` on. An upstream that ignores the range sends the blob
    /// from its start, so the bytes before `offset` are dropped.
    pub(super) fn new(response: BlobDownload, offset: u64) -> Self {
        Self {
            pieces: response.bytes,
            skip: offset.saturating_sub(response.first),
        }
    }

    /// Waits for the next piece, and collects what has already arrived after it, at most
    /// [`MAX_BATCH_BYTES`]. If the returned future is dropped, no piece is lost.
    pub(super) async fn next_batch(&mut self, source: &UpstreamRepository) -> Batch {
        let (mut batch, mut count) = (Batch::default(), 0);
        let Ok(mut next) = timeout(STALL_TIMEOUT, self.pieces.next()).await else {
            let message = format!("no data for {} s", STALL_TIMEOUT.as_secs());
            let failure = source.failure(UpstreamFailureKind::TimedOut, &message);
            batch.end = Some(Err(source.record_failure(failure)));
            return batch;
        };
        loop {
            match next {
                Some(Ok(mut piece)) => {
                    count += piece.len();
                    source.count_received_bytes(piece.len() as u64);
                    let dropped = self.skip.min(piece.len() as u64);
                    self.skip -= dropped;
                    let piece = piece.split_off(usize::try_from(dropped).unwrap_or(0));
                    batch.pieces.push(piece);
                }
                Some(Err(error)) => {
                    let name = source.upstream.settings.name();
                    let failure = UpstreamFailure::from_client(name, &error);
                    batch.end = Some(Err(source.record_failure(failure)));
                }
                None => batch.end = Some(Ok(())),
            }
            if batch.end.is_some() || count >= MAX_BATCH_BYTES {
                return batch;
            }
            match self.pieces.next().now_or_never() {
                Some(more) => next = more,
                None => return batch,
            }
        }
    }
}
