//! Fetches blobs from upstreams: one download per digest, shared by all clients that ask for it.
//!
//! The transfer itself is in [`super::download`]. Start reading at
//! [`Upstreams::find_or_fetch_blob`].

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use imgsync_oci::{Digest, Repository};

use super::download::UpstreamDownload;
use super::download_reader::{DownloadReader, OpenedDownload};
use super::error::{Error, UpstreamFailure, UpstreamFailureKind};
use super::metrics::{CacheStatus, ContentKind};
use super::transfer;
use super::uncached_blob::UncachedBlob;
use super::{ContentKey, PullRights, UpstreamRepository, Upstreams, unix_now};
use crate::registry::{self, BlobState, BlobUse};

/// A download that waited in the queue for this long is not started while the circuit breaker is
/// open.
const MAX_TIME_IN_QUEUE: Duration = Duration::from_secs(30);
/// Maximum number of downloads that are running or queued.
const MAX_QUEUED_DOWNLOADS: usize = 1024;
/// Maximum number of blobs fetched for one pushed manifest.
const MAX_FETCHED_PER_MANIFEST: usize = 128;

const NO_ROOM: &str = "the blob does not fit into the free space of this server's disk";

/// Where to read a blob from.
pub(crate) enum BlobAvailability {
    /// The blob is stored in this registry.
    Local,
    /// The blob is stored in this registry, and the caller may read it, but only from this other
    /// repository.
    LocalIn(Repository),
    /// The blob is being downloaded, and can be read meanwhile.
    Downloading(DownloadReader),
    /// The blob does not fit into the cache, and is read from the upstream.
    Uncached(Box<UncachedBlob>),
}

/// The answer of an upstream to a HEAD request for a blob: the size of the blob in bytes, or `None`
/// if the upstream does not have it.
pub(super) type BlobHeadResult = Result<Option<u64>, UpstreamFailure>;

/// The address of an upstream, and the digest of a blob there. A download is never shared between
/// upstreams: one of them may be slow, or claim a digest to get the bytes of the other.
type DownloadKey = (String, Digest);

/// The downloads that are running or queued.
#[derive(Default)]
pub(super) struct Downloads {
    running: Mutex<HashMap<DownloadKey, Arc<UpstreamDownload>>>,
}

/// Why a blob is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BlobPurpose {
    /// A client pulls it.
    Pull,
    /// A client pushes a manifest that names it.
    Push,
}

impl Downloads {
    fn lock(&self) -> MutexGuard<'_, HashMap<DownloadKey, Arc<UpstreamDownload>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, source: &UpstreamRepository, digest: &Digest) -> Option<Arc<UpstreamDownload>> {
        self.lock()
            .get(&download_key(source, digest))
            .map(Arc::clone)
    }
}

