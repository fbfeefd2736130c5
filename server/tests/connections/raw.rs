//! Connections without an HTTP client, for requests that are not complete.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use crate::support::Server;

/// Long enough for every server that answers at all.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

pub(super) fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(&server.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Opens a connection and sends the beginning of a request.
pub(super) fn send(server: &Server, text: &str) -> TcpStream {
    let mut stream = connect(server);
    stream.write_all(text.as_bytes()).unwrap();
    stream
}

/// Returns a request with a body, whose head is complete.
pub(super) fn request_with_body(method: &str, path: &str, len: usize) -> String {
    format!("{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len}\r\n\r\n")
}

/// Returns everything that a connection receives until it is closed.
pub(super) fn read_to_end(stream: &mut TcpStream) -> String {
    let mut received = Vec::new();
    match stream.read_to_end(&mut received) {
        Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("{error}"),
        _ => String::from_utf8_lossy(&received).into_owned(),
    }
}
