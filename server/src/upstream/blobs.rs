//! Fetches blobs from upstreams: one download per digest, shared by all clients that ask for it.
//!
//! The transfer itself is in [`super::download`]. Start reading at
//! [`Upstreams::find_or_fetch_blob`].

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use imgsync_oci::{Digest, Repository};

use super::download::UpstreamDownload;
use super::download_reader::DownloadReader;
use super::error::{Error, UpstreamFailure, UpstreamFailureKind};
use super::metrics::{CacheStatus, ContentKind};
use super::{ContentKey, UpstreamRepository, Upstreams, run_blocking, unix_now};
use crate::registry::{self, BlobState};

/// Time limit for asking an upstream whether it has a blob.
const BLOB_HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// A download that waited in the queue for this long is not started while the circuit breaker is
/// open.
const MAX_TIME_IN_QUEUE: Duration = Duration::from_secs(30);
/// Maximum number of downloads that are running or queued.
const MAX_QUEUED_DOWNLOADS: usize = 1024;
/// Maximum number of blobs fetched for one pushed manifest.
const MAX_FETCHED_PER_MANIFEST: usize = 128;

/// Where to read a blob from.
pub(crate) enum BlobAvailability {
    /// The blob is stored in this registry.
    Local,
    /// The blob is being downloaded, and can be read meanwhile.
    Downloading(DownloadReader),
}

/// The answer of an upstream to a HEAD request for a blob.
#[derive(Debug, Clone)]
pub(super) enum UpstreamBlob {
    /// The upstream has the blob, with this size in bytes.
    Present(u64),
    Absent,
    Failed(UpstreamFailure),
}

/// The downloads that are running or queued, by digest.
#[derive(Default)]
pub(super) struct Downloads {
    running: Mutex<HashMap<Digest, Arc<UpstreamDownload>>>,
}

impl Downloads {
    fn get(&self, digest: &Digest) -> Option<Arc<UpstreamDownload>> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.get(digest).map(Arc::clone)
    }
}

impl Upstreams {
    /// Finds a blob in this registry, or starts to fetch it from the upstream.
    ///
    /// # Errors
    /// Returns an error if the upstream does not have the blob, cannot be reached, or must not be
    /// asked.
    pub(crate) async fn find_or_fetch_blob(
        &self,
        place: &UpstreamRepository,
        digest: &Digest,
    ) -> Result<BlobAvailability, Error> {
        let result = self.find_blob(place, digest).await;
        self.count_request(ContentKind::Blob, &result, |found| match found {
            BlobAvailability::Local => CacheStatus::Hit,
            BlobAvailability::Downloading(_) => CacheStatus::Miss,
        });
        result
    }

    /// Returns the size in bytes of a blob in this registry or at the upstream.
    ///
    /// # Errors
    /// Returns the errors of [`Upstreams::find_or_fetch_blob`].
    pub(crate) async fn blob_size(
        &self,
        place: &UpstreamRepository,
        digest: &Digest,
    ) -> Result<u64, Error> {
        let (registry, repository, asked) = self.disk_context(place, digest.clone());
        // A client checks this before a push and then skips the upload, so the blob must really be
        // on disk.
        match run_blocking(move || registry.blob_size(&repository, &asked)).await {
            Err(registry::Error::BlobUnknown(_)) => {}
            size => return Ok(size?),
        }
        let running = self.inner.downloads.get(digest);
        let running = running.filter(|running| running.belongs_to(&place.repository));
        if let Some(size) = running.and_then(|running| running.size()) {
            return Ok(size);
        }
        self.head_blob(place, digest).await
    }

    /// Fetches the blobs that a pushed manifest needs. The client skipped their upload because this
    /// registry reported that they exist. Stops at the first blob that cannot be fetched.
    pub(crate) async fn fetch_missing_blobs(&self, place: &UpstreamRepository, digests: &[Digest]) {
        for digest in digests.iter().take(MAX_FETCHED_PER_MANIFEST) {
            let done = match self.find_blob(place, digest).await {
                Ok(BlobAvailability::Local) => Ok(()),
                Ok(BlobAvailability::Downloading(_)) => match self.inner.downloads.get(digest) {
                    Some(download) => download.wait().await.map(drop).map_err(Error::from),
                    None => Ok(()),
                },
                Err(error) => Err(error),
            };
            if let Err(error) = done {
                tracing::debug!(%digest, "what a pushed manifest needs was not fetched: {error}");
                return;
            }
        }
    }