impl Upstreams {
    /// Finds a blob in this registry, or starts to fetch it from the upstream. `rights` are those of
    /// the caller.
    ///
    /// # Errors
    /// Returns an error if the upstream does not have the blob, cannot be reached, or must not be
    /// asked.
    pub(crate) async fn find_or_fetch_blob(
        &self,
        source: &UpstreamRepository,
        digest: &Digest,
        rights: &PullRights,
    ) -> Result<BlobAvailability, Error> {
        let result = self
            .find_blob(source, digest, rights, BlobPurpose::Pull)
            .await;
        self.count_request(
            ContentKind::Blob,
            &result,
            |availability| match availability {
                BlobAvailability::Local | BlobAvailability::LocalIn(_) => CacheStatus::Hit,
                BlobAvailability::Downloading(_) | BlobAvailability::Uncached(_) => {
                    CacheStatus::Miss
                }
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
        let download = self.inner.downloads.get(source, digest);
        let download = download.filter(|download| download.belongs_to(&source.repository));
        if let Some(size) = download.and_then(|download| download.size()) {
            return Ok(size);
        }
        self.head_blob(source, digest).await
    }

    /// Fetches the blobs that a pushed manifest needs. The client skipped their upload because this
    /// registry reported that they exist. Stops at the first blob that cannot be fetched. `rights`
    /// are those of the client.
    pub(crate) async fn fetch_missing_blobs(
        &self,
        source: &UpstreamRepository,
        digests: &[Digest],
        rights: &PullRights,
    ) {
        for digest in digests.iter().take(MAX_FETCHED_PER_MANIFEST) {
            let found = self.find_blob(source, digest, rights, BlobPurpose::Push);
            let result = match found.await {
                Ok(BlobAvailability::Local) => Ok(()),
                Ok(BlobAvailability::LocalIn(holder)) => self.mount(source, holder, digest).await,
                Ok(BlobAvailability::Downloading(_)) => {
                    match self.inner.downloads.get(source, digest) {
                        Some(download) => download.wait().await.map(drop).map_err(Error::from),
                        None => Ok(()),
                    }
                }
                Ok(BlobAvailability::Uncached(_)) => Err(source
                    .failure(UpstreamFailureKind::DiskFull, NO_ROOM)
                    .into()),
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
        rights: &PullRights,
        purpose: BlobPurpose,
    ) -> Result<BlobAvailability, Error> {
        loop {
            if let Some(stored) = self.find_stored_blob(source, digest, rights).await? {
                return Ok(stored);
            }
            let download = match self.inner.downloads.get(source, digest) {
                Some(download) => download,
                None => self.start_download(source, digest, purpose)?,
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
                Ok(OpenedDownload::Reader(reader)) => {
                    return Ok(BlobAvailability::Downloading(reader));
                }
                Ok(OpenedDownload::NotKept) if purpose == BlobPurpose::Pull => {
                    let unread = is_own.then(|| download.take_unread_response()).flatten();
                    let blob = UncachedBlob::open(source, digest, unread).await?;
                    let blob = blob.ok_or_else(|| registry::Error::BlobUnknown(digest.clone()))?;
                    return Ok(BlobAvailability::Uncached(Box::new(blob)));
                }
                Ok(OpenedDownload::NotKept) if download.is_for_push => {
                    return Err(source
                        .failure(UpstreamFailureKind::DiskFull, NO_ROOM)
                        .into());
                }
                Ok(OpenedDownload::Absent) if is_own => {
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

    /// Finds a blob that is stored in this registry and may be used for a request for `source`.
    /// Links the blob if another repository holds it.
    async fn find_stored_blob(
        &self,
        source: &UpstreamRepository,
        digest: &Digest,
        rights: &PullRights,
    ) -> Result<Option<BlobAvailability>, Error> {
        let blob = digest.clone();
        let state = self.run_on_disk(source, move |registry, repository| {
            registry.blob_state(repository, &blob)
        });
        let size = match state.await? {
            BlobState::Linked { .. } => return Ok(Some(BlobAvailability::Local)),
            BlobState::Absent => return Ok(None),
            BlobState::Elsewhere { size } => size,
        };
        // Only the upstream knows whether this repository has the blob too. But its answer proves
        // nothing: it can claim the digest of a blob that it never had.
        if self.head_blob(source, digest).await? != size {
            return Ok(None);
        }
        let (blob, rights) = (digest.clone(), rights.clone());
        let upstream = source.upstream.address().to_owned();
        let used = self.run_on_disk(source, move |registry, repository| {
            let allowed_use = |holder: &Repository| rights.allowed_use(repository, holder);
            let holder = registry.find_blob_holder(&blob, &upstream, &allowed_use)?;
            let Some(holder) = holder else {
                return Ok(None);
            };
            if holder.allowed_use == BlobUse::Serve {
                return Ok(Some(BlobAvailability::LocalIn(holder.repository)));
            }
            match registry.link_cached_blob(repository, &blob, &upstream, unix_now()) {
                Ok(is_linked) => Ok(is_linked.then_some(BlobAvailability::Local)),
                // The blob is read from the upstream, which needs no space.
                Err(error) if error.is_disk_full() => Ok(None),
                Err(error) => Err(error),
            }
        });
        Ok(used.await?)
    }

    /// Mounts a blob from a repository that the pushing client may pull from.
    async fn mount(
        &self,
        source: &UpstreamRepository,
        holder: Repository,
        digest: &Digest,
    ) -> Result<(), Error> {
        let digest = digest.clone();
        let mounted = self.run_on_disk(source, move |registry, repository| {
            registry.mount(repository, &holder, &digest)
        });
        mounted.await?;
        Ok(())
    }

    /// Starts a download, or returns the one that another request has just started.
    fn start_download(
        &self,
        source: &UpstreamRepository,
        digest: &Digest,
        purpose: BlobPurpose,
    ) -> Result<Arc<UpstreamDownload>, Error> {
        source.check_fetch_allowed()?;
        let limits = self.inner.configured.load().limits;
        let Some(mut limits) = limits else {
            let message = "not contacted, because this registry no longer caches";
            return Err(source.failure(UpstreamFailureKind::Busy, message).into());
        };
        let is_for_push = purpose == BlobPurpose::Push;
        if is_for_push {
            limits.max_bytes = None;
        }
        let key = key(&source.repository, digest);
        if self.inner.negative_cache.contains(&key) {
            return Err(registry::Error::BlobUnknown(digest.clone()).into());
        }
        let download = {
            let mut running = self.inner.downloads.lock();
            let download_key = download_key(source, digest);
            if let Some(download) = running.get(&download_key) {
                return Ok(Arc::clone(download));
            }
            if running.len() >= MAX_QUEUED_DOWNLOADS {
                let message = "too many downloads are queued; try again later";
                return Err(source.failure(UpstreamFailureKind::Busy, message).into());
            }
            let download = UpstreamDownload::new(source.repository.clone(), is_for_push);
            running.insert(download_key, Arc::clone(&download));
            download
        };
        let guard = DownloadGuard(self.clone(), download_key(source, digest));
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
                transfer::download(&running, registry, source, digest, limits, &inner.shutdown);
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
            let size = at.head_blob(&blob).await?;
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
struct DownloadGuard(Upstreams, DownloadKey);

impl Drop for DownloadGuard {
    fn drop(&mut self) {
        let Self(upstreams, key) = self;
        upstreams.inner.downloads.lock().remove(key);
    }
}

fn download_key(source: &UpstreamRepository, digest: &Digest) -> DownloadKey {
    (source.upstream.address().to_owned(), digest.clone())
}

/// Returns the key of a blob in the negative cache. The prefix keeps it apart from a manifest with
/// the same digest.
fn key(repository: &Repository, digest: &Digest) -> ContentKey {
    (repository.clone(), format!("blob {digest}"))
}
