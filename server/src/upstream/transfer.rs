//! Downloads one blob from an upstream into the cache, while clients read it.
//!
//! A download resumes after errors and continues when its readers disconnect. This module does not
//! decide which blobs are fetched; that is [`super::blobs`]. Start reading at [`download`].

use std::time::Duration;

use imgsync_oci::Digest;
use imgsync_oci::client::BlobDownload;
use tokio::time::sleep;

use super::batch_reader::BatchReader;
use super::download::{DownloadProgress, DownloadShutdown, UpstreamDownload};
use super::error::{UpstreamFailure, UpstreamFailureKind};
use super::retries::DownloadRetries;
use super::{UpstreamRepository, run_blocking, unix_now};
use crate::registry::{self, CacheFill, CacheLimits, Registry};

/// How long a download may take to write what it has received, once it is stopped.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);

/// Downloads the blob, until it is complete or the server shuts down. Returns false if the
/// upstream does not have the blob.
pub(super) async fn download(
    download: &UpstreamDownload,
    registry: Registry,
    source: UpstreamRepository,
    digest: Digest,
    limits: CacheLimits,
    shutdown: &DownloadShutdown,
) -> bool {
    let transfer = UpstreamTransfer {
        download,
        source: &source,
        digest: &digest,
        limits,
        shutdown,
    };
    let stopped = async {
        download.stopped(shutdown).await;
        // A download that is receiving a body sees the signal itself, and keeps the bytes it
        // has.
        sleep(SHUTDOWN_GRACE).await;
    };
    let last = tokio::select! {
        result = transfer.run(registry) => match result {
            Ok(last) => last,
            // Each client reads the blob from the upstream.
            Err(failure) if failure.kind == UpstreamFailureKind::DiskFull => {
                DownloadProgress::NotKept
            }
            Err(failure) => DownloadProgress::Failed(failure),
        },
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
    limits: CacheLimits,
    shutdown: &'a DownloadShutdown,
}

/// Outcome of one attempt.
enum AttemptOutcome {
    /// The fill has all bytes of the blob, whose size is given. They are not verified.
    Complete(u64),
    /// The blob does not fit into the cache. The response with it was not read yet.
    TooLarge(BlobDownload, u64),
    /// The upstream does not have the blob.
    Absent,
    /// The attempt ended before the blob was complete; it can be retried.
    Interrupted(UpstreamFailure),
}

impl UpstreamTransfer<'_> {
    /// Downloads the blob with retries, and verifies it. Returns the final progress.
    async fn run(&self, registry: Registry) -> Result<DownloadProgress, UpstreamFailure> {
        let digest = self.digest.clone();
        let upstream = self.source.upstream.address().to_owned();
        let opened = self
            .store(move || registry.open_cache_fill(&digest, &upstream))
            .await?;
        // The blob is also being fetched from another upstream, which may be slow or lie.
        let Some(mut fill) = opened else {
            return Ok(DownloadProgress::NotKept);
        };
        let _ = self.download.partial.set(fill.ingest.reader());
        let mut retries = DownloadRetries::default();
        let mut has_restarted = false;
        loop {
            let before = fill.ingest.offset();
            let (attempted, outcome) = self.attempt(fill).await?;
            fill = attempted;
            let failure = match outcome {
                AttemptOutcome::Complete(size) => return self.commit(fill, size).await,
                AttemptOutcome::TooLarge(response, size) => {
                    let digest = self.digest;
                    tracing::info!(%digest, size, "a blob does not fit into the cache: sending it without storing it");
                    self.store(move || fill.discard()).await?;
                    self.download.put_unread_response(response, size);
                    return Ok(DownloadProgress::NotKept);
                }
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
            let has_progressed = fill.ingest.offset() > before;
            let delay = retries.delay_after(&failure, has_progressed);
            // Clients that wait for the headers of their response get the error at once, without
            // retries.
            let has_headers = self.download.size().is_some();
            let Some(delay) = delay.filter(|_| has_headers) else {
                return Err(failure);
            };
            let (digest, offset) = (self.digest, fill.ingest.offset());
            tracing::info!(%digest, offset, "resuming the download of a blob: {failure}");
            sleep(delay).await;
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
            match self.source.head_blob(self.digest).await {
                Ok(Some(size)) if size == offset => {
                    return Ok((fill, AttemptOutcome::Complete(size)));
                }
                Ok(Some(size)) if size < offset => fill = self.restart(fill).await?,
                Ok(Some(_)) => {}
                Ok(None) => return Ok((fill, AttemptOutcome::Absent)),
                Err(failure) => return Ok((fill, AttemptOutcome::Interrupted(failure))),
            }
        }
        let opened = self.source.open_blob(self.digest, fill.ingest.offset());
        match opened.await {
            Ok(Some((response, size))) => {
                let (fill, has_room) = self.reserve(fill, size).await?;
                if !has_room {
                    return Ok((fill, AttemptOutcome::TooLarge(response, size)));
                }
                self.receive(fill, response, size).await
            }
            Ok(None) => Ok((fill, AttemptOutcome::Absent)),
            Err(failure) => Ok((fill, AttemptOutcome::Interrupted(failure))),
        }
    }

    /// Reserves room in the cache for the announced size. Returns false if the blob does not fit.
    async fn reserve(
        &self,
        mut fill: CacheFill,
        size: u64,
    ) -> Result<(CacheFill, bool), UpstreamFailure> {
        let limits = self.limits;
        self.store(move || match fill.reserve(size, &limits, unix_now()) {
            Ok(has_room) => Ok((fill, has_room)),
            Err(error) => Err(fill.give_up(error)),
        })
        .await
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
        let mut body = BatchReader::new(response, offset);
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
