//! Blobs from behind: one download each, whoever asks.

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

/// How long the upstream may take to say whether it has a blob.
const BLOB_HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// A download that waited for its turn so long is not begun where the upstream just failed.
const MAX_TIME_IN_QUEUE: Duration = Duration::from_secs(30);
/// How many blobs may be fetched, or wait for their turn.
const MAX_QUEUED_DOWNLOADS: usize = 1024;
/// How many blobs are fetched for one manifest that is pushed.
const MAX_FETCHED_PER_MANIFEST: usize = 128;

/// Where a blob is to be read.
pub(crate) enum BlobAvailability {
    /// In the registry.
    Local,
    /// It is on its way.
    Downloading(DownloadReader),
}

/// What an upstream says of a blob.
#[derive(Debug, Clone)]
pub(super) enum UpstreamBlob {
    /// It has it, with so many bytes.
    Present(u64),
    Absent,
    Failed(UpstreamFailure),
}

/// The blobs that are being fetched.
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
    /// Finds a blob here, or has it fetched.
    ///
    /// # Errors
    /// The upstream does not have it, could not be asked, or may not be.
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

    /// The size in bytes of a blob that is here, or that the upstream has.
    ///
    /// # Errors
    /// As [`Upstreams::blob`].
    pub(crate) async fn blob_size(
        &self,
        place: &UpstreamRepository,
        digest: &Digest,
    ) -> Result<u64, Error> {
        let (registry, repository, asked) = self.disk_context(place, digest.clone());
        // Who asks may be about to push, and relies on it.
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

    /// Has blobs fetched that a manifest needs which is pushed below an upstream's names: its
    /// sender was told that they are there. Ends at the first that cannot be had.
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
                    // Only the upstream can say that it belongs to this repository as well.
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
                    // It is being verified, and will be here for others.
                    running.wait().await?;
                    continue;
                }
            }
            match running.open_reader().await {
                Ok(Some(follower)) => return Ok(BlobAvailability::Downloading(follower)),
                // What the upstream says of another repository is not said of this one.
                Ok(None) if !running.is_from(&place.repository) => {}
                Err(failed)
                    if failed.kind == UpstreamFailureKind::Denied
                        && !running.is_from(&place.repository) => {}
                Ok(None) => return Err(registry::Error::BlobUnknown(digest.clone()).into()),
                Err(failed) => return Err(failed.into()),
            }
            // Until it is off the list.
            tokio::task::yield_now().await;
        }
    }

    /// Begins a download, or finds that somebody else just did.
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
            // Fails only where the semaphore is closed, and it never is.
            let _turn = remote.download_permits.acquire().await;
            // Of many that wait for an upstream which says nothing, not each tries that itself.
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

/// Takes a download off the list, however it ends.
struct DownloadGuard(Upstreams, Digest);

impl Drop for DownloadGuard {
    fn drop(&mut self) {
        let Self(upstreams, digest) = self;
        let mut running = upstreams.inner.downloads.running.lock();
        let running = running.as_mut().unwrap_or_else(|error| error.get_mut());
        running.remove(digest);
    }
}

/// What a blob is remembered under where it is not there. A manifest may have the same digest, and
/// be there.
fn key(repository: &Repository, digest: &Digest) -> ContentKey {
    (repository.clone(), format!("blob {digest}"))
}
