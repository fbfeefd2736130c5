//! Receives request bodies with bounded memory.
//!
//! This module must not decide what becomes of an interrupted body: [`append_body`] reports how the
//! body ended, and its caller keeps or drops the bytes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::Body;
use hyper::header::{EXPECT, HeaderMap};
use tokio::time::timeout;

use super::blocking::try_blocking;
use super::error_response::ErrorResponse;
use super::request_body::RequestBody;
use crate::registry::{Error, UploadWriter};

/// The most bytes that are written at once. The next batch arrives while one is written.
const MAX_BATCH_BYTES: usize = 256 * 1024;
/// The most frames of a batch: tiny frames cost more memory than their bytes.
const MAX_BATCH_FRAMES: usize = 64;
/// The number of bytes after which an upload is synced to disk: the most that a crash loses.
const SYNC_INTERVAL_BYTES: u64 = 64 * 1024 * 1024;
/// The interval at which the read timeouts are checked.
const IDLE_CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// The most bytes of an unread body that are drained.
const MAX_DRAIN_BYTES: u64 = 16 * 1024 * 1024;
/// The longest time for which an unread body is drained.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a request body may stay silent before it counts as interrupted.
#[derive(Debug, Clone, Copy)]
pub(super) struct ReadTimeouts {
    /// The timeout as long as no other request waits for the upload session.
    pub(super) idle: Duration,
    /// The timeout once another request waits for the upload session: a client that lost its
    /// connection retries on a new one while the old one still looks open.
    pub(super) contended: Duration,
}

impl Default for ReadTimeouts {
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(60),
            contended: Duration::from_secs(5),
        }
    }
}

/// How a body ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BodyEnd {
    /// The body is complete.
    Complete,
    /// The connection broke, a read timeout passed, or the server is shutting down.
    Interrupted,
    /// The client sent more bytes than it announced.
    TooLong,
}

/// Appends a body to an upload session. `announced` is the length of the body in bytes, if the
/// request states one. The last bytes are written but not yet synced to disk.
///
/// # Errors
/// Fails if the session cannot be written.
pub(super) async fn append_body(
    body: &mut RequestBody,
    announced: Option<u64>,
    writer: UploadWriter,
    timeouts: ReadTimeouts,
) -> Result<(UploadWriter, BodyEnd), ErrorResponse> {
    let contended = writer.contended_flag();
    let mut remaining = announced;
    let mut writing = write(writer, Vec::new());
    loop {
        // The task writes one batch while the next one arrives.
        let written = tokio::spawn(writing);
        let (batch, end) = gather(body, &mut remaining, &contended, timeouts).await;
        let writer = written
            .await
            .map_err(|error| ErrorResponse::internal(&error))??;
        let Some(end) = end else {
            writing = write(writer, batch);
            continue;
        };
        if end == BodyEnd::Interrupted {
            body.abandon();
        }
        let writer = write(writer, batch).await?;
        let is_short = remaining.is_some_and(|remaining| remaining > 0);
        return match end {
            BodyEnd::Complete if is_short => Ok((writer, BodyEnd::Interrupted)),
            BodyEnd::Complete | BodyEnd::Interrupted | BodyEnd::TooLong => Ok((writer, end)),
        };
    }
}

async fn write(mut writer: UploadWriter, batch: Vec<Bytes>) -> Result<UploadWriter, ErrorResponse> {
    if batch.is_empty() {
        return Ok(writer);
    }
    try_blocking(move || {
        for bytes in &batch {
            writer.ingest.write(bytes)?;
        }
        if writer.ingest.unsynced_bytes() >= SYNC_INTERVAL_BYTES {
            writer.ingest.sync()?;
        }
        Ok::<_, Error>(writer)
    })
    .await
}

/// Collects a batch of bytes, and returns it with the end of the body if the body ended.
async fn gather<B: Body<Data = Bytes> + Unpin>(
    body: &mut B,
    remaining: &mut Option<u64>,
    contended: &AtomicBool,
    timeouts: ReadTimeouts,
) -> (Vec<Bytes>, Option<BodyEnd>) {
    let (mut batch, mut len) = (Vec::new(), 0);
    while len < MAX_BATCH_BYTES && batch.len() < MAX_BATCH_FRAMES {
        match next(body, contended, timeouts).await {
            Ok(bytes) => {
                if let Some(remaining) = remaining {
                    match remaining.checked_sub(bytes.len() as u64) {
                        Some(rest) => *remaining = rest,
                        None => return (batch, Some(BodyEnd::TooLong)),
                    }
                }
                len += bytes.len();
                batch.push(bytes);
            }
            Err(end) => return (batch, Some(end)),
        }
    }
    (batch, None)
}

