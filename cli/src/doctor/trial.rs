//! The uploads of `imgsync doctor --write`: a small blob whose upload is interrupted and continued,
//! and larger requests that are cancelled.
//!
//! This module judges nothing. Start reading at [`run`].

use std::time::Duration;

use aws_lc_rs::rand;
use bytes::Bytes;
use futures::stream::{self, Stream, StreamExt};
use http::StatusCode;
use imgsync_oci::client::upload::UploadSession;
use imgsync_oci::client::{Client, Error};
use imgsync_oci::{Digest, Repository};

use super::request_size::SentSizes;
use super::resume::ResumeObservation;

/// The size of the blob: the first chunk, the chunk that is interrupted in the middle, and the rest.
const BLOB_BYTES: usize = 256 * 1024;
const FIRST_CHUNK_BYTES: usize = 64 * 1024;
const BROKEN_CHUNK_BYTES: usize = 128 * 1024;
/// How long the connection stays open after the last byte of the interrupted chunk, so that it
/// arrives.
const BREAK_DELAY: Duration = Duration::from_millis(500);
/// How often the registry is asked for the offset until it has noticed the break.
const OFFSET_ATTEMPTS: u32 = 5;
const OFFSET_INTERVAL: Duration = Duration::from_millis(300);
/// How often the rest is sent while the registry still has the interrupted request open.
const REST_ATTEMPTS: u32 = 10;
/// The offset of the download.
const RANGE_OFFSET: u64 = 1000;
/// The sizes of the larger requests, multiples of [`PIECE_BYTES`].
const REQUEST_BYTES: [u64; 3] = [1 << 20, 4 << 20, 16 << 20];
const PIECE_BYTES: usize = 64 * 1024;

/// The results of the uploads.
#[derive(Debug)]
pub(super) struct UploadTrial {
    /// The `Location` of the first upload session, as the registry states it.
    pub(super) stated_location: String,
    pub(super) resume: ResumeObservation,
    /// Only if the registry accepts chunks.
    pub(super) sizes: Option<SentSizes>,
    /// Content that could not be deleted, for the user.
    pub(super) leftovers: Vec<String>,
}

/// Returns a blob that no registry has; `None` if this machine has no random numbers. It must be
/// random, because it is deleted from the registry afterwards.
pub(super) fn random_blob() -> Option<Bytes> {
    let mut bytes = vec![0; BLOB_BYTES];
    rand::fill(&mut bytes).ok()?;
    Some(bytes.into())
}

/// Uploads a blob of [`random_blob`], and deletes it. Requests of `refused_size` bytes and more are not sent,
/// because they are known to be refused.
///
/// # Errors
/// Fails if no upload session can be opened.
pub(super) async fn run(
    client: &Client,
    repository: &Repository,
    blob: &Bytes,
    refused_size: Option<u64>,
) -> Result<UploadTrial, Error> {
    let opened = client.start_upload_with_location(repository).await;
    let (mut session, stated_location) = opened?;
    let mut leftovers = Leftovers::default();
    let first = blob.slice(..FIRST_CHUNK_BYTES);
    let chunk = append(client, &mut session, first).await;
    let confirmed = session.offset();
    let (offset, session) = if chunk.is_ok() {
        break_upload(client, session, blob, &mut leftovers).await
    } else {
        leftovers.cancel(client, session).await;
        (Ok(None), None)
    };
    let digest = Digest::of(blob);
    let finish = finish(client, repository, session, blob, &digest).await;
    let has_ranges = match &finish {
        Ok(()) => {
            let has_ranges = has_ranges(client, repository, &digest).await;
            leftovers.delete(client, repository, &digest).await;
            Some(has_ranges)
        }
        Err(_) => None,
    };
    let sizes = match &chunk {
        Ok(()) => {
            let piece = blob.slice(..PIECE_BYTES);
            Some(send_sizes(client, repository, &piece, refused_size, &mut leftovers).await)
        }
        Err(_) => None,
    };
    let resume = ResumeObservation {
        chunk,
        confirmed,
        offset,
        finish,
        has_ranges,
    };
    Ok(UploadTrial {
        stated_location,
        resume,
        sizes,
        leftovers: leftovers.0,
    })
}

/// Content that could not be deleted, for the user.
#[derive(Default)]
struct Leftovers(Vec<String>);

impl Leftovers {
    async fn cancel(&mut self, client: &Client, session: UploadSession) {
        if let Err(error) = client.cancel_upload(session).await {
            self.0.push(format!(
                "an upload session cannot be cancelled, and stays until it expires: {error}"
            ));
        }
    }

    async fn delete(&mut self, client: &Client, repository: &Repository, digest: &Digest) {
        let blob = format!("{digest} ({BLOB_BYTES} bytes) stays until its garbage collection");
        match client.delete_blob(repository, digest).await {
            Ok(true) => {}
            Ok(false) => self
                .0
                .push(format!("the registry does not delete blobs: {blob}")),
            Err(error) => self
                .0
                .push(format!("{blob}, because it cannot be deleted: {error}")),
        }
    }
}

