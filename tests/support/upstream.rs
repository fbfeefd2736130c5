//! An upstream registry for tests. It records requests and can be configured to fail.

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
/// A secret in the headers of every response, which a cache must not pass on.
pub const SECRET: &str = "only-between-us";

/// The behavior of an upstream. By default everything works.
#[derive(Debug, Clone, Default)]
pub struct UpstreamSettings {
    /// Closes every connection without a response.
    pub is_down: bool,
    /// Reads requests and never responds.
    pub never_responds: bool,
    /// Responds to every request with this status, and with this `Retry-After` in seconds.
    pub status: Option<(u16, Option<u64>)>,
    /// Closes the connection once, after this many bytes of the next longer blob.
    pub cut_blob_at: Option<usize>,
    /// Sends content that does not match the digest.
    pub corrupts_content: bool,
    /// Responds to range requests with the whole blob.
    pub ignores_ranges: bool,
    /// Responds to range requests with 416.
    pub rejects_ranges: bool,
    /// Sends this wrong `Content-Length` once, for the next longer blob, and closes the connection
    /// after half of it.
    pub wrong_content_length: Option<usize>,
    /// Pauses every blob after this many bytes, until the setting is removed.
    pub pause_blob_at: Option<usize>,
    /// Requires a token for every request: user name and password for the token, and the number of
    /// requests for which it is valid.
    pub token_login: Option<(&'static str, &'static str, usize)>,
    /// The rate limit in the response headers: limit and remaining requests.
    pub rate_limit: Option<(u64, u64)>,
}

/// An image in an upstream.
#[derive(Debug, Clone)]
pub struct PublishedImage {
    /// The digest of the manifest.
    pub digest: String,
    pub manifest: Vec<u8>,
    /// Digest and content of each blob, the config last.
    pub blobs: Vec<(String, Vec<u8>)>,
}

#[derive(Default)]
struct State {
    settings: UpstreamSettings,
    /// By repository, and tag or digest.
    manifests: HashMap<(String, String), Vec<u8>>,
    /// By repository and digest.
    blobs: HashMap<(String, String), Arc<Vec<u8>>>,
    /// By repository and digest.
    referrers: HashMap<(String, String), String>,
    /// The number of requests left for each token.
    tokens: HashMap<String, usize>,
    issued_tokens: usize,
    requests: Vec<Request>,
}

/// A running upstream, stopped on drop.
pub struct Upstream {
    listener: Listener,
    shared: Arc<(Mutex<State>, Condvar)>,
}

impl Upstream {
    /// Starts an upstream on a free port.
    pub fn start() -> Self {
        let shared: Arc<(Mutex<State>, Condvar)> = Arc::default();
        let state = Arc::clone(&shared);
        let listener = Listener::start(move |stream, address| {
            // A client may disconnect in the middle of a request.
            let _ = serve(stream, address, &state);
        });
        Self { listener, shared }
    }

    pub fn address(&self) -> SocketAddr {
        self.listener.address()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.0.lock().expect("the state")
    }

    /// Changes the settings. Also applies to paused and unanswered requests.
    pub fn configure(&self, change: impl FnOnce(&mut UpstreamSettings)) {
        change(&mut self.state().settings);
        self.shared.1.notify_all();
    }

    /// Adds an image, and replaces the tag.
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
        let manifest_digest = digest(&manifest);
        state.manifests.insert(name(tag), manifest.clone());
        state
            .manifests
            .insert(name(&manifest_digest), manifest.clone());
        PublishedImage {
            digest: manifest_digest,
            manifest,
            blobs: blobs
                .into_iter()
                .map(|blob| (digest(&blob), blob))
                .collect(),
        }
    }

    /// Deletes a tag.
    pub fn remove(&self, repository: &str, tag: &str) {
        let name = (repository.to_owned(), tag.to_owned());
        self.state().manifests.remove(&name);
    }

    /// Sets the list of referrers of a digest (the JSON of an index).
    pub fn set_referrers(&self, repository: &str, digest: &str, index: String) {
        let name = (repository.to_owned(), digest.to_owned());
        self.state().referrers.insert(name, index);
    }

    /// Returns the requests so far, in the order of arrival.
    pub fn requests(&self) -> Vec<Request> {
        self.state().requests.clone()
    }

    /// Returns the number of requests with this method and a target that ends with `suffix`.
    pub fn count(&self, method: &str, suffix: &str) -> usize {
        let state = self.state();
        let is_counted =
            |request: &&Request| request.method == method && request.target.ends_with(suffix);
        state.requests.iter().filter(is_counted).count()
    }

    /// Deletes the recorded requests.
    pub fn clear_requests(&self) {
        self.state().requests.clear();
    }
}

