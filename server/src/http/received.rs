//! A request's body, counted as it comes in.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

/// A request's body.
pub(super) struct Received {
    /// None where there is nothing to be read.
    body: Option<Incoming>,
    count: Arc<AtomicU64>,
    is_over: Arc<AtomicBool>,
}

/// A body that has no end.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    /// Its client or the line.
    #[error(transparent)]
    Line(#[from] hyper::Error),
    /// This server.
    #[error("the server is about to end")]
    Ending,
}

impl Received {
    /// The body, adding the bytes that arrive to `count`; nothing more of it comes once `is_over`
    /// is set, which is seen when it is asked for more.
    pub(super) fn new(body: Incoming, count: Arc<AtomicU64>, is_over: Arc<AtomicBool>) -> Self {
        Self {
            body: Some(body),
            count,
            is_over,
        }
    }

    /// No body at all, for an operation that takes none.
    pub(super) fn nothing() -> Self {
        Self {
            body: None,
            count: Arc::default(),
            is_over: Arc::default(),
        }
    }
}

impl Body for Received {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        if self.is_over.load(Ordering::Relaxed) && !self.is_end_stream() {
            return Poll::Ready(Some(Err(Broken::Ending)));
        }
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        let polled = Pin::new(body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            let len = frame.data_ref().map_or(0, |data| data.len() as u64);
            self.count.fetch_add(len, Ordering::Relaxed);
        }
        polled.map(|frame| frame.map(|frame| frame.map_err(Broken::from)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let none = SizeHint::with_exact(0);
        self.body.as_ref().map_or(none, Body::size_hint)
    }
}
