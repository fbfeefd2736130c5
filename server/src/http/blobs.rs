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
use imgsync_oci::range::{Wanted, wanted};
use imgsync_oci::{Code, Digest, Repository};

use super::body::{Body, full};
use super::buffers::Buffers;
use super::caller::Caller;
use super::failure::Failure;
use super::reply::{self, value};
use super::{App, attempt, blocking};
use crate::registry::{Blob, Error, Partial};
use crate::upstream::{self, Follower, Found};

/// How much is read at a time: with 4 KiB a download costs ten times the processor.
const READ_BYTES: u64 = 256 * 1024;
/// The same for HTTP/2, where one client may have many answers wait.
const STREAM_READ_BYTES: u64 = 64 * 1024;

/// `HEAD`: is it there, and how large.
pub(super) async fn head(
    app: &App,
    caller: &Caller,
    repository: Repository,
    digest: Digest,
) -> Result<Response<Body>, Failure> {
    let size = match app.upstreams.behind(&repository) {
        Some(place) => match app.upstreams.blob_size(&place, &digest).await {
            // Only who pushes asks, and sends a blob that is not here: no push of ours depends on
            // an upstream.
            Err(upstream::Error::Failed(_) | upstream::Error::NotAllowed { .. })
                if caller.may(Action::Push, &repository) =>
            {
                return Err(Error::BlobUnknown(digest).into());
            }
            size => size?,
        },
        None => {
            let (registry, asked) = (app.registry.clone(), digest.clone());
            attempt(move || registry.blob_size(&repository, &asked)).await?
        }
    };
    let mut response = reply::empty(StatusCode::OK);
    describe(&mut response, &digest, size);
    Ok(response)
}

/// `DELETE`
pub(super) async fn delete(
    app: &App,
    repository: Repository,
    digest: Digest,
) -> Result<Response<Body>, Failure> {
    let registry = app.registry.clone();
    attempt(move || registry.delete_blob(&repository, &digest)).await?;
    Ok(reply::empty(StatusCode::ACCEPTED))
}

/// `GET`: all of it or a range.
pub(super) async fn get(
    app: &App,
    repository: Repository,
    digest: Digest,
    version: Version,
    headers: &HeaderMap,
) -> Result<Response<Body>, Failure> {
    let range = asked_range(headers, &digest);
    let pace = Pace::of(version);
    let Some(place) = app.upstreams.behind(&repository) else {
        return Ok(here(app, &repository, &digest, range, pace).await?);
    };
    let mut is_again = false;
    loop {
        match app.upstreams.blob(&place, &digest).await? {
            Found::Coming(follower) => {
                return coming(app, follower, &digest, range.as_deref(), pace);
            }
            Found::Here => {}
        }
        match here(app, &repository, &digest, range.clone(), pace).await {
            // Evicted in between: it comes again.
            Err(Unreadable::Refused(Error::BlobUnknown(_))) if !is_again => is_again = true,
            answer => return Ok(answer?.map(|body| counted(app, body))),
        }
    }
}

/// A blob that is in the registry.
async fn here(
    app: &App,
    repository: &Repository,
    digest: &Digest,
    range: Option<String>,
    pace: Pace,
) -> Result<Response<Body>, Unreadable> {
    let (registry, at, asked) = (app.registry.clone(), repository.clone(), digest.clone());
    // What fits into one read is read here and now.
    let reading = move || {
        let blob = registry.open_blob(&at, &asked)?;
        let wanted = wanted(range.as_deref(), blob.size());
        let start = match extent(wanted, blob.size()) {
            Some((first, len)) if len <= pace.piece => Some(read(&blob, first, len)?),
            Some(_) | None => None,
        };
        Ok::<_, Unreadable>((blob, wanted, start))
    };
    let (blob, wanted, start) = blocking(reading).await.map_err(Unreadable::Answered)??;
    let size = blob.size();
    let (first, len) = extent(wanted, size).ok_or_else(|| Unreadable::Answered(beyond(size)))?;
    let body = match start {
        Some(bytes) => full(bytes),
        None => stream(blob, first, len, pace),
    };
    Ok(answer(digest, wanted, (first, len), size, body))
}

/// A blob that is on its way from an upstream: its bytes as they come.
fn coming(
    app: &App,
    follower: Follower,
    digest: &Digest,
    range: Option<&str>,
    pace: Pace,
) -> Result<Response<Body>, Failure> {
    let size = follower.size();
    let wanted = wanted(range, size);
    let (first, len) = extent(wanted, size).ok_or_else(|| beyond(size))?;
    let buffers = Arc::new(Buffers::default());
    let read = move |partial: &Partial, at: u64, len: usize| {
        let mut count = 0;
        let bytes = Arc::clone(&buffers).filled(len, |bytes| {
            count = partial.read_into(at, bytes)?;
            Ok(())
        })?;
        Ok(bytes.slice(..count))
    };
    let pieces = follower.bytes(first, len, pace.piece, Arc::new(read));
    let pieces = pieces.map_ok(Frame::data);
    let body = counted(app, StreamBody::new(pieces).boxed_unsync());
    Ok(answer(digest, wanted, (first, len), size, body))
}

