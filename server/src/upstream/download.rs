//! One blob on its way from an upstream to the disk, and to everybody who asked for it meanwhile.
//! It goes on without them.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _};
use imgsync_oci::client::Download as Answer;
use imgsync_oci::{Digest, Repository};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::error::{Failed, Kind};
use super::follower::Follower;
use super::{Place, blocking, now};
use crate::registry::{Filling, Partial, Registry};

/// How long it may take until the first byte comes.
const ANSWER_TIME: Duration = Duration::from_secs(30);
/// How long an upstream may say nothing within a blob.
const STALL: Duration = Duration::from_secs(30);
/// How often it is tried again without a byte that is new.
const TRIES: u32 = 4;
/// The pause before the second try; it doubles.
const PAUSE: Duration = Duration::from_millis(500);
/// A pause that an upstream asks for is not waited for where it is longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// How long a download may take to end by itself.
const END_TIME: Duration = Duration::from_secs(2);
const STOPS: &str = "is no longer asked: this server stops";
/// How much of the line is written to the disk at a time, in bytes, where so much is there.
const BATCH_BYTES: usize = 256 * 1024;

/// How far a blob is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Progress {
    /// Its turn has not come, or the upstream has not answered.
    Waiting,
    /// So many of its `size` bytes are there to be read.
    Filling {
        /// In bytes.
        size: u64,
        /// In bytes.
        filled: u64,
    },
    /// All of it is there, and it is right.
    Done {
        /// In bytes.
        size: u64,
    },
    /// The upstream does not have it.
    Absent,
    /// It could not be had.
    Failed(Failed),
}

/// A blob that is being fetched.
pub(super) struct Download {
    progress: watch::Sender<Progress>,
    partial: OnceLock<Partial>,
    /// The one that it is fetched from, by its name here.
    of: Repository,
    /// The repositories that will hold it; `None` once it is too late.
    into: Mutex<Option<BTreeSet<Repository>>>,
}

/// The end of the server.
#[derive(Default)]
pub(super) struct Ending {
    /// What nobody waits for ends.
    pub(super) soon: CancellationToken,
    /// Everything does.
    pub(super) now: CancellationToken,
}

impl Download {
    pub(super) fn new(repository: Repository) -> Arc<Self> {
        Arc::new(Self {
            progress: watch::Sender::new(Progress::Waiting),
            partial: OnceLock::new(),
            of: repository.clone(),
            into: Mutex::new(Some(BTreeSet::from([repository]))),
        })
    }

    /// Whether it is fetched from this repository.
    pub(super) fn is_of(&self, repository: &Repository) -> bool {
        self.of == *repository
    }

    /// Whether the blob will belong to a repository.
    pub(super) fn is_for(&self, repository: &Repository) -> bool {
        let into = self.into.lock().unwrap_or_else(PoisonError::into_inner);
        into.as_ref().is_some_and(|into| into.contains(repository))
    }

    /// Has the blob belong to a repository as well; false where it is too late.
    pub(super) fn add(&self, repository: Repository) -> bool {
        let mut into = self.into.lock().unwrap_or_else(PoisonError::into_inner);
        into.as_mut().map(|into| into.insert(repository)).is_some()
    }

    /// The size in bytes, once it is known.
    pub(super) fn size(&self) -> Option<u64> {
        match *self.progress.borrow() {
            Progress::Filling { size, .. } | Progress::Done { size } => Some(size),
            Progress::Waiting | Progress::Absent | Progress::Failed(_) => None,
        }
    }

    /// Waits until the size is known; `None` where the upstream does not have the blob.
    ///
    /// # Errors
    /// It cannot be had.
    pub(super) async fn follow(&self) -> Result<Option<Follower>, Failed> {
        let mut progress = self.progress.subscribe();
        loop {
            let now = progress.borrow_and_update().clone();
            match now {
                Progress::Waiting => {}
                Progress::Filling { size, .. } | Progress::Done { size } => {
                    let Some(partial) = self.partial.get().cloned() else {
                        return Err(Failed::new("a download", Kind::Store, "has no file"));
                    };
                    return Ok(Some(Follower::new(progress, partial, size)));
                }
                Progress::Absent => return Ok(None),
                Progress::Failed(failed) => return Err(failed),
            }
            if progress.changed().await.is_err() {
                return Err(Failed::new("a download", Kind::Down, "ended"));
            }
        }
    }

