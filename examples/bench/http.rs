//! A minimal HTTP/1.1 client, so that the client costs little CPU time.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

/// A persistent connection.
pub(super) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    address: SocketAddr,
}

/// The parts of a response that the benchmark uses.
#[derive(Debug)]
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) location: Option<String>,
    /// The length of the body in bytes.
    pub(super) len: u64,
}

impl Connection {
    pub(super) fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("a server that listens");
        stream.set_nodelay(true).expect("a socket option");
        Self {
            stream,
            buffer: vec![0; 256 * 1024],
            address,
        }
    }

    pub(super) fn get(&mut self, target: &str) -> Response {
        let response = self.send("GET", target, "", b"");
        assert_eq!(response.status, 200, "{target}");
        response
    }

    /// Sends a request with the additional header lines `head`, and reads the whole response.
    pub(super) fn send(&mut self, method: &str, target: &str, head: &str, body: &[u8]) -> Response {
        let accept = "application/vnd.oci.image.manifest.v1+json";
        let request = format!(
            "{method} {target} HTTP/1.1\r\nHost: {}\r\nAccept: {accept}\r\n{head}\
             Content-Length: {}\r\n\r\n",
            self.address,
            body.len()
        );
        self.stream.write_all(request.as_bytes()).expect("to send");
        self.stream.write_all(body).expect("to send");
        self.read_response(method == "HEAD")
    }

    /// Sends a prepared request, and reads the whole response.
    pub(super) fn send_prepared(&mut self, request: &[u8], is_head: bool) -> Response {
        self.stream.write_all(request).expect("to send");
        self.read_response(is_head)
    }

    fn read_response(&mut self, is_head: bool) -> Response {
        let mut filled = 0;
        let body_start = loop {
            let count = self
                .stream
                .read(&mut self.buffer[filled..])
                .expect("an answer");
            assert!(count > 0, "the connection ended");
            filled += count;
            let found = self.buffer[..filled]
                .windows(4)
                .position(|window| window == b"\r\n\r\n");
            if let Some(position) = found {
                break position + 4;
            }
        };
        let head = std::str::from_utf8(&self.buffer[..body_start]).expect("a head");
        let header = |name: &str| {
            let line = head.lines().find(|line| {
                line.get(..name.len())
                    .is_some_and(|start| start.eq_ignore_ascii_case(name))
            })?;
            Some(line[name.len()..].trim().to_owned())
        };
        let status = head[9..12].parse().expect("a status");
        let len = header("content-length:").map_or(0, |text| text.parse().expect("a length"));
        let location = header("location:");
        let mut left = if is_head {
            0
        } else {
            len - (filled - body_start) as u64
        };
        while left > 0 {
            let count = self.stream.read(&mut self.buffer).expect("a body");
            assert!(count > 0, "the connection ended");
            left -= count as u64;
        }
        Response {
            status,
            location,
            len,
        }
    }
}