/// Returns the next bytes of a body, or how it ended.
pub(super) async fn next<B: Body<Data = Bytes> + Unpin>(
    body: &mut B,
    contended: &AtomicBool,
    timeouts: ReadTimeouts,
) -> Result<Bytes, BodyEnd> {
    let mut idle = Duration::ZERO;
    loop {
        match timeout(IDLE_CHECK_INTERVAL, body.frame()).await {
            Ok(Some(Ok(frame))) => match frame.into_data() {
                Ok(bytes) if bytes.is_empty() => {}
                Ok(bytes) => return Ok(bytes),
                Err(_trailers) => {}
            },
            Ok(Some(Err(_broken))) => return Err(BodyEnd::Interrupted),
            Ok(None) => return Err(BodyEnd::Complete),
            Err(_elapsed) => {
                idle += IDLE_CHECK_INTERVAL;
                let is_contended = contended.load(Ordering::Relaxed);
                if idle >= timeouts.idle || (is_contended && idle >= timeouts.contended) {
                    return Err(BodyEnd::Interrupted);
                }
            }
        }
    }
}

/// Reads and drops the rest of a body while the response goes out, up to a limit. A client whose
/// connection is closed while it still sends sees a broken connection instead of the response.
pub(super) fn drain_unread(headers: &HeaderMap, mut body: RequestBody) {
    // A client that waits for "100 Continue" has sent nothing.
    let awaits_continue = headers.contains_key(EXPECT) && !body.is_started();
    if awaits_continue || body.is_end_stream() {
        return;
    }
    let draining = body.begin_drain();
    tokio::spawn(timeout(DRAIN_TIMEOUT, async move {
        let _draining = draining;
        let mut drained = 0;
        while let Some(Ok(frame)) = body.frame().await {
            drained += frame.data_ref().map_or(0, |data| data.len() as u64);
            if drained > MAX_DRAIN_BYTES {
                return;
            }
        }
    }));
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures::StreamExt as _;
    use http_body_util::StreamBody;
    use hyper::body::Frame;

    use super::*;

    const READ_TIMEOUTS: ReadTimeouts = ReadTimeouts {
        idle: Duration::from_secs(60),
        contended: Duration::from_secs(5),
    };

    fn body_of(parts: Vec<Bytes>) -> impl Body<Data = Bytes, Error = Infallible> + Unpin {
        let frames = parts.into_iter().map(|part| Ok(Frame::data(part)));
        StreamBody::new(futures::stream::iter(frames))
    }

    /// Returns a body that sends one byte and then stays silent.
    fn stalled() -> impl Body<Data = Bytes, Error = Infallible> + Unpin {
        let one = futures::stream::iter([Ok(Frame::data(Bytes::from_static(b"x")))]);
        StreamBody::new(one.chain(futures::stream::pending()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_body_is_interrupted_sooner_when_another_request_waits() {
        for (is_contended, seconds) in [(false, 60), (true, 5)] {
            let contended = AtomicBool::new(is_contended);
            let start = tokio::time::Instant::now();
            let (batch, end) = gather(&mut stalled(), &mut None, &contended, READ_TIMEOUTS).await;
            assert_eq!((batch.len(), end), (1, Some(BodyEnd::Interrupted)));
            assert_eq!(start.elapsed().as_secs(), seconds);
        }
    }

    #[tokio::test]
    async fn batches_are_bounded_by_bytes_and_by_frames() {
        let never_contended = AtomicBool::new(false);
        let large = Bytes::from(vec![0; MAX_BATCH_BYTES / 2]);
        let mut body = body_of(vec![large.clone(), large.clone(), large]);
        let (batch, end) = gather(&mut body, &mut None, &never_contended, READ_TIMEOUTS).await;
        assert_eq!((batch.len(), end), (2, None));
        let (batch, end) = gather(&mut body, &mut None, &never_contended, READ_TIMEOUTS).await;
        assert_eq!((batch.len(), end), (1, Some(BodyEnd::Complete)));
        let mut body = body_of(vec![Bytes::from_static(b"x"); MAX_BATCH_FRAMES + 1]);
        let (batch, end) = gather(&mut body, &mut None, &never_contended, READ_TIMEOUTS).await;
        assert_eq!((batch.len(), end), (MAX_BATCH_FRAMES, None));
    }

    #[tokio::test]
    async fn more_than_announced_is_too_long() {
        let never_contended = AtomicBool::new(false);
        for (announced, end) in [(5, BodyEnd::TooLong), (6, BodyEnd::Complete)] {
            let parts = vec![Bytes::from_static(b"abc"), Bytes::from_static(b"def")];
            let (mut body, mut remaining) = (body_of(parts), Some(announced));
            let gathered = gather(&mut body, &mut remaining, &never_contended, READ_TIMEOUTS).await;
            assert_eq!(gathered.1, Some(end));
        }
    }
}
