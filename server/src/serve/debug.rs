//! The debug address (`http.debug`): health check and Prometheus metrics, without authentication.
//!
//! Nothing secret may be served here. Start reading at [`serve`].

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::ready;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};

use crate::listen::{ACCEPT_RETRY_DELAY, AcceptedStream, Listener};
use crate::upstream::Upstreams;

/// How long a connection may stay open. Monitoring tools reconnect.
const MAX_DEBUG_CONNECTION_TIME: Duration = Duration::from_secs(30);
/// The most open connections. A further one replaces the oldest one.
const MAX_DEBUG_CONNECTIONS: usize = 16;
const MAX_REQUEST_HEAD_BYTES: usize = 16 * 1024;

/// The media type of Prometheus's text format.
const METRICS_CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The metrics and the path under which they are served.
#[derive(Clone)]
pub(super) struct MetricsEndpoint {
    pub(super) path: String,
    pub(super) upstreams: Upstreams,
}

/// Serves the debug address. Runs until aborted.
pub(super) async fn serve(listener: Listener, metrics: Option<MetricsEndpoint>) {
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
                let served = connection(stream, metrics.clone());
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

async fn connection(stream: TcpStream, metrics: Option<MetricsEndpoint>) {
    // Not an async closure: with one, rustc 1.95 crashes at every incremental build.
    let service =
        service_fn(|request| ready(Ok::<_, Infallible>(respond(&request, metrics.as_ref()))));
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

fn respond(
    request: &Request<Incoming>,
    metrics: Option<&MetricsEndpoint>,
) -> Response<Full<Bytes>> {
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    let path = request.uri().path();
    let metrics = metrics.filter(|metrics| metrics.path == path);
    let (status, text, media_type) = match (path, metrics) {
        ("/debug/health", _) | (_, Some(_)) if !is_read => (
            StatusCode::METHOD_NOT_ALLOWED,
            "method not allowed\n".to_owned(),
            "text/plain",
        ),
        ("/debug/health", _) => (StatusCode::OK, "{}\n".to_owned(), "application/json"),
        (_, Some(metrics)) => (
            StatusCode::OK,
            metrics.upstreams.render_metrics(),
            METRICS_CONTENT_TYPE,
        ),
        (_, None) => (
            StatusCode::NOT_FOUND,
            "not found\n".to_owned(),
            "text/plain",
        ),
    };
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}