    /// Waits until it is over; false where the upstream does not have it.
    pub(super) async fn over(&self) -> Result<bool, Failed> {
        let mut progress = self.progress.subscribe();
        loop {
            let now = progress.borrow_and_update().clone();
            match now {
                Progress::Waiting | Progress::Filling { .. } => {}
                Progress::Done { .. } => return Ok(true),
                Progress::Absent => return Ok(false),
                Progress::Failed(failed) => return Err(failed),
            }
            if progress.changed().await.is_err() {
                return Err(Failed::new("a download", Kind::Down, "ended"));
            }
        }
    }

    /// Ends it before it began.
    pub(super) fn refuse(&self, failed: Failed) {
        self.progress.send_replace(Progress::Failed(failed));
    }

    /// Fetches the blob to its end, unless the server ends; false where the upstream does not have
    /// it.
    pub(super) async fn run(
        &self,
        registry: Registry,
        place: Place,
        digest: Digest,
        ending: &Ending,
    ) -> bool {
        let fetching = self.fetch(registry, &place, &digest, ending);
        let abandoned = async {
            self.abandoned(ending).await;
            // Within a body it ends by itself, and keeps what came.
            sleep(END_TIME).await;
        };
        let last = tokio::select! {
            result = fetching => result.unwrap_or_else(Progress::Failed),
            () = abandoned => Progress::Failed(place.failed(Kind::Busy, STOPS)),
        };
        if let Progress::Failed(failed) = &last {
            tracing::warn!(%digest, repository = %place.repository, "not fetched: {failed}");
        }
        let is_there = last != Progress::Absent;
        self.progress.send_replace(last);
        is_there
    }

    /// Becomes ready when the server ends and nobody reads along, or it ends at once.
    async fn abandoned(&self, ending: &Ending) {
        let left = async {
            ending.soon.cancelled().await;
            self.progress.closed().await;
        };
        tokio::select! {
            () = left => {}
            () = ending.now.cancelled() => {}
        }
    }

