//! A request body that counts its bytes and ends early when the server shuts down.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use super::client_presence::ClientPresence;
use super::connection_activity::{DrainGuard, RequestActivity};

/// The body of a request.
pub(super) struct RequestBody {
    /// `None` once the body has ended or is abandoned.
    body: Option<Incoming>,
    is_started: bool,
    received_bytes: Arc<AtomicU64>,
    activity: Arc<RequestActivity>,
    /// Whether the last read waited for the client.
    is_waiting: bool,
    is_draining: bool,
    is_shutting_down: Arc<AtomicBool>,
    client: ClientPresence,
}

/// Why a body cannot be read to its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum RequestBodyError {
    /// The connection failed or the client closed it.
    #[error(transparent)]
    Connection(#[from] hyper::Error),
    /// The server is shutting down.
    #[error("the server is shutting down")]
    ShuttingDown,
}

impl RequestBody {
    /// Creates a body that adds the bytes it receives to `received_bytes`, and tells `activity`
    /// when it waits for the client. Once `is_shutting_down` is set, the next read fails.
    pub(super) fn new(
        body: Incoming,
        received_bytes: Arc<AtomicU64>,
        activity: Arc<RequestActivity>,
        is_shutting_down: Arc<AtomicBool>,
        client: ClientPresence,
    ) -> Self {
        Self {
            body: Some(body),
            is_started: false,
            received_bytes,
            activity,
            is_waiting: false,
            is_draining: false,
            is_shutting_down,
            client,
        }
    }

    /// Returns whether the client that sends the body is still connected.
    pub(super) fn client(&self) -> ClientPresence {
        self.client.clone()
    }

    /// Returns the state of the request.
    pub(super) fn activity(&self) -> &RequestActivity {
        &self.activity
    }

    /// Records that the rest of the body is only dropped, until the guard is dropped. From now on
    /// the request does not wait for it.
    pub(super) fn begin_drain(&mut self) -> DrainGuard {
        self.is_draining = true;
        self.activity.drain()
    }

    /// Returns whether anything has been read. The first read sends "100 Continue" to a client
    /// that expects it.
    pub(super) fn is_started(&self) -> bool {
        self.is_started
    }

    /// Gives up on the rest of a body that was interrupted.
    pub(super) fn abandon(&mut self) {
        self.body = None;
        self.set_waiting(false);
    }

    fn set_waiting(&mut self, is_waiting: bool) {
        if self.is_waiting == is_waiting || self.is_draining {
            return;
        }
        self.is_waiting = is_waiting;
        if is_waiting {
            self.activity.wait_for_client();
        } else {
            self.activity.wait_for_server();
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
        self.is_started = true;
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        let polled = Pin::new(body).poll_frame(context);
        self.set_waiting(polled.is_pending());
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                let len = frame.data_ref().map_or(0, |data| data.len() as u64);
                self.received_bytes.fetch_add(len, Ordering::Relaxed);
            }
            // A chunked body does not know by itself that it has ended.
            Poll::Ready(None) => self.body = None,
            Poll::Ready(Some(Err(_))) | Poll::Pending => {}
        }
        polled.map(|frame| frame.map(|frame| frame.map_err(RequestBodyError::from)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let empty = SizeHint::with_exact(0);
        self.body.as_ref().map_or(empty, Body::size_hint)
    }
}
