//! A minimal HTTP client that sends valid and invalid requests unchanged, each on a new connection.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A response.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    /// The names are in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Response {
    /// Returns the value of a header. The name must be in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(header, _)| header == name)?;
        Some(value)
    }

    /// Returns the body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// Returns the body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Panics unless this is an error response of the distribution spec with this status and code.
    pub fn assert_error(&self, status: u16, code: &str) {
        assert_eq!(self.status, status, "{}", self.text());
        assert_eq!(self.json()["errors"][0]["code"], code, "{}", self.text());
        let media_type = self.header("content-type").unwrap_or_default();
        assert!(media_type.starts_with("application/json"), "{media_type}");
    }
}

/// Sends a request and reads the response. The target is sent without any encoding.
pub fn send(
    address: SocketAddr,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Response {
    let mut stream = TcpStream::connect(address).expect("a connection");
    let timeout = Some(Duration::from_secs(60));
    stream.set_read_timeout(timeout).expect("a timeout");
    stream.set_write_timeout(timeout).expect("a timeout");
    let mut head = format!("{method} {target} HTTP/1.1\r\nHost: {address}\r\n");
    head += &format!("Connection: close\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    head += "\r\n";
    stream
        .write_all(head.as_bytes())
        .expect("a server that listens");
    // A server may respond and close the connection before it has read the whole body.
    let _ = stream.write_all(body);
    let mut received = Vec::new();
    if let Err(error) = stream.read_to_end(&mut received) {
        assert!(
            !received.is_empty(),
            "{method} {target}: no response: {error}"
        );
    }
    parse(&received, method)
}

/// Sends a `GET` request that accepts all types of manifests.
pub fn get(address: SocketAddr, target: &str) -> Response {
    send(address, "GET", target, &[("Accept", ACCEPT)], b"")
}

const ACCEPT: &str = "application/vnd.oci.image.manifest.v1+json, \
    application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, */*";

fn parse(received: &[u8], method: &str) -> Response {
    let end = received.windows(4).position(|window| window == b"\r\n\r\n");
    let end = end.expect("a complete head");
    let head = std::str::from_utf8(&received[..end]).expect("a head in ASCII");
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1));
    let headers = lines.map(|line| {
        let (name, value) = line.split_once(':').expect("a header");
        (name.to_lowercase(), value.trim().to_owned())
    });
    let mut response = Response {
        status: status.and_then(|word| word.parse().ok()).expect("a status"),
        headers: headers.collect(),
        body: received[end + 4..].to_vec(),
    };
    if response.header("transfer-encoding").is_some() {
        response.body = decode_chunked(&response.body);
    }
    let length = response
        .header("content-length")
        .and_then(|text| text.parse::<usize>().ok());
    if let Some(length) = length.filter(|_| method != "HEAD") {
        assert_eq!(response.body.len(), length, "{method}: the body was cut");
    }
    response
}

/// Decodes a chunked body (RFC 9112, section 7.1).
fn decode_chunked(mut body: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::new();
    loop {
        let end = body.windows(2).position(|window| window == b"\r\n");
        let end = end.expect("a chunk's size");
        let size = std::str::from_utf8(&body[..end]).expect("a size");
        let size = usize::from_str_radix(size, 16).expect("a size");
        if size == 0 {
            return decoded;
        }
        decoded.extend_from_slice(&body[end + 2..end + 2 + size]);
        body = &body[end + 2 + size + 2..];
    }
}
