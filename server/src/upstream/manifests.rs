//! Manifests from behind: fresh ones from the disk, others asked for anew.

use std::time::Duration;

use imgsync_oci::client::{FetchedManifest, ManifestFacts};
use imgsync_oci::{Digest, Reference, Repository, Tag};
use tokio::time::timeout;

use super::counts::{Answer, Subject};
use super::error::{Error, Failed, Kind};
use super::{Place, Upstreams, blocking, now};
use crate::registry::{self, Incoming, ManifestState, StoredManifest, TagState};

/// How long it may take to hear where a tag points, while there is an older answer.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// How long a manifest may take.
const GET_TIME: Duration = Duration::from_secs(30);

/// What became of a question.
#[derive(Debug, Clone)]
pub(super) enum Outcome {
    /// It is here now, and right.
    Here,
    /// The upstream does not have it.
    Absent,
    /// It could not be asked.
    Failed(Failed),
}

/// Whether an answer is as the upstream would give it now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Freshness {
    /// As far as was to be found out.
    Fresh,
    /// The upstream could not be asked.
    Stale,
}

impl Upstreams {
    /// Sees to it that the registry has a manifest, as new as it should be.
    ///
    /// # Errors
    /// The upstream does not have it, could not be asked, or may not be.
    pub(crate) async fn manifest(
        &self,
        place: &Place,
        reference: &Reference,
    ) -> Result<Freshness, Error> {
        let result = match reference {
            Reference::Digest(digest) => self.by_digest(place, digest, reference).await,
            Reference::Tag(tag) => self.by_tag(place, tag, reference).await,
        };
        self.count(Subject::Manifest, &result, |(_, answer)| *answer);
        result.map(|(freshness, _)| freshness)
    }

    /// Reads a manifest that is here, and takes note that it is used.
    ///
    /// # Errors
    /// It is not here.
    pub(crate) async fn read(
        &self,
        place: &Place,
        reference: &Reference,
    ) -> Result<StoredManifest, Error> {
        let (registry, repository, asked) = self.at(place, reference.clone());
        let is_noted = !place.is_read_only;
        let read = move || {
            let manifest = registry.manifest(&repository, &asked)?;
            if is_noted {
                registry.used(&repository, &manifest.digest, now());
            }
            Ok::<_, registry::Error>(manifest)
        };
        Ok(blocking(read).await?)
    }

    async fn by_digest(
        &self,
        place: &Place,
        digest: &Digest,
        reference: &Reference,
    ) -> Result<(Freshness, Answer), Error> {
        if self.has_manifest(place, digest).await? {
            return Ok((Freshness::Fresh, Answer::Hit));
        }
        self.fetch(place, reference).await
    }

    async fn by_tag(
        &self,
        place: &Place,
        tag: &Tag,
        reference: &Reference,
    ) -> Result<(Freshness, Answer), Error> {
        let (registry, repository, asked) = self.at(place, tag.clone());
        let state = blocking(move || registry.tag_state(&repository, &asked)).await?;
        let (digest, confirmed) = match state {
            // Ours: no upstream has a say in it.
            TagState::Pushed => return Ok((Freshness::Fresh, Answer::Hit)),
            // What another upstream said under this name says nothing of this one.
            TagState::Cached { upstream, .. } if upstream != place.remote.address() => {
                return self.fetch(place, reference).await;
            }
            TagState::Cached {
                digest, confirmed, ..
            } => (digest, confirmed),
            TagState::Absent => return self.fetch(place, reference).await,
        };
        if !place.is_allowed() {
            return Err(place.refused());
        }
        // Evicted or damaged while the tag was not.
        if !self.has_manifest(place, &digest).await? {
            return self.fetch(place, reference).await;
        }
        let age = now().saturating_sub(confirmed);
        // A clock that was set back makes nothing fresh for ever.
        let is_known = confirmed <= now() + 60;
        if is_known && Duration::from_secs(age) < place.remote.settings.freshness {
            return Ok((Freshness::Fresh, Answer::Hit));
        }
        let failed = match place.closed().or_else(|| place.remote.breaker.open()) {
            Some(failed) => failed,
            None => match self.refresh(place, tag, digest).await {
                Outcome::Here => return Ok((Freshness::Fresh, Answer::Hit)),
                Outcome::Absent => return Err(unknown(reference)),
                Outcome::Failed(failed) => failed,
            },
        };
        place.remote.tell_stale(&failed);
        Ok((Freshness::Stale, Answer::Stale))
    }

    async fn has_manifest(&self, place: &Place, digest: &Digest) -> Result<bool, Error> {
        let (registry, repository, digest) = self.at(place, digest.clone());
        let state = blocking(move || registry.manifest_state(&repository, &digest)).await?;
        Ok(match state {
            ManifestState::Pushed | ManifestState::Cached => true,
            ManifestState::Absent => false,
        })
    }

