//! Parses the HTTP/1.1 requests in a stream of bytes: where each starts, and how long its body is
//! (RFC 9112, section 6).

/// A request, as far as its bytes were observed.
#[derive(Debug, Clone)]
pub struct ObservedRequest {
    /// The number of the connection, from 0.
    pub connection: usize,
    pub method: String,
    /// Path and query.
    pub target: String,
    pub content_length: Option<u64>,
    /// The bytes of the body so far.
    pub body: u64,
    /// Whether the whole body was observed.
    pub complete: bool,
    /// The status of the response, once it has started.
    pub status: Option<u16>,
}

impl ObservedRequest {
    /// Reports whether the request opens, continues or completes an upload session.
    pub fn writes_blob(&self) -> bool {
        let writes = ["POST", "PATCH", "PUT"].contains(&&*self.method);
        writes && self.target.contains("/blobs/uploads/")
    }

    /// Reports whether the request was complete and the registry responded with success.
    pub fn was_accepted(&self) -> bool {
        self.complete && matches!(self.status, Some(200..300))
    }

    /// Reports whether the request opens an upload session.
    pub fn opens_upload(&self) -> bool {
        self.method == "POST" && self.writes_blob()
    }

    /// Reports whether the request downloads a blob.
    pub fn reads_blob(&self) -> bool {
        let path = self.target.split('?').next().unwrap_or_default();
        self.method == "GET" && path.contains("/blobs/") && !path.contains("/blobs/uploads/")
    }

    /// Reports whether the request pushes a manifest.
    pub fn puts_manifest(&self) -> bool {
        self.method == "PUT" && self.target.contains("/manifests/")
    }

    /// Returns the digest of the blob whose upload the request completes.
    pub fn completed_digest(&self) -> Option<String> {
        let (_, query) = self.target.split_once('?')?;
        let value = query
            .split('&')
            .find_map(|pair| pair.strip_prefix("digest="))?;
        self.writes_blob().then(|| value.replace("%3A", ":"))
    }
}

impl std::fmt::Display for ObservedRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            method,
            target,
            body,
            ..
        } = self;
        let suffix = if self.complete { "" } else { ", cut" };
        write!(f, "{method} {target} ({body} bytes{suffix})")
    }
}

enum State {
    Head(Vec<u8>),
    Body {
        left: u64,
    },
    ChunkSize(Vec<u8>),
    ChunkBytes {
        left: u64,
    },
    /// The line break after the data of a chunk.
    ChunkEnd {
        left: u8,
    },
    Trailer(Vec<u8>),
    /// Not HTTP/1.1: the bytes are not parsed.
    Opaque,
}

/// A parser for the requests on one connection.
pub struct RequestParser {
    state: State,
    connection: usize,
    requests: Vec<ObservedRequest>,
}

impl RequestParser {
    /// Creates a parser for a connection from its first byte.
    pub fn new(connection: usize) -> Self {
        Self {
            state: State::Head(Vec::new()),
            connection,
            requests: Vec::new(),
        }
    }

    /// Returns the number of the connection.
    pub fn connection(&self) -> usize {
        self.connection
    }

    /// Returns the requests so far. The last one may be incomplete.
    pub fn requests(&self) -> &[ObservedRequest] {
        &self.requests
    }

    /// Adds bytes of the response to the last request.
    pub fn add_response(&mut self, bytes: &[u8]) {
        let Some(request) = self.requests.last_mut() else {
            return;
        };
        let status = bytes
            .strip_prefix(b"HTTP/1.1 ")
            .and_then(|rest| rest.get(..3));
        let status = status.and_then(|word| std::str::from_utf8(word).ok()?.parse().ok());
        // Later bytes are a body, or the final response after an interim one such as `100
        // Continue`.
        if request.status.is_none_or(|status| status < 200) {
            request.status = status.or(request.status);
        }
    }

    /// Adds bytes from the client.
    pub fn add(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let used = self.step(bytes);
            bytes = &bytes[used..];
        }
    }

    /// Parses some of the bytes, and returns how many.
    fn step(&mut self, bytes: &[u8]) -> usize {
        let state = std::mem::replace(&mut self.state, State::Opaque);
        let used;
        (self.state, used) = match state {
            State::Head(mut head) => {
                head.push(bytes[0]);
                if head.ends_with(b"\r\n\r\n") {
                    (self.start_request(&head), 1)
                } else {
                    (State::Head(head), 1)
                }
            }
            State::Body { left } => {
                let used = self.add_body(bytes, left);
                match left - used as u64 {
                    0 => (self.end_request(), used),
                    left => (State::Body { left }, used),
                }
            }
            State::ChunkSize(mut line) => {
                line.push(bytes[0]);
                if line.ends_with(b"\r\n") {
                    (parse_chunk_size(&line), 1)
                } else {
                    (State::ChunkSize(line), 1)
                }
            }
            State::ChunkBytes { left } => {
                let used = self.add_body(bytes, left);
                match left - used as u64 {
                    0 => (State::ChunkEnd { left: 2 }, used),
                    left => (State::ChunkBytes { left }, used),
                }
            }
            State::ChunkEnd { left: 1 } => (State::ChunkSize(Vec::new()), 1),
            State::ChunkEnd { left } => (State::ChunkEnd { left: left - 1 }, 1),
            State::Trailer(mut line) => {
                line.push(bytes[0]);
                if line == b"\r\n" {
                    (self.end_request(), 1)
                } else if line.ends_with(b"\r\n") {
                    (State::Trailer(Vec::new()), 1)
                } else {
                    (State::Trailer(line), 1)
                }
            }
            State::Opaque => (State::Opaque, bytes.len()),
        };
        used
    }

    fn start_request(&mut self, head: &[u8]) -> State {
        let text = String::from_utf8_lossy(head);
        let mut lines = text.split("\r\n");
        let mut words = lines.next().unwrap_or_default().split(' ');
        let (Some(method), Some(target), Some("HTTP/1.1")) =
            (words.next(), words.next(), words.next())
        else {
            return State::Opaque;
        };
        let header = |name: &str| {
            lines.clone().find_map(|line| {
                let (header, value) = line.split_once(':')?;
                header
                    .eq_ignore_ascii_case(name)
                    .then(|| value.trim().to_owned())
            })
        };
        let content_length = header("content-length").and_then(|text| text.parse().ok());
        self.requests.push(ObservedRequest {
            connection: self.connection,
            method: method.to_owned(),
            target: target.to_owned(),
            content_length,
            body: 0,
            complete: false,
            status: None,
        });
        if header("transfer-encoding").is_some() {
            return State::ChunkSize(Vec::new());
        }
        match content_length {
            Some(left @ 1..) => State::Body { left },
            _ => self.end_request(),
        }
    }

    fn add_body(&mut self, bytes: &[u8], left: u64) -> usize {
        let used = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        if let Some(request) = self.requests.last_mut() {
            request.body += used as u64;
        }
        used
    }

    fn end_request(&mut self) -> State {
        if let Some(request) = self.requests.last_mut() {
            request.complete = true;
        }
        State::Head(Vec::new())
    }
}

fn parse_chunk_size(line: &[u8]) -> State {
    let text = String::from_utf8_lossy(line);
    let size = text.trim().split(';').next().unwrap_or_default();
    match u64::from_str_radix(size, 16) {
        Ok(0) => State::Trailer(Vec::new()),
        Ok(left) => State::ChunkBytes { left },
        Err(_) => State::Opaque,
    }
}