/// The same body, its bytes counted as served from behind an upstream's name.
fn counted(app: &App, body: Body) -> Body {
    let upstreams = app.upstreams.clone();
    let count = move |frame: Frame<Bytes>| {
        upstreams.sent(frame.data_ref().map_or(0, |data| data.len() as u64));
        frame
    };
    body.map_frame(count).boxed_unsync()
}

fn beyond(size: u64) -> Failure {
    let mut failure = Failure::new(Code::RangeInvalid, format!("the blob has {size} bytes"));
    let range = value(format_args!("bytes */{size}"));
    failure.headers.insert(CONTENT_RANGE, range);
    failure
}

fn answer(
    digest: &Digest,
    wanted: Wanted,
    (first, len): (u64, u64),
    size: u64,
    body: Body,
) -> Response<Body> {
    let mut response = reply::with_body(StatusCode::OK, body);
    describe(&mut response, digest, len);
    if wanted != Wanted::Whole {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        let range = format!("bytes {first}-{}/{size}", first + len - 1);
        response.headers_mut().insert(CONTENT_RANGE, value(range));
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
fn extent(wanted: Wanted, size: u64) -> Option<(u64, u64)> {
    match wanted {
        Wanted::Whole => Some((0, size)),
        Wanted::Part { first, len } => Some((first, len)),
        Wanted::Unsatisfiable => None,
    }
}

fn describe(response: &mut Response<Body>, digest: &Digest, len: u64) {
    let headers = response.headers_mut();
    headers.insert(CONTENT_LENGTH, len.into());
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/octet-stream"),
    );
    headers.insert(reply::CONTENT_DIGEST, value(digest));
    headers.insert(ETAG, etag(digest));
    // What has a digest never changes.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("max-age=31536000"));
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
}

/// The tag of content that is named by its digest.
pub(super) fn etag(digest: &Digest) -> HeaderValue {
    value(format_args!("\"{digest}\""))
}

/// How a blob is read for its client.
#[derive(Debug, Clone, Copy)]
struct Pace {
    /// Bytes at a time.
    piece: u64,
    /// How many pieces at a time, the one included that the client waits for.
    pieces: usize,
}

impl Pace {
    fn of(version: Version) -> Self {
        match version >= Version::HTTP_2 {
            true => Self {
                piece: STREAM_READ_BYTES,
                pieces: 1,
            },
            false => Self {
                piece: READ_BYTES,
                pieces: 2,
            },
        }
    }
}

/// The bytes of a blob, read at most a little ahead of the client.
fn stream(blob: Blob, first: u64, len: u64, pace: Pace) -> Body {
    let (blob, end) = (Arc::new(blob), first + len);
    let buffers = Arc::new(Buffers::default());
    let starts = (0..len.div_ceil(pace.piece)).map(move |piece| first + piece * pace.piece);
    let pieces = futures::stream::iter(starts).map(move |start| {
        let (blob, buffers) = (Arc::clone(&blob), Arc::clone(&buffers));
        let len = pace.piece.min(end - start);
        async move {
            let len = usize::try_from(len).map_err(io::Error::other)?;
            let read = move || buffers.filled(len, |bytes| blob.read_into(start, bytes));
            let read = tokio::task::spawn_blocking(read);
            read.await.map_err(io::Error::other)?.map(Frame::data)
        }
    });
    StreamBody::new(pieces.buffered(pace.pieces)).boxed_unsync()
}

/// Reads a piece; never more than [`READ_BYTES`].
fn read(blob: &Blob, first: u64, len: u64) -> io::Result<Bytes> {
    blob.read(first, usize::try_from(len).map_err(io::Error::other)?)
        .map(Bytes::from)
}

/// Why a blob could not be read.
enum Unreadable {
    /// The answer is made already.
    Answered(Failure),
    Refused(Error),
    Broken(io::Error),
}

impl From<Error> for Unreadable {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

impl From<io::Error> for Unreadable {
    fn from(error: io::Error) -> Self {
        Self::Broken(error)
    }
}

impl From<Unreadable> for Failure {
    fn from(error: Unreadable) -> Self {
        match error {
            Unreadable::Refused(error) => error.into(),
            Unreadable::Answered(failure) => failure,
            Unreadable::Broken(error) => Self::internal(&error),
        }
    }
}
