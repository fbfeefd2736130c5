//! Calls a method of a gRPC service, and reads the messages of its response.
//!
//! This module knows no message and does not connect. Start reading at [`call`].

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use percent_encoding::percent_decode_str;
use tokio::time::timeout;

use super::error::GrpcError;

/// The largest message in bytes, as in other clients of gRPC. The service sends 1 MiB of a blob in
/// a message.
const MAX_MESSAGE_BYTES: usize = 4 * 1024 * 1024;
/// The most bytes of an error message that are kept.
const MAX_STATUS_MESSAGE_CHARS: usize = 300;
/// The timeout of the start of a response, and of each further part of it.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(60);
/// The bytes before each message: whether it is compressed, and its length.
const MESSAGE_HEADER_BYTES: usize = 5;

/// The sending end of an HTTP/2 connection to the service.
pub(in crate::transports::daemon) type GrpcConnection = SendRequest<Full<Bytes>>;

/// The messages of a response, as they arrive.
#[derive(Debug)]
pub(in crate::transports::daemon) struct MessageStream {
    /// `None` after the end of a response without messages.
    body: Option<Incoming>,
    received: BytesMut,
}

/// Calls a method with one message. `headers` are added to those of gRPC.
///
/// # Errors
/// Returns an error if the connection breaks, or if the service reports an error before the first
/// message.
pub(in crate::transports::daemon) async fn call(
    connection: &mut GrpcConnection,
    path: &str,
    headers: &[(&'static str, &str)],
    message: &[u8],
) -> Result<MessageStream, GrpcError> {
    let mut frame = BytesMut::with_capacity(MESSAGE_HEADER_BYTES + message.len());
    let len = u32::try_from(message.len())
        .map_err(|_| GrpcError::Malformed("the request is too long".to_owned()))?;
    frame.put_u8(0);
    frame.put_u32(len);
    frame.put_slice(message);
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(format!("http://localhost{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request
        .body(Full::new(frame.freeze()))
        .map_err(|error| GrpcError::Malformed(error.to_string()))?;
    let sent = async {
        connection.ready().await?;
        connection.send_request(request).await
    };
    let response = in_time(sent).await?;
    let response = response.map_err(|error| GrpcError::connection(&error))?;
    if response.status() != StatusCode::OK {
        let status = response.status();
        let what = format!("the service answered HTTP status {status}");
        return Err(GrpcError::Malformed(what));
    }
    let received = BytesMut::new();
    // A response without messages has its trailers in the headers.
    if let Some(ended) = grpc_status(response.headers()) {
        return ended.map(|()| MessageStream {
            body: None,
            received,
        });
    }
    Ok(MessageStream {
        body: Some(response.into_body()),
        received,
    })
}

impl MessageStream {
    /// Returns the next message; `None` at the end of a complete response.
    ///
    /// # Errors
    /// Returns an error if the connection breaks, if the service reports an error, or if a message
    /// is too large.
    pub(in crate::transports::daemon) async fn next(&mut self) -> Result<Option<Bytes>, GrpcError> {
        loop {
            if let Some(message) = self.split_message()? {
                return Ok(Some(message));
            }
            let Some(body) = &mut self.body else {
                return Ok(None);
            };
            let Some(frame) = in_time(body.frame()).await? else {
                let what = "the response of the service was cut off";
                return Err(GrpcError::Connection(what.to_owned()));
            };
            let frame = frame.map_err(|error| GrpcError::connection(&error))?;
            match frame.into_data() {
                Ok(data) => self.received.extend_from_slice(&data),
                Err(other) => {
                    let trailers = other.into_trailers().unwrap_or_default();
                    return self.end(&trailers);
                }
            }
        }
    }

    /// Returns the next message if all of it has arrived.
    fn split_message(&mut self) -> Result<Option<Bytes>, GrpcError> {
        let Some(mut header) = self.received.get(..MESSAGE_HEADER_BYTES) else {
            return Ok(None);
        };
        let (is_compressed, len) = (header.get_u8() != 0, header.get_u32() as usize);
        if is_compressed || len > MAX_MESSAGE_BYTES {
            let what = format!("the service sent an invalid message of {len} bytes");
            return Err(GrpcError::Malformed(what));
        }
        let end = MESSAGE_HEADER_BYTES + len;
        if self.received.len() < end {
            self.received.reserve(end - self.received.len());
            return Ok(None);
        }
        let mut message = self.received.split_to(end).freeze();
        message.advance(MESSAGE_HEADER_BYTES);
        Ok(Some(message))
    }

    fn end(&mut self, trailers: &HeaderMap) -> Result<Option<Bytes>, GrpcError> {
        self.body = None;
        match grpc_status(trailers) {
            Some(Err(error)) => Err(error),
            Some(Ok(())) if self.received.is_empty() => Ok(None),
            Some(Ok(())) => {
                let what = "the service sent an incomplete message";
                Err(GrpcError::Malformed(what.to_owned()))
            }
            None => {
                let what = "the service sent no status";
                Err(GrpcError::Malformed(what.to_owned()))
            }
        }
    }
}

/// Returns the status in the trailers; `None` if there is none.
fn grpc_status(trailers: &HeaderMap) -> Option<Result<(), GrpcError>> {
    let code = trailers.get("grpc-status")?.to_str().ok();
    let message = trailers.get("grpc-message");
    let message = message.and_then(|message| message.to_str().ok());
    let message = percent_decode_str(message.unwrap_or_default()).decode_utf8_lossy();
    let message = message.chars().take(MAX_STATUS_MESSAGE_CHARS).collect();
    Some(match code.and_then(|code| code.parse().ok()) {
        Some(0) => Ok(()),
        Some(code) => Err(GrpcError::Status { code, message }),
        None => {
            let what = "the service sent an invalid status";
            Err(GrpcError::Malformed(what.to_owned()))
        }
    })
}

/// Waits for a part of a response.
async fn in_time<T>(part: impl Future<Output = T>) -> Result<T, GrpcError> {
    timeout(RESPONSE_TIMEOUT, part).await.map_err(|_| {
        let seconds = RESPONSE_TIMEOUT.as_secs();
        GrpcError::Connection(format!("the service sent nothing for {seconds} s"))
    })
}
