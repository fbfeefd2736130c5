//! Just enough HTTP/1.1 to ask the same thing again and again on one connection.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

/// One connection that is kept.
pub(super) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    address: SocketAddr,
}

/// What is looked at in an answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) location: Option<String>,
    /// Of the body, in bytes.
    pub(super) len: u64,
}

impl Connection {
    pub(super) fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("a server that listens");
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            buffer: vec![0; 256 * 1024],
            address,
        }
    }

    pub(super) fn get(&mut self, target: &str) -> Answer {
        let answer = self.send("GET", target, "", b"");
        assert_eq!(answer.status, 200, "{target}");
        answer
    }

    /// Sends a request, `head` being further header lines, and reads the whole answer.
    pub(super) fn send(&mut self, method: &str, target: &str, head: &str, body: &[u8]) -> Answer {
        let accept = "application/vnd.oci.image.manifest.v1+json";
        let request = format!(
            "{method} {target} HTTP/1.1\r\nHost: {}\r\nAccept: {accept}\r\n{head}\
             Content-Length: {}\r\n\r\n",
            self.address,
            body.len()
        );
        self.stream.write_all(request.as_bytes()).expect("to send");
        self.stream.write_all(body).expect("to send");
        self.answer(method == "HEAD")
    }

    /// Sends what was prepared, and reads the whole answer.
    pub(super) fn repeat(&mut self, request: &[u8], is_head: bool) -> Answer {
        self.stream.write_all(request).expect("to send");
        self.answer(is_head)
    }

    fn answer(&mut self, is_head: bool) -> Answer {
        let mut filled = 0;
        let end = loop {
            let count = self
                .stream
                .read(&mut self.buffer[filled..])
                .expect("an answer");
            assert!(count > 0, "the connection ended");
            filled += count;
            let found = self.buffer[..filled]
                .windows(4)
                .position(|four| four == b"\r\n\r\n");
            if let Some(end) = found {
                break end + 4;
            }
        };
        let head = std::str::from_utf8(&self.buffer[..end]).expect("a head");
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
        let mut left = match is_head {
            true => 0,
            false => len - (filled - end) as u64,
        };
        while left > 0 {
            let count = self.stream.read(&mut self.buffer).expect("a body");
            assert!(count > 0, "the connection ended");
            left -= count as u64;
        }
        Answer {
            status,
            location,
            len,
        }
    }
}
