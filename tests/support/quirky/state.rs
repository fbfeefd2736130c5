//! The content of the registry, and its responses.

use std::collections::{BTreeMap, HashMap};

use super::quirks::{MountSupport, PartialChunk, RegistryQuirks, UploadSession};
use super::tokens::check_token;
use crate::support::bytes::digest;
use crate::support::fake::{BodyHandling, Reply, Request, status};

#[derive(Default)]
pub(super) struct State {
    pub(super) address: String,
    pub(super) sessions: BTreeMap<usize, UploadSession>,
    session_count: usize,
    patch_count: usize,
    /// By repository and digest.
    blobs: HashMap<(String, String), Vec<u8>>,
    /// Media type and content, by repository and reference.
    manifests: HashMap<(String, String), (String, Vec<u8>)>,
    pub(super) mounted_digests: Vec<String>,
    /// Requests that violate the specification.
    pub(super) invalid_requests: Vec<String>,
}

impl State {
    pub(super) fn handle_body(
        &mut self,
        quirks: &RegistryQuirks,
        request: &Request,
    ) -> BodyHandling {
        let length = request.header("content-length");
        let length: u64 = length.map_or(0, |text| text.parse().expect("a length"));
        let is_too_large = quirks.max_body_bytes.is_some_and(|max| length > max);
        if is_too_large && quirks.responds_early {
            return BodyHandling::RespondEarly((quirks.too_large_response)());
        }
        if request.method != "PATCH" {
            return BodyHandling::Read;
        }
        self.patch_count += 1;
        if quirks.broken_patches.contains(&self.patch_count) {
            let half = usize::try_from(length / 2).expect("a length");
            return BodyHandling::DisconnectAfter(half);
        }
        BodyHandling::Read
    }

    pub(super) fn respond(&mut self, quirks: &RegistryQuirks, request: &Request) -> Reply {
        if request.header("transfer-encoding").is_some() {
            self.add_invalid_request(request, "a body without length");
        }
        if let Some(reply) = check_token(quirks, request) {
            return reply;
        }
        let length = request.body.len() as u64;
        if quirks.max_body_bytes.is_some_and(|max| length > max) {
            return (quirks.too_large_response)();
        }
        let path = request.target.split('?').next().unwrap_or_default();
        let path = path.strip_prefix("/v2/").unwrap_or_default();
        if let Some((repository, id)) = path.split_once("/blobs/uploads/") {
            if id.is_empty() {
                return self.open_session(quirks, request, repository);
            }
            return self.handle_session(quirks, request, repository, id);
        }
        if let Some((repository, digest)) = path.split_once("/blobs/") {
            let key = (repository.to_owned(), digest.to_owned());
            return match self.blobs.get(&key) {
                Some(bytes) => content(bytes, "application/octet-stream"),
                None => status(404),
            };
        }
        if let Some((repository, reference)) = path.split_once("/manifests/") {
            return self.handle_manifest(request, repository, reference);
        }
        match path {
            "" => status(200),
            _ => status(404),
        }
    }

    fn open_session(
        &mut self,
        quirks: &RegistryQuirks,
        request: &Request,
        repository: &str,
    ) -> Reply {
        let parameter = |name: &str| request.query(name).pop();
        if let (Some(digest), Some(from)) = (parameter("mount"), parameter("from")) {
            match quirks.mount_support {
                MountSupport::Yes => {
                    let blob = self.blobs.get(&(from, digest.clone())).cloned();
                    if let Some(bytes) = blob {
                        self.mounted_digests.push(digest.clone());
                        self.blobs.insert((repository.to_owned(), digest), bytes);
                        return status(201);
                    }
                }
                MountSupport::Refused => return status(405),
                MountSupport::FalseSuccess => return status(201),
                MountSupport::No => {}
            }
        }
        self.session_count += 1;
        let id = self.session_count;
        self.sessions.insert(id, UploadSession::default());
        let reply = self.add_location(quirks, status(202), repository, id);
        match quirks.min_chunk_bytes {
            Some(min) => reply.header("OCI-Chunk-Min-Length", min.to_string()),
            None => reply,
        }
    }

