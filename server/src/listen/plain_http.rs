//! Detects a client that sends plain HTTP to a TLS port, and answers it with an explanation.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long a new connection may take to send its first byte.
const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(10);
/// The first byte of a TLS connection (RFC 8446, section 5.1: the content type `handshake`).
const TLS_HANDSHAKE_CONTENT_TYPE: u8 = 0x16;
/// How much of a plain HTTP request is read and discarded after the response.
const MAX_PLAIN_HTTP_BYTES: u64 = 64 * 1024;
const PLAIN_HTTP_RESPONSE: &[u8] =
    b"HTTP/1.0 400 Bad Request\r\nContent-Type: application/json\r\n\
    Connection: close\r\n\r\n{\"errors\":[{\"code\":\"UNSUPPORTED\",\
    \"message\":\"this port speaks TLS: use https://\"}]}\n";

/// Returns whether the client begins with a TLS handshake, without consuming any byte. A client
/// that begins with plain HTTP gets a 400 that names `https://`.
pub(super) async fn begins_with_tls(stream: &mut TcpStream) -> bool {
    let mut first = [0];
    match timeout(FIRST_BYTE_TIMEOUT, stream.peek(&mut first)).await {
        Ok(Ok(1)) if first == [TLS_HANDSHAKE_CONTENT_TYPE] => true,
        Ok(Ok(1)) if first[0].is_ascii_alphabetic() => {
            if let Ok(Err(error)) = timeout(FIRST_BYTE_TIMEOUT, reject_plain_http(stream)).await {
                tracing::debug!(%error, "cannot answer a plain HTTP request on the TLS port");
            }
            false
        }
        _ => false,
    }
}

async fn reject_plain_http(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(PLAIN_HTTP_RESPONSE).await?;
    stream.shutdown().await?;
    // Closing a socket with unread data resets the connection, and the response would be lost.
    let mut rest = stream.take(MAX_PLAIN_HTTP_BYTES);
    tokio::io::copy(&mut rest, &mut tokio::io::sink()).await?;
    Ok(())
}
