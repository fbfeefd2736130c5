//! The debug address (`http.debug`): health checks and Prometheus metrics, without authentication.
//!
//! Nothing secret may be served here. Start reading at [`serve`].

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::task::{AbortHandle, JoinSet, spawn_blocking};
use tokio::time::{sleep, timeout};

use crate::listen::{ACCEPT_RETRY_DELAY, AcceptedStream, Listener};
use crate::metrics::{METRICS_CONTENT_TYPE, RequestMetrics, render};
use crate::registry::Registry;
use crate::status::ServerState;

/// How long a connection may stay open. Monitoring tools reconnect.
const MAX_DEBUG_CONNECTION_TIME: Duration = Duration::from_secs(30);
/// The most open connections. A further one replaces the oldest one.
const MAX_DEBUG_CONNECTIONS: usize = 16;
const MAX_REQUEST_HEAD_BYTES: usize = 16 * 1024;

/// The parts of the server that the debug address tells about.
pub(super) struct DebugPages {
    /// The path of the metrics; `None` if they are not served.
    pub(super) metrics_path: Option<String>,
    pub(super) registry: Registry,
    pub(super) server: Arc<ServerState>,
    pub(super) requests: Arc<RequestMetrics>,
    /// Whether the server has been asked to stop.
    pub(super) is_stopping: Arc<AtomicBool>,
}

/// Serves the debug address. Runs until aborted.
pub(super) async fn serve(listener: Listener, pages: DebugPages) {
    let pages = Arc::new(pages);
    // Aborts all connections when this future is dropped.
    let mut connections = JoinSet::new();
    let mut oldest_first: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        match listener.accept().await {
            Ok(AcceptedStream::Tcp(stream, _)) => {
                while connections.try_join_next().is_some() {}
                oldest_first.retain(|connection| !connection.is_finished());
                // Each request takes milliseconds, so the oldest connection is an idle one.
                if oldest_first.len() >= MAX_DEBUG_CONNECTIONS
                    && let Some(oldest) = oldest_first.pop_front()
                {
                    oldest.abort();
                }
                let served = connection(stream, Arc::clone(&pages));
                let served = timeout(MAX_DEBUG_CONNECTION_TIME, served);
                oldest_first.push_back(connections.spawn(served));
            }
            Ok(AcceptedStream::Unix(_)) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection on the debug address");
                sleep(ACCEPT_RETRY_DELAY).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, pages: Arc<DebugPages>) {
    // Not an async closure: with one, rustc 1.95 crashes at every incremental build.
    let service = service_fn(|request| respond(request, Arc::clone(&pages)));
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .max_buf_size(MAX_REQUEST_HEAD_BYTES);
    let served = builder
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "connection on the debug address failed");
    }
}

async fn respond(
    request: Request<Incoming>,
    pages: Arc<DebugPages>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path();
    let page = match path {
        "/debug/health" => Some(DebugPage::Health),
        "/healthz" => Some(DebugPage::Alive),
        "/readyz" => Some(DebugPage::Ready),
        _ if pages.metrics_path.as_deref() == Some(path) => Some(DebugPage::Metrics),
        _ => None,
    };
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    let (status, text, media_type) = match page {
        None => text(StatusCode::NOT_FOUND, "not found\n"),
        Some(_) if !is_read => text(StatusCode::METHOD_NOT_ALLOWED, "method not allowed\n"),
        Some(DebugPage::Health) => (StatusCode::OK, "{}\n".to_owned(), "application/json"),
        Some(DebugPage::Alive) => text(StatusCode::OK, "ok\n"),
        // Both read the disk.
        Some(page) => spawn_blocking(move || pages.read(page))
            .await
            .unwrap_or_else(|error| text(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string())),
    };
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    Ok(response)
}

/// A path of the debug address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DebugPage {
    /// The health check of the stock registry.
    Health,
    /// Whether the server runs.
    Alive,
    /// Whether requests can be answered.
    Ready,
    Metrics,
}

/// A response: its status, its text and its media type.
type DebugResponse = (StatusCode, String, &'static str);

fn text(status: StatusCode, text: &str) -> DebugResponse {
    (status, text.to_owned(), "text/plain")
}

impl DebugPages {
    fn read(&self, page: DebugPage) -> DebugResponse {
        if page == DebugPage::Metrics {
            self.metrics()
        } else {
            self.readiness()
        }
    }

    /// Answers 503 while the server stops, and if the storage folder cannot be read.
    fn readiness(&self) -> DebugResponse {
        if self.is_stopping.load(Ordering::Relaxed) {
            return text(StatusCode::SERVICE_UNAVAILABLE, "the server is stopping\n");
        }
        match self.registry.disk_space() {
            Ok(_) => text(StatusCode::OK, "ok\n"),
            Err(error) => {
                let reason = format!("cannot read the storage folder: {error}\n");
                text(StatusCode::SERVICE_UNAVAILABLE, &reason)
            }
        }
    }

    fn metrics(&self) -> DebugResponse {
        let last = self.registry.last_collection().unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot read the result of the last garbage collection");
            None
        });
        match render(&self.requests, &self.server, last.as_ref()) {
            Ok(metrics) => (StatusCode::OK, metrics, METRICS_CONTENT_TYPE),
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, &format!("{error}\n")),
        }
    }
}
