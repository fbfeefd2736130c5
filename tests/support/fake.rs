//! An HTTP server whose responses a test defines. It records the requests.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use super::listener::Listener;

/// A request as the server received it.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    /// Path and query.
    pub target: String,
    /// The names are in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(header, _)| header == name)?;
        Some(value)
    }

    /// Returns the `Authorization` header, or an empty string.
    pub fn authorization(&self) -> &str {
        self.header("authorization").unwrap_or_default()
    }

    /// Returns method and path.
    pub fn line(&self) -> String {
        let path = self.target.split('?').next().unwrap_or_default();
        format!("{} {path}", self.method)
    }

    /// Returns all values of a query parameter.
    pub fn query(&self, name: &str) -> Vec<String> {
        let query = self.target.split_once('?').map_or("", |(_, query)| query);
        values(query.as_bytes(), name)
    }

    /// Returns the last value of a form field, or an empty string.
    #[allow(dead_code, reason = "only the tests of oci send forms")]
    pub fn field(&self, name: &str) -> String {
        values(&self.body, name).pop().unwrap_or_default()
    }
}

fn values(form: &[u8], name: &str) -> Vec<String> {
    let pairs = form_urlencoded::parse(form);
    let values = pairs.filter(|(key, _)| key == name);
    values.map(|(_, value)| value.into_owned()).collect()
}

/// A response of the server.
pub struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    /// The number of bytes of the body after which a function is called before the rest is sent.
    pause: Option<(usize, Box<dyn FnOnce() + Send>)>,
}

/// Returns an empty response with this status.
pub fn status(status: u16) -> Reply {
    Reply {
        status,
        headers: Vec::new(),
        body: Vec::new(),
        pause: None,
    }
}

impl Reply {
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    #[allow(dead_code, reason = "only the tests of the server use it")]
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Calls `wait` after the first `len` bytes of the body were sent.
    #[allow(dead_code, reason = "the tests of oci do not use it")]
    pub fn pause_after(mut self, len: usize, wait: impl FnOnce() + Send + 'static) -> Self {
        self.pause = Some((len, Box::new(wait)));
        self
    }
}

/// The action of the server for the body of a request, decided after the head.
pub enum BodyHandling {
    /// Read the whole body, and respond.
    Read,
    /// Respond and close the connection without reading the body.
    RespondEarly(Reply),
    /// Read this many bytes of the body, call the handler with them, and close the connection
    /// without a response.
    DisconnectAfter(usize),
}

/// A running server, stopped on drop.
pub struct FakeServer {
    listener: Listener,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl FakeServer {
    /// Starts a server on a free port that responds to each request with `respond`.
    pub fn start(respond: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_with_body_handling(|_| BodyHandling::Read, respond)
    }

    /// Starts a server that calls `handle_body` before it reads the body of a request.
    pub fn start_with_body_handling(
        handle_body: impl Fn(&Request) -> BodyHandling + Send + Sync + 'static,
        respond: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        Self::listen(listener, handle_body, respond)
    }

    /// Starts a server on a socket that already listens.
    pub fn start_at(
        listener: TcpListener,
        respond: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::listen(listener, |_| BodyHandling::Read, respond)
    }

    fn listen(
        listener: TcpListener,
        handle_body: impl Fn(&Request) -> BodyHandling + Send + Sync + 'static,
        respond: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let requests = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&requests);
        let listener = Listener::start_on(listener, move |stream, _| {
            // A client may disconnect in the middle of a request.
            let _ = serve(stream, &handle_body, &respond, &log);
        });
        Self { listener, requests }
    }

    pub fn address(&self) -> String {
        self.listener.address().to_string()
    }

    /// Returns the requests so far, in the order of arrival.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().expect("the log").clone()
    }

    /// Returns method and path of each request so far.
    pub fn lines(&self) -> Vec<String> {
        self.requests().iter().map(Request::line).collect()
    }
}

fn serve(
    stream: TcpStream,
    handle_body: &dyn Fn(&Request) -> BodyHandling,
    respond: &dyn Fn(&Request) -> Reply,
    log: &Mutex<Vec<Request>>,
) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut writer = stream;
    let mut line = || {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        Some(line.trim_end().to_owned())
    };
    let first = line()?;
    let mut words = first.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = Vec::new();
    loop {
        let header = line()?;
        let Some((name, value)) = header.split_once(':') else {
            break;
        };
        headers.push((name.to_lowercase(), value.trim().to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length = length.map_or(0, |(_, value)| value.parse().expect("a length"));
    let mut request = Request {
        method,
        target,
        headers,
        body: Vec::new(),
    };
    let (read, responds) = match handle_body(&request) {
        BodyHandling::Read => (length, true),
        BodyHandling::DisconnectAfter(size) => (size.min(length), false),
        BodyHandling::RespondEarly(reply) => {
            log.lock().expect("the log").push(request.clone());
            return send(&mut writer, &request, reply);
        }
    };
    request.body = vec![0; read];
    reader.read_exact(&mut request.body).ok()?;
    log.lock().expect("the log").push(request.clone());
    let reply = respond(&request);
    responds.then(|| send(&mut writer, &request, reply))?
}

fn send(writer: &mut TcpStream, request: &Request, reply: Reply) -> Option<()> {
    let mut text = format!(
        "HTTP/1.1 {} Whatever\r\nConnection: close\r\n",
        reply.status
    );
    let has_length = reply
        .headers
        .iter()
        .any(|(name, _)| *name == "Content-Length");
    if !has_length && reply.status != 204 {
        text += &format!("Content-Length: {}\r\n", reply.body.len());
    }
    for (name, value) in reply.headers {
        text += &format!("{name}: {value}\r\n");
    }
    text += "\r\n";
    let mut bytes = text.into_bytes();
    if request.method == "HEAD" {
        return writer.write_all(&bytes).ok();
    }
    let mut rest = &reply.body[..];
    if let Some((len, wait)) = reply.pause {
        let (first, last) = rest.split_at(len);
        bytes.extend_from_slice(first);
        writer.write_all(&bytes).ok()?;
        (bytes, rest) = (Vec::new(), last);
        wait();
    }
    bytes.extend_from_slice(rest);
    writer.write_all(&bytes).ok()
}
