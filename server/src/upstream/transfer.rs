//! Downloads one blob from an upstream into the cache, while clients read it.
//!
//! A download resumes after errors and continues when its readers disconnect. This module does not
//! decide which blobs are fetched; that is [`super::blobs`]. Start reading at [`download`].

use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{FutureExt as _, StreamExt as _};
use imgsync_oci::Digest;
use imgsync_oci::client::{self, BlobDownload};
use tokio::time::{sleep, timeout};

use super::download::{DownloadProgress, DownloadShutdown, UpstreamDownload};
use super::error::{UpstreamFailure, UpstreamFailureKind};
use super::{UpstreamRepository, run_blocking, unix_now};
use crate::registry::{self, CacheFill, Registry};

/// Time limit from a request to the headers of its response.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);
/// Time limit between two reads of a response body.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Number of consecutive attempts without a new byte after which a download fails.
const MAX_TRIES_WITHOUT_PROGRESS: u32 = 4;
/// Delay before the first retry. It doubles with each further retry.
const FIRST_RETRY_DELAY: Duration = Duration::from_millis(500);
/// Longest delay between retries. A download fails if the upstream asks for a longer one.
const MAX_RETRY_DELAY: Duration = Duration::from_secs(10);
/// How long a download may take to write what it has received, once it is stopped.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);
/// Number of bytes to collect before a write to disk, if so many are available at once.
const MAX_BATCH_BYTES: usize = 256 * 1024;

/// Downloads the blob, until it is complete or the server shuts down. Returns false if the
/// upstream does not have the blob.
pub(super) async fn download(
    download: &UpstreamDownload,
    registry: Registry,
    source: UpstreamRepository,
    digest: Digest,
    shutdown: &DownloadShutdown,
) -> bool {
    let transfer = UpstreamTransfer {
        download,
        source: &source,
        digest: &digest,
        shutdown,
    };
    let stopped = async {
        download.stopped(shutdown).await;
        // A download that is receiving a body sees the signal itself, and keeps the bytes it
        // has.
        sleep(SHUTDOWN_GRACE).await;
    };
    let last = tokio::select! {
        result = transfer.run(registry) => result.unwrap_or_else(DownloadProgress::Failed),
        () = stopped => DownloadProgress::Failed(source.shutdown_failure()),
    };
    if let DownloadProgress::Failed(failure) = &last {
        tracing::warn!(%digest, repository = %source.repository, "cannot fetch a blob: {failure}");
    }
    let is_present = last != DownloadProgress::Absent;
    download.publish(last);
    is_present
}

/// The transfer of a blob from its upstream into a cache fill.
struct UpstreamTransfer<'a> {
    download: &'a UpstreamDownload,
    source: &'a UpstreamRepository,
    digest: &'a Digest,
    shutdown: &'a DownloadShutdown,
}

/// Outcome of one attempt.
enum AttemptOutcome {
    /// The fill has all bytes of the blob, whose size is given. They are not verified.
    Complete(u64),
    /// The upstream does not have the blob.
    Absent,
    /// The attempt ended before the blob was complete; it can be retried.
    Interrupted(UpstreamFailure),
}

