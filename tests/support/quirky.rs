//! A registry in memory that does things in its own way, as the registries of this world do, and
//! says so when it was asked what makes no sense.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::bytes::digest;
use super::fake::{Early, FakeServer, Reply, Request, status};

/// How a registry is peculiar.
#[derive(Clone)]
pub struct RegistryQuirks {
    /// What a PATCH that went well is answered with.
    pub patch_status: u16,
    /// What it says that it holds, when it is asked: a `Range`, or nothing.
    pub range_header: fn(&UploadSession) -> Option<String>,
    /// What the question is answered with.
    pub status_of_get: u16,
    /// Refuses a PATCH that makes sense.
    pub refuse_patch: fn(&Request, &UploadSession) -> Option<Reply>,
    /// Whether a PUT may bring the bytes.
    pub accepts_put_body: bool,
    /// The PATCHes, counted from 1, that break off in the middle.
    pub broken_patches: Vec<usize>,
    /// What becomes of a session when that happens.
    pub partial_chunk: PartialChunk,
    /// The largest body, refused by whoever stands before it.
    pub max_body_bytes: Option<u64>,
    /// How that is said.
    pub too_large_response: fn() -> Reply,
    /// Whether it hangs up without reading what it refuses so.
    pub responds_early: bool,
    /// `OCI-Chunk-Min-Length`
    pub min_chunk_bytes: Option<u64>,
    /// What a wish to mount comes to.
    pub mount_support: MountSupport,
    /// Whether tokens are asked for, but for reading.
    pub requires_token: bool,
    /// Whether every Location is absolute.
    pub absolute_locations: bool,
    /// Whether bytes that were taken are gone by the next request.
    pub loses_chunks: bool,
}

/// What is left of a chunk that did not arrive whole.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum PartialChunk {
    /// What arrived of it.
    Kept,
    /// Nothing of it.
    Dropped,
    /// Nothing at all: the session is gone.
    SessionLost,
}

/// What a wish to mount comes to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum MountSupport {
    /// What the other repository holds is mounted.
    Yes,
    /// A session is opened instead.
    No,
    /// It is refused.
    Refused,
    /// It says that it is, and it is not.
    FalseSuccess,
}

impl Default for RegistryQuirks {
    fn default() -> Self {
        Self {
            patch_status: 202,
            range_header: |session| Some(format!("0-{}", session.bytes.len().saturating_sub(1))),
            status_of_get: 204,
            refuse_patch: |_, _| None,
            accepts_put_body: true,
            broken_patches: Vec::new(),
            partial_chunk: PartialChunk::Kept,
            max_body_bytes: None,
            too_large_response: || status(413),
            responds_early: false,
            min_chunk_bytes: None,
            mount_support: MountSupport::No,
            requires_token: false,
            absolute_locations: false,
            loses_chunks: false,
        }
    }
}

/// An open upload.
#[derive(Clone, Default)]
pub struct UploadSession {
    /// What arrived.
    pub bytes: Vec<u8>,
    /// The lengths of the chunks that were taken.
    pub chunks: Vec<usize>,
}

/// The registry.
pub struct QuirkyRegistry {
    fake: FakeServer,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    address: String,
    sessions: BTreeMap<usize, UploadSession>,
    opened: usize,
    patches: usize,
    /// By repository and digest.
    blobs: HashMap<(String, String), Vec<u8>>,
    /// By repository and reference.
    manifests: HashMap<(String, String), (String, Vec<u8>)>,
    mounted: Vec<String>,
    complaints: Vec<String>,
}

impl QuirkyRegistry {
    /// Starts one.
    pub fn start(quirks: RegistryQuirks) -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let (early, late) = (state.clone(), state.clone());
        let (before, quirks) = (quirks.clone(), quirks);
        let fake = FakeServer::start_early(
            move |request| locked(&early).early(&before, request),
            move |request| locked(&late).answer(&quirks, request),
        );
        locked(&state).address = fake.address();
        Self { fake, state }
    }

    /// `127.0.0.1:PORT`
    pub fn address(&self) -> SocketAddr {
        self.fake.address().parse().expect("an address")
    }

    /// What it was asked.
    pub fn requests(&self) -> Vec<Request> {
        self.fake.requests()
    }

    /// How many requests had this method, and a path with this in it.
    pub fn count(&self, method: &str, part: &str) -> usize {
        let seen = self.requests();
        let like = |it: &&Request| it.method == method && it.target.contains(part);
        seen.iter().filter(like).count()
    }

    /// Panics if something it was asked made no sense.
    pub fn assert_valid_requests(&self) {
        let state = locked(&self.state);
        assert!(state.complaints.is_empty(), "{:#?}", state.complaints);
    }

    /// The digests of what was mounted.
    pub fn mounted_digests(&self) -> Vec<String> {
        locked(&self.state).mounted.clone()
    }

    /// How many sessions are still open.
    pub fn open_sessions(&self) -> usize {
        locked(&self.state).sessions.len()
    }
}

