//! One line per request in the log, written once its answer has gone out or was given up.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode};

use super::body::ResponseBody;
use super::connection_activity::RequestGuard;
use super::forwarded::ForwardedInfo;
use super::request_id::{REQUEST_ID_HEADER, RequestId};
use crate::auth::User;
use crate::log::ACCESS_LOG_TARGET;

/// What is known when the request comes. Queries and headers are left out: clients put secrets
/// there.
pub(super) struct AccessLogEntry {
    id: RequestId,
    client: Option<IpAddr>,
    method: Method,
    path: String,
    began: Instant,
    received_bytes: Arc<AtomicU64>,
    request_guard: RequestGuard,
}

impl AccessLogEntry {
    pub(super) fn new(
        request: &Parts,
        origin: &ForwardedInfo,
        request_guard: RequestGuard,
    ) -> Self {
        Self {
            id: RequestId::of(&request.headers, origin.is_trusted),
            client: origin.client,
            method: request.method.clone(),
            path: request.uri.path().to_owned(),
            began: Instant::now(),
            received_bytes: Arc::default(),
            request_guard,
        }
    }

    /// Where the bytes of the request's body are counted.
    pub(super) fn received_counter(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.received_bytes)
    }

    /// Has the line written when the answer's body is done with, and tells the client the
    /// request's name.
    pub(super) fn attach(mut self, mut response: Response<ResponseBody>) -> Response<ResponseBody> {
        self.request_guard.begin_response();
        let status = response.status();
        let user = response.extensions_mut().remove::<User>();
        response
            .headers_mut()
            .insert(REQUEST_ID_HEADER, self.id.header());
        response.map(|body| {
            LoggedBody {
                body,
                entry: self,
                status,
                user,
                sent: 0,
            }
            .boxed_unsync()
        })
    }
}

struct LoggedBody {
    body: ResponseBody,
    entry: AccessLogEntry,
    status: StatusCode,
    user: Option<User>,
    sent: u64,
}

impl HttpBody for LoggedBody {
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
                let AccessLogEntry { id, path, .. } = &self.entry;
                tracing::error!(id = id.as_str(), path, %error, "an answer broke off");
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

impl Drop for LoggedBody {
    fn drop(&mut self) {
        let line = &self.entry;
        let client = line.client.map(|client| client.to_string());
        let ms = u64::try_from(line.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::info!(
            target: ACCESS_LOG_TARGET,
            id = line.id.as_str(),
            // Over a Unix socket it is this machine.
            client = client.as_deref().unwrap_or("local"),
            user = self.user.as_ref().map_or("-", User::as_str),
            method = line.method.as_str(),
            path = line.path,
            status = self.status.as_u16(),
            received = line.received_bytes.load(Ordering::Relaxed),
            sent = self.sent,
            ms,
            "request"
        );
    }
}
