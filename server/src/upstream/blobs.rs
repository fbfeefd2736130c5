//! Blobs from behind: one download each, whoever asks.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use imgsync_oci::Digest;
use tokio::sync::Semaphore;

use super::counts::{Answer, Subject};
use super::download::{Download, Follower};
use super::error::{Error, Failed, Kind};
use super::{Place, Upstreams, blocking, now};
use crate::registry::{self, BlobState};

/// How long the upstream may take to say whether it has a blob.
const HEAD_TIME: Duration = Duration::from_secs(30);
/// How many blobs are fetched at a time, and how many more may wait for their turn.
const AT_WORK: usize = 16;
const MOST: usize = 1024;

/// Where a blob is to be read.
pub(crate) enum Found {
    /// In the registry.
    Here,
    /// It is on its way.
    Coming(Follower),
}

/// What an upstream says of a blob.
#[derive(Debug, Clone)]
pub(super) enum Known {
    /// It has it, with so many bytes.
    Size(u64),
    Absent,
    Failed(Failed),
}

/// The blobs that are being fetched.
pub(super) struct Downloads {
    running: Mutex<HashMap<Digest, Arc<Download>>>,
    places: Semaphore,
}

impl Default for Downloads {
    fn default() -> Self {
        Self {
            running: Mutex::default(),
            places: Semaphore::new(AT_WORK),
        }
    }
}

impl Downloads {
    fn get(&self, digest: &Digest) -> Option<Arc<Download>> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.get(digest).map(Arc::clone)
    }
}

impl Upstreams {
    /// Finds a blob here, or has it fetched.
    ///
    /// # Errors
    /// The upstream does not have it, could not be asked, or may not be.
    pub(crate) async fn blob(&self, place: &Place, digest: &Digest) -> Result<Found, Error> {
        let result = self.find(place, digest).await;
        self.count(Subject::Blob, &result, |found| match found {
            Found::Here => Answer::Hit,
            Found::Coming(_) => Answer::Miss,
        });
        result
    }

    /// The size in bytes of a blob that is here, or that the upstream has.
    ///
    /// # Errors
    /// As [`Upstreams::blob`].
    pub(crate) async fn blob_size(&self, place: &Place, digest: &Digest) -> Result<u64, Error> {
        let (registry, repository, asked) = self.at(place, digest.clone());
        match blocking(move || registry.blob_state(&repository, &asked)).await? {
            BlobState::Linked { size } => return Ok(size),
            BlobState::Elsewhere { .. } | BlobState::Absent => {}
        }
        let running = self.inner.downloads.get(digest);
        let running = running.filter(|running| running.is_for(&place.repository));
        if let Some(size) = running.and_then(|running| running.size()) {
            return Ok(size);
        }
        self.head_blob(place, digest).await
    }

    /// Has blobs and manifests fetched that a manifest needs which is pushed below an upstream's
    /// names: who pushes it was told that they are there. What cannot be had is left out.
    pub(crate) async fn complete(&self, place: &Place, digests: &[Digest]) {
        for digest in digests {
            let is_done = match self.find(place, digest).await {
                Ok(Found::Here) => Ok(true),
                Ok(Found::Coming(_)) => match self.inner.downloads.get(digest) {
                    Some(download) => download.over().await,
                    None => Ok(true),
                },
                Err(Error::Failed(failed)) => Err(failed),
                Err(Error::Registry(_) | Error::NotAllowed { .. }) => Ok(false),
            };
            if let Err(failed) = is_done {
                tracing::debug!(%digest, "what a pushed manifest needs was not fetched: {failed}");
            }
        }
    }

