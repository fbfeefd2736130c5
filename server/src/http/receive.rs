//! Receives request bodies with bounded memory.
//!
//! This module must not decide what becomes of an interrupted body: [`append_body`] reports how the
//! body ended, and its caller keeps or drops the bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::Body;
use hyper::header::{EXPECT, HeaderMap};
use tokio::time::{Instant, timeout, timeout_at};

use super::blocking::try_blocking;
use super::buffer_pool::{BUFFER_BYTES, Buffer, BufferPool};
use super::error_response::ErrorResponse;
use super::request_body::RequestBody;
use crate::registry::{Error, UploadWriter};

/// The time after which a buffer is written although it is not full. A body that needs longer is
/// slow, and uses no buffers: they are for uploads that need them.
const MAX_BATCH_AGE: Duration = Duration::from_secs(1);
/// The usual limit of a frame: what an HTTP/1 connection reads at a time. An HTTP/2 frame has 16 KiB.
const MAX_FRAME_BYTES: usize = 32 * 1024;
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

/// Bytes of a body that are written together.
enum Batch {
    Empty,
    Buffered(Buffer),
    /// One frame as it was received.
    Frame(Bytes),
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
    buffers: &Arc<BufferPool>,
) -> Result<(UploadWriter, BodyEnd), ErrorResponse> {
    let contended = writer.contended_flag();
    let mut reader = BodyReader::new(body, &contended, timeouts);
    reader.remaining = announced;
    let mut writing = write(writer, Batch::Empty);
    loop {
        // The task writes one batch while the next one arrives.
        let written = tokio::spawn(writing);
        let (batch, end) = reader.gather(buffers).await;
        let writer = written
            .await
            .map_err(|error| ErrorResponse::internal(&error))??;
        let Some(end) = end else {
            writing = write(writer, batch);
            continue;
        };
        let is_short = reader.remaining.is_some_and(|remaining| remaining > 0);
        if end == BodyEnd::Interrupted {
            body.abandon();
        }
        let writer = write(writer, batch).await?;
        return match end {
            BodyEnd::Complete if is_short => Ok((writer, BodyEnd::Interrupted)),
            BodyEnd::Complete | BodyEnd::Interrupted | BodyEnd::TooLong => Ok((writer, end)),
        };
    }
}

async fn write(mut writer: UploadWriter, batch: Batch) -> Result<UploadWriter, ErrorResponse> {
    if batch.as_ref().is_empty() {
        return Ok(writer);
    }
    try_blocking(move || {
        writer.write(batch.as_ref())?;
        // Another upload can use the buffer while this one is synced.
        drop(batch);
        if writer.ingest.unsynced_bytes() >= SYNC_INTERVAL_BYTES {
            writer.sync()?;
        }
        Ok::<_, Error>(writer)
    })
    .await
}

impl AsRef<[u8]> for Batch {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Empty => &[],
            Self::Buffered(buffer) => buffer.as_ref(),
            Self::Frame(bytes) => bytes,
        }
    }
}

/// Returns the next bytes of a body, or how it ended.
pub(super) async fn next<B: Body<Data = Bytes> + Unpin>(
    body: &mut B,
    contended: &AtomicBool,
    timeouts: ReadTimeouts,
) -> Result<Bytes, BodyEnd> {
    BodyReader::new(body, contended, timeouts).next().await
}

/// Reads a body until it ends or a read timeout passes.
struct BodyReader<'a, B> {
    body: &'a mut B,
    /// The bytes that are still to come, if the length of the body is known.
    remaining: Option<u64>,
    /// Set while another request waits for the upload session.
    contended: &'a AtomicBool,
    timeouts: ReadTimeouts,
    /// How long the body has been silent.
    silence: Duration,
    /// The rest of a frame that did not fit into the last batch.
    rest: Bytes,
    /// Whether the body is expected to fill a buffer before the deadline.
    is_fast: bool,
}

