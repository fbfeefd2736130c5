//! A registry to fetch from, which misbehaves on order and remembers what it was asked.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::bytes::digest;
use super::fake::Request;
use super::image::Image;
use super::listener::Listener;

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// What only it and whoever is logged in there should know; it stands in every answer's headers.
pub const SECRET: &str = "only-between-us";

/// How it behaves. Everything that is not ordered is as it should be.
#[derive(Debug, Clone, Default)]
pub struct UpstreamSettings {
    /// It hangs up on everybody.
    pub is_down: bool,
    /// It takes requests and never answers.
    pub never_responds: bool,
    /// It answers everything with this status, and with these seconds in `Retry-After`.
    pub status: Option<(u16, Option<u64>)>,
    /// It breaks off the body of the next blob that is longer after so many bytes; once.
    pub cut_blob_at: Option<usize>,
    /// It sends other bytes than those asked for.
    pub corrupts_content: bool,
    /// It ignores ranges.
    pub ignores_ranges: bool,
    /// It refuses them.
    pub rejects_ranges: bool,
    /// It announces so many bytes of the next blob that is longer, and breaks off before that; once.
    pub short_content_length: Option<usize>,
    /// It stops within every blob's body after so many bytes, until it is told otherwise.
    pub pause_blob_at: Option<usize>,
    /// It wants a token for everything, got with this name and password, good for so many requests.
    pub token_login: Option<(&'static str, &'static str, usize)>,
    /// What it says of its limits: what is allowed, and what is left.
    pub rate_limit: Option<(u64, u64)>,
}

/// An image as it stands there.
#[derive(Debug, Clone)]
pub struct PublishedImage {
    /// The manifest's digest.
    pub digest: String,
    /// The manifest's bytes.
    pub manifest: Vec<u8>,
    /// The blobs: digest and bytes, the config last.
    pub blobs: Vec<(String, Vec<u8>)>,
}

#[derive(Default)]
struct State {
    settings: UpstreamSettings,
    /// By repository and tag or digest.
    manifests: HashMap<(String, String), Vec<u8>>,
    /// By repository and digest.
    blobs: HashMap<(String, String), Arc<Vec<u8>>>,
    referrers: HashMap<(String, String), String>,
    /// Uses that are left of each token.
    tokens: HashMap<String, usize>,
    issued: usize,
    seen: Vec<Request>,
}

/// The running registry; it ends when this goes.
pub struct Upstream {
    listener: Listener,
    shared: Arc<(Mutex<State>, Condvar)>,
}

impl Upstream {
    /// Starts one on a free port.
    pub fn start() -> Self {
        let shared: Arc<(Mutex<State>, Condvar)> = Arc::default();
        let served = Arc::clone(&shared);
        let listener = Listener::start(move |stream, address| {
            // A client that goes away in mid-request is its own affair.
            let _ = serve(stream, address, &served);
        });
        Self { listener, shared }
    }

    /// `127.0.0.1:PORT`
    pub fn address(&self) -> SocketAddr {
        self.listener.address()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.0.lock().expect("the state")
    }

    /// Changes how it behaves, also towards those whom it holds up.
    pub fn configure(&self, change: impl FnOnce(&mut UpstreamSettings)) {
        change(&mut self.state().settings);
        self.shared.1.notify_all();
    }

    /// Puts an image there.
    pub fn put(&self, repository: &str, tag: &str, image: &Image) -> PublishedImage {
        let mut blobs = image.compressed();
        let manifest = image.oci_manifest(&blobs);
        blobs.push(image.config.clone());
        let mut state = self.state();
        let name = |reference: &str| (repository.to_owned(), reference.to_owned());
        for blob in &blobs {
            let blob = Arc::new(blob.clone());
            state.blobs.insert(name(&digest(&blob)), blob);
        }
        let digest_of = digest(&manifest);
        state.manifests.insert(name(tag), manifest.clone());
        state.manifests.insert(name(&digest_of), manifest.clone());
        PublishedImage {
            digest: digest_of,
            manifest,
            blobs: blobs
                .into_iter()
                .map(|blob| (digest(&blob), blob))
                .collect(),
        }
    }

