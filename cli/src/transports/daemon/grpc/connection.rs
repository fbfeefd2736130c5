//! Opens an HTTP/2 connection to the gRPC services of a daemon.
//!
//! Docker serves them over an upgraded connection (`POST /grpc`), which authorization plugins and
//! socket proxies see as a request to the API. Docker 29.2 and later also accept HTTP/2 without an
//! upgrade, as containerd's own socket does. Start reading at [`open`].

use std::time::Duration;

use http::StatusCode;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::call::GrpcConnection;
use super::error::GrpcError;
use crate::transports::daemon::DaemonAddress;
use crate::transports::daemon::connect::{Connector, DaemonStream};

/// The request for the upgrade. Later requests name no other host either, since the daemon ignores
/// it.
const UPGRADE_REQUEST: &[u8] = b"POST /grpc HTTP/1.1\r\nHost: localhost\r\n\
    Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n";
/// The longest response to the upgrade, in bytes, up to the end of its headers.
const MAX_RESPONSE_HEAD_BYTES: usize = 16 * 1024;
/// The bytes of one blob that may be on their way. With the 64 KiB that is the default of HTTP/2,
/// a local daemon sends at half the rate.
const STREAM_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// The bytes of all blobs together that may be on their way. They are in memory until they are
/// read.
const CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;
/// The largest headers or trailers of a response, in bytes.
const MAX_HEADER_BYTES: u32 = 16 * 1024;
/// The timeout of opening a connection, which may need a login over SSH.
const OPEN_TIMEOUT: Duration = Duration::from_secs(60);

/// Opens a connection by an upgrade, otherwise without one.
///
/// # Errors
/// Returns an error if the daemon is unreachable or refuses.
pub(in crate::transports::daemon) async fn open(
    connector: &Connector,
) -> Result<GrpcConnection, GrpcError> {
    let opened = timeout(OPEN_TIMEOUT, open_in_any_time(connector)).await;
    opened.unwrap_or_else(|_| {
        let seconds = OPEN_TIMEOUT.as_secs();
        let what = format!("the daemon did not answer within {seconds} s");
        Err(GrpcError::Connection(what))
    })
}

async fn open_in_any_time(connector: &Connector) -> Result<GrpcConnection, GrpcError> {
    let dial = || async {
        let stream = connector.connect().await;
        stream.map_err(|error| GrpcError::Connection(error.to_string()))
    };
    let mut stream = dial().await?;
    // Over TLS, Docker does not accept HTTP/2 without an upgrade.
    let is_tls = matches!(connector.address(), DaemonAddress::Tls { .. });
    match upgrade(&mut stream).await? {
        Some(StatusCode::SWITCHING_PROTOCOLS) => {}
        // The daemon has no such path, or does not speak HTTP/1.1.
        Some(StatusCode::NOT_FOUND) | None if !is_tls => stream = dial().await?,
        Some(status) => return Err(GrpcError::Refused(status)),
        None => {
            let what = "the daemon closed the connection without an answer to POST /grpc";
            return Err(GrpcError::Connection(what.to_owned()));
        }
    }
    let handshake = http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_header_list_size(MAX_HEADER_BYTES)
        .handshake(TokioIo::new(stream))
        .await;
    let (sender, connection) = handshake.map_err(|error| GrpcError::connection(&error))?;
    tokio::spawn(async move {
        // An error reaches the requests of this connection, too.
        let _ = connection.await;
    });
    Ok(sender)
}

/// Requests the upgrade. Returns the status of the response; `None` if it is not HTTP/1.1.
async fn upgrade(stream: &mut dyn DaemonStream) -> Result<Option<StatusCode>, GrpcError> {
    let broken = |error: std::io::Error| GrpcError::Connection(error.to_string());
    stream.write_all(UPGRADE_REQUEST).await.map_err(broken)?;
    let mut head = Vec::new();
    // Byte by byte, because HTTP/2 begins directly after the headers.
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(broken(error)),
        }
        if !b"HTTP/1.".starts_with(&head[..head.len().min(7)]) {
            return Ok(None);
        }
        if head.len() > MAX_RESPONSE_HEAD_BYTES {
            let what = "the response to POST /grpc is too long";
            return Err(GrpcError::Malformed(what.to_owned()));
        }
    }
    // `HTTP/1.1 101 Switching Protocols`
    let status = head.split(|byte| *byte == b' ').nth(1);
    let status = status.and_then(|status| StatusCode::from_bytes(status.trim_ascii()).ok());
    status.map(Some).ok_or_else(|| {
        let what = "the response to POST /grpc has no status";
        GrpcError::Malformed(what.to_owned())
    })
}
