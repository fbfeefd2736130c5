//! A request's body, counted as it comes in.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

/// A request's body.
pub(super) struct RequestBody {
    /// None where there is nothing to be read.
    body: Option<Incoming>,
    received_bytes: Arc<AtomicU64>,
    is_shutting_down: Arc<AtomicBool>,
}

/// A body that has no end.
#[derive(Debug, thiserror::Error)]
pub(super) enum RequestBodyError {
    /// Its client or the line.
    #[error(transparent)]
    Connection(#[from] hyper::Error),
    /// This server.
    #[error("the server is about to end")]
    ShuttingDown,
}

impl RequestBody {
    /// The body, adding the bytes that arrive to `count`; nothing more of it comes once `is_over`
    /// is set, which is seen when it is asked for more.
    pub(super) fn new(
        body: Incoming,
        received_bytes: Arc<AtomicU64>,
        is_shutting_down: Arc<AtomicBool>,
    ) -> Self {
        Self {
            body: Some(body),
            received_bytes,
            is_shutting_down,
        }
    }

    /// No body at all, for an operation that takes none.
    pub(super) fn empty() -> Self {
        Self {
            body: None,
            received_bytes: Arc::default(),
            is_shutting_down: Arc::default(),
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = RequestBodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, RequestBodyError>>> {
        if self.is_shutting_down.load(Ordering::Relaxed) && !self.is_end_stream() {
            return Poll::Ready(Some(Err(RequestBodyError::ShuttingDown)));
        }
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        let polled = Pin::new(body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            let len = frame.data_ref().map_or(0, |data| data.len() as u64);
            self.received_bytes.fetch_add(len, Ordering::Relaxed);
        }
        polled.map(|frame| frame.map(|frame| frame.map_err(RequestBodyError::from)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let none = SizeHint::with_exact(0);
        self.body.as_ref().map_or(none, Body::size_hint)
    }
}
