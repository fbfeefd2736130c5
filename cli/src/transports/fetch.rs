//! The bytes of a blob on their way into a file or a stream: read from any kind of source, taken
//! up again after faults, and checked.

use bytes::Bytes;
use imgsync_oci::client::{RetryVerdict, backoff};
use imgsync_oci::{Digest, Hasher};

use crate::exit::{Failure, FailureKind};
use crate::upload::{BlobReader, PendingBlob, SourceReadError};

/// The most bytes that are read at a time.
const MAX_CHUNK_BYTES: u64 = 256 * 1024;
/// How often in a row the source may fail before that counts.
const MAX_READ_ATTEMPTS: u32 = 7;

/// A blob that is being read.
pub(super) struct BlobFetch<'a> {
    blob: &'a PendingBlob,
    reader: BlobReader,
    position: u64,
    hasher: Hasher,
}

/// What comes of reading on.
pub(super) enum FetchEvent {
    /// The next bytes.
    Chunk(Bytes),
    /// That was all, and it has its digest.
    Complete,
    /// These are not the blob's bytes, or not all of them are; if all were read from the first on,
    /// the source is to blame.
    Corrupt(Failure),
}

impl<'a> BlobFetch<'a> {
    /// From the beginning.
    pub(super) fn new(blob: &'a PendingBlob) -> Self {
        Self::resume(blob, 0, Hasher::new(blob.digest.algorithm()))
    }

    /// From `at` on: the bytes before are there, and `hashed`.
    pub(super) fn resume(blob: &'a PendingBlob, position: u64, hasher: Hasher) -> Self {
        Self {
            blob,
            reader: BlobReader::new(blob.source.clone()),
            position,
            hasher,
        }
    }

    /// How many bytes were read so far, those before included.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// The next bytes.
    ///
    /// # Errors
    /// The source does not give them, and asking again did not help.
    pub(super) async fn next_chunk(&mut self) -> Result<FetchEvent, Failure> {
        let left = self.blob.size - self.position;
        if left == 0 {
            let found = self.hasher.clone().finish();
            return Ok(match found == self.blob.digest {
                true => FetchEvent::Complete,
                false => FetchEvent::Corrupt(mismatch(&self.blob.digest, &found)),
            });
        }
        let mut failures = 0;
        let piece = loop {
            let error = match self
                .reader
                .read(self.position, left.min(MAX_CHUNK_BYTES))
                .await
            {
                Ok(piece) => break piece,
                Err(error) => error,
            };
            failures += 1;
            match error.retry() {
                RetryVerdict::After(asked) if failures < MAX_READ_ATTEMPTS => {
                    tokio::time::sleep(backoff(failures, asked)).await;
                }
                RetryVerdict::After(_) | RetryVerdict::Never => return self.read_error(error),
            }
        };
        if piece.is_empty() {
            let what = format!("it ends after {} bytes", self.position);
            return self.read_error(SourceReadError::Mismatch(what));
        }
        self.hasher.update(&piece);
        self.position += piece.len() as u64;
        Ok(FetchEvent::Chunk(piece))
    }

    fn read_error(&self, error: SourceReadError) -> Result<FetchEvent, Failure> {
        let is_wrong = matches!(error, SourceReadError::Mismatch(_));
        let failure = error.failure(&self.blob.label);
        match is_wrong {
            true => Ok(FetchEvent::Corrupt(failure)),
            false => Err(failure),
        }
    }
}

/// What to say of a blob whose bytes are not its own.
fn mismatch(expected: &Digest, found: &Digest) -> Failure {
    let what = format!("source: the blob {expected} is damaged: its bytes are {found}");
    Failure::new(FailureKind::Source, what)
        .with_hint("nothing of it was kept; the source has to be repaired")
}
