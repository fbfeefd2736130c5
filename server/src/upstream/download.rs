//! The state of a download of one blob from an upstream, which its readers wait for.
//!
//! The bytes are fetched by [`super::transfer`]. Start reading at [`UpstreamDownload`].

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use imgsync_oci::Repository;
use imgsync_oci::client::BlobDownload;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::error::{UpstreamFailure, UpstreamFailureKind};
use crate::registry::PartialBlob;

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
    /// The blob does not fit into the cache, so each client reads it from the upstream.
    NotKept,
    /// The upstream does not have the blob.
    Absent,
    /// The download failed.
    Failed(UpstreamFailure),
}

/// A download of one blob, shared by all clients that read it.
pub(super) struct UpstreamDownload {
    progress: watch::Sender<DownloadProgress>,
    /// The bytes received so far, once the download has started.
    pub(super) partial: OnceLock<PartialBlob>,
    /// The response of the upstream with a blob that is not kept, and its size, for the first client.
    unread_response: Mutex<Option<(BlobDownload, u64)>>,
    /// Whether a push needs the blob. Then it may exceed the limit of the cache, because it will
    /// count as pushed.
    pub(super) is_for_push: bool,
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
    pub(super) fn new(repository: Repository, is_for_push: bool) -> Arc<Self> {
        Arc::new(Self {
            progress: watch::Sender::new(DownloadProgress::Waiting),
            partial: OnceLock::new(),
            unread_response: Mutex::default(),
            is_for_push,
            source: repository.clone(),
            repositories: Mutex::new(Some(BTreeSet::from([repository]))),
        })
    }

    /// Reports whether the blob is fetched from this repository.
    pub(super) fn is_from(&self, repository: &Repository) -> bool {
        self.source == *repository
    }

    pub(super) fn lock_repositories(&self) -> MutexGuard<'_, Option<BTreeSet<Repository>>> {
        self.repositories
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Reports whether this repository will link the blob.
    pub(super) fn belongs_to(&self, repository: &Repository) -> bool {
        let repositories = self.lock_repositories();
        repositories
            .as_ref()
            .is_some_and(|repositories| repositories.contains(repository))
    }

    /// Adds a repository that will link the blob. Returns false if the blob is already being
    /// verified.
    pub(super) fn add(&self, repository: Repository) -> bool {
        let mut repositories = self.lock_repositories();
        let added = repositories
            .as_mut()
            .map(|repositories| repositories.insert(repository));
        added.is_some()
    }

    /// Stores the response with a blob that is not kept.
    pub(super) fn put_unread_response(&self, response: BlobDownload, size: u64) {
        let mut unread = self.lock_unread_response();
        *unread = Some((response, size));
    }

    /// Takes the response with a blob that is not kept, unless another client has taken it.
    pub(super) fn take_unread_response(&self) -> Option<(BlobDownload, u64)> {
        self.lock_unread_response().take()
    }

    fn lock_unread_response(&self) -> MutexGuard<'_, Option<(BlobDownload, u64)>> {
        self.unread_response
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the size of the blob in bytes, if it is known yet.
    pub(super) fn size(&self) -> Option<u64> {
        match *self.progress.borrow() {
            DownloadProgress::Receiving { size, .. } | DownloadProgress::Done { size } => {
                Some(size)
            }
            _ => None,
        }
    }

    /// Waits until `is_reached` is true for the progress of the download. Returns this progress,
    /// and a receiver of the progress from then on.
    ///
    /// # Errors
    /// Returns the failure of the download.
    pub(super) async fn wait_until(
        &self,
        is_reached: impl Fn(&DownloadProgress) -> bool,
    ) -> Result<(DownloadProgress, watch::Receiver<DownloadProgress>), UpstreamFailure> {
        let mut receiver = self.progress.subscribe();
        let reached = receiver.wait_for(is_reached).await;
        let progress = match reached.as_deref() {
            Ok(progress) => progress.clone(),
            Err(_) => DownloadProgress::Failed(UpstreamFailure::new(
                self.source.as_str(),
                UpstreamFailureKind::Down,
                "the download ended unexpectedly",
            )),
        };
        drop(reached);
        match progress {
            DownloadProgress::Failed(failure) => Err(failure),
            progress => Ok((progress, receiver)),
        }
    }

    /// Waits until the download has ended. Returns false if the upstream does not have the blob.
    ///
    /// # Errors
    /// Returns the failure of the download.
    pub(super) async fn wait(&self) -> Result<bool, UpstreamFailure> {
        let is_ended = |progress: &DownloadProgress| {
            !matches!(
                progress,
                DownloadProgress::Waiting | DownloadProgress::Receiving { .. }
            )
        };
        let (progress, _) = self.wait_until(is_ended).await?;
        Ok(progress != DownloadProgress::Absent)
    }

    /// Fails a download that has not started.
    pub(super) fn fail(&self, failure: UpstreamFailure) {
        self.publish(DownloadProgress::Failed(failure));
    }

    /// Completes when the server shuts down and the download has no readers, or when all downloads
    /// must stop.
    pub(super) async fn stopped(&self, shutdown: &DownloadShutdown) {
        let without_readers = async {
            shutdown.graceful.cancelled().await;
            self.progress.closed().await;
        };
        tokio::select! {
            () = without_readers => {}
            () = shutdown.immediate.cancelled() => {}
        }
    }

    /// Publishes the progress to all readers.
    pub(super) fn publish(&self, progress: DownloadProgress) {
        self.progress.send_replace(progress);
    }
}
