//! Fetches blobs from upstreams: one download per digest, shared by all clients that ask for it.
//!
//! The transfer itself is in [`super::download`]. Start reading at
//! [`Upstreams::find_or_fetch_blob`].

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use imgsync_oci::{Digest, Repository};

use super::download::UpstreamDownload;
use super::download_reader::DownloadReader;
use super::error::{Error, UpstreamFailure, UpstreamFailureKind};
use super::metrics::{CacheStatus, ContentKind};
use super::transfer;
use super::{ContentKey, UpstreamRepository, Upstreams, unix_now};
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

/// The answer of an upstream to a HEAD request for a blob: the size of the blob in bytes, or `None`
/// if the upstream does not have it.
pub(super) type BlobHeadResult = Result<Option<u64>, UpstreamFailure>;

/// The downloads that are running or queued, by digest.
#[derive(Default)]
pub(super) struct Downloads {
    running: Mutex<HashMap<Digest, Arc<UpstreamDownload>>>,
}

impl Downloads {
    fn lock(&self) -> MutexGuard<'_, HashMap<Digest, Arc<UpstreamDownload>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, digest: &Digest) -> Option<Arc<UpstreamDownload>> {
        self.lock().get(digest).map(Arc::clone)
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
        source: &UpstreamRepository,
        digest: &Digest,
    ) -> Result<BlobAvailability, Error> {
        let result = self.find_blob(source, digest).await;
        self.count_request(
            ContentKind::Blob,
            &result,
            |availability| match availability {
                BlobAvailability::Local => CacheStatus::Hit,
                BlobAvailability::Downloading(_) => CacheStatus::Miss,
            },
        );
        result
    }

    /// Returns the size in bytes of a blob in this registry or at the upstream.
    ///
    /// # Errors
    /// Returns the errors of [`Upstreams::find_or_fetch_blob`].
    pub(crate) async fn blob_size(
        &self,
        source: &UpstreamRepository,
        digest: &Digest,
    ) -> Result<u64, Error> {
        let blob = digest.clone();
        let size = self.run_on_disk(source, move |registry, repository| {
            registry.blob_size(repository, &blob)
        });
        // A client checks this before a push and then skips the upload, so the blob must really be
        // on disk.
        match size.await {
            Err(registry::Error::BlobUnknown(_)) => {}
            size => return Ok(size?),
        }
        let download = self.inner.downloads.get(digest);
        let download = download.filter(|download| download.belongs_to(&source.repository));
        if let Some(size) = download.and_then(|download| download.size()) {
            return Ok(size);
        }
        self.head_blob(source, digest).await
    }

    /// Fetches the blobs that a pushed manifest needs. The client skipped their upload because this
    /// registry reported that they exist. Stops at the first blob that cannot be fetched.
    pub(crate) async fn fetch_missing_blobs(
        &self,
        source: &UpstreamRepository,
        digests: &[Digest],
    ) {
        for digest in digests.iter().take(MAX_FETCHED_PER_MANIFEST) {
            let result = match self.find_blob(source, digest).await {
                Ok(BlobAvailability::Local) => Ok(()),
                Ok(BlobAvailability::Downloading(_)) => match self.inner.downloads.get(digest) {
                    Some(download) => download.wait().await.map(drop).map_err(Error::from),
                    None => Ok(()),
                },
                Err(error) => Err(error),
            };
            if let Err(error) = result {
                tracing::debug!(%digest, "cannot fetch a blob of a pushed manifest: {error}");
                return;
            }
        }
    }

    async fn find_blob(
        &self,
        source: &UpstreamRepository,
        digest: &Digest,
    ) -> Result<BlobAvailability, Error> {
        loop {
            let blob = digest.clone();
            let state = self.run_on_disk(source, move |registry, repository| {
                registry.blob_state(repository, &blob)
            });
            match state.await? {
                BlobState::Linked { .. } => return Ok(BlobAvailability::Local),
                BlobState::Elsewhere { size } => {
                    // The blob is linked in another repository. Only the upstream knows whether
                    // this repository has it too.
                    if self.head_blob(source, digest).await? != size {
                        let message = "the blob has another size than the stored one";
                        let kind = UpstreamFailureKind::InvalidResponse;
                        let failure = source.failure(kind, message);
                        return Err(source.record_failure(failure).into());
                    }
                    let blob = digest.clone();
                    let is_linked = self.run_on_disk(source, move |registry, repository| {
                        registry.link_cached_blob(repository, &blob, unix_now())
                    });
                    if is_linked.await? {
                        return Ok(BlobAvailability::Local);
                    }
                }
                BlobState::Absent => {}
            }
            let download = match self.inner.downloads.get(digest) {
                Some(download) => download,
                None => self.start_download(source, digest)?,
            };
            if !download.belongs_to(&source.repository) {
                self.head_blob(source, digest).await?;
                if !download.add(source.repository.clone()) {
                    // The download is being verified and takes no more repositories. The blob is on
                    // disk afterwards.
                    download.wait().await?;
                    continue;
                }
            }
            // The upstream may answer differently for this repository than for another one.
            let is_own = download.is_from(&source.repository);
            match download.open_reader().await {
                Ok(Some(reader)) => return Ok(BlobAvailability::Downloading(reader)),
                Ok(None) if is_own => {
                    return Err(registry::Error::BlobUnknown(digest.clone()).into());
                }
                Err(failure) if is_own || failure.kind != UpstreamFailureKind::Denied => {
                    return Err(failure.into());
                }
                _ => {}
            }
            // Retry once the failed download has been removed from the list.
            tokio::task::yield_now().await;
        }
    }

    /// Starts a download, or returns the one that another request has just started.
    fn start_download(
        &self,
        source: &UpstreamRepository,
        digest: &Digest,
    ) -> Result<Arc<UpstreamDownload>, Error> {
        source.check_fetch_allowed()?;
        let key = key(&source.repository, digest);
        if self.inner.negative_cache.contains(&key) {
            return Err(registry::Error::BlobUnknown(digest.clone()).into());
        }
        let download = {
            let mut running = self.inner.downloads.lock();
            if let Some(download) = running.get(digest) {
                return Ok(Arc::clone(download));
            }
            if running.len() >= MAX_QUEUED_DOWNLOADS {
                let message = "too many downloads are queued; try again later";
                return Err(source.failure(UpstreamFailureKind::Busy, message).into());
            }
            let download = UpstreamDownload::new(source.repository.clone());
            running.insert(digest.clone(), Arc::clone(&download));
            download
        };
        let guard = DownloadGuard(self.clone(), digest.clone());
        let (source, digest, running) = (source.clone(), digest.clone(), Arc::clone(&download));
        self.inner.tasks.spawn(async move {
            let inner = &guard.0.inner;
            let (upstream, queued_at) = (Arc::clone(&source.upstream), Instant::now());
            // `acquire` fails only on a closed semaphore, and this one is never closed.
            let _permit = upstream.download_permits.acquire().await;
            // If the upstream does not respond, the queued downloads must not each wait for their
            // own timeout.
            if queued_at.elapsed() >= MAX_TIME_IN_QUEUE
                && let Some(failure) = upstream.breaker.current_failure()
            {
                return running.fail(failure);
            }
            let registry = inner.registry.clone();
            let is_present =
                transfer::download(&running, registry, source, digest, &inner.shutdown);
            if !is_present.await {
                inner.negative_cache.insert(key);
            }
        });
        Ok(download)
    }

    /// Asks the upstream for the size of a blob. Concurrent requests for the same blob share one
    /// answer.
    async fn head_blob(&self, source: &UpstreamRepository, digest: &Digest) -> Result<u64, Error> {
        source.check_fetch_allowed()?;
        let unknown = || registry::Error::BlobUnknown(digest.clone()).into();
        let key = key(&source.repository, digest);
        if self.inner.negative_cache.contains(&key) {
            return Err(unknown());
        }
        let (this, at, blob) = (self.clone(), source.clone(), digest.clone());
        let absent_key = key.clone();
        let request = || async move {
            let size = at.request(BLOB_HEAD_TIMEOUT, |client, name| {
                client.head_blob(name, &blob)
            });
            let size = size.await?;
            if size.is_none() {
                this.inner.negative_cache.insert(absent_key);
            }
            Ok(size)
        };
        match self.inner.blob_requests.run(key, request).await {
            Ok(size) => size?.ok_or_else(unknown),
            Err(error) => Err(source.singleflight_failure(error).into()),
        }
    }
}

/// Removes a download from the list when it is dropped, however the download ended.
struct DownloadGuard(Upstreams, Digest);

impl Drop for DownloadGuard {
    fn drop(&mut self) {
        let Self(upstreams, digest) = self;
        upstreams.inner.downloads.lock().remove(digest);
    }
}

/// Returns the key of a blob in the negative cache. The prefix keeps it apart from a manifest with
/// the same digest.
fn key(repository: &Repository, digest: &Digest) -> ContentKey {
    (repository.clone(), format!("blob {digest}"))
}
