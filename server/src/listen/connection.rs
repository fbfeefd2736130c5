//! One connection, HTTP/1.1 or HTTP/2, whichever the client begins with.

use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::Watcher;
use tokio::io::{AsyncRead, AsyncWrite};

use super::metered_stream::MeteredStream;
use crate::http::{self, App, CloseReason, ConnectionActivity, ConnectionInfo};

/// How long a connection may take to send a request's head, also when it waits between two.
const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(75);
/// What HTTP/1.1 reads ahead, and the most that a request's head may have.
const MAX_READ_BUFFER_BYTES: usize = 64 * 1024;
/// What an HTTP/2 client may send before somebody reads it. All of it may have to be kept, for each
/// connection, so this does not adapt itself to long lines; the stock registry has 1 MiB as well.
const HTTP2_STREAM_WINDOW_BYTES: u32 = 512 * 1024;
const HTTP2_CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;
/// What waits to be sent on one HTTP/2 stream.
const MAX_SEND_BUFFER_BYTES: usize = 64 * 1024;
const MAX_HTTP2_STREAMS: u32 = 16;
const MAX_HEADER_LIST_BYTES: u32 = 64 * 1024;
/// How often a quiet HTTP/2 connection is asked whether it is still there.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(30);

/// What a connection may speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HttpProtocol {
    /// HTTP/1.1 and nothing else.
    Http1,
    /// HTTP/2 and nothing else: so it was agreed on.
    Http2,
    /// Either, as the client begins.
    Either,
}

/// Serves a connection until its client closes it, it goes quiet, or the server stops.
pub(super) async fn serve<S>(
    stream: S,
    protocol: HttpProtocol,
    connection: ConnectionInfo,
    app: Arc<App>,
    watcher: Watcher,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let flow = Arc::new(ConnectionActivity::default());
    let (stalls, config) = (app.write_timeouts(), builder());
    let stream = MeteredStream::new(stream, Arc::clone(&flow));
    let counts = Arc::clone(&flow);
    let service = service_fn(move |request| {
        http::serve(Arc::clone(&app), connection, Arc::clone(&counts), request)
    });
    let builder = match protocol {
        HttpProtocol::Http1 => config.http1_only(),
        HttpProtocol::Http2 => config.http2_only(),
        HttpProtocol::Either => config,
    };
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        // What breaks here is a line or a client; requests report for themselves.
        ended = watcher.watch(connection) => if let Err(error) = ended {
            tracing::debug!(%error, "a connection ended badly");
        },
        why = flow.wait_for_timeout(stalls, HEADER_READ_TIMEOUT) => match why {
            CloseReason::Stalled(stall) => {
                tracing::warn!("a client took nothing for {} s", stall.as_secs());
            }
            CloseReason::Idle => tracing::debug!("a connection was idle"),
        },
    }
}

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_READ_TIMEOUT)
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
