//! Bodies of requests, taken in without ever holding more than a little of them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::Body;
use hyper::header::{EXPECT, HeaderMap};
use imgsync_oci::ErrorCode;
use tokio::time::timeout;

use super::error_response::ErrorResponse;
use super::request_body::RequestBody;
use super::{ReadTimeouts, try_blocking};
use crate::registry::{Error, UploadWriter};

/// What is written at a time. While one batch is written the next one arrives.
const MAX_BATCH_BYTES: usize = 256 * 1024;
/// A batch of tiny frames costs more memory than its bytes.
const MAX_BATCH_FRAMES: usize = 64;
/// How much of a body may arrive before it is kept: the most that is lost with the server.
const SYNC_INTERVAL_BYTES: u64 = 64 * 1024 * 1024;
/// How often a quiet body is looked at.
const IDLE_CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// How much of a body that nobody wants is read, so that its sender sees the answer.
const MAX_DRAIN_BYTES: u64 = 16 * 1024 * 1024;
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

/// How a body ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BodyEnd {
    /// With its last byte.
    Complete,
    /// Before that: the connection broke, or nothing came for too long.
    Interrupted,
    /// Not before more than was announced had come.
    TooLong,
}

/// Appends a body to an upload session, the end of it not kept yet. `announced` is its length in
/// bytes, where the request says it.
///
/// # Errors
/// Those of writing.
pub(super) async fn append_body(
    mut body: RequestBody,
    announced: Option<u64>,
    append: UploadWriter,
    patience: ReadTimeouts,
) -> Result<(UploadWriter, BodyEnd), ErrorResponse> {
    let wanted = append.contended_flag();
    let mut room = announced;
    let mut writing = write(append, Vec::new());
    loop {
        // Both go on at the same time.
        let written = tokio::spawn(writing);
        let (batch, ending) = gather(&mut body, &mut room, &wanted, patience).await;
        let append = match written.await {
            Ok(Ok(append)) => append,
            Ok(Err(failure)) => {
                drain(body);
                return Err(failure);
            }
            Err(error) => return Err(ErrorResponse::internal(&error)),
        };
        let Some(ending) = ending else {
            writing = write(append, batch);
            continue;
        };
        if ending == BodyEnd::TooLong {
            drain(body);
        }
        let append = write(append, batch).await?;
        let is_short = room.is_some_and(|room| room > 0);
        return match ending {
            BodyEnd::Complete if is_short => Ok((append, BodyEnd::Interrupted)),
            BodyEnd::Complete | BodyEnd::Interrupted | BodyEnd::TooLong => Ok((append, ending)),
        };
    }
}

async fn write(mut append: UploadWriter, batch: Vec<Bytes>) -> Result<UploadWriter, ErrorResponse> {
    if batch.is_empty() {
        return Ok(append);
    }
    try_blocking(move || {
        for bytes in &batch {
            append.write(bytes)?;
        }
        if append.unsynced_bytes() >= SYNC_INTERVAL_BYTES {
            append.sync()?;
        }
        Ok::<_, Error>(append)
    })
    .await
}

/// Collects a batch of a body's bytes; with how the body ended, if it did.
async fn gather<B: Body<Data = Bytes> + Unpin>(
    body: &mut B,
    room: &mut Option<u64>,
    wanted: &AtomicBool,
    patience: ReadTimeouts,
) -> (Vec<Bytes>, Option<BodyEnd>) {
    let (mut batch, mut len) = (Vec::new(), 0);
    while len < MAX_BATCH_BYTES && batch.len() < MAX_BATCH_FRAMES {
        match next(body, wanted, patience).await {
            Ok(bytes) => {
                if let Some(room) = room {
                    match room.checked_sub(bytes.len() as u64) {
                        Some(rest) => *room = rest,
                        None => return (batch, Some(BodyEnd::TooLong)),
                    }
                }
                len += bytes.len();
                batch.push(bytes);
            }
            Err(ending) => return (batch, Some(ending)),
        }
    }
    (batch, None)
}

/// The next bytes of a body, or how it ended.
async fn next<B: Body<Data = Bytes> + Unpin>(
    body: &mut B,
    wanted: &AtomicBool,
    patience: ReadTimeouts,
) -> Result<Bytes, BodyEnd> {
    let mut quiet = Duration::ZERO;
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
                quiet += IDLE_CHECK_INTERVAL;
                let is_wanted = wanted.load(Ordering::Relaxed);
                if quiet >= patience.idle || (is_wanted && quiet >= patience.contended) {
                    return Err(BodyEnd::Interrupted);
                }
            }
        }
    }
}

