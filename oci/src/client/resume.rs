//! The download of a blob that survives lost connections.

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;

use super::retry::backoff;
use super::{Client, Error, RetryVerdict};
use crate::endpoint::RepositoryOperation;
use crate::{Digest, Endpoint, Repository};

/// The number of consecutive errors without a new byte after which a download fails.
const DEFAULT_MAX_FAULTS: u32 = 4;

/// A download of a blob that continues at its offset after a lost connection.
///
/// After a transient error, the next request asks for a `Range` that starts at the first missing
/// byte. The first error after a new byte is retried at once, further ones after a delay. After too
/// many consecutive errors without a new byte, the last error is returned. The caller checks size and
/// digest, and sets the timeout of a stalled transfer with [`Client::with_stall_timeout`].
pub struct ResumingDownload {
    client: Client,
    repository: Repository,
    digest: Digest,
    offset: u64,
    size: Option<u64>,
    pieces: Option<BoxStream<'static, Result<Bytes, Error>>>,
    /// The number of errors since the last new byte.
    faults: u32,
    max_faults: u32,
    has_progressed: bool,
    has_changed: bool,
}

impl ResumingDownload {
    /// Returns a download from `offset` on. No request is made yet.
    pub fn new(client: Client, repository: Repository, digest: Digest, offset: u64) -> Self {
        Self {
            client,
            repository,
            digest,
            offset,
            size: None,
            pieces: None,
            faults: 0,
            max_faults: DEFAULT_MAX_FAULTS,
            has_progressed: false,
            has_changed: false,
        }
    }

    /// Sets the number of consecutive errors without a new byte after which the download fails. The
    /// default is 4; with 1 it fails at the first error that follows no new byte.
    pub fn with_max_faults(self, max_faults: u32) -> Self {
        Self { max_faults, ..self }
    }

    /// Returns the offset of the next byte.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Returns the size of the whole blob in bytes, once a response has stated it.
    pub fn size(&self) -> Option<u64> {
        self.size
    }

    /// Returns whether the registry turned out not to have the blob, or to have another size than an
    /// earlier response stated. The last error says which.
    pub fn has_changed(&self) -> bool {
        self.has_changed
    }

    /// Sends the request, unless one is open, so that [`Self::next`] need not wait for the response.
    /// Returns false if the registry does not have the blob.
    ///
    /// # Errors
    /// As [`Client::open_blob`]; [`Error::InvalidResponse`] if the blob has another size than an
    /// earlier response stated.
    pub async fn open(&mut self) -> Result<bool, Error> {
        if self.pieces.is_some() {
            return Ok(true);
        }
        let opened = self
            .client
            .open_blob(&self.repository, &self.digest, self.offset);
        let Some(download) = opened.await? else {
            return Ok(false);
        };
        if let (Some(before), Some(now)) = (self.size, download.size)
            && before != now
        {
            let what = format!("the blob had {before} bytes and has {now} now");
            return Err(self.changed_error(what));
        }
        self.size = self.size.or(download.size);
        self.pieces = Some(download.skip_to(self.offset));
        Ok(true)
    }

    /// Returns the next bytes; `None` at the end of the blob.
    ///
    /// # Errors
    /// Fails on an error that is not transient, after too many consecutive errors without a new byte,
    /// and if the registry does not have the blob. A later call tries again.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            let error = match self.read().await {
                Ok(Some(piece)) => {
                    self.offset += piece.len() as u64;
                    (self.faults, self.has_progressed) = (0, true);
                    return Ok(Some(piece));
                }
                Ok(None) => return Ok(None),
                Err(error) => error,
            };
            self.pieces = None;
            self.faults += 1;
            // The first error after new bytes does not count.
            let consecutive = self.faults - u32::from(self.has_progressed);
            let RetryVerdict::After(retry_after) = error.retry_verdict() else {
                return Err(error);
            };
            if consecutive >= self.max_faults {
                return Err(error);
            }
            if consecutive > 0 || retry_after.is_some() {
                tokio::time::sleep(backoff(consecutive.max(1), retry_after)).await;
            }
        }
    }

    async fn read(&mut self) -> Result<Option<Bytes>, Error> {
        if !self.open().await? {
            return Err(self.changed_error("it does not have the blob".to_owned()));
        }
        match &mut self.pieces {
            Some(pieces) => pieces.next().await.transpose(),
            None => Ok(None),
        }
    }

    fn changed_error(&mut self, what: String) -> Error {
        self.has_changed = true;
        let digest = self.digest.clone();
        let operation = RepositoryOperation::GetBlob { digest };
        let endpoint = Endpoint::within(&self.repository, operation);
        self.client.invalid_response(&endpoint, what)
    }
}

impl std::fmt::Debug for ResumingDownload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ResumingDownload")
            .field("digest", &self.digest)
            .field("offset", &self.offset)
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
