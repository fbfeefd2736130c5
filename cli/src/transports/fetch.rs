//! Reads the bytes of a blob from any source, with retries, and verifies them.

use bytes::Bytes;
use imgsync_oci::client::{RetryVerdict, backoff};
use imgsync_oci::{Digest, Hasher};

use crate::exit::{Failure, FailureKind};
use crate::upload::{BlobReader, PendingBlob, SourceReadError};

/// The most bytes that are read at a time.
const MAX_CHUNK_BYTES: u64 = 256 * 1024;
/// The attempts to read a chunk before the read fails.
const MAX_READ_ATTEMPTS: u32 = 7;

/// A blob that is being read.
pub(super) struct BlobFetch<'a> {
    blob: &'a PendingBlob,
    reader: BlobReader,
    position: u64,
    hasher: Hasher,
}

/// The result of reading on.
pub(super) enum FetchEvent {
    /// The next bytes.
    Chunk(Bytes),
    /// The blob is complete and matches its digest.
    Complete,
    /// The bytes do not match the digest, or are too few. If the blob was read from its start, the
    /// source is damaged.
    Corrupt(Failure),
}

impl<'a> BlobFetch<'a> {
    /// Reads the blob from its start.
    pub(super) fn new(blob: &'a PendingBlob) -> Self {
        Self::resume(blob, 0, Hasher::new(blob.digest.algorithm()))
    }

    /// Reads the blob from `position` on; `hasher` has the bytes before.
    pub(super) fn resume(blob: &'a PendingBlob, position: u64, hasher: Hasher) -> Self {
        Self {
            blob,
            reader: BlobReader::new(blob.source.clone()),
            position,
            hasher,
        }
    }

    /// Returns the number of bytes that were read, including those before the start.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Reads the next bytes; `None` at the end of the blob.
    ///
    /// # Errors
    /// Those of [`BlobFetch::next_chunk`]; an error if the blob is corrupt.
    pub(super) async fn next_verified(&mut self) -> Result<Option<Bytes>, Failure> {
        match self.next_chunk().await? {
            FetchEvent::Chunk(chunk) => Ok(Some(chunk)),
            FetchEvent::Complete => Ok(None),
            FetchEvent::Corrupt(failure) => Err(failure),
        }
    }

    /// Reads the next bytes.
    ///
    /// # Errors
    /// Returns an error if the source fails and retries do not help.
    pub(super) async fn next_chunk(&mut self) -> Result<FetchEvent, Failure> {
        let left = self.blob.size - self.position;
        if left == 0 {
            let found = self.hasher.clone().finish();
            return Ok(if found == self.blob.digest {
                FetchEvent::Complete
            } else {
                FetchEvent::Corrupt(mismatch(&self.blob.digest, &found))
            });
        }
        let mut failures = 0;
        let chunk = loop {
            let error = match self
                .reader
                .read(self.position, left.min(MAX_CHUNK_BYTES))
                .await
            {
                Ok(chunk) => break chunk,
                Err(error) => error,
            };
            failures += 1;
            match error.retry() {
                RetryVerdict::After(retry_after) if failures < MAX_READ_ATTEMPTS => {
                    tokio::time::sleep(backoff(failures, retry_after)).await;
                }
                RetryVerdict::After(_) | RetryVerdict::Never => return self.read_error(error),
            }
        };
        if chunk.is_empty() {
            let what = format!("it ends after {} bytes", self.position);
            return self.read_error(SourceReadError::Mismatch(what));
        }
        self.hasher.update(&chunk);
        self.position += chunk.len() as u64;
        Ok(FetchEvent::Chunk(chunk))
    }

    fn read_error(&self, error: SourceReadError) -> Result<FetchEvent, Failure> {
        let is_corrupt = matches!(error, SourceReadError::Mismatch(_));
        let failure = error.failure(&self.blob.label);
        if is_corrupt {
            Ok(FetchEvent::Corrupt(failure))
        } else {
            Err(failure)
        }
    }
}

/// Returns the failure of a blob that does not match its digest.
fn mismatch(expected: &Digest, found: &Digest) -> Failure {
    let what = format!("source: the blob {expected} is damaged: its bytes are {found}");
    Failure::new(FailureKind::Source, what)
        .with_hint("nothing of the blob was kept; repair the source")
}