impl UpstreamTransfer<'_> {
    /// Downloads the blob with retries, and verifies it. Returns the final progress.
    async fn run(&self, registry: Registry) -> Result<DownloadProgress, UpstreamFailure> {
        let digest = self.digest.clone();
        let opened = self
            .store(move || registry.open_cache_fill(&digest))
            .await?;
        let mut fill = opened.ok_or_else(|| {
            let message = "another download of the blob is running";
            self.source.failure(UpstreamFailureKind::Busy, message)
        })?;
        let _ = self.download.partial.set(fill.ingest.reader());
        let (mut failures, mut delay) = (0, FIRST_RETRY_DELAY);
        let mut has_restarted = false;
        loop {
            let before = fill.ingest.offset();
            let (attempted, outcome) = self.attempt(fill).await?;
            fill = attempted;
            let failure = match outcome {
                AttemptOutcome::Complete(size) => return self.commit(fill, size).await,
                AttemptOutcome::Absent => {
                    self.store(move || fill.discard()).await?;
                    return Ok(DownloadProgress::Absent);
                }
                AttemptOutcome::Interrupted(failure) => failure,
            };
            // An upstream that does not support ranges may still send the blob from its start.
            let is_invalid = failure.kind == UpstreamFailureKind::InvalidResponse;
            if is_invalid && before > 0 && !has_restarted {
                if let Some(size) = self.download.size() {
                    self.download
                        .publish(DownloadProgress::Receiving { size, received: 0 });
                }
                fill = self.restart(fill).await?;
                has_restarted = true;
                continue;
            }
            // Makes the received bytes durable, so that a later attempt resumes after them.
            fill = self.change(fill, |fill| Ok(fill.ingest.sync()?)).await?;
            if fill.ingest.offset() > before {
                (failures, delay) = (0, FIRST_RETRY_DELAY);
            }
            failures += 1;
            // Clients that wait for the headers of their response get the error at once, without
            // retries.
            let has_headers = self.download.size().is_some();
            let is_last = !has_headers || failures >= MAX_TRIES_WITHOUT_PROGRESS;
            let requested_delay = failure.retry_after.unwrap_or(delay);
            if !failure.kind.is_upstream_wide() || is_last || requested_delay > MAX_RETRY_DELAY {
                return Err(failure);
            }
            let (digest, offset) = (self.digest, fill.ingest.offset());
            tracing::info!(%digest, offset, "resuming the download of a blob: {failure}");
            sleep(requested_delay).await;
            delay = (delay * 2).min(MAX_RETRY_DELAY);
        }
    }

    /// Requests the rest of the blob once, and appends the response to the fill.
    ///
    /// # Errors
    /// Returns a failure that must not be retried; the fill cannot be used any more.
    async fn attempt(
        &self,
        mut fill: CacheFill,
    ) -> Result<(CacheFill, AttemptOutcome), UpstreamFailure> {
        let offset = fill.ingest.offset();
        // The fill may be complete already, and then no range is left to request.
        if offset > 0 {
            match self.head().await {
                Ok(Some(size)) if size == offset => {
                    return Ok((fill, AttemptOutcome::Complete(size)));
                }
                Ok(Some(size)) if size < offset => fill = self.restart(fill).await?,
                Ok(Some(_)) => {}
                Ok(None) => return Ok((fill, AttemptOutcome::Absent)),
                Err(failure) => return Ok((fill, AttemptOutcome::Interrupted(failure))),
            }
        }
        match self.open(fill.ingest.offset()).await {
            Ok(Some((response, size))) => self.receive(fill, response, size).await,
            Ok(None) => Ok((fill, AttemptOutcome::Absent)),
            Err(failure) => Ok((fill, AttemptOutcome::Interrupted(failure))),
        }
    }

    /// Asks the upstream for the size of the blob.
    async fn head(&self) -> Result<Option<u64>, UpstreamFailure> {
        self.source
            .request(RESPONSE_TIMEOUT, |client, name| {
                client.head_blob(name, self.digest)
            })
            .await
    }

    /// Requests the blob from `offset` on. Returns the response and the size of the whole blob.
    async fn open(&self, offset: u64) -> Result<Option<(BlobDownload, u64)>, UpstreamFailure> {
        let response = self.source.request(RESPONSE_TIMEOUT, |client, name| {
            client.open_blob(name, self.digest, offset)
        });
        let Some(response) = response.await? else {
            return Ok(None);
        };
        let size = match response.size {
            Some(size) => Some(size),
            None => self.head().await?,
        };
        Ok(size.map(|size| (response, size)))
    }

    /// Appends the body of a response to the fill, in batches.
    ///
    /// # Errors
    /// As [`UpstreamTransfer::attempt`].
    async fn receive(
        &self,
        mut fill: CacheFill,
        response: BlobDownload,
        size: u64,
    ) -> Result<(CacheFill, AttemptOutcome), UpstreamFailure> {
        let offset = fill.ingest.offset();
        self.download.publish(DownloadProgress::Receiving {
            size,
            received: offset,
        });
        // An upstream that ignores the range sends the blob from its start, so skip the bytes that
        // the fill has.
        let mut body = BatchReader {
            pieces: response.bytes,
            skip: offset.saturating_sub(response.first),
        };
        loop {
            let batch = tokio::select! {
                batch = body.next_batch(self.source) => batch,
                () = self.download.stopped(self.shutdown) => {
                    let failure = self.source.shutdown_failure();
                    return Ok((fill, AttemptOutcome::Interrupted(failure)));
                }
            };
            let pieces = batch.pieces;
            let append =
                move |fill: &mut CacheFill| pieces.iter().try_for_each(|piece| fill.append(piece));
            fill = self.change(fill, append).await?;
            let offset = fill.ingest.offset();
            if offset > size {
                let message = "more bytes than announced";
                let kind = UpstreamFailureKind::InvalidResponse;
                let failure = self
                    .source
                    .record_failure(self.source.failure(kind, message));
                self.store(move || fill.discard()).await?;
                return Err(failure);
            }
            self.download.publish(DownloadProgress::Receiving {
                size,
                received: offset,
            });
            let outcome = match batch.end {
                None => continue,
                Some(Ok(())) if offset == size => AttemptOutcome::Complete(size),
                Some(Ok(())) => {
                    let message = "connection closed before the end of the blob";
                    let failure = self.source.failure(UpstreamFailureKind::Down, message);
                    AttemptOutcome::Interrupted(self.source.record_failure(failure))
                }
                Some(Err(failure)) => AttemptOutcome::Interrupted(failure),
            };
            return Ok((fill, outcome));
        }
    }

    /// Verifies the digest of the blob, and links the blob in its repositories.
    async fn commit(
        &self,
        fill: CacheFill,
        size: u64,
    ) -> Result<DownloadProgress, UpstreamFailure> {
        self.download.publish(DownloadProgress::Receiving {
            size,
            received: size,
        });
        let repositories = self.download.lock_repositories().take();
        let repositories: Vec<_> = repositories.into_iter().flatten().collect();
        self.store(move || fill.commit(&repositories, unix_now()))
            .await?;
        Ok(DownloadProgress::Done { size })
    }

    /// Drops the bytes of the fill, to start over.
    async fn restart(&self, fill: CacheFill) -> Result<CacheFill, UpstreamFailure> {
        self.change(fill, |fill| Ok(fill.ingest.restart()?)).await
    }

    /// Changes the fill on a blocking thread, and gives it up after an error.
    async fn change(
        &self,
        mut fill: CacheFill,
        change: impl FnOnce(&mut CacheFill) -> Result<(), registry::Error> + Send + 'static,
    ) -> Result<CacheFill, UpstreamFailure> {
        self.store(move || match change(&mut fill) {
            Ok(()) => Ok(fill),
            Err(error) => Err(fill.give_up(error)),
        })
        .await
    }

    /// Runs work of the registry on a blocking thread.
    async fn store<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, registry::Error> + Send + 'static,
    ) -> Result<T, UpstreamFailure> {
        let result = run_blocking(work).await;
        result.map_err(|error| self.source.store_failure(&error))
    }
}

