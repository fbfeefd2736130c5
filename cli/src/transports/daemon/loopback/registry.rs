//! The registry on the loopback interface: accepts the uploads that an engine sends in a push, as
//! far as they are wanted.
//!
//! The registry knows no more of the API than engines use, and demands a login that only this engine got.
//! Start reading at [`LoopbackRegistry::respond`].

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE, Engine};
use http::{HeaderMap, Request, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use imgsync_oci::endpoint::{RegistryOperation, RepositoryOperation, UploadId, UploadOperation};
use imgsync_oci::{Digest, Endpoint, MAX_MANIFEST_BYTES, Reference, Repository};
use tokio::sync::{Semaphore, watch};

use super::announcements::{Announcements, ShortId};
use super::identification::Identification;
use super::receive::{BlobReceiver, ReceivedBlob, ReceivedContent};
use super::responses::{self, LoopbackResponse};
use crate::image::Slice;
use crate::spool::Spool;
use crate::transports::LayerPacking;

/// The user name of the login.
const USERNAME: &str = "imgsync";
/// The bytes of an upload that are read before its layer must be known.
const MAX_UNIDENTIFIED_BYTES: u64 = 256 * 1024;
/// The size in bytes that is reported of a layer that is not wanted. No engine uses it.
const REPORTED_BYTES: u64 = 1024;

/// How an engine is kept from sending layers that are not wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// podman asks for each layer by its diffID first, and skips those that exist.
    BeforeUpload,
    /// Docker begins to send every layer, several at a time, topmost first. An upload that gets no
    /// response holds the push up; others are denied, which ends the push only when Docker comes to
    /// them.
    DuringUpload {
        /// The topmost layer that is not wanted, if a wanted one is below it: its upload gets no
        /// response.
        held: Option<ShortId>,
    },
}

/// The registry of one push.
pub(super) struct LoopbackRegistry {
    authorization: String,
    password: String,
    pub(super) wanted: Arc<HashSet<Digest>>,
    pub(super) refusal: Refusal,
    spool: Spool,
    packing: LayerPacking,
    /// The layers that Docker reports to push.
    pub(super) announcements: Announcements,
    /// Has one permit while no upload waits for its layer to be known.
    pub(super) identifying: Semaphore,
    state: Mutex<RegistryState>,
    /// Counts requests and chunks.
    activity: watch::Sender<u64>,
    /// Set when the push is over.
    ended: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct RegistryState {
    was_reached: bool,
    /// Blobs whose bytes have arrived, by the session.
    uploaded: HashMap<UploadId, ReceivedBlob>,
    /// Wanted blobs whose upload is finished, by the digest of their uncompressed bytes.
    complete: HashMap<Digest, ReceivedBlob>,
    /// Wanted layers whose upload is known.
    identified: HashSet<ShortId>,
    /// Layers that were given away, by diffID.
    taken: HashSet<Digest>,
    /// The reason why a blob cannot be stored.
    failure: Option<String>,
}

impl LoopbackRegistry {
    /// Returns a registry that takes the blobs with these diffIDs, or digests of configs. Each layer
    /// is given to `packing` once all its bytes have arrived and are right.
    pub(super) fn new(
        wanted: HashSet<Digest>,
        spool: &Spool,
        packing: &LayerPacking,
        refusal: Refusal,
    ) -> Arc<Self> {
        let password = UploadId::random().to_string();
        let login = BASE64_STANDARD.encode(format!("{USERNAME}:{password}"));
        Arc::new(Self {
            authorization: format!("Basic {login}"),
            password,
            wanted: Arc::new(wanted),
            refusal,
            spool: spool.clone(),
            packing: packing.clone(),
            announcements: Announcements::default(),
            identifying: Semaphore::new(1),
            state: Mutex::default(),
            activity: watch::Sender::new(0),
            ended: watch::Sender::new(false),
        })
    }

    /// Returns the login in the form of the header `X-Registry-Auth` of the engine's API.
    pub(super) fn registry_auth(&self) -> String {
        let login = serde_json::json!({"username": USERNAME, "password": self.password});
        BASE64_URL_SAFE.encode(login.to_string())
    }

    /// Returns whether any request has arrived.
    pub(super) fn was_reached(&self) -> bool {
        self.lock().was_reached
    }

    /// Returns a receiver that is notified of each request and each chunk.
    pub(super) fn activity(&self) -> watch::Receiver<u64> {
        self.activity.subscribe()
    }

