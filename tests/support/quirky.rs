//! A registry in memory that does things in its own way, as the registries of this world do, and
//! says so when it was asked what makes no sense.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::bytes::digest;
use super::fake::{Early, Fake, Reply, Request, status};

/// How a registry is peculiar.
#[derive(Clone)]
pub struct Manners {
    /// What a PATCH that went well is answered with.
    pub took: u16,
    /// What it says that it holds, when it is asked: a `Range`, or nothing.
    pub says: fn(&Session) -> Option<String>,
    /// What the question is answered with.
    pub told: u16,
    /// Refuses a PATCH that makes sense.
    pub refuses: fn(&Request, &Session) -> Option<Reply>,
    /// Whether a PUT may bring the bytes.
    pub takes_whole: bool,
    /// The PATCHes, counted from 1, that break off in the middle.
    pub breaks: Vec<usize>,
    /// What becomes of a session when that happens.
    pub broken: Broken,
    /// The largest body, refused by whoever stands before it.
    pub most: Option<u64>,
    /// How that is said.
    pub too_large: fn() -> Reply,
    /// Whether it hangs up without reading what it refuses so.
    pub hangs_up: bool,
    /// `OCI-Chunk-Min-Length`
    pub chunk_min: Option<u64>,
    /// What a wish to mount comes to.
    pub mounts: Mounts,
    /// Whether tokens are asked for, but for reading.
    pub has_tokens: bool,
    /// Whether every Location is absolute.
    pub is_absolute: bool,
    /// Whether bytes that were taken are gone by the next request.
    pub forgets: bool,
}

/// What is left of a chunk that did not arrive whole.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// What arrived of it.
    Part,
    /// Nothing of it.
    Nothing,
    /// Nothing at all: the session is gone.
    Lost,
}

/// What a wish to mount comes to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mounts {
    /// What the other repository holds is mounted.
    Yes,
    /// A session is opened instead.
    No,
    /// It is refused.
    Refused,
    /// It says that it is, and it is not.
    Lies,
}

impl Default for Manners {
    fn default() -> Self {
        Self {
            took: 202,
            says: |session| Some(format!("0-{}", session.bytes.len().saturating_sub(1))),
            told: 204,
            refuses: |_, _| None,
            takes_whole: true,
            breaks: Vec::new(),
            broken: Broken::Part,
            most: None,
            too_large: || status(413),
            hangs_up: false,
            chunk_min: None,
            mounts: Mounts::No,
            has_tokens: false,
            is_absolute: false,
            forgets: false,
        }
    }
}

/// An open upload.
#[derive(Clone, Default)]
pub struct Session {
    /// What arrived.
    pub bytes: Vec<u8>,
    /// The lengths of the chunks that were taken.
    pub chunks: Vec<usize>,
}

/// The registry.
pub struct Quirky {
    fake: Fake,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    address: String,
    sessions: BTreeMap<usize, Session>,
    opened: usize,
    patches: usize,
    /// By repository and digest.
    blobs: HashMap<(String, String), Vec<u8>>,
    /// By repository and reference.
    manifests: HashMap<(String, String), (String, Vec<u8>)>,
    mounted: Vec<String>,
    complaints: Vec<String>,
}

