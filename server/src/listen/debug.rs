//! The debug address: whether this server is well, for whatever watches over it. Nothing else is
//! there, and nothing secret.

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
use tokio::time::{sleep, timeout};

use super::ACCEPT_PAUSE;
use super::bind::{Listener, Stream};

/// How long a connection is kept. Who watches comes again.
const CONNECTION_TIME: Duration = Duration::from_secs(30);
/// How many connections there may be at a time.
const CONNECTIONS: usize = 16;

/// Answers for as long as the server runs.
pub(super) async fn serve(listener: Listener) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        match listener.accept().await {
            Ok(Stream::Tcp(stream, _)) => {
                while connections.try_join_next().is_some() {}
                if connections.len() < CONNECTIONS {
                    connections.spawn(timeout(CONNECTION_TIME, connection(stream)));
                }
            }
            Ok(Stream::Unix(_)) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot take a connection at the debug address");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(stream: TcpStream) {
    // An async closure here makes rustc 1.95 fail at every build after the first one.
    let service = service_fn(|request| ready(Ok::<_, Infallible>(answer(&request))));
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).max_buf_size(16 * 1024);
    let served = builder
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection at the debug address ended badly");
    }
}

fn answer(request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    let (status, text, media_type) = match request.uri().path() {
        "/debug/health" if reads => (StatusCode::OK, "{}\n", "application/json"),
        "/debug/health" => (
            StatusCode::METHOD_NOT_ALLOWED,
            "method not allowed\n",
            "text/plain",
        ),
        _ => (StatusCode::NOT_FOUND, "not found\n", "text/plain"),
    };
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}
