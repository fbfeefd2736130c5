//! Downloads one blob from an upstream into the cache, while clients read it.
//!
//! A download resumes after errors and continues when its readers disconnect. This module does not
//! decide which blobs are fetched; that is [`super::blobs`]. Start reading at
//! [`UpstreamDownload::run`].

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _};
use imgsync_oci::client::BlobDownload as Answer;
use imgsync_oci::{Digest, Repository};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::download_reader::DownloadReader;
use super::error::{UpstreamFailure, UpstreamFailureKind};
use super::{UpstreamRepository, run_blocking, unix_now};
use crate::registry::{CacheFill, PartialBlob, Registry};

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
const SHUTDOWN_MESSAGE: &str = "is no longer asked: this server stops";
/// Number of bytes to collect before a write to disk, if so many are available at once.
const MAX_BATCH_BYTES: usize = 256 * 1024;

/// Progress of a download.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum DownloadProgress {
    /// The download is queued, or the upstream has not answered yet.
    Waiting,
    /// The body is being received; `received` of `size` bytes can be read.
    Receiving {
        /// The size of the whole blob in bytes.
        size: u64,
        /// The number of bytes received.
        received: u64,
    },
    /// The blob is complete and its digest is verified.
    Done {
        /// The size of the blob in bytes.
        size: u64,
    },
    /// The upstream does not have the blob.
    Absent,
    /// The download failed.
    Failed(UpstreamFailure),
}

/// A download of one blob, shared by all clients that read it.
pub(super) struct UpstreamDownload {
    progress: watch::Sender<DownloadProgress>,
    partial: OnceLock<PartialBlob>,
    /// The local name of the repository from which the blob is fetched.
    source: Repository,
    /// The repositories that will link the blob; `None` once the blob is being verified.
    repositories: Mutex<Option<BTreeSet<Repository>>>,
}

/// Signals that stop downloads when the server shuts down.
#[derive(Default)]
pub(super) struct DownloadShutdown {
    /// Stops downloads without readers.
    pub(super) graceful: CancellationToken,
    /// Stops all downloads.
    pub(super) immediate: CancellationToken,
}

impl UpstreamDownload {
    /// Creates a download that is queued, from and into a repository.
    pub(super) fn new(repository: Repository) -> Arc<Self> {
        Arc::new(Self {
            progress: watch::Sender::new(DownloadProgress::Waiting),
            partial: OnceLock::new(),
            source: repository.clone(),
            repositories: Mutex::new(Some(BTreeSet::from([repository]))),
        })
    }

    /// Reports whether the blob is fetched from this repository.
    pub(super) fn is_from(&self, repository: &Repository) -> bool {
        self.source == *repository
    }

    /// Reports whether this repository will link the blob.
    pub(super) fn belongs_to(&self, repository: &Repository) -> bool {
        let into = self
            .repositories
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        into.as_ref().is_some_and(|into| into.contains(repository))
    }

    /// Adds a repository that will link the blob. Returns false if the blob is already being
    /// verified.
    pub(super) fn add(&self, repository: Repository) -> bool {
        let mut into = self
            .repositories
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        into.as_mut().map(|into| into.insert(repository)).is_some()
    }

    /// Returns the size of the blob in bytes, if it is known yet.
    pub(super) fn size(&self) -> Option<u64> {
        match *self.progress.borrow() {
            DownloadProgress::Receiving { size, .. } | DownloadProgress::Done { size } => {
                Some(size)
            }
            DownloadProgress::Waiting | DownloadProgress::Absent | DownloadProgress::Failed(_) => {
                None
            }
        }
    }