    /// Returns whether everything that is wanted has arrived.
    pub(super) fn is_complete(&self) -> bool {
        self.lock().complete.len() == self.wanted.len()
    }

    /// Returns the reason why a blob could not be stored.
    pub(super) fn failure(&self) -> Option<String> {
        self.lock().failure.clone()
    }

    /// Returns the bytes of what has arrived, without the layers.
    pub(super) fn received(&self) -> HashMap<Digest, Slice> {
        let state = self.lock();
        let complete = state.complete.iter();
        let bytes = complete.filter_map(|(digest, blob)| match &blob.content {
            Some(ReceivedContent::Bytes(bytes)) => Some((digest.clone(), bytes.clone())),
            Some(ReceivedContent::Layer(_)) | None => None,
        });
        bytes.collect()
    }

    /// Returns the diffIDs of the layers that were given away, also if the push fails.
    pub(super) fn taken(&self) -> HashSet<Digest> {
        self.lock().taken.clone()
    }

    /// Ends the push: releases the connections that are held.
    pub(super) fn end(&self) {
        self.ended.send_replace(true);
    }

    /// Waits until the push is over.
    pub(super) async fn ended(&self) {
        // The sender lives as long as the registry.
        let _ = self.ended.subscribe().wait_for(|ended| *ended).await;
    }

    /// Answers a request of the engine.
    pub(super) async fn respond(self: Arc<Self>, request: Request<Incoming>) -> LoopbackResponse {
        self.lock().was_reached = true;
        self.note_activity();
        let (parts, body) = request.into_parts();
        if !self.is_authorized(&parts.headers) {
            return responses::unauthorized();
        }
        let (path, query) = (parts.uri.path(), parts.uri.query());
        match Endpoint::parse(&parts.method, path, query) {
            Ok(Endpoint::Registry(RegistryOperation::Check)) => responses::empty(StatusCode::OK),
            Ok(Endpoint::Repository(repository, operation)) => {
                self.respond_in(&repository, operation, body).await
            }
            Ok(Endpoint::Registry(_)) | Err(_) => responses::empty(StatusCode::NOT_FOUND),
        }
    }

    async fn respond_in(
        &self,
        repository: &Repository,
        operation: RepositoryOperation,
        body: Incoming,
    ) -> LoopbackResponse {
        match operation {
            RepositoryOperation::HeadBlob { digest } => self.head_blob(&digest),
            RepositoryOperation::StartUpload { .. } => self.start_upload(repository).await,
            RepositoryOperation::Upload(id, UploadOperation::Append) => {
                self.append(repository, id, body).await
            }
            RepositoryOperation::Upload(id, UploadOperation::Finish { digest }) => {
                self.finish(repository, id, &digest)
            }
            RepositoryOperation::PutManifest { reference, .. } => {
                put_manifest(repository, reference, body).await
            }
            _ => responses::empty(StatusCode::NOT_FOUND),
        }
    }

    fn is_authorized(&self, headers: &HeaderMap) -> bool {
        let sent = headers.get(header::AUTHORIZATION);
        sent.is_some_and(|sent| sent.as_bytes() == self.authorization.as_bytes())
    }

    /// Reports a blob as present if it has just arrived, or if podman must not send it. The engine
    /// remembers a blob that was confirmed after its upload, so the last one is not confirmed.
    fn head_blob(&self, digest: &Digest) -> LoopbackResponse {
        let state = self.lock();
        let complete = state.complete.len() == self.wanted.len();
        let mut blobs = state.complete.values();
        let found = blobs.find(|blob| blob.sent.digest == *digest);
        match (found, &self.refusal) {
            (Some(_), Refusal::DuringUpload { .. }) if complete => {
                responses::empty(StatusCode::NOT_FOUND)
            }
            (Some(blob), _) => responses::blob(&digest.to_string(), blob.sent.size),
            (None, Refusal::BeforeUpload) if !self.wanted.contains(digest) => {
                responses::blob(&digest.to_string(), REPORTED_BYTES)
            }
            (None, _) => responses::empty(StatusCode::NOT_FOUND),
        }
    }

    /// Opens a session. Of Docker's uploads, only one at a time may be unidentified.
    async fn start_upload(&self, repository: &Repository) -> LoopbackResponse {
        if let Refusal::DuringUpload { .. } = self.refusal
            && let Ok(permit) = self.identifying.acquire().await
        {
            // Given back once the layer is known.
            permit.forget();
        }
        let id = UploadId::random();
        responses::session(&location(repository, id), &id.to_string(), 0)
    }

