//! Sends a large response from memory that a slow client must give back when others need it.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, SizeHint};
use tokio::task::AbortHandle;

use super::body::ResponseBody;
use crate::memory_budget::{LeaseProgress, MemoryLease};

/// The bytes that are copied for the connection at a time.
const PIECE_BYTES: usize = 64 * 1024;

/// A body whose memory can be revoked.
struct LeasedBody {
    /// `None` once the memory is revoked.
    bytes: Arc<Mutex<Option<Bytes>>>,
    progress: LeaseProgress,
    sent: usize,
    len: usize,
    /// The task that holds the lease.
    holder: AbortHandle,
}

/// Creates a body that fails when its lease is revoked before the client has read everything.
pub(super) fn leased(bytes: Bytes, lease: MemoryLease) -> ResponseBody {
    let len = bytes.len();
    let bytes = Arc::new(Mutex::new(Some(bytes)));
    let revocable = Arc::clone(&bytes);
    let progress = lease.progress();
    // A task, because a body is not asked for more while its client reads nothing.
    let holder = tokio::spawn(async move {
        lease.revoked().await;
        lock(&revocable).take();
    });
    let body = LeasedBody {
        bytes,
        progress,
        sent: 0,
        len,
        holder: holder.abort_handle(),
    };
    body.boxed_unsync()
}

impl Body for LeasedBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.is_end_stream() {
            return Poll::Ready(None);
        }
        let end = self.len.min(self.sent + PIECE_BYTES);
        // A copy: a slice would keep all the memory.
        let piece = lock(&self.bytes)
            .as_ref()
            .map(|bytes| Bytes::copy_from_slice(&bytes[self.sent..end]));
        let Some(piece) = piece else {
            let text = "the client read too slowly while other requests needed the memory";
            return Poll::Ready(Some(Err(io::Error::other(text))));
        };
        self.sent = end;
        self.progress.record();
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.sent == self.len
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact((self.len - self.sent) as u64)
    }
}

impl Drop for LeasedBody {
    fn drop(&mut self) {
        self.holder.abort();
        lock(&self.bytes).take();
    }
}

fn lock(bytes: &Mutex<Option<Bytes>>) -> MutexGuard<'_, Option<Bytes>> {
    bytes.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory_budget::MemoryBudget;

    #[tokio::test(start_paused = true)]
    async fn a_slow_client_gives_the_memory_back() {
        let budget = MemoryBudget::new(1024 * 1024);
        let bytes = Bytes::from(vec![7; 1024 * 1024]);
        let whole = leased(bytes.clone(), budget.lease(bytes.len()).await.unwrap());
        assert_eq!(whole.collect().await.unwrap().to_bytes(), bytes);
        let mut slow = leased(bytes.clone(), budget.lease(bytes.len()).await.unwrap());
        assert!(slow.frame().await.unwrap().is_ok());
        assert!(budget.lease(bytes.len()).await.is_ok());
        assert!(slow.frame().await.unwrap().is_err());
    }
}
