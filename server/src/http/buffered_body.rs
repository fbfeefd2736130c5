//! Reads small request bodies, such as manifests, as a whole, within a common memory budget.
//!
//! This module must not read the bodies of uploads: they can have any size. Start reading at
//! [`BodyBuffers::read`].

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Body as _;
use imgsync_oci::ErrorCode;
use tokio::time::timeout;

use super::body::{ResponseBody, full};
use super::error_response::ErrorResponse;
use super::leased_body::leased;
use super::mapped_bytes::MappedBytes;
use super::receive::{BodyEnd, ReadTimeouts, next};
use super::request_body::RequestBody;
use crate::memory_budget::{LeaseProgress, MemoryBudget, MemoryExhausted, MemoryLease};

/// The largest size of a body that is not delayed by larger ones. Few manifests are larger.
pub(super) const MAX_SMALL_BODY_BYTES: usize = 64 * 1024;

/// The memory and the time that whole bodies may take.
pub(super) struct BodyBuffers {
    /// The memory of small request bodies.
    small: MemoryBudget,
    /// The memory of all other request bodies.
    large: MemoryBudget,
    /// The memory of large response bodies. Small ones need no lease: one piece of a blob is
    /// larger.
    responses: MemoryBudget,
    read_timeouts: ReadTimeouts,
    total_timeout: Duration,
}

/// A request body in memory, with its part of the budget.
pub(super) struct BufferedBody {
    /// The whole body.
    pub(super) bytes: Bytes,
    _lease: MemoryLease,
}

/// Why a body was not read as a whole.
enum ReadFailure {
    TooLong,
    Interrupted,
    TimedOut,
    Revoked,
}

impl BodyBuffers {
    /// Creates buffers of `bytes` in total. Each body must arrive within `total_timeout`.
    pub(super) fn new(bytes: usize, read_timeouts: ReadTimeouts, total_timeout: Duration) -> Self {
        Self {
            small: MemoryBudget::new(bytes / 4),
            large: MemoryBudget::new(bytes / 2),
            responses: MemoryBudget::new(bytes / 4),
            read_timeouts,
            total_timeout,
        }
    }

    /// Waits for the memory of a response body. A body of at most [`MAX_SMALL_BODY_BYTES`] needs no
    /// lease.
    ///
    /// # Errors
    /// [`ErrorCode::Unavailable`] if other bodies use all the memory.
    pub(super) async fn lease_response(
        &self,
        bytes: u64,
    ) -> Result<Option<MemoryLease>, ErrorResponse> {
        if bytes <= MAX_SMALL_BODY_BYTES as u64 {
            return Ok(None);
        }
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        self.responses.lease(bytes).await.map(Some).map_err(busy)
    }

    /// Creates a response body from bytes. `lease` is the memory that they may take; without one, it
    /// is waited for.
    ///
    /// # Errors
    /// As [`BodyBuffers::lease_response`].
    pub(super) async fn response(
        &self,
        bytes: Vec<u8>,
        lease: Option<MemoryLease>,
    ) -> Result<ResponseBody, ErrorResponse> {
        let lease = match lease {
            Some(lease) => Some(lease.shrink(bytes.len())),
            None => self.lease_response(bytes.len() as u64).await?,
        };
        Ok(match lease {
            Some(lease) => leased(bytes.into(), lease),
            None => full(bytes),
        })
    }

    /// Reads a whole request body of at most `limit` bytes.
    ///
    /// # Errors
    /// `too_long` if the body has more bytes; [`ErrorCode::SizeInvalid`] if it is interrupted or
    /// does not arrive in time; [`ErrorCode::Unavailable`] if other bodies use all the memory.
    pub(super) async fn read(
        &self,
        body: &mut RequestBody,
        limit: usize,
        too_long: ErrorCode,
    ) -> Result<BufferedBody, ErrorResponse> {
        let size = body.size_hint();
        let too_long = || {
            let text = format!("the request body is larger than {limit} bytes");
            ErrorResponse::new(too_long, text)
        };
        if size.lower() > limit as u64 {
            return Err(too_long());
        }
        // A body without a length can have any size up to the limit.
        let announced = size.exact().and_then(|size| usize::try_from(size).ok());
        let capacity = announced.unwrap_or(limit);
        let lease = self.lease(body, capacity).await?;
        let bytes = MappedBytes::with_capacity(capacity);
        let bytes = bytes.map_err(|error| ErrorResponse::internal(&error))?;
        let progress = lease.progress();
        let reading = collect(body, bytes, &progress, self.read_timeouts);
        let read = tokio::select! {
            read = timeout(self.total_timeout, reading) => {
                read.unwrap_or(Err(ReadFailure::TimedOut))
            }
            () = lease.revoked() => Err(ReadFailure::Revoked),
        };
        let incomplete = |text: String| ErrorResponse::new(ErrorCode::SizeInvalid, text);
        match read {
            Ok(bytes) => {
                lease.keep();
                Ok(BufferedBody {
                    bytes: Bytes::from_owner(bytes),
                    _lease: lease,
                })
            }
            Err(ReadFailure::TooLong) => Err(too_long()),
            Err(ReadFailure::Interrupted) => {
                body.abandon();
                Err(incomplete("the request body is incomplete".to_owned()))
            }
            Err(ReadFailure::TimedOut) => {
                body.abandon();
                Err(incomplete(format!(
                    "the request body did not arrive within {} s (imgsync.bodytimeout)",
                    self.total_timeout.as_secs()
                )))
            }
            Err(ReadFailure::Revoked) => Err(busy(MemoryExhausted)),
        }
    }

    async fn lease(&self, body: &RequestBody, bytes: usize) -> Result<MemoryLease, ErrorResponse> {
        let budget = if bytes <= MAX_SMALL_BODY_BYTES {
            &self.small
        } else {
            &self.large
        };
        // Other clients cause this wait. A connection that waits may be closed for another one.
        body.activity().wait_for_client();
        let lease = budget.lease(bytes).await;
        body.activity().wait_for_server();
        lease.map_err(busy)
    }
}

async fn collect(
    body: &mut RequestBody,
    mut bytes: MappedBytes,
    progress: &LeaseProgress,
    timeouts: ReadTimeouts,
) -> Result<MappedBytes, ReadFailure> {
    let never_contended = AtomicBool::new(false);
    loop {
        match next(body, &never_contended, timeouts).await {
            Ok(part) => {
                if !bytes.append(&part) {
                    return Err(ReadFailure::TooLong);
                }
                progress.record();
            }
            Err(BodyEnd::Complete) => return Ok(bytes),
            Err(BodyEnd::Interrupted | BodyEnd::TooLong) => return Err(ReadFailure::Interrupted),
        }
    }
}

fn busy(error: MemoryExhausted) -> ErrorResponse {
    let text = format!("{error} by other requests (imgsync.limits.bodymemory)");
    ErrorResponse::busy(ErrorCode::Unavailable, text)
}