    async fn fetch(
        &self,
        registry: Registry,
        place: &Place,
        digest: &Digest,
        ending: &Ending,
    ) -> Result<Progress, Failed> {
        let asked = digest.clone();
        let opened = blocking(move || registry.fill(&asked)).await;
        let opened = opened.map_err(|error| place.store(&error))?;
        let mut filling = opened
            .ok_or_else(|| place.failed(Kind::Busy, "is being asked for this blob already"))?;
        let _ = self.partial.set(filling.reader());
        let (mut failures, mut pause) = (0, PAUSE);
        let mut is_anew = false;
        loop {
            let before = filling.len();
            let failed = match self.attempt(place, digest, filling, ending).await {
                Attempt::Whole(whole, size) => return self.finish(place, whole, size).await,
                Attempt::Absent(filling) => {
                    blocking(move || filling.discard())
                        .await
                        .map_err(|error| place.store(&error))?;
                    return Ok(Progress::Absent);
                }
                Attempt::Lost(failed) => return Err(failed),
                Attempt::Broken(kept, failed) => {
                    filling = kept;
                    failed
                }
            };
            // An upstream that cannot go on within a blob may still give it from its beginning.
            if failed.kind == Kind::Odd && before > 0 && !is_anew {
                if let Some(size) = self.size() {
                    self.tell(size, 0);
                }
                let restarted = blocking(move || filling.restart().map(|()| filling));
                filling = restarted.await.map_err(|error| place.store(&error))?;
                is_anew = true;
                continue;
            }
            // Whatever happens next, so much is there.
            let kept = blocking(move || match filling.keep() {
                Ok(()) => Ok(filling),
                Err(error) => Err(filling.give_up(error)),
            });
            filling = kept.await.map_err(|error| place.store(&error))?;
            if filling.len() > before {
                (failures, pause) = (0, PAUSE);
            }
            failures += 1;
            // Who has nothing yet is better off with an answer now.
            let tries = match self.size() {
                None => 1,
                Some(_) => TRIES,
            };
            let asked = failed.retry_after.unwrap_or(pause);
            if !failed.kind.is_general() || failures >= tries || asked > LONGEST_PAUSE {
                return Err(failed);
            }
            tracing::info!(%digest, offset = filling.len(), "going on with a blob: {failed}");
            sleep(asked).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// One request, from where the file ends to where the answer does.
    async fn attempt(
        &self,
        place: &Place,
        digest: &Digest,
        mut filling: Filling,
        ending: &Ending,
    ) -> Attempt {
        let offset = filling.len();
        let (client, name) = (place.remote.client(), &place.name);
        // What lies there may be all of it already, and then there is no range to ask for.
        if offset > 0 {
            match place
                .remote
                .ask(ANSWER_TIME, || client.head_blob(name, digest))
                .await
            {
                Ok(Some(size)) if size == offset => return Attempt::Whole(filling, size),
                Ok(Some(size)) if size < offset => {
                    match blocking(move || filling.restart().map(|()| filling)).await {
                        Ok(restarted) => filling = restarted,
                        Err(error) => return Attempt::Lost(place.store(&error)),
                    }
                }
                Ok(Some(_)) => {}
                Ok(None) => return Attempt::Absent(filling),
                Err(failed) => return Attempt::Broken(filling, failed),
            }
        }
        let offset = filling.len();
        let answer = place
            .remote
            .ask(ANSWER_TIME, || client.open_blob(name, digest, offset));
        let Answer { first, size, bytes } = match answer.await {
            Ok(Some(answer)) => answer,
            Ok(None) => return Attempt::Absent(filling),
            Err(failed) => return Attempt::Broken(filling, failed),
        };
        let size = match size {
            Some(size) => size,
            None => match place
                .remote
                .ask(ANSWER_TIME, || client.head_blob(name, digest))
                .await
            {
                Ok(Some(size)) => size,
                Ok(None) => return Attempt::Absent(filling),
                Err(failed) => return Attempt::Broken(filling, failed),
            },
        };
        self.tell(size, filling.len());
        // Where ranges are ignored, what is here already comes once more.
        let mut skip = offset.saturating_sub(first);
        let mut pieces = bytes;
        loop {
            let next = tokio::select! {
                next = timeout(STALL, pieces.next()) => next,
                () = self.abandoned(ending) => {
                    return Attempt::Broken(filling, place.failed(Kind::Busy, STOPS));
                }
            };
            let mut next = match next {
                Ok(next) => next,
                Err(_) => {
                    let failed = place.broke(place.failed(Kind::Slow, "fell silent"));
                    return Attempt::Broken(filling, failed);
                }
            };
            let (mut batch, mut count, mut end) = (Vec::new(), 0, None);
            loop {
                match next {
                    Some(Ok(mut piece)) => {
                        let left_out = skip.min(piece.len() as u64);
                        skip -= left_out;
                        place.received(piece.len() as u64);
                        count += piece.len();
                        batch.push(piece.split_off(usize::try_from(left_out).unwrap_or(0)));
                    }
                    Some(Err(error)) => {
                        let failed = Failed::of_client(place.remote.settings.name(), &error);
                        end = Some(Some(place.broke(failed)));
                    }
                    None => end = Some(None),
                }
                // No more than is there already, and not too much.
                if end.is_some() || count >= BATCH_BYTES {
                    break;
                }
                match pieces.next().now_or_never() {
                    Some(more) => next = more,
                    None => break,
                }
            }
            let written =
                blocking(
                    move || match batch.iter().try_for_each(|piece| filling.append(piece)) {
                        Ok(()) => Ok(filling),
                        Err(error) => Err(filling.give_up(error)),
                    },
                );
            filling = match written.await {
                Ok(filling) => filling,
                Err(error) => return Attempt::Lost(place.store(&error)),
            };
            if filling.len() > size {
                let failed = place.broke(place.failed(Kind::Odd, "sent more than it announced"));
                return match blocking(move || filling.discard()).await {
                    Ok(()) => Attempt::Lost(failed),
                    Err(error) => Attempt::Lost(place.store(&error)),
                };
            }
            self.tell(size, filling.len());
            match end {
                Some(Some(failed)) => return Attempt::Broken(filling, failed),
                Some(None) => break,
                None => {}
            }
        }
        match filling.len() == size {
            true => Attempt::Whole(filling, size),
            false => {
                let failed = place.broke(place.failed(Kind::Down, "broke off"));
                Attempt::Broken(filling, failed)
            }
        }
    }

    fn tell(&self, size: u64, filled: u64) {
        self.progress
            .send_replace(Progress::Filling { size, filled });
    }

    /// Verifies what came, and links it.
    async fn finish(&self, place: &Place, filling: Filling, size: u64) -> Result<Progress, Failed> {
        self.tell(size, size);
        let mut into = self
            .into
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let into: Vec<_> = into.take().into_iter().flatten().collect();
        let committed = blocking(move || filling.commit(&into, now())).await;
        committed.map_err(|error| place.store(&error))?;
        Ok(Progress::Done { size })
    }
}

/// What became of one request.
enum Attempt {
    /// All bytes are there, so many; nobody has verified them.
    Whole(Filling, u64),
    /// The upstream does not have it.
    Absent(Filling),
    /// It ended before the blob did.
    Broken(Filling, Failed),
    /// Nothing is left to go on with.
    Lost(Failed),
}
