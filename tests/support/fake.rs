//! An HTTP server whose answers a test writes, and which remembers what it was asked.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use super::listener::Listener;

/// A request as it arrived.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(header, _)| header == name)?;
        Some(value)
    }

    /// What stands in `Authorization`; empty without one.
    pub fn authorization(&self) -> &str {
        self.header("authorization").unwrap_or_default()
    }

    /// Method and path.
    pub fn line(&self) -> String {
        let path = self.target.split('?').next().unwrap_or_default();
        format!("{} {path}", self.method)
    }

    /// The values of a parameter of the query.
    pub fn query(&self, name: &str) -> Vec<String> {
        let query = self.target.split_once('?').map_or("", |(_, query)| query);
        values(query.as_bytes(), name)
    }

    /// The value of a field of a form.
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

/// An answer.
pub struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

pub fn status(status: u16) -> Reply {
    Reply {
        status,
        headers: Vec::new(),
        body: Vec::new(),
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
}

/// What to do once a request's head is there, and its body is not read yet.
pub enum Early {
    /// Read the body, and answer.
    Read,
    /// Answer, and hang up on whatever is still being sent.
    Answer(Reply),
    /// Read so much of the body, let the answer see that, and hang up without it.
    Break(usize),
}

/// The running server; it ends when this goes.
pub struct FakeServer {
    listener: Listener,
    seen: Arc<Mutex<Vec<Request>>>,
}

impl FakeServer {
    pub fn start(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_early(|_| Early::Read, answer)
    }

    /// The same; `early` sees requests without their bodies.
    pub fn start_early(
        early: impl Fn(&Request) -> Early + Send + Sync + 'static,
        answer: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        Self::listen(listener, early, answer)
    }

    /// Starts the server at an address of the caller's choice.
    pub fn start_at(
        listener: TcpListener,
        answer: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::listen(listener, |_| Early::Read, answer)
    }

    fn listen(
        listener: TcpListener,
        early: impl Fn(&Request) -> Early + Send + Sync + 'static,
        answer: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        let listener = Listener::start_on(listener, move |stream, _| {
            // A client that goes away in mid-request is its own affair.
            let _ = serve(stream, &early, &answer, &log);
        });
        Self { listener, seen }
    }

    /// `127.0.0.1:PORT`
    pub fn address(&self) -> String {
        self.listener.address().to_string()
    }

    /// What it was asked, in the order of arrival.
    pub fn requests(&self) -> Vec<Request> {
        self.seen.lock().expect("the log").clone()
    }

    /// Methods and paths of the same.
    pub fn lines(&self) -> Vec<String> {
        self.requests().iter().map(Request::line).collect()
    }
}

fn serve(
    stream: TcpStream,
    early: &dyn Fn(&Request) -> Early,
    answer: &dyn Fn(&Request) -> Reply,
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
    let (read, is_heard) = match early(&request) {
        Early::Read => (length, true),
        Early::Break(size) => (size.min(length), false),
        Early::Answer(reply) => {
            log.lock().expect("the log").push(request.clone());
            return send(&mut writer, &request, reply);
        }
    };
    request.body = vec![0; read];
    reader.read_exact(&mut request.body).ok()?;
    log.lock().expect("the log").push(request.clone());
    let reply = answer(&request);
    is_heard.then(|| send(&mut writer, &request, reply))?
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
    if request.method != "HEAD" {
        bytes.extend_from_slice(&reply.body);
    }
    writer.write_all(&bytes).ok()
}