    /// Whether a manifest was pushed here.
    pub(super) async fn is_pushed(&self, place: &Place, digest: &Digest) -> Result<bool, Error> {
        let (registry, repository, digest) = self.at(place, digest.clone());
        let state = blocking(move || registry.manifest_state(&repository, &digest)).await?;
        Ok(state == ManifestState::Pushed)
    }

    /// What is not here at all.
    async fn fetch(
        &self,
        place: &Place,
        reference: &Reference,
    ) -> Result<(Freshness, Answer), Error> {
        place.check()?;
        let key = (place.repository.clone(), reference.to_string());
        if self.inner.absent.knows(&key) {
            return Err(unknown(reference));
        }
        if let Some(failed) = place.remote.breaker.forbidden() {
            return Err(failed.into());
        }
        let (this, at, asked) = (self.clone(), place.clone(), reference.clone());
        let question = || async move { this.get(&at, &asked).await };
        match self.inner.manifests.ask(key, question).await {
            Ok(Outcome::Here) => Ok((Freshness::Fresh, Answer::Miss)),
            Ok(Outcome::Absent) => Err(unknown(reference)),
            Ok(Outcome::Failed(failed)) => Err(failed.into()),
            Err(lost) => Err(place.lost(lost).into()),
        }
    }

    /// Asks where a tag points now, and fetches what is new.
    async fn refresh(&self, place: &Place, tag: &Tag, known: Digest) -> Outcome {
        let key = (place.repository.clone(), tag.to_string());
        let (this, at, tag) = (self.clone(), place.clone(), tag.clone());
        let question = || async move { this.head(&at, &tag, known).await };
        let outcome = self.inner.manifests.ask(key, question).await;
        outcome.unwrap_or_else(|lost| Outcome::Failed(place.lost(lost)))
    }

    async fn head(&self, place: &Place, tag: &Tag, known: Digest) -> Outcome {
        let reference = Reference::Tag(tag.clone());
        let (client, name) = (place.remote.client(), &place.name);
        let facts = place
            .remote
            .ask(HEAD_TIME, || client.head_manifest(name, &reference));
        match facts.await {
            Ok(Some(ManifestFacts {
                digest: Some(digest),
                ..
            })) if digest == known => {
                let (registry, repository, tag) = self.at(place, tag.clone());
                let confirm = move || registry.confirm_tag(&repository, &tag, &known, now());
                match blocking(confirm).await {
                    // Or it was pushed meanwhile, and is ours.
                    Ok(true | false) => Outcome::Here,
                    Err(error) => Outcome::Failed(place.store(&error)),
                }
            }
            Ok(Some(_)) => self.get(place, &reference).await,
            Ok(None) => self.gone(place, &reference).await,
            Err(failed) => Outcome::Failed(failed),
        }
    }

    /// Fetches a manifest, and keeps it.
    async fn get(&self, place: &Place, reference: &Reference) -> Outcome {
        let Ok(_turn) = timeout(GET_TIME, place.remote.manifests.acquire()).await else {
            let what = "is asked for too many manifests at once";
            return Outcome::Failed(place.failed(Kind::Busy, what));
        };
        let (client, name) = (place.remote.client(), &place.name);
        let fetched = place
            .remote
            .ask(GET_TIME, || client.manifest(name, reference));
        let FetchedManifest {
            digest,
            media_type,
            bytes,
        } = match fetched.await {
            Ok(Some(fetched)) => fetched,
            Ok(None) => return self.gone(place, reference).await,
            Err(failed) => return Outcome::Failed(failed),
        };
        place.received(bytes.len() as u64);
        let tag = match reference {
            Reference::Tag(tag) => Some(tag.clone()),
            Reference::Digest(_) => None,
        };
        let (registry, repository, upstream) = self.at(place, place.remote.address().to_owned());
        let keep = move || {
            let incoming = Incoming {
                digest: Some(&digest),
                media_type: media_type.as_deref(),
                bytes: &bytes,
                upstream: &upstream,
            };
            registry.keep_manifest(&repository, tag.as_ref(), incoming, now())
        };
        match blocking(keep).await {
            // Where it is not tagged, the tag was pushed meanwhile and is ours.
            Ok(_) => Outcome::Here,
            Err(error) => Outcome::Failed(place.store(&error)),
        }
    }

    /// The upstream says that it has no such manifest.
    async fn gone(&self, place: &Place, reference: &Reference) -> Outcome {
        self.inner
            .absent
            .note((place.repository.clone(), reference.to_string()));
        if let Reference::Tag(tag) = reference {
            let (registry, repository, tag) = self.at(place, tag.clone());
            if let Err(error) = blocking(move || registry.forget_tag(&repository, &tag)).await {
                return Outcome::Failed(place.store(&error));
            }
        }
        Outcome::Absent
    }

    /// What work on the disk about a place takes along.
    pub(super) fn at<T>(&self, place: &Place, what: T) -> (registry::Registry, Repository, T) {
        (self.inner.registry.clone(), place.repository.clone(), what)
    }
}

fn unknown(reference: &Reference) -> Error {
    registry::Error::ManifestUnknown(reference.clone()).into()
}