    /// Waits until the size is known, and returns a reader. Returns `None` if the upstream does not
    /// have the blob.
    ///
    /// # Errors
    /// Returns the failure of the download.
    pub(super) async fn open_reader(&self) -> Result<Option<DownloadReader>, UpstreamFailure> {
        let mut progress = self.progress.subscribe();
        loop {
            let now = progress.borrow_and_update().clone();
            match now {
                DownloadProgress::Waiting => {}
                DownloadProgress::Receiving { size, .. } | DownloadProgress::Done { size } => {
                    let Some(partial) = self.partial.get().cloned() else {
                        return Err(UpstreamFailure::new(
                            "a download",
                            UpstreamFailureKind::Store,
                            "has no file",
                        ));
                    };
                    return Ok(Some(DownloadReader::new(progress, partial, size)));
                }
                DownloadProgress::Absent => return Ok(None),
                DownloadProgress::Failed(failed) => return Err(failed),
            }
            if progress.changed().await.is_err() {
                return Err(UpstreamFailure::new(
                    "a download",
                    UpstreamFailureKind::Down,
                    "ended",
                ));
            }
        }
    }

    /// Waits until the download has ended. Returns false if the upstream does not have the blob.
    ///
    /// # Errors
    /// Returns the failure of the download.
    pub(super) async fn wait(&self) -> Result<bool, UpstreamFailure> {
        let mut progress = self.progress.subscribe();
        loop {
            let now = progress.borrow_and_update().clone();
            match now {
                DownloadProgress::Waiting | DownloadProgress::Receiving { .. } => {}
                DownloadProgress::Done { .. } => return Ok(true),
                DownloadProgress::Absent => return Ok(false),
                DownloadProgress::Failed(failed) => return Err(failed),
            }
            if progress.changed().await.is_err() {
                return Err(UpstreamFailure::new(
                    "a download",
                    UpstreamFailureKind::Down,
                    "ended",
                ));
            }
        }
    }

    /// Fails a download that has not started.
    pub(super) fn fail(&self, failed: UpstreamFailure) {
        self.progress.send_replace(DownloadProgress::Failed(failed));
    }

    /// Downloads the blob, until it is complete or the server shuts down. Returns false if the
    /// upstream does not have the blob.
    pub(super) async fn run(
        &self,
        registry: Registry,
        place: UpstreamRepository,
        digest: Digest,
        ending: &DownloadShutdown,
    ) -> bool {
        let fetching = self.fetch(registry, &place, &digest, ending);
        let abandoned = async {
            self.abandoned(ending).await;
            // A download that is receiving a body sees the signal itself, and keeps the bytes it
            // has.
            sleep(SHUTDOWN_GRACE).await;
        };
        let last = tokio::select! {
            result = fetching => result.unwrap_or_else(DownloadProgress::Failed),
            () = abandoned => DownloadProgress::Failed(place.failure(UpstreamFailureKind::Busy, SHUTDOWN_MESSAGE)),
        };
        if let DownloadProgress::Failed(failed) = &last {
            tracing::warn!(%digest, repository = %place.repository, "not fetched: {failed}");
        }
        let is_there = last != DownloadProgress::Absent;
        self.progress.send_replace(last);
        is_there
    }

    /// Completes when the server shuts down and the download has no readers, or when all downloads
    /// must stop.
    async fn abandoned(&self, ending: &DownloadShutdown) {
        let left = async {
            ending.graceful.cancelled().await;
            self.progress.closed().await;
        };
        tokio::select! {
            () = left => {}
            () = ending.immediate.cancelled() => {}
        }
    }

