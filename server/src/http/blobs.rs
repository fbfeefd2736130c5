//! Blobs over HTTP (OCI distribution-spec, "Pulling blobs").

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

use super::body::{ResponseBody, full};
use super::buffer_pool::BufferPool;
use super::caller::Caller;
use super::error_response::ErrorResponse;
use super::responses::{self, header_value};
use super::{App, run_blocking, try_blocking};
use crate::registry::{Error, OpenBlob, PartialBlob};
use crate::upstream::{self, BlobAvailability, DownloadReader};

/// How much is read at a time: with 4 KiB a download costs ten times the processor.
const HTTP1_READ_BYTES: u64 = 256 * 1024;
/// The same for HTTP/2, where one client may have many answers wait.
const HTTP2_READ_BYTES: u64 = 64 * 1024;

/// `HEAD`: is it there, and how large.
pub(super) async fn head(
    app: &App,
    caller: &Caller,
    repository: Repository,
    digest: Digest,
) -> Result<Response<ResponseBody>, ErrorResponse> {
    let size = match app.upstreams.upstream_for(&repository) {
        Some(place) => match app.upstreams.blob_size(&place, &digest).await {
            // Only who pushes asks, and sends a blob that is not here: no push of ours depends on
            // an upstream.
            Err(upstream::Error::Upstream(_) | upstream::Error::NotAllowed { .. })
                if caller.is_allowed(Action::Push, &repository) =>
            {
                return Err(Error::BlobUnknown(digest).into());
            }
            size => size?,
        },
        None => {
            let (registry, asked) = (app.registry.clone(), digest.clone());
            try_blocking(move || registry.blob_size(&repository, &asked)).await?
        }
    };
    let mut response = responses::empty(StatusCode::OK);
    set_blob_headers(&mut response, &digest, size);
    Ok(response)
}

/// `DELETE`
pub(super) async fn delete(
    app: &App,
    repository: Repository,
    digest: Digest,
) -> Result<Response<ResponseBody>, ErrorResponse> {
    let registry = app.registry.clone();
    try_blocking(move || registry.delete_blob(&repository, &digest)).await?;
    Ok(responses::empty(StatusCode::ACCEPTED))
}

/// `GET`: all of it or a range.
pub(super) async fn get(
    app: &App,
    repository: Repository,
    digest: Digest,
    version: Version,
    headers: &HeaderMap,
) -> Result<Response<ResponseBody>, ErrorResponse> {
    let range = asked_range(headers, &digest);
    let pace = ReadAhead::of(version);
    let Some(place) = app.upstreams.upstream_for(&repository) else {
        return Ok(serve_local(app, &repository, &digest, range, pace).await?);
    };
    let mut is_again = false;
    loop {
        match app.upstreams.find_or_fetch_blob(&place, &digest).await? {
            BlobAvailability::Downloading(follower) => {
                return serve_download(app, follower, &digest, range.as_deref(), pace);
            }
            BlobAvailability::Local => {}
        }
        match serve_local(app, &repository, &digest, range.clone(), pace).await {
            // Evicted in between: it comes again.
            Err(OpenBlobError::Registry(Error::BlobUnknown(_))) if !is_again => is_again = true,
            answer => return Ok(answer?.map(|body| count_served(app, body))),
        }
    }
}

/// A blob that is in the registry.
async fn serve_local(
    app: &App,
    repository: &Repository,
    digest: &Digest,
    range: Option<String>,
    pace: ReadAhead,
) -> Result<Response<ResponseBody>, OpenBlobError> {
    let (registry, at, asked) = (app.registry.clone(), repository.clone(), digest.clone());
    // What fits into one read is read here and now.
    let reading = move || {
        let blob = registry.open_blob(&at, &asked)?;
        let wanted = parse_requested_range(range.as_deref(), blob.size());
        let start = match byte_range(wanted, blob.size()) {
            Some((first, len)) if len <= pace.piece_bytes => Some(read(&blob, first, len)?),
            Some(_) | None => None,
        };
        Ok::<_, OpenBlobError>((blob, wanted, start))
    };
    let (blob, wanted, start) = run_blocking(reading)
        .await
        .map_err(OpenBlobError::Response)??;
    let size = blob.size();
    let (first, len) = byte_range(wanted, size)
        .ok_or_else(|| OpenBlobError::Response(range_not_satisfiable(size)))?;
    let body = match start {
        Some(bytes) => full(bytes),
        None => stream(blob, first, len, pace),
    };
    Ok(blob_response(digest, wanted, (first, len), size, body))
}