    async fn find(&self, place: &Place, digest: &Digest) -> Result<Found, Error> {
        // Twice at most: what is being fetched for others may be here a moment later.
        loop {
            let (registry, repository, asked) = self.at(place, digest.clone());
            match blocking(move || registry.blob_state(&repository, &asked)).await? {
                BlobState::Linked { .. } => return Ok(Found::Here),
                BlobState::Elsewhere { .. } => {
                    // Only the upstream can say that it belongs to this repository as well.
                    self.head_blob(place, digest).await?;
                    let (registry, repository, asked) = self.at(place, digest.clone());
                    if blocking(move || registry.link_cached(&repository, &asked, now())).await? {
                        return Ok(Found::Here);
                    }
                }
                BlobState::Absent => {}
            }
            if let Some(running) = self.inner.downloads.get(digest) {
                if !running.is_for(&place.repository) {
                    self.head_blob(place, digest).await?;
                    if !running.add(place.repository.clone()) {
                        // It is being verified.
                        running.over().await?;
                        continue;
                    }
                }
                return follow(&running, digest).await;
            }
            let running = self.start(place, digest).await?;
            return follow(&running, digest).await;
        }
    }

    /// Begins a download, or finds that somebody else just did.
    async fn start(&self, place: &Place, digest: &Digest) -> Result<Arc<Download>, Error> {
        if !place.is_allowed() {
            return Err(place.refused());
        }
        let key = (place.repository.clone(), digest.to_string());
        if self.inner.absent.knows(&key) {
            return Err(registry::Error::BlobUnknown(digest.clone()).into());
        }
        let download = {
            let mut running = self.inner.downloads.running.lock();
            let running = running.as_mut().unwrap_or_else(|error| error.get_mut());
            if let Some(download) = running
                .get(digest)
                .filter(|it| it.is_for(&place.repository))
            {
                return Ok(Arc::clone(download));
            }
            if running.len() >= MOST || running.contains_key(digest) {
                let what = "is asked for too many blobs at once; try again";
                return Err(place.failed(Kind::Busy, what).into());
            }
            let download = Download::new(place.repository.clone());
            running.insert(digest.clone(), Arc::clone(&download));
            download
        };
        let entry = Entry(self.clone(), digest.clone());
        let (this, place, digest) = (self.clone(), place.clone(), digest.clone());
        let task = Arc::clone(&download);
        self.inner.tasks.spawn(async move {
            let _entry = entry;
            // Fails only where the semaphore is closed, and it never is.
            let _turn = this.inner.downloads.places.acquire().await;
            let registry = this.inner.registry.clone();
            let key = (place.repository.clone(), digest.to_string());
            if !task.run(registry, place, digest, &this.inner.ending).await {
                this.inner.absent.note(key);
            }
        });
        Ok(download)
    }

    async fn head_blob(&self, place: &Place, digest: &Digest) -> Result<u64, Error> {
        if !place.is_allowed() {
            return Err(place.refused());
        }
        let unknown = || registry::Error::BlobUnknown(digest.clone()).into();
        let key = (place.repository.clone(), digest.to_string());
        if self.inner.absent.knows(&key) {
            return Err(unknown());
        }
        let (this, at, asked) = (self.clone(), place.clone(), digest.clone());
        let absent = key.clone();
        let question = || async move {
            let (client, name) = (at.remote.client(), &at.name);
            match at
                .remote
                .ask(HEAD_TIME, || client.head_blob(name, &asked))
                .await
            {
                Ok(Some(size)) => Known::Size(size),
                Ok(None) => {
                    this.inner.absent.note(absent);
                    Known::Absent
                }
                Err(failed) => Known::Failed(failed),
            }
        };
        match self.inner.blobs.ask(key, question).await {
            Some(Known::Size(size)) => Ok(size),
            Some(Known::Absent) => Err(unknown()),
            Some(Known::Failed(failed)) => Err(failed.into()),
            None => Err(place.broken().into()),
        }
    }
}

/// Takes a download off the list, however it ends.
struct Entry(Upstreams, Digest);

impl Drop for Entry {
    fn drop(&mut self) {
        let Self(upstreams, digest) = self;
        let mut running = upstreams.inner.downloads.running.lock();
        let running = running.as_mut().unwrap_or_else(|error| error.get_mut());
        running.remove(digest);
    }
}

async fn follow(download: &Download, digest: &Digest) -> Result<Found, Error> {
    match download.follow().await? {
        Some(follower) => Ok(Found::Coming(follower)),
        None => Err(registry::Error::BlobUnknown(digest.clone()).into()),
    }
}
