//! Blobs from behind: one download each, whoever asks.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use imgsync_oci::{Digest, Repository};

use super::counts::{Answer, Subject};
use super::download::Download;
use super::error::{Error, Failed, Kind};
use super::follower::Follower;
use super::{Name, Place, Upstreams, blocking, now};
use crate::registry::{self, BlobState};

/// How long the upstream may take to say whether it has a blob.
const HEAD_TIME: Duration = Duration::from_secs(30);
/// A download that waited for its turn so long is not begun where the upstream just failed.
const WAIT: Duration = Duration::from_secs(30);
/// How many blobs may be fetched, or wait for their turn.
const MOST: usize = 1024;
/// How many blobs are fetched for one manifest that is pushed.
const MOST_MISSING: usize = 128;

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
#[derive(Default)]
pub(super) struct Downloads {
    running: Mutex<HashMap<Digest, Arc<Download>>>,
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
        // Who asks may be about to push, and relies on it.
        match blocking(move || registry.blob_size(&repository, &asked)).await {
            Err(registry::Error::BlobUnknown(_)) => {}
            size => return Ok(size?),
        }
        let running = self.inner.downloads.get(digest);
        let running = running.filter(|running| running.is_for(&place.repository));
        if let Some(size) = running.and_then(|running| running.size()) {
            return Ok(size);
        }
        self.head_blob(place, digest).await
    }

    /// Has blobs fetched that a manifest needs which is pushed below an upstream's names: its
    /// sender was told that they are there. Ends at the first that cannot be had.
    pub(crate) async fn complete(&self, place: &Place, digests: &[Digest]) {
        for digest in digests.iter().take(MOST_MISSING) {
            let done = match self.find(place, digest).await {
                Ok(Found::Here) => Ok(()),
                Ok(Found::Coming(_)) => match self.inner.downloads.get(digest) {
                    Some(download) => download.over().await.map(drop).map_err(Error::from),
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

    async fn find(&self, place: &Place, digest: &Digest) -> Result<Found, Error> {
        loop {
            let (registry, repository, asked) = self.at(place, digest.clone());
            match blocking(move || registry.blob_state(&repository, &asked)).await? {
                BlobState::Linked { .. } => return Ok(Found::Here),
                BlobState::Elsewhere { size } => {
                    // Only the upstream can say that it belongs to this repository as well.
                    if self.head_blob(place, digest).await? != size {
                        let what = "has a blob of another size under the same digest";
                        return Err(place.broke(place.failed(Kind::Odd, what)).into());
                    }
                    let (registry, repository, asked) = self.at(place, digest.clone());
                    let link = move || registry.link_cached(&repository, &asked, now());
                    if blocking(link).await? {
                        return Ok(Found::Here);
                    }
                }
                BlobState::Absent => {}
            }
            let running = match self.inner.downloads.get(digest) {
                Some(running) => running,
                None => self.start(place, digest).await?,
            };
            if !running.is_for(&place.repository) {
                self.head_blob(place, digest).await?;
                if !running.add(place.repository.clone()) {
                    // It is being verified, and will be here for others.
                    running.over().await?;
                    continue;
                }
            }
            match running.follow().await {
                Ok(Some(follower)) => return Ok(Found::Coming(follower)),
                // What the upstream says of another repository is not said of this one.
                Ok(None) if !running.is_of(&place.repository) => {}
                Err(failed)
                    if failed.kind == Kind::Refused && !running.is_of(&place.repository) => {}
                Ok(None) => return Err(registry::Error::BlobUnknown(digest.clone()).into()),
                Err(failed) => return Err(failed.into()),
            }
            // Until it is off the list.
            tokio::task::yield_now().await;
        }
    }

    /// Begins a download, or finds that somebody else just did.
    async fn start(&self, place: &Place, digest: &Digest) -> Result<Arc<Download>, Error> {
        place.check()?;
        if self.inner.absent.knows(&key(&place.repository, digest)) {
            return Err(registry::Error::BlobUnknown(digest.clone()).into());
        }
        let download = {
            let mut running = self.inner.downloads.running.lock();
            let running = running.as_mut().unwrap_or_else(|error| error.get_mut());
            if let Some(download) = running.get(digest) {
                return Ok(Arc::clone(download));
            }
            if running.len() >= MOST {
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
            let (remote, since) = (Arc::clone(&place.remote), Instant::now());
            // Fails only where the semaphore is closed, and it never is.
            let _turn = remote.downloads.acquire().await;
            // Of many that wait for an upstream which says nothing, not each tries that itself.
            if since.elapsed() >= WAIT
                && let Some(failed) = remote.breaker.open()
            {
                return task.refuse(failed);
            }
            let registry = this.inner.registry.clone();
            let key = key(&place.repository, &digest);
            if !task.run(registry, place, digest, &this.inner.ending).await {
                this.inner.absent.note(key);
            }
        });
        Ok(download)
    }

    async fn head_blob(&self, place: &Place, digest: &Digest) -> Result<u64, Error> {
        place.check()?;
        let unknown = || registry::Error::BlobUnknown(digest.clone()).into();
        let key = key(&place.repository, digest);
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
            Ok(Known::Size(size)) => Ok(size),
            Ok(Known::Absent) => Err(unknown()),
            Ok(Known::Failed(failed)) => Err(failed.into()),
            Err(lost) => Err(place.lost(lost).into()),
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

/// What a blob is remembered under where it is not there. A manifest may have the same digest, and
/// be there.
fn key(repository: &Repository, digest: &Digest) -> Name {
    (repository.clone(), format!("blob {digest}"))
}
