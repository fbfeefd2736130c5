//! Serves blobs (OCI distribution-spec, "Pulling blobs").

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt as _;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use hyper::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderMap,
    HeaderValue, IF_RANGE, RANGE,
};
use hyper::{Response, StatusCode};
use imgsync_oci::endpoint::Action;
use imgsync_oci::range::{RequestedRange, parse_requested_range, parse_several_ranges};
use imgsync_oci::{Digest, ErrorCode, Repository};

use super::app::App;
use super::blob_pieces::{UNBUFFERED_READ_BYTES, piece_len, read_piece, read_pieces};
use super::blocking::{run_blocking, try_blocking};
use super::body::{ResponseBody, full};
use super::buffer_pool::BUFFER_BYTES;
use super::caller::Caller;
use super::changes;
use super::entity_tag::{etag, is_cached_by_client};
use super::error_response::ErrorResponse;
use super::multipart_ranges;
use super::responses::{self, header_value};
use crate::events::{ChangeAction, RegistryChange};
use crate::registry::{Error, OpenBlob, PartialBlob};
use crate::upstream::{self, BlobAvailability, DownloadReader, UncachedBlob};

/// Serves `HEAD`: the size of a blob.
pub(super) async fn head(
    app: &App,
    caller: &Caller,
    repository: Repository,
    digest: Digest,
    headers: &HeaderMap,
) -> Result<Response<ResponseBody>, ErrorResponse> {
    let size = match app.upstreams.upstream_for(&repository) {
        Some(upstream) => match app.upstreams.blob_size(&upstream, &digest).await {
            // A push must not depend on the upstream: a client that may push uploads the blob if
            // it is unknown here.
            Err(upstream::Error::Upstream(_) | upstream::Error::NotAllowed { .. })
                if caller.is_allowed(Action::Push, &repository) =>
            {
                return Err(Error::BlobUnknown(digest).into());
            }
            size => size?,
        },
        None => {
            let registry = app.registry.clone();
            let (repository, digest) = (repository.clone(), digest.clone());
            try_blocking(move || registry.blob_size(&repository, &digest)).await?
        }
    };
    let mut response = if is_cached_by_client(headers, &digest) {
        not_modified(&digest, size)
    } else {
        let mut response = responses::empty(StatusCode::OK);
        set_blob_headers(&mut response, &digest, size, size);
        response
    };
    note_pull(app, &repository, &digest, &mut response);
    Ok(response)
}

/// Serves `DELETE`.
pub(super) async fn delete(
    app: &App,
    repository: Repository,
    digest: Digest,
) -> Result<Response<ResponseBody>, ErrorResponse> {
    let registry = app.registry.clone();
    let (target, deleted) = (repository.clone(), digest.clone());
    try_blocking(move || registry.delete_blob(&target, &deleted)).await?;
    let mut response = responses::empty(StatusCode::ACCEPTED);
    changes::note(app, &mut response, || {
        RegistryChange::deleted(&repository, &digest)
    });
    Ok(response)
}

/// Serves `GET`: the blob or a range of it.
pub(super) async fn get(
    app: &App,
    caller: &Caller,
    repository: Repository,
    digest: Digest,
    headers: &HeaderMap,
) -> Result<Response<ResponseBody>, ErrorResponse> {
    let mut response = find(app, caller, &repository, &digest, headers).await?;
    note_pull(app, &repository, &digest, &mut response);
    Ok(response)
}

/// Notes that a client pulls a blob, also if it has the blob already, as in the stock registry.
fn note_pull(
    app: &App,
    repository: &Repository,
    digest: &Digest,
    response: &mut Response<ResponseBody>,
) {
    let size = response
        .extensions()
        .get()
        .map_or(0, |BlobSize(size)| *size);
    changes::note(app, response, || {
        RegistryChange::blob(ChangeAction::Pull, repository, digest, size)
    });
}

/// The size of the blob of which a response has a part, in bytes.
#[derive(Clone, Copy)]
struct BlobSize(u64);