/// Reads the body of a response in batches.
struct BatchReader {
    pieces: BoxStream<'static, Result<Bytes, client::Error>>,
    /// The number of bytes to drop.
    skip: u64,
}

/// Pieces of a body that arrived together.
#[derive(Default)]
struct Batch {
    pieces: Vec<Bytes>,
    /// How the body ended, if it did.
    end: Option<Result<(), UpstreamFailure>>,
}

impl BatchReader {
    /// Waits for the next piece, and collects what has already arrived after it, at most
    /// [`MAX_BATCH_BYTES`]. If the returned future is dropped, no piece is lost.
    async fn next_batch(&mut self, source: &UpstreamRepository) -> Batch {
        let (mut batch, mut count) = (Batch::default(), 0);
        let Ok(mut next) = timeout(STALL_TIMEOUT, self.pieces.next()).await else {
            let message = format!("no data for {} s", STALL_TIMEOUT.as_secs());
            let failure = source.failure(UpstreamFailureKind::TimedOut, &message);
            batch.end = Some(Err(source.record_failure(failure)));
            return batch;
        };
        loop {
            match next {
                Some(Ok(mut piece)) => {
                    count += piece.len();
                    source.count_received_bytes(piece.len() as u64);
                    let dropped = self.skip.min(piece.len() as u64);
                    self.skip -= dropped;
                    let piece = piece.split_off(usize::try_from(dropped).unwrap_or(0));
                    batch.pieces.push(piece);
                }
                Some(Err(error)) => {
                    let name = source.upstream.settings.name();
                    let failure = UpstreamFailure::from_client(name, &error);
                    batch.end = Some(Err(source.record_failure(failure)));
                }
                None => batch.end = Some(Ok(())),
            }
            if batch.end.is_some() || count >= MAX_BATCH_BYTES {
                return batch;
            }
            match self.pieces.next().now_or_never() {
                Some(more) => next = more,
                None => return batch,
            }
        }
    }
}