/// Interrupts the upload of a chunk. Returns the offset that the registry reports afterwards, and the
/// session if it still exists.
async fn break_upload(
    client: &Client,
    mut session: UploadSession,
    blob: &Bytes,
    leftovers: &mut Leftovers,
) -> (Result<Option<u64>, Error>, Option<UploadSession>) {
    let confirmed = session.offset();
    let half = blob.slice(FIRST_CHUNK_BYTES..FIRST_CHUNK_BYTES + BROKEN_CHUNK_BYTES / 2);
    let len = BROKEN_CHUNK_BYTES as u64;
    // The error is that of the interruption.
    let _ = client
        .append_upload(&mut session, interrupted(half), len)
        .await;
    let offset = offset_after_break(client, &mut session, confirmed).await;
    match offset {
        Ok(Some(_)) => (offset, Some(session)),
        Ok(None) => (offset, None),
        Err(_) => {
            leftovers.cancel(client, session).await;
            (offset, None)
        }
    }
}

/// Sends requests of growing size to a session that is cancelled afterwards.
async fn send_sizes(
    client: &Client,
    repository: &Repository,
    piece: &Bytes,
    refused_size: Option<u64>,
    leftovers: &mut Leftovers,
) -> SentSizes {
    let mut sent = SentSizes::default();
    let mut session = match client.start_upload_with_location(repository).await {
        Ok((session, _)) => session,
        Err(error) => {
            sent.failed = Some((0, error));
            return sent;
        }
    };
    for size in REQUEST_BYTES {
        if refused_size.is_some_and(|refused| refused <= size) {
            break;
        }
        let piece = piece.clone();
        let pieces = (0..size / PIECE_BYTES as u64).map(move |_| Ok(piece.clone()));
        let pieces = stream::iter(pieces);
        match client.append_upload(&mut session, pieces, size).await {
            Ok(()) => sent.accepted = Some(size),
            Err(error) => {
                sent.failed = Some((size, error));
                break;
            }
        }
    }
    leftovers.cancel(client, session).await;
    sent
}

async fn append(client: &Client, session: &mut UploadSession, bytes: Bytes) -> Result<(), Error> {
    let len = bytes.len() as u64;
    let bytes = stream::iter([Ok(bytes)]);
    client.append_upload(session, bytes, len).await
}

/// Streams some bytes, and then fails.
fn interrupted(bytes: Bytes) -> impl Stream<Item = std::io::Result<Bytes>> + Send + 'static {
    let end = stream::once(async {
        tokio::time::sleep(BREAK_DELAY).await;
        Err(std::io::Error::other("interrupted"))
    });
    stream::iter([Ok(bytes)]).chain(end)
}

/// Asks for the offset of a session until it is more than `confirmed`, some times.
async fn offset_after_break(
    client: &Client,
    session: &mut UploadSession,
    confirmed: u64,
) -> Result<Option<u64>, Error> {
    for attempt in 1..=OFFSET_ATTEMPTS {
        if !client.sync_upload_offset(session).await? {
            return Ok(None);
        }
        if session.offset() > confirmed || attempt == OFFSET_ATTEMPTS {
            break;
        }
        tokio::time::sleep(OFFSET_INTERVAL).await;
    }
    Ok(Some(session.offset()))
}

/// Sends the rest of a blob, or all of it in a new session, and completes the upload. A session that
/// cannot be completed is cancelled.
async fn finish(
    client: &Client,
    repository: &Repository,
    session: Option<UploadSession>,
    blob: &Bytes,
    digest: &Digest,
) -> Result<(), Error> {
    let mut session = match session {
        Some(session) => session,
        None => client.start_upload_with_location(repository).await?.0,
    };
    let mut finished = send_rest(client, &mut session, blob).await;
    for _ in 1..REST_ATTEMPTS {
        // The registry may have stored the interrupted bytes before it notices the break, and until
        // then refuses another request for the session.
        let is_busy = |error: &Error| error.status() == Some(StatusCode::RANGE_NOT_SATISFIABLE);
        if !finished.as_ref().is_err_and(is_busy) {
            break;
        }
        tokio::time::sleep(OFFSET_INTERVAL).await;
        if !matches!(client.sync_upload_offset(&mut session).await, Ok(true)) {
            break;
        }
        finished = send_rest(client, &mut session, blob).await;
    }
    if finished.is_ok() {
        finished = client.finish_upload(&session, digest).await;
    }
    if finished.is_err() {
        // The error that was found first is the one to report.
        let _ = client.cancel_upload(session).await;
    }
    finished
}

/// Sends the bytes of a blob from the offset of the session.
async fn send_rest(
    client: &Client,
    session: &mut UploadSession,
    blob: &Bytes,
) -> Result<(), Error> {
    let sent = usize::try_from(session.offset()).unwrap_or(usize::MAX);
    let rest = blob.slice(sent.min(blob.len())..);
    if sent > 0 {
        return append(client, session, rest).await;
    }
    // The form that every registry accepts.
    let len = rest.len() as u64;
    let bytes = stream::iter([Ok(rest)]);
    client.append_whole_blob(session, bytes, len).await
}

/// Returns whether a download from an offset begins there.
async fn has_ranges(
    client: &Client,
    repository: &Repository,
    digest: &Digest,
) -> Result<bool, Error> {
    let download = client.open_blob(repository, digest, RANGE_OFFSET).await?;
    Ok(download.is_some_and(|download| download.first == RANGE_OFFSET))
}
