//! Serves blobs (OCI distribution-spec, "Pulling blobs").

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use hyper::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderMap,
    HeaderValue, IF_RANGE, RANGE,
};
use hyper::{Response, StatusCode, Version};
use imgsync_oci::endpoint::Action;
use imgsync_oci::range::{RequestedRange, parse_requested_range};
use imgsync_oci::{Digest, ErrorCode, Repository};

use super::app::App;
use super::blocking::{run_blocking, try_blocking};
use super::body::{ResponseBody, full};
use super::buffer_pool::BufferPool;
use super::caller::Caller;
use super::error_response::ErrorResponse;
use super::responses::{self, header_value};
use crate::registry::{Error, OpenBlob, PartialBlob};
use crate::upstream::{self, BlobAvailability, DownloadReader, UncachedBlob};

/// The bytes that are read at a time for HTTP/1. Reads of 4 KiB would take ten times the CPU time.
const HTTP1_READ_BYTES: u64 = 256 * 1024;
/// The bytes that are read at a time for HTTP/2, where one client can have many open responses.
const HTTP2_READ_BYTES: u64 = 64 * 1024;

/// Serves `HEAD`: the size of a blob.
pub(super) async fn head(
    app: &App,
    caller: &Caller,
    repository: Repository,
    digest: Digest,
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
            let (registry, digest) = (app.registry.clone(), digest.clone());
            try_blocking(move || registry.blob_size(&repository, &digest)).await?
        }
    };
    let mut response = responses::empty(StatusCode::OK);
    set_blob_headers(&mut response, &digest, size);
    Ok(response)
}

/// Serves `DELETE`.
pub(super) async fn delete(
    app: &App,
    repository: Repository,
    digest: Digest,
) -> Result<Response<ResponseBody>, ErrorResponse> {
    let registry = app.registry.clone();
    try_blocking(move || registry.delete_blob(&repository, &digest)).await?;
    Ok(responses::empty(StatusCode::ACCEPTED))
}

/// Serves `GET`: the blob or a range of it.
pub(super) async fn get(
    app: &App,
    caller: &Caller,
    repository: Repository,
    digest: Digest,
    version: Version,
    headers: &HeaderMap,
) -> Result<Response<ResponseBody>, ErrorResponse> {
    let range = requested_range(headers, &digest);
    let read_ahead = ReadAhead::of(version);
    let Some(upstream) = app.upstreams.upstream_for(&repository) else {
        return Ok(serve_local(app, &repository, &digest, range, read_ahead).await?);
    };
    let rights = caller.pull_rights();
    let mut is_refetch = false;
    loop {
        let found = app
            .upstreams
            .find_or_fetch_blob(&upstream, &digest, &rights);
        let holder = match found.await? {
            BlobAvailability::Downloading(reader) => {
                return serve_download(app, reader, &digest, range.as_deref(), read_ahead);
            }
            BlobAvailability::Uncached(blob) => {
                return serve_uncached(app, *blob, &digest, range.as_deref());
            }
            BlobAvailability::Local => repository.clone(),
            BlobAvailability::LocalIn(holder) => holder,
        };
        match serve_local(app, &holder, &digest, range.clone(), read_ahead).await {
            // The blob was evicted before the read: fetch it again.
            Err(OpenBlobError::Registry(Error::BlobUnknown(_))) if !is_refetch => {
                is_refetch = true;
            }
            response => return Ok(response?.map(|body| count_served(app, body))),
        }
    }
}