/// Reads a whole body of at most `limit` bytes.
///
/// # Errors
/// `too_long` where there is more; [`Code::SizeInvalid`] where it breaks off.
pub(super) async fn read_whole(
    mut body: RequestBody,
    headers: &HeaderMap,
    limit: usize,
    too_long: ErrorCode,
    patience: ReadTimeouts,
) -> Result<Vec<u8>, ErrorResponse> {
    let too_long = || ErrorResponse::new(too_long, format!("more than {limit} bytes"));
    if body.size_hint().lower() > limit as u64 {
        discard_unread(headers, body);
        return Err(too_long());
    }
    let mut bytes = Vec::new();
    let nobody = AtomicBool::new(false);
    loop {
        match next(&mut body, &nobody, patience).await {
            Ok(part) if part.len() > limit - bytes.len() => {
                drain(body);
                return Err(too_long());
            }
            Ok(part) => bytes.extend_from_slice(&part),
            Err(BodyEnd::Complete) => return Ok(bytes),
            Err(BodyEnd::Interrupted | BodyEnd::TooLong) => {
                return Err(ErrorResponse::new(
                    ErrorCode::SizeInvalid,
                    "the body broke off",
                ));
            }
        }
    }
}

/// What to do with a body that was not looked at: as [`drain`], unless its sender waits to be told
/// to go on, and so has not sent anything.
pub(super) fn discard_unread(headers: &HeaderMap, body: RequestBody) {
    if !headers.contains_key(EXPECT) && !body.is_end_stream() {
        drain(body);
    }
}

/// Reads on while the answer goes out, up to a point: a client that is cut off while it still sends
/// sees a broken connection and not the answer.
fn drain(mut body: RequestBody) {
    tokio::spawn(timeout(DRAIN_TIMEOUT, async move {
        let mut read = 0;
        while let Some(Ok(frame)) = body.frame().await {
            read += frame.data_ref().map_or(0, |data| data.len() as u64);
            if read > MAX_DRAIN_BYTES {
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

    /// Sends one byte and then nothing, for ever.
    fn stalled() -> impl Body<Data = Bytes, Error = Infallible> + Unpin {
        let one = futures::stream::iter([Ok(Frame::data(Bytes::from_static(b"x")))]);
        StreamBody::new(one.chain(futures::stream::pending()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_says_nothing_is_broken_off_sooner_when_another_waits() {
        for (is_wanted, seconds) in [(false, 60), (true, 5)] {
            let wanted = AtomicBool::new(is_wanted);
            let began = tokio::time::Instant::now();
            let (batch, ending) = gather(&mut stalled(), &mut None, &wanted, READ_TIMEOUTS).await;
            assert_eq!((batch.len(), ending), (1, Some(BodyEnd::Interrupted)));
            assert_eq!(began.elapsed().as_secs(), seconds);
        }
    }

    #[tokio::test]
    async fn batches_are_bounded_by_bytes_and_by_frames() {
        let nobody = AtomicBool::new(false);
        let large = Bytes::from(vec![0; MAX_BATCH_BYTES / 2]);
        let mut body = body_of(vec![large.clone(), large.clone(), large]);
        let (batch, ending) = gather(&mut body, &mut None, &nobody, READ_TIMEOUTS).await;
        assert_eq!((batch.len(), ending), (2, None));
        let (batch, ending) = gather(&mut body, &mut None, &nobody, READ_TIMEOUTS).await;
        assert_eq!((batch.len(), ending), (1, Some(BodyEnd::Complete)));
        let mut body = body_of(vec![Bytes::from_static(b"x"); MAX_BATCH_FRAMES + 1]);
        let (batch, ending) = gather(&mut body, &mut None, &nobody, READ_TIMEOUTS).await;
        assert_eq!((batch.len(), ending), (MAX_BATCH_FRAMES, None));
    }

    #[tokio::test]
    async fn more_than_announced_is_too_long() {
        let nobody = AtomicBool::new(false);
        for (announced, ending) in [(5, BodyEnd::TooLong), (6, BodyEnd::Complete)] {
            let parts = vec![Bytes::from_static(b"abc"), Bytes::from_static(b"def")];
            let (mut body, mut room) = (body_of(parts), Some(announced));
            let gathered = gather(&mut body, &mut room, &nobody, READ_TIMEOUTS).await;
            assert_eq!(gathered.1, Some(ending));
        }
    }
}