/// A blob that is on its way from an upstream: its bytes as they come.
fn serve_download(
    app: &App,
    follower: DownloadReader,
    digest: &Digest,
    range: Option<&str>,
    pace: ReadAhead,
) -> Result<Response<ResponseBody>, ErrorResponse> {
    let size = follower.size();
    let wanted = parse_requested_range(range, size);
    let (first, len) = byte_range(wanted, size).ok_or_else(|| range_not_satisfiable(size))?;
    let buffers = Arc::new(BufferPool::default());
    let read = move |partial: &PartialBlob, at: u64, len: usize| {
        let mut count = 0;
        let bytes = Arc::clone(&buffers).fill_buffer(len, |bytes| {
            count = partial.read_into(at, bytes)?;
            Ok(())
        })?;
        Ok(bytes.slice(..count))
    };
    let pieces = follower.stream(first, len, pace.piece_bytes, Arc::new(read));
    let pieces = pieces.map_ok(Frame::data);
    let body = count_served(app, StreamBody::new(pieces).boxed_unsync());
    Ok(blob_response(digest, wanted, (first, len), size, body))
}

/// The same body, its bytes counted as served from behind an upstream's name.
fn count_served(app: &App, body: ResponseBody) -> ResponseBody {
    let upstreams = app.upstreams.clone();
    let count = move |frame: Frame<Bytes>| {
        upstreams.count_served_bytes(frame.data_ref().map_or(0, |data| data.len() as u64));
        frame
    };
    body.map_frame(count).boxed_unsync()
}

fn range_not_satisfiable(size: u64) -> ErrorResponse {
    let mut failure = ErrorResponse::new(
        ErrorCode::RangeInvalid,
        format!("the blob has {size} bytes"),
    );
    let range = header_value(format_args!("bytes */{size}"));
    failure.headers.insert(CONTENT_RANGE, range);
    failure
}

fn blob_response(
    digest: &Digest,
    wanted: RequestedRange,
    (first, len): (u64, u64),
    size: u64,
    body: ResponseBody,
) -> Response<ResponseBody> {
    let mut response = responses::with_body(StatusCode::OK, body);
    set_blob_headers(&mut response, digest, len);
    if wanted != RequestedRange::Whole {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        let range = format!("bytes {first}-{}/{size}", first + len - 1);
        response
            .headers_mut()
            .insert(CONTENT_RANGE, header_value(range));
    }
    response
}

/// The range asked for; none where it was meant for other content (RFC 9110, "If-Range").
fn asked_range(headers: &HeaderMap, digest: &Digest) -> Option<String> {
    if let Some(condition) = headers.get(IF_RANGE)
        && *condition != etag(digest)
    {
        return None;
    }
    Some(headers.get(RANGE)?.to_str().ok()?.to_owned())
}

/// First byte and number of bytes.
fn byte_range(wanted: RequestedRange, size: u64) -> Option<(u64, u64)> {
    match wanted {
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
    // What has a digest never changes.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("max-age=31536000"));
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
}

/// The tag of content that is named by its digest.
pub(super) fn etag(digest: &Digest) -> HeaderValue {
    header_value(format_args!("\"{digest}\""))
}

/// How a blob is read for its client.
#[derive(Debug, Clone, Copy)]
struct ReadAhead {
    /// Bytes at a time.
    piece_bytes: u64,
    /// How many pieces at a time, the one included that the client waits for.
    max_pieces: usize,
}

impl ReadAhead {
    fn of(version: Version) -> Self {
        match version >= Version::HTTP_2 {
            true => Self {
                piece_bytes: HTTP2_READ_BYTES,
                max_pieces: 1,
            },
            false => Self {
                piece_bytes: HTTP1_READ_BYTES,
                max_pieces: 2,
            },
        }
    }
}

/// The bytes of a blob, read at most a little ahead of the client.
fn stream(blob: OpenBlob, first: u64, len: u64, pace: ReadAhead) -> ResponseBody {
    let (blob, end) = (Arc::new(blob), first + len);
    let buffers = Arc::new(BufferPool::default());
    let starts =
        (0..len.div_ceil(pace.piece_bytes)).map(move |piece| first + piece * pace.piece_bytes);
    let pieces = futures::stream::iter(starts).map(move |start| {
        let (blob, buffers) = (Arc::clone(&blob), Arc::clone(&buffers));
        let len = pace.piece_bytes.min(end - start);
        async move {
            let len = usize::try_from(len).map_err(io::Error::other)?;
            let read = move || buffers.fill_buffer(len, |bytes| blob.read_into(start, bytes));
            let read = tokio::task::spawn_blocking(read);
            read.await.map_err(io::Error::other)?.map(Frame::data)
        }
    });
    StreamBody::new(pieces.buffered(pace.max_pieces)).boxed_unsync()
}

/// Reads a piece; never more than [`READ_BYTES`].
fn read(blob: &OpenBlob, first: u64, len: u64) -> io::Result<Bytes> {
    blob.read(first, usize::try_from(len).map_err(io::Error::other)?)
        .map(Bytes::from)
}

/// Why a blob could not be read.
enum OpenBlobError {
    /// The answer is made already.
    Response(ErrorResponse),
    Registry(Error),
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
            OpenBlobError::Response(failure) => failure,
            OpenBlobError::Io(error) => Self::internal(&error),
        }
    }
}
