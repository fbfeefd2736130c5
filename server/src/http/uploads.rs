//! Serves upload sessions (OCI distribution-spec, "Pushing blobs").
//!
//! This module must not touch the store: [`crate::registry`] owns the sessions.

use hyper::header::{CONTENT_LENGTH, CONTENT_RANGE, HeaderMap, HeaderName, LOCATION, RANGE};
use hyper::{Response, StatusCode};
use imgsync_oci::endpoint::{Action, Mount, RepositoryOperation, UploadId, UploadOperation};
use imgsync_oci::range::{self, ContentRange};
use imgsync_oci::{Algorithm, Digest, Endpoint, ErrorCode, Repository};

use super::app::App;
use super::blocking::{run_blocking, try_blocking};
use super::body::ResponseBody;
use super::caller::Caller;
use super::changes;
use super::client_presence::ClientPresence;
use super::error_response::ErrorResponse;
use super::receive::{BodyEnd, append_body};
use super::request_body::RequestBody;
use super::responses::{self, header_value};
use crate::events::{ChangeAction, RegistryChange};
use crate::registry::{Error, Registry, UploadOwner, UploadWriter, Walk};

/// An upload session, as responses refer to it.
#[derive(Clone)]
struct SessionRef {
    repository: Repository,
    id: UploadId,
}

impl SessionRef {
    /// Returns the headers that tell a client where to continue and how many bytes are stored.
    fn headers(&self, offset: u64) -> HeaderMap {
        let operation = RepositoryOperation::Upload(self.id, UploadOperation::Status);
        let location = Endpoint::within(&self.repository, operation);
        let offset_header = HeaderName::from_static(range::UPLOAD_OFFSET_HEADER);
        HeaderMap::from_iter([
            (LOCATION, header_value(location.path())),
            (RANGE, header_value(range::format_upload_range(offset))),
            (responses::UPLOAD_UUID_HEADER, header_value(self.id)),
            (offset_header, header_value(offset)),
        ])
    }

    fn response(&self, status: StatusCode, offset: u64) -> Response<ResponseBody> {
        let mut response = responses::empty(status);
        response.headers_mut().extend(self.headers(offset));
        response
    }

    /// Builds an error response that states the offset of the session.
    fn error_with_offset(&self, code: ErrorCode, detail: &str, offset: u64) -> ErrorResponse {
        let mut response = ErrorResponse::new(code, detail);
        *response.headers = self.headers(offset);
        response
    }

    /// Runs blocking work on the session. The response to an error of the registry has the offset
    /// of the session, if the error has one.
    async fn run_blocking<T: Send + 'static>(
        &self,
        app: &App,
        work: impl FnOnce(&Registry, &Repository, UploadId) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, ErrorResponse> {
        let (registry, Self { repository, id }) = (app.registry.clone(), self.clone());
        let result = run_blocking(move || work(&registry, &repository, id)).await?;
        result.map_err(|error| self.registry_error(error))
    }

    fn registry_error(&self, error: Error) -> ErrorResponse {
        let offset = error.upload_offset();
        let mut response = ErrorResponse::from(error);
        if let Some(offset) = offset {
            *response.headers = self.headers(offset);
        }
        response
    }
}

/// The position of a chunk in its blob, as far as the request states it.
#[derive(Debug, Clone, Copy, Default)]
struct ChunkRange {
    /// The offset of the first byte.
    first: Option<u64>,
    /// The number of bytes.
    len: Option<u64>,
}

impl ChunkRange {
    /// Reads `Content-Range` and compares it with `Content-Length`.
    fn read(headers: &HeaderMap) -> Result<Self, ErrorResponse> {
        let Some(header) = headers.get(CONTENT_RANGE) else {
            return Ok(Self::default());
        };
        let range = header
            .to_str()
            .ok()
            .and_then(|text| ContentRange::parse(text).ok());
        let range = range.ok_or_else(|| {
            let detail = "invalid Content-Range: expected FIRST-LAST";
            ErrorResponse::new(ErrorCode::RangeInvalid, detail)
        })?;
        if content_length(headers).is_some_and(|length| length != range.len()) {
            let detail = "Content-Range and Content-Length disagree";
            return Err(ErrorResponse::new(ErrorCode::SizeInvalid, detail));
        }
        Ok(Self {
            first: Some(range.first),
            len: Some(range.len()),
        })
    }
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    let length = headers.get(CONTENT_LENGTH)?.to_str().ok()?;
    length.parse().ok()
}