fn serve(stream: TcpStream, address: SocketAddr, shared: &(Mutex<State>, Condvar)) -> Option<()> {
    let (state, changed) = shared;
    let lock = || state.lock().expect("the state");
    if lock().settings.is_down {
        return None;
    }
    let request = read(&stream)?;
    let settings = {
        let mut state = lock();
        state.requests.push(request.clone());
        state.settings.clone()
    };
    let mut writer = ResponseWriter {
        stream,
        is_head: request.method == "HEAD",
    };
    if settings.never_responds {
        let state = changed.wait_while(lock(), |state| state.settings.never_responds);
        drop(state.expect("the state"));
        return None;
    }
    if let Some((status, retry_after)) = settings.status {
        let retry_after = retry_after.map(|seconds| format!("Retry-After: {seconds}\r\n"));
        return writer.send(status, &retry_after.unwrap_or_default(), b"{}");
    }
    if request.target.starts_with("/token") {
        let (name, password, uses) = settings.token_login?;
        let basic = format!("{name}:{password}");
        let basic = STANDARD.encode(basic);
        if request.authorization() != format!("Basic {basic}") {
            return writer.send(401, "", b"{}");
        }
        let mut state = lock();
        state.issued_tokens += 1;
        let token = format!("token-{}", state.issued_tokens);
        state.tokens.insert(token.clone(), uses);
        drop(state);
        let body = format!(r#"{{"token":"{token}","expires_in":300}}"#);
        return writer.send(200, "", body.as_bytes());
    }
    if settings.token_login.is_some() {
        let token = request
            .authorization()
            .strip_prefix("Bearer ")
            .unwrap_or_default();
        let mut state = lock();
        let left = state.tokens.get_mut(token).filter(|left| **left > 0);
        let is_valid = left.map(|left| *left -= 1).is_some();
        drop(state);
        if !is_valid {
            let challenge = format!(
                "WWW-Authenticate: Bearer realm=\"http://{address}/token\",service=\"upstream\"\r\n"
            );
            return writer.send(401, &challenge, b"{}");
        }
    }
    let path = request.target.split('?').next().unwrap_or_default();
    let rest = path.strip_prefix("/v2/")?;
    let rate_limit = settings.rate_limit.map(|(limit, left)| {
        format!("ratelimit-limit: {limit};w=21600\r\nratelimit-remaining: {left};w=21600\r\n")
    });
    let rate_limit = rate_limit.unwrap_or_default();
    if let Some((repository, reference)) = rest.split_once("/manifests/") {
        let name = (repository.to_owned(), reference.to_owned());
        let manifest = lock().manifests.get(&name).cloned();
        let Some(mut manifest) = manifest else {
            let unknown =
                r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#;
            return writer.send(404, &rate_limit, unknown.as_bytes());
        };
        let digest = digest(&manifest);
        if settings.corrupts_content {
            manifest.push(b'\n');
        }
        let headers = format!(
            "{rate_limit}Content-Type: {OCI_MANIFEST}\r\nDocker-Content-Digest: {digest}\r\n"
        );
        return writer.send(200, &headers, &manifest);
    }
    if let Some((repository, digest)) = rest.split_once("/blobs/") {
        let name = (repository.to_owned(), digest.to_owned());
        let blob = lock().blobs.get(&name).cloned();
        return match blob {
            Some(blob) => send_blob(&mut writer, &request, &blob, &settings, shared),
            None => writer.send(404, "", br#"{"errors":[{"code":"BLOB_UNKNOWN"}]}"#),
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
        return writer.send(200, "Content-Type: application/json\r\n", body.as_bytes());
    }
    if let Some((repository, digest)) = rest.split_once("/referrers/") {
        let name = (repository.to_owned(), digest.to_owned());
        let index = lock().referrers.get(&name).cloned();
        let index = index.unwrap_or_else(|| r#"{"schemaVersion":2,"manifests":[]}"#.to_owned());
        return writer.send(200, "Content-Type: application/json\r\n", index.as_bytes());
    }
    writer.send(404, "", b"{}")
}

fn send_blob(
    writer: &mut ResponseWriter,
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
        return writer.send(416, "", b"");
    }
    let wrong_length = settings
        .wrong_content_length
        .filter(|length| *length < size);
    if let Some(length) = wrong_length.filter(|_| !writer.is_head) {
        let mut state = state.lock().expect("the state");
        state.settings.wrong_content_length = None;
        drop(state);
        writer.send_head(200, "", length)?;
        return writer.stream.write_all(&bytes[..length / 2]).ok();
    }
    let part = &bytes[first..];
    match first {
        0 => writer.send_head(200, "", part.len())?,
        _ => {
            let range = format!("Content-Range: bytes {first}-{}/{size}\r\n", size - 1);
            writer.send_head(206, &range, part.len())?;
        }
    }
    if writer.is_head {
        return Some(());
    }
    if let Some(after) = settings.cut_blob_at.filter(|after| *after < part.len()) {
        state.lock().expect("the state").settings.cut_blob_at = None;
        return writer.stream.write_all(&part[..after]).ok();
    }
    let Some(pause_at) = settings.pause_blob_at else {
        return writer.stream.write_all(part).ok();
    };
    let (before, after) = part.split_at(pause_at.min(part.len()));
    writer.stream.write_all(before).ok()?;
    let locked = state.lock().expect("the state");
    drop(
        changed
            .wait_while(locked, |state| state.settings.pause_blob_at.is_some())
            .expect("the state"),
    );
    writer.stream.write_all(after).ok()
}

struct ResponseWriter {
    stream: TcpStream,
    is_head: bool,
}

impl ResponseWriter {
    fn send_head(&mut self, status: u16, headers: &str, length: usize) -> Option<()> {
        let head = format!(
            "HTTP/1.1 {status} Whatever\r\nConnection: close\r\nContent-Length: {length}\r\n\
             Set-Cookie: session={SECRET}\r\nX-Internal: {SECRET}\r\n{headers}\r\n"
        );
        self.stream.write_all(head.as_bytes()).ok()
    }

    fn send(&mut self, status: u16, headers: &str, body: &[u8]) -> Option<()> {
        self.send_head(status, headers, body.len())?;
        if self.is_head {
            return Some(());
        }
        self.stream.write_all(body).ok()
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