    /// Receives the bytes of an upload, until they turn out not to be wanted.
    async fn append(
        &self,
        repository: &Repository,
        id: UploadId,
        mut body: Incoming,
    ) -> LoopbackResponse {
        let receiver = BlobReceiver::start(&self.spool, &self.wanted, self.packing.threads);
        let mut identification = Identification::new(self);
        let mut received = 0;
        loop {
            if received >= MAX_UNIDENTIFIED_BYTES {
                identification.wait().await;
            }
            let frame = tokio::select! {
                biased;
                () = identification.wait_for_announcement() => None,
                frame = body.frame() => Some(frame),
            };
            if let Some(unwanted) = identification.unwanted_layer() {
                return self.refuse(unwanted).await;
            }
            let bytes = match frame {
                None => continue,
                Some(None) => break,
                Some(Some(Ok(frame))) => frame.into_data().unwrap_or_default(),
                Some(Some(Err(_))) => return responses::empty(StatusCode::BAD_REQUEST),
            };
            self.note_activity();
            received += bytes.len() as u64;
            if receiver.add(bytes).await.is_err() {
                break;
            }
        }
        let blob = match receiver.finish().await {
            Ok(blob) => blob,
            Err(error) => {
                self.lock().failure = Some(error.to_string());
                self.note_activity();
                return responses::empty(StatusCode::INTERNAL_SERVER_ERROR);
            }
        };
        let layer = ShortId::of(&blob.source_digest);
        identification.set(layer.clone());
        if !self.wanted.contains(&blob.source_digest) && self.refusal != Refusal::BeforeUpload {
            return self.refuse(layer).await;
        }
        self.take_layer(&blob);
        self.lock().uploaded.insert(id, blob);
        identification.complete();
        responses::session(&location(repository, id), &id.to_string(), received)
    }

    /// Gives a layer away, unless the engine has sent it before.
    fn take_layer(&self, blob: &ReceivedBlob) {
        if let Some(ReceivedContent::Layer(layer)) = &blob.content
            && self.lock().taken.insert(blob.source_digest.clone())
        {
            (self.packing.take_layer)(&blob.source_digest, layer.clone());
        }
    }

    /// Refuses a layer that is not wanted: denies it, or does not answer before the push is over.
    async fn refuse(&self, layer: ShortId) -> LoopbackResponse {
        if let Refusal::DuringUpload { held } = &self.refusal
            && *held == Some(layer)
        {
            self.ended().await;
        }
        responses::denied()
    }

    fn finish(&self, repository: &Repository, id: UploadId, digest: &Digest) -> LoopbackResponse {
        let mut state = self.lock();
        let Some(blob) = state.uploaded.remove(&id) else {
            return responses::empty(StatusCode::NOT_FOUND);
        };
        if blob.sent.digest != *digest {
            return responses::empty(StatusCode::BAD_REQUEST);
        }
        if blob.content.is_some() {
            state.complete.insert(blob.source_digest.clone(), blob);
        }
        drop(state);
        self.note_activity();
        let operation = RepositoryOperation::GetBlob {
            digest: digest.clone(),
        };
        let location = Endpoint::within(repository, operation).path();
        responses::created(&location, &digest.to_string())
    }

    /// Records that the upload of a wanted layer is known. Returns whether it was the last one.
    pub(super) fn is_last_identified(&self, layer: ShortId) -> bool {
        let mut state = self.lock();
        state.identified.insert(layer);
        state.identified.len() == self.wanted.len()
    }

    fn note_activity(&self) {
        self.activity.send_modify(|count| *count += 1);
    }

    fn lock(&self) -> MutexGuard<'_, RegistryState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes a manifest and drops it: it names diffIDs as digests.
async fn put_manifest(
    repository: &Repository,
    reference: Reference,
    body: Incoming,
) -> LoopbackResponse {
    let limited = http_body_util::Limited::new(body, MAX_MANIFEST_BYTES);
    let Ok(manifest) = limited.collect().await else {
        return responses::empty(StatusCode::BAD_REQUEST);
    };
    let digest = Digest::of(&manifest.to_bytes()).to_string();
    let operation = RepositoryOperation::GetManifest { reference };
    let location = Endpoint::within(repository, operation).path();
    responses::created(&location, &digest)
}

fn location(repository: &Repository, id: UploadId) -> String {
    let operation = RepositoryOperation::Upload(id, UploadOperation::Append);
    Endpoint::within(repository, operation).path()
}