    async fn find_blob(
        &self,
        place: &UpstreamRepository,
        digest: &Digest,
    ) -> Result<BlobAvailability, Error> {
        loop {
            let (registry, repository, asked) = self.disk_context(place, digest.clone());
            match run_blocking(move || registry.blob_state(&repository, &asked)).await? {
                BlobState::Linked { .. } => return Ok(BlobAvailability::Local),
                BlobState::Elsewhere { size } => {
                    // The blob is linked in another repository. Only the upstream knows whether
                    // this repository has it too.
                    if self.head_blob(place, digest).await? != size {
                        let what = "has a blob of another size under the same digest";
                        return Err(place
                            .record_failure(
                                place.failure(UpstreamFailureKind::InvalidResponse, what),
                            )
                            .into());
                    }
                    let (registry, repository, asked) = self.disk_context(place, digest.clone());
                    let link = move || registry.link_cached_blob(&repository, &asked, unix_now());
                    if run_blocking(link).await? {
                        return Ok(BlobAvailability::Local);
                    }
                }
                BlobState::Absent => {}
            }
            let running = match self.inner.downloads.get(digest) {
                Some(running) => running,
                None => self.start_download(place, digest).await?,
            };
            if !running.belongs_to(&place.repository) {
                self.head_blob(place, digest).await?;
                if !running.add(place.repository.clone()) {
                    // The download is being verified and takes no more repositories. The blob is on
                    // disk afterwards.
                    running.wait().await?;
                    continue;
                }
            }
            match running.open_reader().await {
                Ok(Some(follower)) => return Ok(BlobAvailability::Downloading(follower)),
                // The upstream's answer was about another repository and says nothing about this
                // one.
                Ok(None) if !running.is_from(&place.repository) => {}
                Err(failed)
                    if failed.kind == UpstreamFailureKind::Denied
                        && !running.is_from(&place.repository) => {}
                Ok(None) => return Err(registry::Error::BlobUnknown(digest.clone()).into()),
                Err(failed) => return Err(failed.into()),
            }
            // Retry once the failed download has been removed from the list.
            tokio::task::yield_now().await;
        }
    }

    /// Starts a download, or returns the one that another request has just started.
    async fn start_download(
        &self,
        place: &UpstreamRepository,
        digest: &Digest,
    ) -> Result<Arc<UpstreamDownload>, Error> {
        place.check_fetch_allowed()?;
        if self
            .inner
            .negative_cache
            .contains(&key(&place.repository, digest))
        {
            return Err(registry::Error::BlobUnknown(digest.clone()).into());
        }
        let download = {
            let mut running = self.inner.downloads.running.lock();
            let running = running.as_mut().unwrap_or_else(|error| error.get_mut());
            if let Some(download) = running.get(digest) {
                return Ok(Arc::clone(download));
            }
            if running.len() >= MAX_QUEUED_DOWNLOADS {
                let what = "is asked for too many blobs at once; try again";
                return Err(place.failure(UpstreamFailureKind::Busy, what).into());
            }
            let download = UpstreamDownload::new(place.repository.clone());
            running.insert(digest.clone(), Arc::clone(&download));
            download
        };
        let entry = DownloadGuard(self.clone(), digest.clone());
        let (this, place, digest) = (self.clone(), place.clone(), digest.clone());
        let task = Arc::clone(&download);
        self.inner.tasks.spawn(async move {
            let _entry = entry;
            let (remote, since) = (Arc::clone(&place.upstream), Instant::now());
            // `acquire` fails only on a closed semaphore, and this one is never closed.
            let _turn = remote.download_permits.acquire().await;
            // If the upstream does not respond, the queued downloads must not each wait for their
            // own timeout.
            if since.elapsed() >= MAX_TIME_IN_QUEUE
                && let Some(failed) = remote.breaker.current_failure()
            {
                return task.fail(failed);
            }
            let registry = this.inner.registry.clone();
            let key = key(&place.repository, &digest);
            if !task
                .run(registry, place, digest, &this.inner.shutdown)
                .await
            {
                this.inner.negative_cache.insert(key);
            }
        });
        Ok(download)
    }

    /// Asks the upstream for the size of a blob. Concurrent requests for the same blob share one
    /// answer.
    async fn head_blob(&self, place: &UpstreamRepository, digest: &Digest) -> Result<u64, Error> {
        place.check_fetch_allowed()?;
        let unknown = || registry::Error::BlobUnknown(digest.clone()).into();
        let key = key(&place.repository, digest);
        if self.inner.negative_cache.contains(&key) {
            return Err(unknown());
        }
        let (this, at, asked) = (self.clone(), place.clone(), digest.clone());
        let absent = key.clone();
        let question = || async move {
            let (client, name) = (at.upstream.client(), &at.upstream_name);
            match at
                .upstream
                .request(BLOB_HEAD_TIMEOUT, || client.head_blob(name, &asked))
                .await
            {
                Ok(Some(size)) => UpstreamBlob::Present(size),
                Ok(None) => {
                    this.inner.negative_cache.insert(absent);
                    UpstreamBlob::Absent
                }
                Err(failed) => UpstreamBlob::Failed(failed),
            }
        };
        match self.inner.blob_requests.run(key, question).await {
            Ok(UpstreamBlob::Present(size)) => Ok(size),
            Ok(UpstreamBlob::Absent) => Err(unknown()),
            Ok(UpstreamBlob::Failed(failed)) => Err(failed.into()),
            Err(lost) => Err(place.singleflight_failure(lost).into()),
        }
    }
}

/// Removes a download from the list when it is dropped, however the download ended.
struct DownloadGuard(Upstreams, Digest);

impl Drop for DownloadGuard {
    fn drop(&mut self) {
        let Self(upstreams, digest) = self;
        let mut running = upstreams.inner.downloads.running.lock();
        let running = running.as_mut().unwrap_or_else(|error| error.get_mut());
        running.remove(digest);
    }
}

/// Returns the key of a blob in the negative cache. The prefix keeps it apart from a manifest with
/// the same digest.
fn key(repository: &Repository, digest: &Digest) -> ContentKey {
    (repository.clone(), format!("blob {digest}"))
}
