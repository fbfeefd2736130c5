//! Sends HTTP requests to a daemon, each on its own connection of any kind.

use std::error::Error;
use std::io;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use tokio::sync::mpsc;

use super::DaemonAddress;
use super::connect::Connector;

/// The body of a request.
pub(super) type RequestBody = UnsyncBoxBody<Bytes, io::Error>;

/// Returns an empty body.
pub(super) fn empty_body() -> RequestBody {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// Returns a body of these bytes.
pub(super) fn bytes_body(bytes: impl Into<Bytes>) -> RequestBody {
    let body = Full::new(bytes.into());
    body.map_err(|never| match never {}).boxed_unsync()
}

/// Returns a body whose chunks come from a channel. An error in it breaks the request off.
pub(super) fn channel_body(chunks: mpsc::Receiver<io::Result<Bytes>>) -> RequestBody {
    let frames = futures::stream::unfold(chunks, |mut chunks| async move {
        let chunk = chunks.recv().await?;
        Some((chunk.map(Frame::data), chunks))
    });
    StreamBody::new(frames).boxed_unsync()
}

/// The reason why a request got no response.
#[derive(Debug)]
pub(super) struct RequestError {
    /// The innermost cause.
    pub(super) reason: String,
    /// Whether the user lacks the permission to use the socket.
    pub(super) is_forbidden: bool,
}

/// Sends a request, and returns the response as soon as it begins.
///
/// # Errors
/// Returns an error if the daemon is unreachable, or if the connection breaks.
pub(super) async fn send(
    connector: &Connector,
    mut request: Request<RequestBody>,
) -> Result<Response<Incoming>, RequestError> {
    let host = match connector.address() {
        DaemonAddress::Tcp(authority) | DaemonAddress::Tls { authority, .. } => authority,
        DaemonAddress::Socket(_) | DaemonAddress::Pipe(_) | DaemonAddress::Ssh(_) => "localhost",
    };
    let host = HeaderValue::from_str(host).map_err(|error| RequestError::new(&error))?;
    request.headers_mut().insert(header::HOST, host);
    let stream = connector.connect().await;
    let stream = stream.map_err(|error| RequestError {
        is_forbidden: error.kind() == io::ErrorKind::PermissionDenied,
        ..RequestError::new(&error)
    })?;
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| RequestError::new(&error))?;
    let connection = tokio::spawn(connection);
    let error = match sender.send_request(request).await {
        Ok(response) => return Ok(response),
        Err(error) => error,
    };
    drop(sender);
    // The connection has ended before the request was sent; its own error tells why.
    if error.is_canceled()
        && let Ok(Err(cause)) = connection.await
    {
        return Err(RequestError::new(&cause));
    }
    Err(RequestError::new(&error))
}

impl RequestError {
    fn new(error: &(dyn Error + 'static)) -> Self {
        Self {
            reason: innermost(error),
            is_forbidden: false,
        }
    }
}

/// Returns the last error of a chain, which names the cause.
pub(super) fn innermost(error: &dyn Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
