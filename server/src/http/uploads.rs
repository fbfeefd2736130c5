//! Upload sessions over HTTP (OCI distribution-spec, "Pushing blobs").

use hyper::header::{CONTENT_LENGTH, CONTENT_RANGE, HeaderMap, HeaderName, LOCATION, RANGE};
use hyper::{Response, StatusCode};
use imgsync_oci::endpoint::{Action, Mount, RepositoryOperation, UploadId, UploadOperation};
use imgsync_oci::range::{self, ContentRange};
use imgsync_oci::{Algorithm, Digest, Endpoint, ErrorCode, Repository};

use super::body::ResponseBody;
use super::caller::Caller;
use super::error_response::ErrorResponse;
use super::receive::{BodyEnd, append_body, discard_unread};
use super::request_body::RequestBody;
use super::responses::{self, header_value};
use super::{App, run_blocking, try_blocking};
use crate::auth::User;
use crate::registry::{Error, UploadWriter};

/// The name of a session, for answers about it.
#[derive(Clone)]
struct SessionRef {
    repository: Repository,
    id: UploadId,
}

impl SessionRef {
    /// Where the session goes on, and how much it holds.
    fn headers(&self, held: u64) -> HeaderMap {
        let operation = RepositoryOperation::Upload(self.id, UploadOperation::Status);
        let at = Endpoint::within(&self.repository, operation);
        let offset = HeaderName::from_static(range::UPLOAD_OFFSET_HEADER);
        HeaderMap::from_iter([
            (LOCATION, header_value(at.path())),
            (RANGE, header_value(range::format_upload_range(held))),
            (responses::UPLOAD_UUID_HEADER, header_value(self.id)),
            (offset, header_value(held)),
        ])
    }

    fn response(&self, status: StatusCode, held: u64) -> Response<ResponseBody> {
        let mut response = responses::empty(status);
        response.headers_mut().extend(self.headers(held));
        response
    }

    /// A failure that tells where the session stands.
    fn error_with_offset(&self, code: ErrorCode, detail: &str, held: u64) -> ErrorResponse {
        let mut failure = ErrorResponse::new(code, detail);
        *failure.headers = self.headers(held);
        failure
    }

    /// The registry's error; where it knows how much the session holds, that is told.
    fn registry_error(&self, error: Error) -> ErrorResponse {
        let held = error.upload_offset();
        let mut failure = ErrorResponse::from(error);
        if let Some(held) = held {
            *failure.headers = self.headers(held);
        }
        failure
    }
}

/// What a request says about the bytes in its body.
#[derive(Debug, Clone, Copy, Default)]
struct ChunkRange {
    /// Where they begin.
    first: Option<u64>,
    /// How many they are.
    len: Option<u64>,
}

impl ChunkRange {
    fn read(headers: &HeaderMap) -> Result<Self, ErrorResponse> {
        let Some(header) = headers.get(CONTENT_RANGE) else {
            return Ok(Self::default());
        };
        let range = header
            .to_str()
            .ok()
            .and_then(|text| ContentRange::parse(text).ok());
        let range = range.ok_or_else(|| {
            ErrorResponse::new(
                ErrorCode::RangeInvalid,
                "the Content-Range is not of the form first-last",
            )
        })?;
        let length = headers
            .get(CONTENT_LENGTH)
            .and_then(|length| length.to_str().ok());
        let length = length.and_then(|length| length.parse::<u64>().ok());
        if length.is_some_and(|length| length != range.len()) {
            let detail = "the Content-Range and the Content-Length do not agree";
            return Err(ErrorResponse::new(ErrorCode::SizeInvalid, detail));
        }
        Ok(Self {
            first: Some(range.first),
            len: Some(range.len()),
        })
    }
}

/// What the query of a `POST` asks for.
pub(super) struct StartUploadQuery {
    pub(super) mount: Option<Mount>,
    pub(super) digest: Option<Digest>,
    pub(super) algorithm: Option<Algorithm>,
}

impl StartUploadQuery {
    /// By which algorithm the blob will be named, as far as the query tells. Should that turn out
    /// wrong, its bytes are read once more.
    fn algorithm(&self) -> Algorithm {
        let named = self.digest.as_ref();
        let named = named.or(self.mount.as_ref().map(|mount| &mount.digest));
        self.algorithm
            .or(named.map(Digest::algorithm))
            .unwrap_or(Algorithm::Sha256)
    }
}

/// Links a blob from a repository that the caller may pull: the one named, or any. One that the
/// caller may not pull answers as one that lacks the blob.
async fn try_mount(
    app: &App,
    caller: &Caller,
    into: Repository,
    Mount { digest, from }: Mount,
) -> Result<bool, ErrorResponse> {
    let (registry, caller) = (app.registry.clone(), caller.clone());
    try_blocking(move || {
        let may_pull = |from: &Repository| caller.is_allowed(Action::Pull, from);
        match from {
            Some(from) if may_pull(&from) => registry.mount(&into, &from, &digest),
            Some(_) => Ok(false),
            None => registry.mount_from_any(&into, &digest, &may_pull),
        }
    })
    .await
}