/// The query of a request that starts an upload.
pub(super) struct StartUploadQuery {
    /// The blob to mount instead of uploading it.
    pub(super) mount: Option<Mount>,
    /// The digest of the blob, if the whole blob is in the request body.
    pub(super) digest: Option<Digest>,
    /// The algorithm that the client will name the blob by.
    pub(super) algorithm: Option<Algorithm>,
}

impl StartUploadQuery {
    /// Guesses the digest algorithm of the blob. If the final digest uses another one, the bytes
    /// are read again.
    fn algorithm(&self) -> Algorithm {
        let digest = self.digest.as_ref();
        let digest = digest.or(self.mount.as_ref().map(|mount| &mount.digest));
        self.algorithm
            .or(digest.map(Digest::algorithm))
            .unwrap_or(Algorithm::Sha256)
    }
}

/// Links a blob from another repository: from the one that the request names, or from any. A
/// repository that the caller may not pull from counts as one without the blob. Returns the size of
/// the blob if it was linked.
async fn try_mount(
    app: &App,
    caller: &Caller,
    client: &ClientPresence,
    target: Repository,
    Mount { digest, from }: Mount,
) -> Result<Option<u64>, ErrorResponse> {
    let (registry, caller) = (app.registry.clone(), caller.clone());
    let mount = move |walk: &Walk<'_>| {
        let may_pull = |source: &Repository| caller.is_allowed(Action::Pull, source);
        let is_mounted = match &from {
            Some(source) if may_pull(source) => registry.mount(&target, source, &digest)?,
            Some(_) => false,
            None => registry.mount_from_any(&target, &digest, &may_pull, walk)?,
        };
        let size = is_mounted.then(|| registry.blob_size(&target, &digest));
        size.transpose()
    };
    app.walks.run(client, mount).await
}

/// Serves `POST`: mounts the blob, stores the blob in the body, or starts an upload session.
pub(super) async fn start(
    app: &App,
    caller: &Caller,
    repository: Repository,
    query: StartUploadQuery,
    headers: &HeaderMap,
    body: &mut RequestBody,
) -> Result<Response<ResponseBody>, ErrorResponse> {
    let algorithm = query.algorithm();
    let StartUploadQuery { mount, digest, .. } = query;
    if let Some(mount) = mount {
        let (digest, from) = (mount.digest.clone(), mount.from.clone());
        let client = body.client();
        let size = try_mount(app, caller, &client, repository.clone(), mount).await?;
        if let Some(size) = size {
            let mut response = blob_created(repository.clone(), &digest);
            changes::note(app, &mut response, || {
                RegistryChange::mount(&repository, &digest, size, from.as_ref())
            });
            return Ok(response);
        }
    }
    let (registry, target) = (app.registry.clone(), repository.clone());
    let owner = upload_owner(caller);
    let limit = app.config.load().imgsync.max_open_uploads;
    // The length of an empty body says nothing about the blob.
    let announced = content_length(headers).filter(|_| digest.is_some());
    let id = try_blocking(move || {
        registry.check_upload_limit(&owner, limit)?;
        registry.check_upload_space(&target, &owner, announced)?;
        registry.start_upload(&target, algorithm, &owner)
    })
    .await?;
    let Some(digest) = digest else {
        return Ok(SessionRef { repository, id }.response(StatusCode::ACCEPTED, 0));
    };
    let (registry, target) = (app.registry.clone(), repository.clone());
    let result = finish(app, repository, id, digest, headers, body).await;
    if result.is_err() {
        // The client does not know the session, so it cannot resume it.
        try_blocking(move || match registry.cancel_upload(&target, id) {
            Ok(()) | Err(Error::UploadUnknown(_)) => Ok(()),
            Err(error) => Err(error),
        })
        .await?;
    }
    result.map_err(|mut response| {
        response.headers.clear();
        response
    })
}

/// Returns the owner of a session that the caller opens.
fn upload_owner(caller: &Caller) -> UploadOwner {
    match caller.user() {
        Some(user) => UploadOwner::User(user.as_str().into()),
        None => UploadOwner::Client(caller.client_address()),
    }
}

/// Checks that the upload session of a request belongs to its caller. The session of another user
/// counts as unknown.
pub(super) async fn check_owner(
    app: &App,
    caller: &Caller,
    endpoint: &Endpoint,
) -> Result<(), ErrorResponse> {
    let (Some((repository, id)), Some(user)) = (endpoint.session(), caller.user().cloned()) else {
        return Ok(());
    };
    let (registry, repository) = (app.registry.clone(), repository.clone());
    try_blocking(move || registry.check_upload_owner(&repository, id, user.as_str())).await
}