/// Finds a blob here or at its upstream, and responds with it or a range of it.
async fn find(
    app: &App,
    caller: &Caller,
    repository: &Repository,
    digest: &Digest,
    headers: &HeaderMap,
) -> Result<Response<ResponseBody>, ErrorResponse> {
    let request = BlobRequest {
        range: requested_range(headers, digest),
        is_cached: is_cached_by_client(headers, digest),
    };
    let Some(upstream) = app.upstreams.upstream_for(repository) else {
        return Ok(serve_local(app, repository, digest, request).await?);
    };
    let range = request.range.as_deref();
    let rights = caller.pull_rights();
    let mut is_refetch = false;
    loop {
        let found = app.upstreams.find_or_fetch_blob(&upstream, digest, &rights);
        let holder = match found.await? {
            BlobAvailability::Downloading(reader) => {
                return serve_download(app, reader, digest, range);
            }
            BlobAvailability::Uncached(blob) => {
                return serve_uncached(app, *blob, digest, range);
            }
            BlobAvailability::Local => repository.clone(),
            BlobAvailability::LocalIn(holder) => holder,
        };
        match serve_local(app, &holder, digest, request.clone()).await {
            // The blob was evicted before the read: fetch it again.
            Err(OpenBlobError::Registry(Error::BlobUnknown(_))) if !is_refetch => {
                is_refetch = true;
            }
            response => return Ok(response?.map(|body| count_served(app, body))),
        }
    }
}

/// The headers of a request that decide what of a blob is sent.
#[derive(Clone)]
struct BlobRequest {
    /// The `Range` header, if it applies to the blob.
    range: Option<String>,
    /// Whether the client has the blob already.
    is_cached: bool,
}

/// Serves a blob that is in the registry.
async fn serve_local(
    app: &App,
    repository: &Repository,
    digest: &Digest,
    BlobRequest { range, is_cached }: BlobRequest,
) -> Result<Response<ResponseBody>, OpenBlobError> {
    let (registry, repository, blob_digest) =
        (app.registry.clone(), repository.clone(), digest.clone());
    let buffers = Arc::clone(&app.download_buffers);
    // A response that fits into one piece is read in the same blocking call.
    let open = move || {
        let blob = registry.open_blob(&repository, &blob_digest)?;
        if is_cached {
            return Ok(OpenedBlob::NotModified(blob.size()));
        }
        if let Some(ranges) = parse_several_ranges(range.as_deref(), blob.size()) {
            return Ok(OpenedBlob::Parts(blob, ranges));
        }
        let range = parse_requested_range(range.as_deref(), blob.size());
        let bytes = match byte_range(range, blob.size()) {
            Some((first, len)) if len <= UNBUFFERED_READ_BYTES => {
                Some(read_piece(&blob, first, len, None)?)
            }
            Some((first, len)) if len <= BUFFER_BYTES as u64 => match buffers.lend() {
                Some(buffer) => Some(read_piece(&blob, first, len, Some(buffer))?),
                None => None,
            },
            _ => None,
        };
        Ok::<_, OpenBlobError>(OpenedBlob::Single(blob, range, bytes))
    };
    let opened = run_blocking(open).await.map_err(OpenBlobError::Response)?;
    let (blob, range, bytes) = match opened? {
        OpenedBlob::NotModified(size) => return Ok(not_modified(digest, size)),
        OpenedBlob::Single(blob, range, bytes) => (blob, range, bytes),
        OpenedBlob::Parts(blob, ranges) => {
            let buffers = &app.download_buffers;
            return Ok(multipart_ranges::response(blob, digest, ranges, buffers));
        }
    };
    let size = blob.size();
    let (first, len) = byte_range(range, size)
        .ok_or_else(|| OpenBlobError::Response(range_not_satisfiable(size)))?;
    let body = match bytes {
        Some(bytes) => full(bytes),
        None => {
            let pieces = read_pieces(Arc::new(blob), first, len, &app.download_buffers);
            StreamBody::new(pieces.map_ok(Frame::data)).boxed_unsync()
        }
    };
    Ok(blob_response(digest, range, (first, len), size, body))
}

/// Serves a blob while it is downloaded from an upstream.
fn serve_download(
    app: &App,
    reader: DownloadReader,
    digest: &Digest,
    range: Option<&str>,
) -> Result<Response<ResponseBody>, ErrorResponse> {
    let size = reader.size();
    let range = parse_requested_range(range, size);
    let (first, len) = byte_range(range, size).ok_or_else(|| range_not_satisfiable(size))?;
    let buffers = Arc::clone(&app.download_buffers);
    let read = move |partial: &PartialBlob, offset: u64, len: usize| {
        let Some(mut buffer) = buffers.lend() else {
            let mut bytes = vec![0; len.min(piece_len(false) as usize)];
            let count = partial.read_into(offset, &mut bytes)?;
            bytes.truncate(count);
            return Ok(Bytes::from(bytes));
        };
        buffer.fill(len, |bytes| partial.read_into(offset, bytes))?;
        Ok(Bytes::from_owner(buffer))
    };
    let pieces = reader.stream(first, len, piece_len(true), Arc::new(read));
    let pieces = pieces.map_ok(Frame::data);
    let body = count_served(app, StreamBody::new(pieces).boxed_unsync());
    Ok(blob_response(digest, range, (first, len), size, body))
}