impl Quirky {
    /// Starts one.
    pub fn start(manners: Manners) -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let (early, late) = (state.clone(), state.clone());
        let (before, manners) = (manners.clone(), manners);
        let fake = Fake::start_early(
            move |request| locked(&early).early(&before, request),
            move |request| locked(&late).answer(&manners, request),
        );
        locked(&state).address = fake.address();
        Self { fake, state }
    }

    /// `127.0.0.1:PORT`
    pub fn address(&self) -> SocketAddr {
        self.fake.address().parse().expect("an address")
    }

    /// What it was asked.
    pub fn seen(&self) -> Vec<Request> {
        self.fake.seen()
    }

    /// How many requests had this method, and a path with this in it.
    pub fn count(&self, method: &str, part: &str) -> usize {
        let seen = self.seen();
        let like = |it: &&Request| it.method == method && it.target.contains(part);
        seen.iter().filter(like).count()
    }

    /// Panics if something it was asked made no sense.
    pub fn assert_content(&self) {
        let state = locked(&self.state);
        assert!(state.complaints.is_empty(), "{:#?}", state.complaints);
    }

    /// The digests of what was mounted.
    pub fn mounted(&self) -> Vec<String> {
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
    fn early(&mut self, manners: &Manners, request: &Request) -> Early {
        let length = request.header("content-length");
        let length: u64 = length.map_or(0, |text| text.parse().expect("a length"));
        if manners.most.is_some_and(|most| length > most) && manners.hangs_up {
            return Early::Answer((manners.too_large)());
        }
        if request.method != "PATCH" {
            return Early::Read;
        }
        self.patches += 1;
        match manners.breaks.contains(&self.patches) {
            true => Early::Break(usize::try_from(length / 2).expect("a length")),
            false => Early::Read,
        }
    }

    fn answer(&mut self, manners: &Manners, request: &Request) -> Reply {
        if request.header("transfer-encoding").is_some() {
            self.complain(request, "a body without length");
        }
        if let Some(reply) = token(manners, request) {
            return reply;
        }
        if manners
            .most
            .is_some_and(|most| request.body.len() as u64 > most)
        {
            return (manners.too_large)();
        }
        let path = request.target.split('?').next().unwrap_or_default();
        let path = path.strip_prefix("/v2/").unwrap_or_default();
        if let Some((name, place)) = path.split_once("/blobs/uploads/") {
            return match place.is_empty() {
                true => self.open(manners, request, name),
                false => self.upload(manners, request, name, place),
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

    fn open(&mut self, manners: &Manners, request: &Request, name: &str) -> Reply {
        let one = |field: &str| request.query(field).pop();
        if let (Some(wanted), Some(from)) = (one("mount"), one("from")) {
            match manners.mounts {
                Mounts::Yes => {
                    let there = self.blobs.get(&(from, wanted.clone())).cloned();
                    if let Some(bytes) = there {
                        self.mounted.push(wanted.clone());
                        self.blobs.insert((name.to_owned(), wanted), bytes);
                        return status(201);
                    }
                }
                Mounts::Refused => return status(405),
                Mounts::Lies => return status(201),
                Mounts::No => {}
            }
        }
        self.opened += 1;
        let id = self.opened;
        self.sessions.insert(id, Session::default());
        let reply = self.located(manners, status(202), name, id);
        match manners.chunk_min {
            Some(least) => reply.header("OCI-Chunk-Min-Length", least.to_string()),
            None => reply,
        }
    }

    /// Where a session goes on; the place is another after every answer.
    fn located(&self, manners: &Manners, reply: Reply, name: &str, id: usize) -> Reply {
        let base = match manners.is_absolute {
            true => format!("http://{}", self.address),
            false => String::new(),
        };
        let at = self.sessions.get(&id).map_or(0, |it| it.bytes.len());
        let place = format!("{base}/v2/{name}/blobs/uploads/{id}?_state=s%2F{at}%3D%3D");
        reply.header("Location", place)
    }

    fn upload(&mut self, manners: &Manners, request: &Request, name: &str, place: &str) -> Reply {
        let id: usize = place.parse().expect("a session's number");
        if request.query("_state").len() != 1 {
            self.complain(request, "a place that was never named");
        }
        let Some(mut session) = self.sessions.remove(&id) else {
            return status(404).body(r#"{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN"}]}"#);
        };
        let reply = match &*request.method {
            "GET" => {
                let reply = status(manners.told);
                match (manners.told, (manners.says)(&session)) {
                    (204, Some(range)) => reply.header("Range", range),
                    _ => reply,
                }
            }
            "PATCH" => match self.patch(manners, request, &mut session) {
                Some(reply) => reply,
                None => return status(500),
            },
            "PUT" => return self.finish(manners, request, name, session),
            "DELETE" => return status(204),
            _ => status(405),
        };
        self.sessions.insert(id, session);
        self.located(manners, reply, name, id)
    }

    /// Takes a chunk; `None` where that was the session's end.
    fn patch(
        &mut self,
        manners: &Manners,
        request: &Request,
        session: &mut Session,
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
        if let Some(reply) = (manners.refuses)(request, session) {
            return Some(reply);
        }
        if first != session.bytes.len() {
            return Some(status(416));
        }
        if request.body.len() < length {
            match manners.broken {
                Broken::Part => session.bytes.extend_from_slice(&request.body),
                Broken::Nothing => {}
                Broken::Lost => return None,
            }
            return Some(status(500));
        }
        session.bytes.extend_from_slice(&request.body);
        session.chunks.push(length);
        let reply = status(manners.took);
        let reply = match (manners.says)(session) {
            Some(range) => reply.header("Range", range),
            None => reply,
        };
        if manners.forgets {
            session.bytes.clear();
        }
        Some(reply)
    }

    fn finish(
        &mut self,
        manners: &Manners,
        request: &Request,
        name: &str,
        session: Session,
    ) -> Reply {
        let mut bytes = session.bytes;
        if !request.body.is_empty() && !manners.takes_whole {
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
fn token(manners: &Manners, request: &Request) -> Option<Reply> {
    if !manners.has_tokens {
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