    /// Adds the `Location` of a session, which is different in every response.
    fn add_location(
        &self,
        quirks: &RegistryQuirks,
        reply: Reply,
        repository: &str,
        id: usize,
    ) -> Reply {
        let base = if quirks.absolute_locations {
            format!("http://{}", self.address)
        } else {
            String::new()
        };
        let session = self.sessions.get(&id);
        let offset = session.map_or(0, |session| session.bytes.len());
        let location =
            format!("{base}/v2/{repository}/blobs/uploads/{id}?_state=s%2F{offset}%3D%3D");
        reply.header("Location", location)
    }

    fn handle_session(
        &mut self,
        quirks: &RegistryQuirks,
        request: &Request,
        repository: &str,
        id: &str,
    ) -> Reply {
        // The tool asks for a session that does not exist, to learn whether it may push.
        let Ok(id) = id.parse::<usize>() else {
            return status(404).body(r#"{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN"}]}"#);
        };
        if request.query("_state").len() != 1 {
            self.add_invalid_request(request, "not a Location of the registry");
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
            "PATCH" => match self.add_chunk(quirks, request, &mut session) {
                Some(reply) => reply,
                None => return status(500),
            },
            "PUT" => return self.complete_session(quirks, request, repository, session),
            "DELETE" => return status(204),
            _ => status(405),
        };
        self.sessions.insert(id, session);
        self.add_location(quirks, reply, repository, id)
    }

    /// Adds a chunk to a session. Returns `None` if the session is lost.
    fn add_chunk(
        &mut self,
        quirks: &RegistryQuirks,
        request: &Request,
        session: &mut UploadSession,
    ) -> Option<Reply> {
        let length = request.header("content-length").unwrap_or_default();
        let length: usize = length.parse().expect("a length");
        let first = match request.header("content-range").map(parse_range) {
            None => 0,
            Some(Some((first, last))) if last + 1 - first == length => first,
            Some(_) => {
                self.add_invalid_request(request, "a wrong Content-Range");
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

    fn complete_session(
        &mut self,
        quirks: &RegistryQuirks,
        request: &Request,
        repository: &str,
        session: UploadSession,
    ) -> Reply {
        let mut bytes = session.bytes;
        if !request.body.is_empty() && !quirks.accepts_put_body {
            return status(400);
        }
        bytes.extend_from_slice(&request.body);
        let expected = request.query("digest").pop().unwrap_or_default();
        if digest(&bytes) != expected {
            return status(400).body(r#"{"errors":[{"code":"DIGEST_INVALID"}]}"#);
        }
        let key = (repository.to_owned(), expected);
        if self.blobs.insert(key, bytes).is_some() {
            self.add_invalid_request(request, "the registry already has the blob");
        }
        status(201)
    }

    fn handle_manifest(&mut self, request: &Request, repository: &str, reference: &str) -> Reply {
        let key = |reference: &str| (repository.to_owned(), reference.to_owned());
        if request.method != "PUT" {
            return match self.manifests.get(&key(reference)) {
                Some((media_type, bytes)) => content(bytes, media_type),
                None => status(404),
            };
        }
        let manifest: serde_json::Value =
            serde_json::from_slice(&request.body).expect("a manifest");
        let layers = manifest["layers"].as_array().into_iter().flatten();
        for descriptor in layers.chain([&manifest["config"]]) {
            let digest = descriptor["digest"].as_str().expect("a digest");
            if !self.blobs.contains_key(&key(digest)) {
                self.add_invalid_request(request, "a manifest before its blobs");
                return status(400);
            }
        }
        let media_type = request
            .header("content-type")
            .unwrap_or_default()
            .to_owned();
        let manifest_digest = digest(&request.body);
        for reference in [reference, &*manifest_digest] {
            let manifest = (media_type.clone(), request.body.clone());
            self.manifests.insert(key(reference), manifest);
        }
        status(201).header("Docker-Content-Digest", manifest_digest)
    }

    fn add_invalid_request(&mut self, request: &Request, reason: &str) {
        let Request { method, target, .. } = request;
        let text = format!("{reason}: {method} {target}");
        self.invalid_requests.push(text);
    }
}

fn content(bytes: &[u8], media_type: &str) -> Reply {
    status(200)
        .header("Docker-Content-Digest", digest(bytes))
        .header("Content-Type", media_type)
        .header("Content-Length", bytes.len().to_string())
        .body(bytes)
}

/// Parses `FIRST-LAST`.
fn parse_range(text: &str) -> Option<(usize, usize)> {
    let (first, last) = text.split_once('-')?;
    Some((first.parse().ok()?, last.parse().ok()?))
}
