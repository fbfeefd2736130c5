//! One blob on its way from an upstream to the disk, and to everybody who asked for it meanwhile.
//! It goes on without them.

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

/// How long it may take until the first byte comes.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long an upstream may say nothing within a blob.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// How often it is tried again without a byte that is new.
const MAX_TRIES_WITHOUT_PROGRESS: u32 = 4;
/// The pause before the second try; it doubles.
const FIRST_RETRY_DELAY: Duration = Duration::from_millis(500);
/// A pause that an upstream asks for is not waited for where it is longer.
const MAX_RETRY_DELAY: Duration = Duration::from_secs(10);
/// How long a download may take to end by itself.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);
const SHUTDOWN_MESSAGE: &str = "is no longer asked: this server stops";
/// How much of the line is written to the disk at a time, in bytes, where so much is there.
const MAX_BATCH_BYTES: usize = 256 * 1024;

/// How far a blob is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum DownloadProgress {
    /// Its turn has not come, or the upstream has not answered.
    Waiting,
    /// So many of its `size` bytes are there to be read.
    Receiving {
        /// In bytes.
        size: u64,
        /// In bytes.
        received: u64,
    },
    /// All of it is there, and it is right.
    Done {
        /// In bytes.
        size: u64,
    },
    /// The upstream does not have it.
    Absent,
    /// It could not be had.
    Failed(UpstreamFailure),
}

/// A blob that is being fetched.
pub(super) struct UpstreamDownload {
    progress: watch::Sender<DownloadProgress>,
    partial: OnceLock<PartialBlob>,
    /// The one that it is fetched from, by its name here.
    source: Repository,
    /// The repositories that will hold it; `None` once it is too late.
    repositories: Mutex<Option<BTreeSet<Repository>>>,
}

/// The end of the server.
#[derive(Default)]
pub(super) struct DownloadShutdown {
    /// What nobody waits for ends.
    pub(super) graceful: CancellationToken,
    /// Everything does.
    pub(super) immediate: CancellationToken,
}

impl UpstreamDownload {
    pub(super) fn new(repository: Repository) -> Arc<Self> {
        Arc::new(Self {
            progress: watch::Sender::new(DownloadProgress::Waiting),
            partial: OnceLock::new(),
            source: repository.clone(),
            repositories: Mutex::new(Some(BTreeSet::from([repository]))),
        })
    }

    /// Whether it is fetched from this repository.
    pub(super) fn is_from(&self, repository: &Repository) -> bool {
        self.source == *repository
    }

    /// Whether the blob will belong to a repository.
    pub(super) fn belongs_to(&self, repository: &Repository) -> bool {
        let into = self
            .repositories
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        into.as_ref().is_some_and(|into| into.contains(repository))
    }

    /// Has the blob belong to a repository as well; false where it is too late.
    pub(super) fn add(&self, repository: Repository) -> bool {
        let mut into = self
            .repositories
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        into.as_mut().map(|into| into.insert(repository)).is_some()
    }

    /// The size in bytes, once it is known.
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

    /// Waits until the size is known; `None` where the upstream does not have the blob.
    ///
    /// # Errors
    /// It cannot be had.
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

    /// Waits until it is over; false where the upstream does not have it.
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

    /// Ends it before it began.
    pub(super) fn fail(&self, failed: UpstreamFailure) {
        self.progress.send_replace(DownloadProgress::Failed(failed));
    }

    /// Fetches the blob to its end, unless the server ends; false where the upstream does not have
    /// it.
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
            // Within a body it ends by itself, and keeps what came.
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

    /// Becomes ready when the server ends and nobody reads along, or it ends at once.
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
            // An upstream that cannot go on within a blob may still give it from its beginning.
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
            // Whatever happens next, so much is there.
            let kept = run_blocking(move || match filling.sync() {
                Ok(()) => Ok(filling),
                Err(error) => Err(filling.give_up(error)),
            });
            filling = kept.await.map_err(|error| place.store_failure(&error))?;
            if filling.len() > before {
                (failures, pause) = (0, FIRST_RETRY_DELAY);
            }
            failures += 1;
            // Who has nothing yet is better off with an answer now.
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

    /// One request, from where the file ends to where the answer does.
    async fn attempt(
        &self,
        place: &UpstreamRepository,
        digest: &Digest,
        mut filling: CacheFill,
        ending: &DownloadShutdown,
    ) -> AttemptOutcome {
        let offset = filling.len();
        let (client, name) = (place.upstream.client(), &place.upstream_name);
        // What lies there may be all of it already, and then there is no range to ask for.
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
        // Where ranges are ignored, what is here already comes once more.
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
                // No more than is there already, and not too much.
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

    fn report_received(&self, size: u64, filled: u64) {
        self.progress.send_replace(DownloadProgress::Receiving {
            size,
            received: filled,
        });
    }

    /// Verifies what came, and links it.
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

/// What became of one request.
enum AttemptOutcome {
    /// All bytes are there, so many; nobody has verified them.
    Complete(CacheFill, u64),
    /// The upstream does not have it.
    Absent(CacheFill),
    /// It ended before the blob did.
    Interrupted(CacheFill, UpstreamFailure),
    /// Nothing is left to go on with.
    Failed(UpstreamFailure),
}