/// Serves a blob that is in the registry.
async fn serve_local(
    app: &App,
    repository: &Repository,
    digest: &Digest,
    range: Option<String>,
    read_ahead: ReadAhead,
) -> Result<Response<ResponseBody>, OpenBlobError> {
    let (registry, repository, blob_digest) =
        (app.registry.clone(), repository.clone(), digest.clone());
    // A response that fits into one read is read in the same blocking call.
    let open = move || {
        let blob = registry.open_blob(&repository, &blob_digest)?;
        let range = parse_requested_range(range.as_deref(), blob.size());
        let bytes = match byte_range(range, blob.size()) {
            Some((first, len)) if len <= read_ahead.piece_bytes => Some(read(&blob, first, len)?),
            _ => None,
        };
        Ok::<_, OpenBlobError>((blob, range, bytes))
    };
    let opened = run_blocking(open).await.map_err(OpenBlobError::Response)?;
    let (blob, range, bytes) = opened?;
    let size = blob.size();
    let (first, len) = byte_range(range, size)
        .ok_or_else(|| OpenBlobError::Response(range_not_satisfiable(size)))?;
    let body = match bytes {
        Some(bytes) => full(bytes),
        None => stream(blob, first, len, read_ahead),
    };
    Ok(blob_response(digest, range, (first, len), size, body))
}

/// Serves a blob while it is downloaded from an upstream.
fn serve_download(
    app: &App,
    reader: DownloadReader,
    digest: &Digest,
    range: Option<&str>,
    read_ahead: ReadAhead,
) -> Result<Response<ResponseBody>, ErrorResponse> {
    let size = reader.size();
    let range = parse_requested_range(range, size);
    let (first, len) = byte_range(range, size).ok_or_else(|| range_not_satisfiable(size))?;
    let buffers = Arc::new(BufferPool::default());
    let read = move |partial: &PartialBlob, offset: u64, len: usize| {
        let mut count = 0;
        let bytes = Arc::clone(&buffers).fill_buffer(len, |bytes| {
            count = partial.read_into(offset, bytes)?;
            Ok(())
        })?;
        Ok(bytes.slice(..count))
    };
    let pieces = reader.stream(first, len, read_ahead.piece_bytes, Arc::new(read));
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
    set_blob_headers(&mut response, digest, len);
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

fn set_blob_headers(response: &mut Response<ResponseBody>, digest: &Digest, len: u64) {
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

/// Returns the entity tag of content: its digest.
pub(super) fn etag(digest: &Digest) -> HeaderValue {
    header_value(format_args!("\"{digest}\""))
}

/// How far a blob is read ahead of its client.
#[derive(Debug, Clone, Copy)]
struct ReadAhead {
    /// The bytes that are read at a time.
    piece_bytes: u64,
    /// The most pieces in memory, including the one that is being sent.
    max_pieces: usize,
}

impl ReadAhead {
    fn of(version: Version) -> Self {
        if version >= Version::HTTP_2 {
            Self {
                piece_bytes: HTTP2_READ_BYTES,
                max_pieces: 1,
            }
        } else {
            Self {
                piece_bytes: HTTP1_READ_BYTES,
                max_pieces: 2,
            }
        }
    }
}

/// Streams a part of a blob, reading a bounded amount ahead of the client.
fn stream(blob: OpenBlob, first: u64, len: u64, read_ahead: ReadAhead) -> ResponseBody {
    let (blob, end) = (Arc::new(blob), first + len);
    let buffers = Arc::new(BufferPool::default());
    let starts = (0..len.div_ceil(read_ahead.piece_bytes))
        .map(move |piece| first + piece * read_ahead.piece_bytes);
    let pieces = futures::stream::iter(starts).map(move |start| {
        let (blob, buffers) = (Arc::clone(&blob), Arc::clone(&buffers));
        let len = read_ahead.piece_bytes.min(end - start);
        async move {
            let len = usize::try_from(len).map_err(io::Error::other)?;
            let read = move || buffers.fill_buffer(len, |bytes| blob.read_into(start, bytes));
            let read = tokio::task::spawn_blocking(read);
            read.await.map_err(io::Error::other)?.map(Frame::data)
        }
    });
    StreamBody::new(pieces.buffered(read_ahead.max_pieces)).boxed_unsync()
}

/// Reads one piece: at most [`ReadAhead::piece_bytes`].
fn read(blob: &OpenBlob, first: u64, len: u64) -> io::Result<Bytes> {
    blob.read(first, usize::try_from(len).map_err(io::Error::other)?)
        .map(Bytes::from)
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