    /// Downloads the blob with retries, and verifies it. Returns the final progress.
    async fn fetch(
        &self,
        registry: Registry,
        place: &UpstreamRepository,
        digest: &Digest,
        ending: &DownloadShutdown,
    ) -> Result<DownloadProgress, UpstreamFailure> {
        let asked = digest.clone();
        let opened = run_blocking(move || registry.open_cache_fill(&asked)).await;
        let opened = opened.map_err(|error| place.store_failure(&error))?;
        let mut filling = opened.ok_or_else(|| {
            place.failure(
                UpstreamFailureKind::Busy,
                "is being asked for this blob already",
            )
        })?;
        let _ = self.partial.set(filling.reader());
        let (mut failures, mut pause) = (0, FIRST_RETRY_DELAY);
        let mut is_anew = false;
        loop {
            let before = filling.len();
            let failed = match self.attempt(place, digest, filling, ending).await {
                AttemptOutcome::Complete(whole, size) => {
                    return self.finish(place, whole, size).await;
                }
                AttemptOutcome::Absent(filling) => {
                    run_blocking(move || filling.discard())
                        .await
                        .map_err(|error| place.store_failure(&error))?;
                    return Ok(DownloadProgress::Absent);
                }
                AttemptOutcome::Failed(failed) => return Err(failed),
                AttemptOutcome::Interrupted(kept, failed) => {
                    filling = kept;
                    failed
                }
            };
            // An upstream that does not support ranges may still send the blob from its start.
            if failed.kind == UpstreamFailureKind::InvalidResponse && before > 0 && !is_anew {
                if let Some(size) = self.size() {
                    self.report_received(size, 0);
                }
                let restarted = run_blocking(move || filling.restart().map(|()| filling));
                filling = restarted
                    .await
                    .map_err(|error| place.store_failure(&error))?;
                is_anew = true;
                continue;
            }
            // Makes the received bytes durable, so that a later attempt resumes after them.
            let kept = run_blocking(move || match filling.sync() {
                Ok(()) => Ok(filling),
                Err(error) => Err(filling.give_up(error)),
            });
            filling = kept.await.map_err(|error| place.store_failure(&error))?;
            if filling.len() > before {
                (failures, pause) = (0, FIRST_RETRY_DELAY);
            }
            failures += 1;
            // Clients that wait for the headers of their response get the error at once, without
            // retries.
            let tries = match self.size() {
                None => 1,
                Some(_) => MAX_TRIES_WITHOUT_PROGRESS,
            };
            let asked = failed.retry_after.unwrap_or(pause);
            if !failed.kind.is_upstream_wide() || failures >= tries || asked > MAX_RETRY_DELAY {
                return Err(failed);
            }
            tracing::info!(%digest, offset = filling.len(), "going on with a blob: {failed}");
            sleep(asked).await;
            pause = (pause * 2).min(MAX_RETRY_DELAY);
        }
    }