impl<'a, B: Body<Data = Bytes> + Unpin> BodyReader<'a, B> {
    fn new(body: &'a mut B, contended: &'a AtomicBool, timeouts: ReadTimeouts) -> Self {
        Self {
            body,
            remaining: None,
            contended,
            timeouts,
            silence: Duration::ZERO,
            rest: Bytes::new(),
            is_fast: true,
        }
    }

    /// Collects a batch of bytes, and returns it with the end of the body if the body ended.
    ///
    /// A fast body waits for a free buffer before its bytes are taken: bytes that are not taken slow
    /// the client down, and bytes that are taken need memory. A slow body uses no buffer, so that
    /// fast ones do not wait for it.
    async fn gather(&mut self, buffers: &Arc<BufferPool>) -> (Batch, Option<BodyEnd>) {
        if !self.is_fast {
            return self.gather_frame().await;
        }
        let Some(mut buffer) = buffers.lend_in_turn().await else {
            return self.gather_frame().await;
        };
        let deadline = Instant::now() + MAX_BATCH_AGE;
        loop {
            match timeout_at(deadline, self.next_or_rest()).await {
                Ok(Ok(mut frame)) => {
                    let taken = buffer.append(&frame);
                    self.rest = frame.split_off(taken);
                }
                Ok(Err(end)) => return (Batch::Buffered(buffer), Some(end)),
                Err(_elapsed) => {
                    self.is_fast = false;
                    return (Batch::Buffered(buffer), None);
                }
            }
            // The rest would stay in memory until another buffer is free.
            if buffer.free_bytes() < MAX_FRAME_BYTES {
                return (Batch::Buffered(buffer), None);
            }
        }
    }

    async fn gather_frame(&mut self) -> (Batch, Option<BodyEnd>) {
        let began = Instant::now();
        match self.next_or_rest().await {
            Ok(frame) => {
                let time = began.elapsed().as_secs_f64() / MAX_BATCH_AGE.as_secs_f64();
                self.is_fast = frame.len() as f64 >= BUFFER_BYTES as f64 * time;
                (Batch::Frame(frame), None)
            }
            Err(end) => (Batch::Empty, Some(end)),
        }
    }

    async fn next_or_rest(&mut self) -> Result<Bytes, BodyEnd> {
        if self.rest.is_empty() {
            return self.next().await;
        }
        Ok(std::mem::take(&mut self.rest))
    }

    /// Returns the next bytes of the body, or how it ended.
    async fn next(&mut self) -> Result<Bytes, BodyEnd> {
        loop {
            match timeout(IDLE_CHECK_INTERVAL, self.body.frame()).await {
                Ok(Some(Ok(frame))) => match frame.into_data() {
                    Ok(bytes) if bytes.is_empty() => {}
                    Ok(bytes) => {
                        self.silence = Duration::ZERO;
                        return self.count(bytes);
                    }
                    Err(_trailers) => {}
                },
                Ok(Some(Err(_broken))) => return Err(BodyEnd::Interrupted),
                Ok(None) => return Err(BodyEnd::Complete),
                Err(_elapsed) => {
                    self.silence += IDLE_CHECK_INTERVAL;
                    let timeout = if self.contended.load(Ordering::Relaxed) {
                        self.timeouts.contended.min(self.timeouts.idle)
                    } else {
                        self.timeouts.idle
                    };
                    if self.silence >= timeout {
                        return Err(BodyEnd::Interrupted);
                    }
                }
            }
        }
    }