/// Serves `GET`: the offset of a session.
pub(super) async fn status(
    app: &App,
    repository: Repository,
    id: UploadId,
) -> Result<Response<ResponseBody>, ErrorResponse> {
    let session = SessionRef { repository, id };
    let offset = session.run_blocking(app, Registry::upload_offset).await?;
    Ok(session.response(StatusCode::NO_CONTENT, offset))
}

/// Serves `PATCH`: appends the body to a session.
pub(super) async fn append(
    app: &App,
    repository: Repository,
    id: UploadId,
    headers: &HeaderMap,
    body: &mut RequestBody,
) -> Result<Response<ResponseBody>, ErrorResponse> {
    let session = SessionRef { repository, id };
    let mut writer = append_request_body(app, &session, headers, body).await?;
    let offset = try_blocking(move || {
        writer.sync()?;
        Ok::<_, Error>(writer.ingest.offset())
    })
    .await?;
    Ok(session.response(StatusCode::ACCEPTED, offset))
}

/// Serves `PUT`: appends the body, if there is one, and commits the session as a blob.
pub(super) async fn finish(
    app: &App,
    repository: Repository,
    id: UploadId,
    digest: Digest,
    headers: &HeaderMap,
    body: &mut RequestBody,
) -> Result<Response<ResponseBody>, ErrorResponse> {
    let session = SessionRef { repository, id };
    let writer = append_request_body(app, &session, headers, body).await?;
    let expected = digest.clone();
    let size = writer.ingest.offset();
    try_blocking(move || writer.commit(&expected)).await?;
    let repository = session.repository;
    let mut response = blob_created(repository.clone(), &digest);
    changes::note(app, &mut response, || {
        RegistryChange::blob(ChangeAction::Push, &repository, &digest, size)
    });
    Ok(response)
}

/// Builds the response to a blob that is stored or mounted.
fn blob_created(repository: Repository, digest: &Digest) -> Response<ResponseBody> {
    let operation = RepositoryOperation::GetBlob {
        digest: digest.clone(),
    };
    let location = Endpoint::Repository(repository, operation);
    responses::created(&location, digest)
}

/// Serves `DELETE`: cancels a session.
pub(super) async fn cancel(
    app: &App,
    repository: Repository,
    id: UploadId,
) -> Result<Response<ResponseBody>, ErrorResponse> {
    let session = SessionRef { repository, id };
    session.run_blocking(app, Registry::cancel_session).await?;
    Ok(responses::empty(StatusCode::NO_CONTENT))
}

/// Appends a request body to a session. Of an interrupted body, the bytes that arrived are kept.
/// Of a body that is too long, the bytes that are not yet synced are dropped. The error response
/// states the resulting offset.
async fn append_request_body(
    app: &App,
    session: &SessionRef,
    headers: &HeaderMap,
    body: &mut RequestBody,
) -> Result<UploadWriter, ErrorResponse> {
    let (writer, chunk) = open_writer(app, session, headers).await?;
    let (timeouts, buffers) = (app.read_timeouts, &app.upload_buffers);
    let (mut writer, end) = append_body(body, chunk.len, writer, timeouts, buffers).await?;
    let (detail, is_kept) = match end {
        BodyEnd::Complete => return Ok(writer),
        BodyEnd::Interrupted => ("the request body is incomplete", true),
        BodyEnd::TooLong => ("the request body is longer than its Content-Range", false),
    };
    let offset = try_blocking(move || {
        if is_kept {
            writer.sync()?;
        } else {
            writer.ingest.roll_back();
        }
        Ok::<_, Error>(writer.ingest.offset())
    });
    Err(session.error_with_offset(ErrorCode::SizeInvalid, detail, offset.await?))
}

async fn open_writer(
    app: &App,
    session: &SessionRef,
    headers: &HeaderMap,
) -> Result<(UploadWriter, ChunkRange), ErrorResponse> {
    let chunk = ChunkRange::read(headers)?;
    let announced = chunk.len.or(content_length(headers));
    let open = move |registry: &Registry, repository: &Repository, id| {
        let mut writer = registry.open_upload_writer(repository, id, chunk.first)?;
        writer.claim(announced.unwrap_or_default())?;
        Ok(writer)
    };
    Ok((session.run_blocking(app, open).await?, chunk))
}