    /// Requests the rest of the blob once, and appends the response to the partial file.
    async fn attempt(
        &self,
        place: &UpstreamRepository,
        digest: &Digest,
        mut filling: CacheFill,
        ending: &DownloadShutdown,
    ) -> AttemptOutcome {
        let offset = filling.len();
        let (client, name) = (place.upstream.client(), &place.upstream_name);
        // The partial file may be complete already, and then no range is left to request.
        if offset > 0 {
            match place
                .upstream
                .request(RESPONSE_TIMEOUT, || client.head_blob(name, digest))
                .await
            {
                Ok(Some(size)) if size == offset => return AttemptOutcome::Complete(filling, size),
                Ok(Some(size)) if size < offset => {
                    match run_blocking(move || filling.restart().map(|()| filling)).await {
                        Ok(restarted) => filling = restarted,
                        Err(error) => return AttemptOutcome::Failed(place.store_failure(&error)),
                    }
                }
                Ok(Some(_)) => {}
                Ok(None) => return AttemptOutcome::Absent(filling),
                Err(failed) => return AttemptOutcome::Interrupted(filling, failed),
            }
        }
        let offset = filling.len();
        let answer = place
            .upstream
            .request(RESPONSE_TIMEOUT, || client.open_blob(name, digest, offset));
        let Answer { first, size, bytes } = match answer.await {
            Ok(Some(answer)) => answer,
            Ok(None) => return AttemptOutcome::Absent(filling),
            Err(failed) => return AttemptOutcome::Interrupted(filling, failed),
        };
        let size = match size {
            Some(size) => size,
            None => match place
                .upstream
                .request(RESPONSE_TIMEOUT, || client.head_blob(name, digest))
                .await
            {
                Ok(Some(size)) => size,
                Ok(None) => return AttemptOutcome::Absent(filling),
                Err(failed) => return AttemptOutcome::Interrupted(filling, failed),
            },
        };
        self.report_received(size, filling.len());
        // An upstream that ignores the range sends the blob from its start, so skip the known
        // bytes.
        let mut skip = offset.saturating_sub(first);
        let mut pieces = bytes;
        loop {
            let next = tokio::select! {
                next = timeout(STALL_TIMEOUT, pieces.next()) => next,
                () = self.abandoned(ending) => {
                    return AttemptOutcome::Interrupted(filling, place.failure(UpstreamFailureKind::Busy, SHUTDOWN_MESSAGE));
                }
            };
            let mut next = match next {
                Ok(next) => next,
                Err(_) => {
                    let failed = place.record_failure(
                        place.failure(UpstreamFailureKind::TimedOut, "fell silent"),
                    );
                    return AttemptOutcome::Interrupted(filling, failed);
                }
            };
            let (mut batch, mut count, mut end) = (Vec::new(), 0, None);
            loop {
                match next {
                    Some(Ok(mut piece)) => {
                        let left_out = skip.min(piece.len() as u64);
                        skip -= left_out;
                        place.count_received_bytes(piece.len() as u64);
                        count += piece.len();
                        batch.push(piece.split_off(usize::try_from(left_out).unwrap_or(0)));
                    }
                    Some(Err(error)) => {
                        let failed =
                            UpstreamFailure::from_client(place.upstream.settings.name(), &error);
                        end = Some(Some(place.record_failure(failed)));
                    }
                    None => end = Some(None),
                }
                // Collect only what has already arrived, and at most one batch.
                if end.is_some() || count >= MAX_BATCH_BYTES {
                    break;
                }
                match pieces.next().now_or_never() {
                    Some(more) => next = more,
                    None => break,
                }
            }
            let written = run_blocking(move || {
                match batch.iter().try_for_each(|piece| filling.append(piece)) {
                    Ok(()) => Ok(filling),
                    Err(error) => Err(filling.give_up(error)),
                }
            });
            filling = match written.await {
                Ok(filling) => filling,
                Err(error) => return AttemptOutcome::Failed(place.store_failure(&error)),
            };
            if filling.len() > size {
                let failed = place.record_failure(place.failure(
                    UpstreamFailureKind::InvalidResponse,
                    "sent more than it announced",
                ));
                return match run_blocking(move || filling.discard()).await {
                    Ok(()) => AttemptOutcome::Failed(failed),
                    Err(error) => AttemptOutcome::Failed(place.store_failure(&error)),
                };
            }
            self.report_received(size, filling.len());
            match end {
                Some(Some(failed)) => return AttemptOutcome::Interrupted(filling, failed),
                Some(None) => break,
                None => {}
            }
        }
        match filling.len() == size {
            true => AttemptOutcome::Complete(filling, size),
            false => {
                let failed =
                    place.record_failure(place.failure(UpstreamFailureKind::Down, "broke off"));
                AttemptOutcome::Interrupted(filling, failed)
            }
        }
    }

    /// Publishes the size of the blob and the number of bytes received.
    fn report_received(&self, size: u64, filled: u64) {
        self.progress.send_replace(DownloadProgress::Receiving {
            size,
            received: filled,
        });
    }

    /// Verifies the digest of the blob, and links the blob in its repositories.
    async fn finish(
        &self,
        place: &UpstreamRepository,
        filling: CacheFill,
        size: u64,
    ) -> Result<DownloadProgress, UpstreamFailure> {
        self.report_received(size, size);
        let mut into = self
            .repositories
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let into: Vec<_> = into.take().into_iter().flatten().collect();
        let committed = run_blocking(move || filling.commit(&into, unix_now())).await;
        committed.map_err(|error| place.store_failure(&error))?;
        Ok(DownloadProgress::Done { size })
    }
}

/// Outcome of one attempt.
enum AttemptOutcome {
    /// The partial file has all bytes of the blob, whose size is given. They are not verified.
    Complete(CacheFill, u64),
    /// The upstream does not have the blob.
    Absent(CacheFill),
    /// The attempt ended before the blob was complete; it can be retried.
    Interrupted(CacheFill, UpstreamFailure),
    /// The partial file cannot be used any more.
    Failed(UpstreamFailure),
}
