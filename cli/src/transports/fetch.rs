//! Reads the bytes of a blob from any source, with retries, and verifies them.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use imgsync_oci::client::{RetryVerdict, backoff};
use imgsync_oci::{Descriptor, Digest, Hasher};

use super::blocking::{run_blocking, write_failure};
use crate::disk;
use crate::exit::{Failure, FailureKind};
use crate::image::Slice;
use crate::report::Report;
use crate::upload::{BlobReader, BlobSource, PendingBlob, SourceReadError};

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

/// A file that a blob is written to.
pub(super) struct BlobFile<'a> {
    /// The file, open for writing.
    pub(super) file: Arc<File>,
    /// The path of the file, for errors.
    pub(super) path: &'a Path,
    /// The offset at which the blob begins in the file.
    pub(super) offset: u64,
    /// Where the progress is shown.
    pub(super) report: Option<&'a dyn Report>,
}

/// The reason why a blob could not be read or written.
pub(super) struct FetchError {
    /// The failure to report.
    pub(super) failure: Failure,
    /// Whether the bytes do not match the digest, or are too few. If the blob was read from its
    /// start, the source is damaged.
    pub(super) is_corrupt: bool,
}

impl From<FetchError> for Failure {
    fn from(error: FetchError) -> Self {
        error.failure
    }
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
            reader: BlobReader::without_check(blob.source.clone()),
            position,
            hasher,
        }
    }

    /// Returns the number of bytes that were read, including those before the start.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Reads the next bytes; `None` at the end of the blob, if the blob matches its digest.
    ///
    /// # Errors
    /// Returns an error if the source fails and retries do not help, or if the blob is corrupt.
    pub(super) async fn next_chunk(&mut self) -> Result<Option<Bytes>, FetchError> {
        let PendingBlob { digest, label, .. } = self.blob;
        let rest = self.blob.size - self.position;
        if rest == 0 {
            let found = self.hasher.clone().finish();
            if found == *digest {
                return Ok(None);
            }
            let what =
                format!("source: the blob {digest} is damaged: its content has the digest {found}");
            let failure = Failure::new(FailureKind::Source, what);
            return Err(FetchError {
                failure: failure
                    .with_hint("the blob was not stored; repair the image at the source"),
                is_corrupt: true,
            });
        }
        let chunk = self.read(rest.min(MAX_CHUNK_BYTES)).await;
        let chunk = chunk.map_err(|error| FetchError {
            is_corrupt: matches!(
                error,
                SourceReadError::Mismatch(_) | SourceReadError::Damaged(_)
            ),
            failure: error.failure(label),
        })?;
        self.hasher.update(&chunk);
        self.position += chunk.len() as u64;
        Ok(Some(chunk))
    }

    /// Reads at least one byte and at most `len` bytes, with retries.
    async fn read(&mut self, len: u64) -> Result<Bytes, SourceReadError> {
        let mut failures = 0;
        loop {
            let error = match self.reader.read(self.position, len).await {
                Ok(chunk) if chunk.is_empty() => {
                    let what = format!("it ends after {} bytes", self.position);
                    return Err(SourceReadError::Mismatch(what));
                }
                Ok(chunk) => return Ok(chunk),
                Err(error) => error,
            };
            failures += 1;
            match error.retry() {
                RetryVerdict::After(retry_after) if failures < MAX_READ_ATTEMPTS => {
                    tokio::time::sleep(backoff(failures, retry_after)).await;
                }
                _ => return Err(error),
            }
        }
    }

    /// Reads the rest of the blob into a file.
    ///
    /// # Errors
    /// Fails as [`BlobFetch::next_chunk`] does, or if the file cannot be written.
    pub(super) async fn write_to(&mut self, target: &BlobFile<'_>) -> Result<(), FetchError> {
        loop {
            let offset = target.offset + self.position;
            let Some(chunk) = self.next_chunk().await? else {
                return Ok(());
            };
            let file = Arc::clone(&target.file);
            let written = run_blocking(move || disk::write_all_at(&file, &chunk, offset)).await;
            written.map_err(|error| FetchError {
                failure: write_failure(disk::with_path(target.path, &error)),
                is_corrupt: false,
            })?;
            if let Some(report) = target.report {
                report.update_blob(&self.blob.digest, self.position);
            }
        }
    }
}

/// Returns a blob of a copy that is not mounted from another repository.
pub(super) fn pending_blob(
    Descriptor { digest, size, .. }: &Descriptor,
    label: String,
    source: BlobSource,
) -> PendingBlob {
    PendingBlob {
        digest: digest.clone(),
        size: *size,
        label,
        source,
        mount: None,
        is_known_missing: false,
    }
}

/// Returns a blob whose bytes are on this machine.
pub(super) fn local_blob(digest: Digest, bytes: Slice) -> PendingBlob {
    PendingBlob {
        label: digest.short().to_owned(),
        size: bytes.len(),
        source: BlobSource::Local(bytes),
        digest,
        mount: None,
        is_known_missing: false,
    }
}
