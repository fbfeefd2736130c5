//! One line per request in the log, written once its answer has gone out or was given up.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use hyper::{Method, Request, Response, StatusCode};

use super::body::Body;

/// What is known when the request comes. Queries are left out: some clients put secrets there.
pub(super) struct Line {
    method: Method,
    path: String,
    began: Instant,
}

impl Line {
    pub(super) fn new<B>(request: &Request<B>, began: Instant) -> Self {
        Self {
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
            began,
        }
    }

    /// Has the line written when the answer's body is done with.
    pub(super) fn attach(self, response: Response<Body>) -> Response<Body> {
        let status = response.status();
        response.map(|body| {
            Logged {
                body,
                line: self,
                status,
                sent: 0,
            }
            .boxed_unsync()
        })
    }
}

struct Logged {
    body: Body,
    line: Line,
    status: StatusCode,
    sent: u64,
}

impl HttpBody for Logged {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                self.sent += frame.data_ref().map_or(0, |data| data.len() as u64);
            }
            Poll::Ready(Some(Err(error))) => {
                tracing::error!(path = self.line.path, %error, "an answer broke off");
            }
            Poll::Ready(None) | Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Logged {
    fn drop(&mut self) {
        let Line {
            method,
            path,
            began,
        } = &self.line;
        let (status, ms) = (self.status.as_u16(), began.elapsed().as_millis());
        tracing::info!(%method, path, status, bytes = self.sent, ms, "request");
    }
}