/// `POST`: a session; or the blob itself, where it can be mounted or comes along.
pub(super) async fn start(
    app: &App,
    caller: &Caller,
    repository: Repository,
    asked: StartUploadQuery,
    headers: &HeaderMap,
    body: RequestBody,
) -> Result<Response<ResponseBody>, ErrorResponse> {
    let algorithm = asked.algorithm();
    let StartUploadQuery { mount, digest, .. } = asked;
    if let Some(wanted) = mount {
        let digest = wanted.digest.clone();
        if try_mount(app, caller, repository.clone(), wanted).await? {
            let operation = RepositoryOperation::GetBlob {
                digest: digest.clone(),
            };
            let at = Endpoint::Repository(repository, operation);
            return Ok(responses::created(&at, &digest));
        }
    }
    let (registry, into) = (app.registry.clone(), repository.clone());
    let user = caller.user().cloned();
    let most = app.config.load().imgsync.max_open_uploads;
    let started = try_blocking(move || {
        registry.check_upload_limit(most)?;
        let owner = user.as_ref().map(User::as_str);
        registry.start_upload(&into, algorithm, owner)
    });
    let id = match started.await {
        Ok(id) => id,
        Err(failure) => {
            discard_unread(headers, body);
            return Err(failure);
        }
    };
    let Some(digest) = digest else {
        return Ok(SessionRef { repository, id }.response(StatusCode::ACCEPTED, 0));
    };
    let (registry, into) = (app.registry.clone(), repository.clone());
    let result = finish(app, repository, id, digest, headers, body).await;
    if result.is_err() {
        // The client knows of no session, so nobody would go on with it.
        try_blocking(move || match registry.cancel_upload(&into, id) {
            Ok(()) | Err(Error::UploadUnknown(_)) => Ok(()),
            Err(error) => Err(error),
        })
        .await?;
    }
    result.map_err(|mut failure| {
        failure.headers.clear();
        failure
    })
}

/// Looks whether the session that an operation is about belongs to its caller. Another user's
/// answers as one that does not exist.
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

/// `GET`: how far the session has come.
pub(super) async fn status(
    app: &App,
    repository: Repository,
    id: UploadId,
) -> Result<Response<ResponseBody>, ErrorResponse> {
    let session = SessionRef {
        repository: repository.clone(),
        id,
    };
    let registry = app.registry.clone();
    let held = try_blocking(move || registry.upload_offset(&repository, id)).await?;
    Ok(session.response(StatusCode::NO_CONTENT, held))
}

/// `PATCH`: more bytes.
pub(super) async fn append(
    app: &App,
    repository: Repository,
    id: UploadId,
    headers: &HeaderMap,
    body: RequestBody,
) -> Result<Response<ResponseBody>, ErrorResponse> {
    let session = SessionRef { repository, id };
    let mut append = append_request_body(app, &session, headers, body).await?;
    let held = try_blocking(move || append.sync().map(|()| append.offset())).await?;
    Ok(session.response(StatusCode::ACCEPTED, held))
}

/// `PUT`: the last bytes, if any are left, and the digest of all.
pub(super) async fn finish(
    app: &App,
    repository: Repository,
    id: UploadId,
    digest: Digest,
    headers: &HeaderMap,
    body: RequestBody,
) -> Result<Response<ResponseBody>, ErrorResponse> {
    let session = SessionRef { repository, id };
    let append = append_request_body(app, &session, headers, body).await?;
    let expected = digest.clone();
    try_blocking(move || append.commit(&expected)).await?;
    let operation = RepositoryOperation::GetBlob {
        digest: digest.clone(),
    };
    let at = Endpoint::Repository(session.repository, operation);
    Ok(responses::created(&at, &digest))
}

/// `DELETE`: no blob after all.
pub(super) async fn cancel(
    app: &App,
    repository: Repository,
    id: UploadId,
) -> Result<Response<ResponseBody>, ErrorResponse> {
    let session = SessionRef {
        repository: repository.clone(),
        id,
    };
    let registry = app.registry.clone();
    let cancelled = run_blocking(move || registry.cancel_upload(&repository, id)).await?;
    cancelled.map_err(|error| session.registry_error(error))?;
    Ok(responses::empty(StatusCode::NO_CONTENT))
}

/// Appends a request's body to a session, whole. Where it broke off, what arrived is kept and the
/// answer tells how much that is; where it was longer than announced, what was not kept on the way
/// is forgotten.
async fn append_request_body(
    app: &App,
    session: &SessionRef,
    headers: &HeaderMap,
    body: RequestBody,
) -> Result<UploadWriter, ErrorResponse> {
    let (append, chunk) = match begin(app, session, headers).await {
        Ok(begun) => begun,
        Err(failure) => {
            discard_unread(headers, body);
            return Err(failure);
        }
    };
    let (mut append, ending) = append_body(body, chunk.len, append, app.read_timeouts).await?;
    let (detail, is_kept) = match ending {
        BodyEnd::Complete => return Ok(append),
        BodyEnd::Interrupted => ("the body broke off", true),
        BodyEnd::TooLong => ("the body is longer than its Content-Range", false),
    };
    let held = try_blocking(move || {
        if is_kept {
            append.sync()?;
        } else {
            append.roll_back();
        }
        Ok::<_, Error>(append.offset())
    });
    Err(session.error_with_offset(ErrorCode::SizeInvalid, detail, held.await?))
}

async fn begin(
    app: &App,
    session: &SessionRef,
    headers: &HeaderMap,
) -> Result<(UploadWriter, ChunkRange), ErrorResponse> {
    let chunk = ChunkRange::read(headers)?;
    let (registry, SessionRef { repository, id }) = (app.registry.clone(), session.clone());
    let begun =
        run_blocking(move || registry.open_upload_writer(&repository, id, chunk.first)).await?;
    let append = begun.map_err(|error| session.registry_error(error))?;
    Ok((append, chunk))
}