    fn count(&mut self, bytes: Bytes) -> Result<Bytes, BodyEnd> {
        if let Some(remaining) = &mut self.remaining {
            *remaining = remaining
                .checked_sub(bytes.len() as u64)
                .ok_or(BodyEnd::TooLong)?;
        }
        Ok(bytes)
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

    /// Returns the bytes of a batch, and how the body ended.
    fn parts(gathered: &(Batch, Option<BodyEnd>)) -> (&[u8], Option<BodyEnd>) {
        (gathered.0.as_ref(), gathered.1)
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_body_is_interrupted_sooner_when_another_request_waits() {
        for (is_contended, seconds) in [(false, 60), (true, 5)] {
            let contended = AtomicBool::new(is_contended);
            let start = Instant::now();
            let mut body = stalled();
            let mut reader = BodyReader::new(&mut body, &contended, READ_TIMEOUTS);
            let buffers = BufferPool::new(1);
            let first = reader.gather(&buffers).await;
            assert_eq!(parts(&first), (&b"x"[..], None));
            assert_eq!(start.elapsed(), MAX_BATCH_AGE);
            let last = reader.gather(&buffers).await;
            assert_eq!(parts(&last), (&b""[..], Some(BodyEnd::Interrupted)));
            assert_eq!(start.elapsed().as_secs(), seconds);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_body_uses_no_buffer_until_it_is_fast() {
        let never_contended = AtomicBool::new(false);
        let frames = futures::stream::iter([2, 2, 2, 0, 0]).then(async |seconds| {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"frame ")))
        });
        let mut body = StreamBody::new(Box::pin(frames));
        let mut reader = BodyReader::new(&mut body, &never_contended, READ_TIMEOUTS);
        let buffers = BufferPool::new(1);
        let mut batches = Vec::new();
        loop {
            let (batch, end) = reader.gather(&buffers).await;
            let is_buffered = matches!(batch, Batch::Buffered(_));
            batches.push((is_buffered, batch.as_ref().len() / b"frame ".len()));
            if end.is_some() {
                break;
            }
        }
        // The buffer of the silent first second is empty; the frame after the pauses shows that the
        // body is fast again.
        let slow = [(true, 0), (false, 1), (false, 1), (false, 1), (false, 1)];
        assert_eq!(batches[..5], slow);
        assert_eq!(batches[5..], [(true, 1)]);
    }

    #[tokio::test]
    async fn a_batch_is_full_or_the_last_one() {
        let never_contended = AtomicBool::new(false);
        let bytes = Bytes::from_iter((0..BUFFER_BYTES + 1000).map(|number| number as u8));
        for frame_bytes in [999, 32_000, BUFFER_BYTES, BUFFER_BYTES + 1000] {
            let frames = bytes.chunks(frame_bytes).map(|part| bytes.slice_ref(part));
            let mut body = body_of(frames.collect());
            let mut reader = BodyReader::new(&mut body, &never_contended, READ_TIMEOUTS);
            let buffers = BufferPool::new(1);
            let first = reader.gather(&buffers).await;
            let len = parts(&first).0.len();
            assert!(len > BUFFER_BYTES - MAX_FRAME_BYTES, "{len}");
            assert_eq!(parts(&first), (&bytes[..len], None));
            drop(first);
            let last = reader.gather(&buffers).await;
            assert_eq!(parts(&last), (&bytes[len..], Some(BodyEnd::Complete)));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_waits_for_a_free_buffer() {
        let never_contended = AtomicBool::new(false);
        let mut body = body_of(vec![Bytes::from_static(b"abc")]);
        let mut reader = BodyReader::new(&mut body, &never_contended, READ_TIMEOUTS);
        let buffers = BufferPool::new(1);
        let lent = buffers.lend();
        let waiting = timeout(Duration::from_secs(5), reader.gather(&buffers));
        assert!(waiting.await.is_err());
        drop(lent);
        let gathered = reader.gather(&buffers).await;
        assert_eq!(parts(&gathered), (&b"abc"[..], Some(BodyEnd::Complete)));
    }

    #[tokio::test]
    async fn more_than_announced_is_too_long() {
        let never_contended = AtomicBool::new(false);
        for (announced, end) in [(5, BodyEnd::TooLong), (6, BodyEnd::Complete)] {
            let parts = vec![Bytes::from_static(b"abc"), Bytes::from_static(b"def")];
            let mut body = body_of(parts);
            let mut reader = BodyReader::new(&mut body, &never_contended, READ_TIMEOUTS);
            reader.remaining = Some(announced);
            let gathered = reader.gather(&BufferPool::new(1)).await;
            assert_eq!(gathered.1, Some(end));
        }
    }
}
