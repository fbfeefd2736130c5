//! Logs one line per request, and counts it, once its response is sent or given up.

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
use crate::metrics::{RequestInFlight, RequestOutcome};

/// How much of a path is logged. Valid paths are shorter.
const MAX_LOGGED_PATH_BYTES: usize = 1024;

/// The log entry of one request. It contains no query and no headers, because clients put secrets
/// there.
pub(super) struct AccessLogEntry {
    id: RequestId,
    client: Option<IpAddr>,
    method: Method,
    path: String,
    start: Instant,
    received_bytes: Arc<AtomicU64>,
    request_guard: RequestGuard,
}

impl AccessLogEntry {
    /// Creates the entry from the head of a request.
    pub(super) fn new(
        request: &Parts,
        id: RequestId,
        forwarded: &ForwardedInfo,
        request_guard: RequestGuard,
    ) -> Self {
        Self {
            id,
            client: forwarded.client,
            method: request.method.clone(),
            path: loggable_path(request.uri.path()),
            start: Instant::now(),
            received_bytes: Arc::default(),
            request_guard,
        }
    }

    /// Returns the counter of the bytes of the request body.
    pub(super) fn received_counter(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.received_bytes)
    }

    /// Attaches the entry to a response: the line is logged when the response body is dropped. Adds
    /// the id of the request to the response headers.
    pub(super) fn attach(
        mut self,
        mut response: Response<ResponseBody>,
        in_flight: Arc<RequestInFlight>,
    ) -> Response<ResponseBody> {
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
                in_flight,
                status,
                user,
                sent: 0,
                is_waiting: false,
            }
            .boxed_unsync()
        })
    }
}

/// Returns a path as it is logged: a long one is cut, and its length is stated.
fn loggable_path(path: &str) -> String {
    if path.len() <= MAX_LOGGED_PATH_BYTES {
        return path.to_owned();
    }
    let end = (0..=MAX_LOGGED_PATH_BYTES).rfind(|end| path.is_char_boundary(*end));
    let start = &path[..end.unwrap_or_default()];
    format!("{start}...({} bytes)", path.len())
}

/// A response body that logs the request when it is dropped.
struct LoggedBody {
    body: ResponseBody,
    entry: AccessLogEntry,
    in_flight: Arc<RequestInFlight>,
    status: StatusCode,
    user: Option<User>,
    sent: u64,
    /// Whether the last read waited for the server.
    is_waiting: bool,
}

impl LoggedBody {
    /// Records whether the response waits for the server or for the client.
    fn set_waiting(&mut self, is_waiting: bool) {
        if self.is_waiting == is_waiting {
            return;
        }
        self.is_waiting = is_waiting;
        let activity = self.entry.request_guard.activity();
        if is_waiting {
            activity.wait_for_server();
        } else {
            activity.wait_for_client();
        }
    }
}

impl HttpBody for LoggedBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        self.set_waiting(polled.is_pending());
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                self.sent += frame.data_ref().map_or(0, |data| data.len() as u64);
            }
            Poll::Ready(Some(Err(error))) => {
                let AccessLogEntry { id, path, .. } = &self.entry;
                tracing::error!(id = id.as_str(), path, %error, "the response was interrupted");
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
        let entry = &self.entry;
        let client = entry.client.map(|client| client.to_string());
        let duration = entry.start.elapsed();
        let ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let received = entry.received_bytes.load(Ordering::Relaxed);
        self.in_flight.end(&RequestOutcome {
            method: entry.method.as_str(),
            status: self.status.as_u16(),
            duration,
            received,
            sent: self.sent,
        });
        tracing::info!(
            target: ACCESS_LOG_TARGET,
            id = entry.id.as_str(),
            // A Unix socket has no client address.
            client = client.as_deref().unwrap_or("local"),
            user = self.user.as_ref().map_or("-", User::as_str),
            method = entry.method.as_str(),
            path = entry.path,
            status = self.status.as_u16(),
            received,
            sent = self.sent,
            ms,
            "request"
        );
    }
}
