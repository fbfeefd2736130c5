//! Serves HTTP/1.1 or HTTP/2 on one connection.
//!
//! Sets the limits and timeouts of the HTTP library; the requests themselves go to `http`. Start
//! reading at [`serve`].

use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::Watcher;

use super::metered_stream::{ConnectionStream, MeteredStream};
use crate::http::{self, App, CloseReason, ConnectionActivity, ConnectionInfo};

/// The read buffer of an HTTP/1.1 connection, and so the longest head of a request. Each upload has
/// one in memory.
const MAX_READ_BUFFER_BYTES: usize = 64 * 1024;
/// HTTP/2 flow control: how much a client may send before it is read, per stream and per
/// connection. The windows are fixed because each connection may buffer all of it in memory; the
/// stock registry also has 1 MiB.
const HTTP2_STREAM_WINDOW_BYTES: u32 = 512 * 1024;
const HTTP2_CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;
/// How much is buffered for sending on one HTTP/2 stream.
const MAX_SEND_BUFFER_BYTES: usize = 64 * 1024;
const MAX_HTTP2_STREAMS: u32 = 16;
const MAX_HEADER_LIST_BYTES: u32 = 64 * 1024;
/// How often an HTTP/2 connection is checked with a PING, and how long the answer may take.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(30);

/// The HTTP versions that a connection may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HttpProtocol {
    /// HTTP/1.1 only.
    Http1,
    /// HTTP/2 only, as ALPN selected it.
    Http2,
    /// Either; the first bytes from the client decide.
    Either,
}

/// Serves a connection until the client closes it, a timeout expires, or the server shuts down.
pub(super) async fn serve(
    stream: ConnectionStream,
    protocol: HttpProtocol,
    info: ConnectionInfo,
    activity: Arc<ConnectionActivity>,
    app: Arc<App>,
    watcher: Watcher,
) {
    let (timeouts, builder) = (app.connection_timeouts(), http_builder());
    let stream = MeteredStream::new(stream, Arc::clone(&activity));
    let request_activity = Arc::clone(&activity);
    let service = service_fn(move |request| {
        http::serve(
            Arc::clone(&app),
            info,
            Arc::clone(&request_activity),
            request,
        )
    });
    let builder = match protocol {
        HttpProtocol::Http1 => builder.http1_only(),
        HttpProtocol::Http2 => builder.http2_only(),
        HttpProtocol::Either => builder,
    };
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        // Only debug: the network or the client failed, and each request has its own log line.
        ended = watcher.watch(connection) => if let Err(error) = ended {
            tracing::debug!(%error, "connection failed");
        },
        reason = activity.wait_for_timeout(timeouts) => match reason {
            CloseReason::Stalled(timeout) => tracing::warn!(
                "closing a connection: the client read nothing for {} s",
                timeout.as_secs()
            ),
            CloseReason::SlowHead(timeout) => tracing::debug!(
                "closing a connection: the client sent no complete request within {} s",
                timeout.as_secs()
            ),
            CloseReason::Idle => tracing::debug!("closing an idle connection"),
        },
    }
}

fn http_builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        // The head has a timeout of its own, which does not begin while a connection is idle.
        .header_read_timeout(None)
        .max_buf_size(MAX_READ_BUFFER_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(HTTP2_STREAM_WINDOW_BYTES)
        .initial_connection_window_size(HTTP2_CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(MAX_HTTP2_STREAMS)
        .max_send_buf_size(MAX_SEND_BUFFER_BYTES)
        .max_header_list_size(MAX_HEADER_LIST_BYTES)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT);
    builder
}