fn locked(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn early(&mut self, quirks: &RegistryQuirks, request: &Request) -> Early {
        let length = request.header("content-length");
        let length: u64 = length.map_or(0, |text| text.parse().expect("a length"));
        if quirks.max_body_bytes.is_some_and(|most| length > most) && quirks.responds_early {
            return Early::Answer((quirks.too_large_response)());
        }
        if request.method != "PATCH" {
            return Early::Read;
        }
        self.patches += 1;
        match quirks.broken_patches.contains(&self.patches) {
            true => Early::Break(usize::try_from(length / 2).expect("a length")),
            false => Early::Read,
        }
    }

    fn answer(&mut self, quirks: &RegistryQuirks, request: &Request) -> Reply {
        if request.header("transfer-encoding").is_some() {
            self.complain(request, "a body without length");
        }
        if let Some(reply) = token(quirks, request) {
            return reply;
        }
        if quirks
            .most
            .is_some_and(|most| request.body.len() as u64 > most)
        {
            return (quirks.too_large_response)();
        }
        let path = request.target.split('?').next().unwrap_or_default();
        let path = path.strip_prefix("/v2/").unwrap_or_default();
        if let Some((name, place)) = path.split_once("/blobs/uploads/") {
            return match place.is_empty() {
                true => self.open(quirks, request, name),
                false => self.upload(quirks, request, name, place),
            };
        }
        if let Some((name, digest)) = path.split_once("/blobs/") {
            let key = (name.to_owned(), digest.to_owned());
            return match self.blobs.get(&key) {
                Some(bytes) => content(bytes, "application/octet-stream"),
                None => status(404),
            };
        }
        if let Some((name, reference)) = path.split_once("/manifests/") {
            return self.manifest(request, name, reference);
        }
        match path {
            "" => status(200),
            _ => status(404),
        }
    }

    fn open(&mut self, quirks: &RegistryQuirks, request: &Request, name: &str) -> Reply {
        let one = |field: &str| request.query(field).pop();
        if let (Some(wanted), Some(from)) = (one("mount"), one("from")) {
            match quirks.mount_support {
                MountSupport::Yes => {
                    let there = self.blobs.get(&(from, wanted.clone())).cloned();
                    if let Some(bytes) = there {
                        self.mounted.push(wanted.clone());
                        self.blobs.insert((name.to_owned(), wanted), bytes);
                        return status(201);
                    }
                }
                MountSupport::Refused => return status(405),
                MountSupport::FalseSuccess => return status(201),
                MountSupport::No => {}
            }
        }
        self.opened += 1;
        let id = self.opened;
        self.sessions.insert(id, UploadSession::default());
        let reply = self.located(quirks, status(202), name, id);
        match quirks.min_chunk_bytes {
            Some(least) => reply.header("OCI-Chunk-Min-Length", least.to_string()),
            None => reply,
        }
    }

    /// Where a session goes on; the place is another after every answer.
    fn located(&self, quirks: &RegistryQuirks, reply: Reply, name: &str, id: usize) -> Reply {
        let base = match quirks.absolute_locations {
            true => format!("http://{}", self.address),
            false => String::new(),
        };
        let at = self.sessions.get(&id).map_or(0, |it| it.bytes.len());
        let place = format!("{base}/v2/{name}/blobs/uploads/{id}?_state=s%2F{at}%3D%3D");
        reply.header("Location", place)
    }

    fn upload(
        &mut self,
        quirks: &RegistryQuirks,
        request: &Request,
        name: &str,
        place: &str,
    ) -> Reply {
        let id: usize = place.parse().expect("a session's number");
        if request.query("_state").len() != 1 {
            self.complain(request, "a place that was never named");
        }
        let Some(mut session) = self.sessions.remove(&id) else {
            return status(404).body(r#"{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN"}]}"#);
        };
        let reply = match &*request.method {
            "GET" => {
                let reply = status(quirks.status_of_get);
                match (quirks.status_of_get, (quirks.range_header)(&session)) {
                    (204, Some(range)) => reply.header("Range", range),
                    _ => reply,
                }
            }
            "PATCH" => match self.patch(quirks, request, &mut session) {
                Some(reply) => reply,
                None => return status(500),
            },
            "PUT" => return self.finish(quirks, request, name, session),
            "DELETE" => return status(204),
            _ => status(405),
        };
        self.sessions.insert(id, session);
        self.located(quirks, reply, name, id)
    }

    /// Takes a chunk; `None` where that was the session's end.
    fn patch(
        &mut self,
        quirks: &RegistryQuirks,
        request: &Request,
        session: &mut UploadSession,
    ) -> Option<Reply> {
        let length = request.header("content-length").unwrap_or_default();
        let length: usize = length.parse().expect("a length");
        let first = match request.header("content-range").map(range) {
            None => 0,
            Some(Some((first, last))) if last + 1 - first == length => first,
            Some(_) => {
                self.complain(request, "a Content-Range that does not fit");
                0
            }
        };
        if let Some(reply) = (quirks.refuse_patch)(request, session) {
            return Some(reply);
        }
        if first != session.bytes.len() {
            return Some(status(416));
        }
        if request.body.len() < length {
            match quirks.partial_chunk {
                PartialChunk::Kept => session.bytes.extend_from_slice(&request.body),
                PartialChunk::Dropped => {}
                PartialChunk::SessionLost => return None,
            }
            return Some(status(500));
        }
        session.bytes.extend_from_slice(&request.body);
        session.chunks.push(length);
        let reply = status(quirks.patch_status);
        let reply = match (quirks.range_header)(session) {
            Some(range) => reply.header("Range", range),
            None => reply,
        };
        if quirks.loses_chunks {
            session.bytes.clear();
        }
        Some(reply)
    }

    fn finish(
        &mut self,
        quirks: &RegistryQuirks,
        request: &Request,
        name: &str,
        session: UploadSession,
    ) -> Reply {
        let mut bytes = session.bytes;
        if !request.body.is_empty() && !quirks.accepts_put_body {
            return status(400);
        }
        bytes.extend_from_slice(&request.body);
        let named = request.query("digest").pop().unwrap_or_default();
        if digest(&bytes) != named {
            return status(400).body(r#"{"errors":[{"code":"DIGEST_INVALID"}]}"#);
        }
        let before = self.blobs.insert((name.to_owned(), named), bytes);
        if before.is_some() {
            self.complain(request, "a blob that is there");
        }
        status(201)
    }

    fn manifest(&mut self, request: &Request, name: &str, reference: &str) -> Reply {
        let key = |reference: &str| (name.to_owned(), reference.to_owned());
        if request.method != "PUT" {
            return match self.manifests.get(&key(reference)) {
                Some((media_type, bytes)) => content(bytes, media_type),
                None => status(404),
            };
        }
        let text: serde_json::Value = serde_json::from_slice(&request.body).expect("a manifest");
        let layers = text["layers"].as_array().into_iter().flatten();
        for part in layers.chain([&text["config"]]) {
            let named = part["digest"].as_str().expect("a digest");
            if !self.blobs.contains_key(&key(named)) {
                self.complain(request, "a manifest before its blobs");
                return status(400);
            }
        }
        let media_type = request
            .header("content-type")
            .unwrap_or_default()
            .to_owned();
        let found = digest(&request.body);
        for reference in [reference, &*found] {
            let kept = (media_type.clone(), request.body.clone());
            self.manifests.insert(key(reference), kept);
        }
        status(201).header("Docker-Content-Digest", found)
    }

    fn complain(&mut self, request: &Request, what: &str) {
        let Request { method, target, .. } = request;
        self.complaints.push(format!("{what}: {method} {target}"));
    }
}

fn content(bytes: &[u8], media_type: &str) -> Reply {
    status(200)
        .header("Docker-Content-Digest", digest(bytes))
        .header("Content-Type", media_type)
        .header("Content-Length", bytes.len().to_string())
        .body(bytes)
}

/// `first-last`, and nothing else.
fn range(text: &str) -> Option<(usize, usize)> {
    let (first, last) = text.split_once('-')?;
    Some((first.parse().ok()?, last.parse().ok()?))
}

/// Gives tokens that name their scopes, and asks for the scope that a request needs.
fn token(quirks: &RegistryQuirks, request: &Request) -> Option<Reply> {
    if !quirks.requires_token {
        return None;
    }
    if request.line() == "GET /token" {
        let scopes = request.query("scope").join(" ");
        let body = serde_json::json!({ "token": scopes.replace(' ', ";") });
        return Some(status(200).body(body.to_string()));
    }
    if matches!(&*request.method, "GET" | "HEAD") {
        return None;
    }
    let path = request.target.split('?').next().unwrap_or_default();
    let name = path.strip_prefix("/v2/").unwrap_or_default();
    let parts = ["/blobs/", "/manifests/", "/tags/", "/_imgsync/"];
    let ends = parts.iter().filter_map(|part| name.find(part));
    let name = &name[..ends.min().unwrap_or(name.len())];
    let action = match &*request.method {
        "PUT" | "PATCH" | "DELETE" => "push",
        "POST" if request.target.contains("/uploads/") => "push",
        _ => "pull",
    };
    let mut needed = vec![(name.to_owned(), action)];
    needed.extend(request.query("from").into_iter().map(|from| (from, "pull")));
    let bearer = request.authorization().strip_prefix("Bearer ");
    let may = |(name, action): &(String, &str)| {
        let scopes = bearer.into_iter().flat_map(|token| token.split(';'));
        let mut fields = scopes.map(|scope| scope.trim_start_matches("repository:"));
        fields.any(|scope| {
            let (of, actions) = scope.split_once(':').unwrap_or_default();
            of == name && actions.split(',').any(|it| it == *action)
        })
    };
    if needed.iter().all(may) {
        return None;
    }
    let host = request.header("host").unwrap_or_default();
    let challenge = format!(r#"Bearer realm="http://{host}/token",service="quirky""#);
    Some(status(401).header("WWW-Authenticate", challenge))
}