/// Serves a blob from its upstream, without storing it.
fn serve_uncached(
    app: &App,
    blob: UncachedBlob,
    digest: &Digest,
    range: Option<&str>,
) -> Result<Response<ResponseBody>, ErrorResponse> {
    let size = blob.size();
    let range = parse_requested_range(range, size);
    let (first, len) = byte_range(range, size).ok_or_else(|| range_not_satisfiable(size))?;
    let pieces = blob.stream(first, len).map_ok(Frame::data);
    let body = count_served(app, StreamBody::new(pieces).boxed_unsync());
    Ok(blob_response(digest, range, (first, len), size, body))
}

/// Counts the bytes of a response body in the metrics of the cache.
fn count_served(app: &App, body: ResponseBody) -> ResponseBody {
    let upstreams = app.upstreams.clone();
    let count = move |frame: Frame<Bytes>| {
        upstreams.count_served_bytes(frame.data_ref().map_or(0, |data| data.len() as u64));
        frame
    };
    body.map_frame(count).boxed_unsync()
}

/// Builds the response to a client that has the blob already (RFC 9110, section 15.4.5).
fn not_modified(digest: &Digest, size: u64) -> Response<ResponseBody> {
    let mut response = responses::empty(StatusCode::NOT_MODIFIED);
    set_blob_headers(&mut response, digest, size, size);
    response.headers_mut().remove(CONTENT_LENGTH);
    response
}

fn range_not_satisfiable(size: u64) -> ErrorResponse {
    let mut response = ErrorResponse::new(
        ErrorCode::RangeInvalid,
        format!("the blob has {size} bytes"),
    );
    let range = header_value(format_args!("bytes */{size}"));
    response.headers.insert(CONTENT_RANGE, range);
    response
}

fn blob_response(
    digest: &Digest,
    range: RequestedRange,
    (first, len): (u64, u64),
    size: u64,
    body: ResponseBody,
) -> Response<ResponseBody> {
    let mut response = responses::with_body(StatusCode::OK, body);
    set_blob_headers(&mut response, digest, len, size);
    if range != RequestedRange::Whole {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        let content_range = format!("bytes {first}-{}/{size}", first + len - 1);
        response
            .headers_mut()
            .insert(CONTENT_RANGE, header_value(content_range));
    }
    response
}

/// Returns the `Range` header, unless `If-Range` names other content (RFC 9110, section 13.1.5).
fn requested_range(headers: &HeaderMap, digest: &Digest) -> Option<String> {
    if let Some(condition) = headers.get(IF_RANGE)
        && *condition != etag(digest)
    {
        return None;
    }
    Some(headers.get(RANGE)?.to_str().ok()?.to_owned())
}

/// Returns the offset of the first byte and the number of bytes.
fn byte_range(range: RequestedRange, size: u64) -> Option<(u64, u64)> {
    match range {
        RequestedRange::Whole => Some((0, size)),
        RequestedRange::Part { first, len } => Some((first, len)),
        RequestedRange::Unsatisfiable => None,
    }
}

/// Sets the headers of a response with `len` bytes of a blob that has `size` bytes.
pub(super) fn set_blob_headers(
    response: &mut Response<ResponseBody>,
    digest: &Digest,
    len: u64,
    size: u64,
) {
    response.extensions_mut().insert(BlobSize(size));
    let headers = response.headers_mut();
    headers.insert(CONTENT_LENGTH, len.into());
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/octet-stream"),
    );
    headers.insert(responses::CONTENT_DIGEST_HEADER, header_value(digest));
    headers.insert(ETAG, etag(digest));
    // Content that is addressed by its digest never changes.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("max-age=31536000"));
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
}

/// A blob that was opened for a response.
enum OpenedBlob {
    /// The client has the blob, which has this size in bytes.
    NotModified(u64),
    /// The whole blob or one range of it, with its bytes if they were read already.
    Single(OpenBlob, RequestedRange, Option<Bytes>),
    /// Several ranges of it, each as first byte and number of bytes.
    Parts(OpenBlob, Vec<(u64, u64)>),
}

/// Why a blob cannot be served.
enum OpenBlobError {
    /// The response is already built.
    Response(ErrorResponse),
    /// The registry rejected the request.
    Registry(Error),
    /// The file cannot be read.
    Io(io::Error),
}

impl From<Error> for OpenBlobError {
    fn from(error: Error) -> Self {
        Self::Registry(error)
    }
}

impl From<io::Error> for OpenBlobError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<OpenBlobError> for ErrorResponse {
    fn from(error: OpenBlobError) -> Self {
        match error {
            OpenBlobError::Registry(error) => error.into(),
            OpenBlobError::Response(response) => response,
            OpenBlobError::Io(error) => Self::internal(&error),
        }
    }
}
