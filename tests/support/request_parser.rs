//! Follows HTTP/1.1 requests through a stream of bytes: where each begins, and how long its body
//! is (RFC 9112, section 6).

/// One request, as far as it was seen.
#[derive(Debug, Clone)]
pub struct ObservedRequest {
    /// Which connection it came on, counted from 0.
    pub connection: usize,
    /// `GET` and so on.
    pub method: String,
    /// The path and query.
    pub target: String,
    /// The body's size in bytes, where the head says it.
    pub content_length: Option<u64>,
    /// How much of the body was seen, in bytes.
    pub body: u64,
    /// Whether its end was seen.
    pub complete: bool,
    /// The status of the answer, once that has begun.
    pub status: Option<u16>,
}

impl ObservedRequest {
    /// Whether this writes to a blob: opens, continues or finishes an upload.
    pub fn writes_blob(&self) -> bool {
        let writes = ["POST", "PATCH", "PUT"].contains(&&*self.method);
        writes && self.target.contains("/blobs/uploads/")
    }

    /// Whether all of it was sent, and the registry said that it took it.
    pub fn was_accepted(&self) -> bool {
        self.complete && matches!(self.status, Some(200..300))
    }

    /// Whether this opens an upload session.
    pub fn opens_upload(&self) -> bool {
        self.method == "POST" && self.writes_blob()
    }

    /// Whether this reads a blob's bytes.
    pub fn reads_blob(&self) -> bool {
        let path = self.target.split('?').next().unwrap_or_default();
        self.method == "GET" && path.contains("/blobs/") && !path.contains("/blobs/uploads/")
    }

    /// Whether this puts a manifest.
    pub fn puts_manifest(&self) -> bool {
        self.method == "PUT" && self.target.contains("/manifests/")
    }

    /// The blob that this finishes the upload of.
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
        let end = if self.complete { "" } else { ", cut" };
        write!(f, "{method} {target} ({body} bytes{end})")
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
    /// The line end after a chunk.
    ChunkEnd {
        left: u8,
    },
    Trailer(Vec<u8>),
    /// Not HTTP/1.1: bytes are passed on and not understood.
    Opaque,
}

/// Follows the requests of one connection.
pub struct RequestParser {
    state: State,
    connection: usize,
    requests: Vec<ObservedRequest>,
}

impl RequestParser {
    /// Begins with the first byte of a connection.
    pub fn new(connection: usize) -> Self {
        Self {
            state: State::Head(Vec::new()),
            connection,
            requests: Vec::new(),
        }
    }

    /// Which connection this is.
    pub fn connection(&self) -> usize {
        self.connection
    }

    /// The requests seen so far, the last one perhaps in part.
    pub fn requests(&self) -> &[ObservedRequest] {
        &self.requests
    }

    /// Bytes came back: the last request has its answer, or a part of it.
    pub fn answer(&mut self, bytes: &[u8]) {
        let Some(request) = self.requests.last_mut() else {
            return;
        };
        let status = bytes
            .strip_prefix(b"HTTP/1.1 ")
            .and_then(|rest| rest.get(..3));
        let status = status.and_then(|word| std::str::from_utf8(word).ok()?.parse().ok());
        // Whatever comes later is a body, or stands behind a remark such as `100 Continue`.
        if request.status.is_none_or(|status| status < 200) {
            request.status = status.or(request.status);
        }
    }

    /// Takes the next bytes in.
    pub fn take(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let used = self.step(bytes);
            bytes = &bytes[used..];
        }
    }

    /// Takes some of the bytes in; yields how many.
    fn step(&mut self, bytes: &[u8]) -> usize {
        let state = std::mem::replace(&mut self.state, State::Opaque);
        let used;
        (self.state, used) = match state {
            State::Head(mut head) => {
                head.push(bytes[0]);
                match head.ends_with(b"\r\n\r\n") {
                    true => (self.begin(&head), 1),
                    false => (State::Head(head), 1),
                }
            }
            State::Body { left } => {
                let used = self.body(bytes, left);
                match left - used as u64 {
                    0 => (self.end(), used),
                    left => (State::Body { left }, used),
                }
            }
            State::ChunkSize(mut line) => {
                line.push(bytes[0]);
                match line.ends_with(b"\r\n") {
                    true => (chunk(&line), 1),
                    false => (State::ChunkSize(line), 1),
                }
            }
            State::ChunkBytes { left } => {
                let used = self.body(bytes, left);
                match left - used as u64 {
                    0 => (State::ChunkEnd { left: 2 }, used),
                    left => (State::ChunkBytes { left }, used),
                }
            }
            State::ChunkEnd { left: 1 } => (State::ChunkSize(Vec::new()), 1),
            State::ChunkEnd { left } => (State::ChunkEnd { left: left - 1 }, 1),
            State::Trailer(mut line) => {
                line.push(bytes[0]);
                match (line.ends_with(b"\r\n"), line.len()) {
                    (true, 2) => (self.end(), 1),
                    (true, _) => (State::Trailer(Vec::new()), 1),
                    (false, _) => (State::Trailer(line), 1),
                }
            }
            State::Opaque => (State::Opaque, bytes.len()),
        };
        used
    }

    fn begin(&mut self, head: &[u8]) -> State {
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
                let (own, value) = line.split_once(':')?;
                own.eq_ignore_ascii_case(name)
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
            Some(left) if left > 0 => State::Body { left },
            Some(_) | None => self.end(),
        }
    }

    fn body(&mut self, bytes: &[u8], left: u64) -> usize {
        let used = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        if let Some(request) = self.requests.last_mut() {
            request.body += used as u64;
        }
        used
    }

    fn end(&mut self) -> State {
        if let Some(request) = self.requests.last_mut() {
            request.complete = true;
        }
        State::Head(Vec::new())
    }
}

fn chunk(line: &[u8]) -> State {
    let text = String::from_utf8_lossy(line);
    let size = text.trim().split(';').next().unwrap_or_default();
    match u64::from_str_radix(size, 16) {
        Ok(0) => State::Trailer(Vec::new()),
        Ok(left) => State::ChunkBytes { left },
        Err(_) => State::Opaque,
    }
}