    /// Takes a tag away.
    pub fn remove(&self, repository: &str, tag: &str) {
        let name = (repository.to_owned(), tag.to_owned());
        self.state().manifests.remove(&name);
    }

    /// Has it list referrers of a digest: the JSON of an index.
    pub fn set_referrers(&self, repository: &str, digest: &str, index: String) {
        let name = (repository.to_owned(), digest.to_owned());
        self.state().referrers.insert(name, index);
    }

    /// What it was asked, in the order of arrival.
    pub fn requests(&self) -> Vec<Request> {
        self.state().seen.clone()
    }

    /// How often it was asked for something whose target ends so, in this way.
    pub fn count(&self, method: &str, end: &str) -> usize {
        let state = self.state();
        let asked = state.seen.iter();
        let asked = asked.filter(|it| it.method == method && it.target.ends_with(end));
        asked.count()
    }

    /// Forgets what it was asked.
    pub fn clear_requests(&self) {
        self.state().seen.clear();
    }
}

fn serve(stream: TcpStream, own: SocketAddr, shared: &(Mutex<State>, Condvar)) -> Option<()> {
    let (state, changed) = shared;
    let lock = || state.lock().expect("the state");
    if lock().settings.is_down {
        return None;
    }
    let request = read(&stream)?;
    let settings = {
        let mut state = lock();
        state.seen.push(request.clone());
        state.settings.clone()
    };
    let mut to = Answer {
        stream,
        is_head: request.method == "HEAD",
    };
    if settings.never_responds {
        let still = changed.wait_while(lock(), |state| state.settings.never_responds);
        drop(still.expect("the state"));
        return None;
    }
    if let Some((status, retry_after)) = settings.status {
        let retry_after = retry_after.map(|seconds| format!("Retry-After: {seconds}\r\n"));
        return to.small(status, &retry_after.unwrap_or_default(), b"{}");
    }
    if request.target.starts_with("/token") {
        let (name, password, uses) = settings.token_login?;
        let basic = format!("{name}:{password}");
        let basic = STANDARD.encode(basic);
        if request.authorization() != format!("Basic {basic}") {
            return to.small(401, "", b"{}");
        }
        let mut state = lock();
        state.issued += 1;
        let token = format!("token-{}", state.issued);
        state.tokens.insert(token.clone(), uses);
        drop(state);
        let body = format!(r#"{{"token":"{token}","expires_in":300}}"#);
        return to.small(200, "", body.as_bytes());
    }
    if settings.token_login.is_some() {
        let token = request
            .authorization()
            .strip_prefix("Bearer ")
            .unwrap_or_default();
        let mut state = lock();
        let left = state.tokens.get_mut(token).filter(|left| **left > 0);
        let is_good = left.map(|left| *left -= 1).is_some();
        drop(state);
        if !is_good {
            let wanted = format!(
                "WWW-Authenticate: Bearer realm=\"http://{own}/token\",service=\"upstream\"\r\n"
            );
            return to.small(401, &wanted, b"{}");
        }
    }
    let path = request.target.split('?').next().unwrap_or_default();
    let rest = path.strip_prefix("/v2/")?;
    let limits = settings.rate_limit.map(|(limit, left)| {
        format!("ratelimit-limit: {limit};w=21600\r\nratelimit-remaining: {left};w=21600\r\n")
    });
    let limits = limits.unwrap_or_default();
    if let Some((repository, reference)) = rest.split_once("/manifests/") {
        let name = (repository.to_owned(), reference.to_owned());
        let manifest = lock().manifests.get(&name).cloned();
        let Some(mut manifest) = manifest else {
            let unknown =
                r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#;
            return to.small(404, &limits, unknown.as_bytes());
        };
        let digest = digest(&manifest);
        if settings.corrupts_content {
            manifest.push(b'\n');
        }
        let headers =
            format!("{limits}Content-Type: {OCI_MANIFEST}\r\nDocker-Content-Digest: {digest}\r\n");
        return to.small(200, &headers, &manifest);
    }
    if let Some((repository, digest)) = rest.split_once("/blobs/") {
        let name = (repository.to_owned(), digest.to_owned());
        let blob = lock().blobs.get(&name).cloned();
        return match blob {
            Some(blob) => send_blob(&mut to, &request, &blob, &settings, shared),
            None => to.small(404, "", br#"{"errors":[{"code":"BLOB_UNKNOWN"}]}"#),
        };
    }
    if let Some(repository) = rest.strip_suffix("/tags/list") {
        let state = lock();
        let names = state
            .manifests
            .keys()
            .filter(|(name, _)| name == repository);
        let tags: Vec<_> = names
            .map(|(_, tag)| tag)
            .filter(|tag| !tag.contains(':'))
            .collect();
        let body = serde_json::json!({"name": repository, "tags": tags}).to_string();
        drop(state);
        return to.small(200, "Content-Type: application/json\r\n", body.as_bytes());
    }
    if let Some((repository, digest)) = rest.split_once("/referrers/") {
        let name = (repository.to_owned(), digest.to_owned());
        let index = lock().referrers.get(&name).cloned();
        let index = index.unwrap_or_else(|| r#"{"schemaVersion":2,"manifests":[]}"#.to_owned());
        return to.small(200, "Content-Type: application/json\r\n", index.as_bytes());
    }
    to.small(404, "", b"{}")
}

fn send_blob(
    to: &mut Answer,
    request: &Request,
    blob: &[u8],
    settings: &UpstreamSettings,
    (state, changed): &(Mutex<State>, Condvar),
) -> Option<()> {
    let range = request.header("range").filter(|_| !settings.ignores_ranges);
    let first = range.and_then(|range| {
        range
            .strip_prefix("bytes=")?
            .strip_suffix('-')?
            .parse()
            .ok()
    });
    let first: usize = first.unwrap_or(0);
    let mut bytes = blob.to_vec();
    if settings.corrupts_content {
        *bytes.last_mut()? ^= 1;
    }
    let size = bytes.len();
    if first > 0 && (first >= size || settings.rejects_ranges) {
        return to.small(416, "", b"");
    }
    if let Some(announced) = settings
        .short_content_length
        .filter(|it| *it < size && !to.is_head)
    {
        state
            .lock()
            .expect("the state")
            .settings
            .short_content_length = None;
        to.head(200, "", announced)?;
        return to.stream.write_all(&bytes[..announced / 2]).ok();
    }
    let part = &bytes[first..];
    match first {
        0 => to.head(200, "", part.len())?,
        _ => {
            let range = format!("Content-Range: bytes {first}-{}/{size}\r\n", size - 1);
            to.head(206, &range, part.len())?;
        }
    }
    if to.is_head {
        return Some(());
    }
    if let Some(after) = settings.cut_blob_at.filter(|after| *after < part.len()) {
        state.lock().expect("the state").settings.cut_blob_at = None;
        return to.stream.write_all(&part[..after]).ok();
    }
    let Some(held) = settings.pause_blob_at else {
        return to.stream.write_all(part).ok();
    };
    let (now, later) = part.split_at(held.min(part.len()));
    to.stream.write_all(now).ok()?;
    let locked = state.lock().expect("the state");
    drop(
        changed
            .wait_while(locked, |state| state.settings.pause_blob_at.is_some())
            .expect("the state"),
    );
    to.stream.write_all(later).ok()
}

struct Answer {
    stream: TcpStream,
    is_head: bool,
}

impl Answer {
    fn head(&mut self, status: u16, headers: &str, length: usize) -> Option<()> {
        let head = format!(
            "HTTP/1.1 {status} Whatever\r\nConnection: close\r\nContent-Length: {length}\r\n\
             Set-Cookie: session={SECRET}\r\nX-Internal: {SECRET}\r\n{headers}\r\n"
        );
        self.stream.write_all(head.as_bytes()).ok()
    }

    fn small(&mut self, status: u16, headers: &str, body: &[u8]) -> Option<()> {
        self.head(status, headers, body.len())?;
        match self.is_head {
            true => Some(()),
            false => self.stream.write_all(body).ok(),
        }
    }
}

fn read(stream: &TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut line = || {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        Some(line.trim_end().to_owned())
    };
    let first = line()?;
    let mut words = first.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = Vec::new();
    while let Some((name, value)) = line()?.split_once(':') {
        headers.push((name.to_lowercase(), value.trim().to_owned()));
    }
    Some(Request {
        method,
        target,
        headers,
        body: Vec::new(),
    })
}
