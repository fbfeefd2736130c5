//! Manifests from behind: fresh ones from the disk, others asked for anew.

use std::time::Duration;

use imgsync_oci::client::{FetchedManifest, ManifestHead};
use imgsync_oci::{Digest, Reference, Repository, Tag};
use tokio::time::timeout;

use super::error::{Error, UpstreamFailure, UpstreamFailureKind};
use super::metrics::{CacheStatus, ContentKind};
use super::{UpstreamRepository, Upstreams, run_blocking, unix_now};
use crate::registry::{self, ManifestState, StoredManifest, TagState, UpstreamManifest};

/// How long it may take to hear where a tag points, while there is an older answer.
const TAG_HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a manifest may take.
const MANIFEST_TIMEOUT: Duration = Duration::from_secs(30);

/// What became of a question.
#[derive(Debug, Clone)]
pub(super) enum ManifestOutcome {
    /// It is here now, and right.
    Stored,
    /// The upstream does not have it.
    Absent,
    /// It could not be asked.
    Failed(UpstreamFailure),
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
    pub(crate) async fn ensure_manifest(
        &self,
        place: &UpstreamRepository,
        reference: &Reference,
    ) -> Result<Freshness, Error> {
        let result = match reference {
            Reference::Digest(digest) => self.by_digest(place, digest, reference).await,
            Reference::Tag(tag) => self.by_tag(place, tag, reference).await,
        };
        self.count_request(ContentKind::Manifest, &result, |(_, answer)| *answer);
        result.map(|(freshness, _)| freshness)
    }

    /// Reads a manifest that is here, and takes note that it is used.
    ///
    /// # Errors
    /// It is not here.
    pub(crate) async fn read_manifest(
        &self,
        place: &UpstreamRepository,
        reference: &Reference,
    ) -> Result<StoredManifest, Error> {
        let (registry, repository, asked) = self.disk_context(place, reference.clone());
        let is_noted = !place.is_read_only;
        let read = move || {
            let manifest = registry.get_manifest(&repository, &asked)?;
            if is_noted {
                registry.record_use(&repository, &manifest.digest, unix_now());
            }
            Ok::<_, registry::Error>(manifest)
        };
        Ok(run_blocking(read).await?)
    }

    async fn by_digest(
        &self,
        place: &UpstreamRepository,
        digest: &Digest,
        reference: &Reference,
    ) -> Result<(Freshness, CacheStatus), Error> {
        if self.has_manifest(place, digest).await? {
            return Ok((Freshness::Fresh, CacheStatus::Hit));
        }
        self.fetch_missing_manifest(place, reference).await
    }

    async fn by_tag(
        &self,
        place: &UpstreamRepository,
        tag: &Tag,
        reference: &Reference,
    ) -> Result<(Freshness, CacheStatus), Error> {
        let (registry, repository, asked) = self.disk_context(place, tag.clone());
        let state = run_blocking(move || registry.tag_state(&repository, &asked)).await?;
        let (digest, confirmed) = match state {
            // Ours: no upstream has a say in it.
            TagState::Pushed => return Ok((Freshness::Fresh, CacheStatus::Hit)),
            // What another upstream said under this name says nothing of this one.
            TagState::Cached { upstream, .. } if upstream != place.upstream.address() => {
                return self.fetch_missing_manifest(place, reference).await;
            }
            TagState::Cached {
                digest,
                confirmed_at: confirmed,
                ..
            } => (digest, confirmed),
            TagState::Absent => return self.fetch_missing_manifest(place, reference).await,
        };
        if !place.is_allowed() {
            return Err(place.not_allowed_error());
        }
        // Evicted or damaged while the tag was not.
        if !self.has_manifest(place, &digest).await? {
            return self.fetch_missing_manifest(place, reference).await;
        }
        let age = unix_now().saturating_sub(confirmed);
        // A clock that was set back makes nothing fresh for ever.
        let is_known = confirmed <= unix_now() + 60;
        if is_known && Duration::from_secs(age) < place.upstream.settings.freshness {
            return Ok((Freshness::Fresh, CacheStatus::Hit));
        }
        let failed = match place
            .read_only_failure()
            .or_else(|| place.upstream.breaker.current_failure())
        {
            Some(failed) => failed,
            None => match self.refresh(place, tag, digest).await {
                ManifestOutcome::Stored => return Ok((Freshness::Fresh, CacheStatus::Hit)),
                ManifestOutcome::Absent => return Err(unknown(reference)),
                ManifestOutcome::Failed(failed) => failed,
            },
        };
        place.upstream.log_stale(&failed);
        Ok((Freshness::Stale, CacheStatus::Stale))
    }

    async fn has_manifest(
        &self,
        place: &UpstreamRepository,
        digest: &Digest,
    ) -> Result<bool, Error> {
        let (registry, repository, digest) = self.disk_context(place, digest.clone());
        let state = run_blocking(move || registry.manifest_state(&repository, &digest)).await?;
        Ok(match state {
            ManifestState::Pushed | ManifestState::Cached => true,
            ManifestState::Absent => false,
        })
    }

    /// Whether a manifest was pushed here.
    pub(super) async fn is_pushed(
        &self,
        place: &UpstreamRepository,
        digest: &Digest,
    ) -> Result<bool, Error> {
        let (registry, repository, digest) = self.disk_context(place, digest.clone());
        let state = run_blocking(move || registry.manifest_state(&repository, &digest)).await?;
        Ok(state == ManifestState::Pushed)
    }

    /// What is not here at all.
    async fn fetch_missing_manifest(
        &self,
        place: &UpstreamRepository,
        reference: &Reference,
    ) -> Result<(Freshness, CacheStatus), Error> {
        place.check_fetch_allowed()?;
        let key = (place.repository.clone(), reference.to_string());
        if self.inner.negative_cache.contains(&key) {
            return Err(unknown(reference));
        }
        if let Some(failed) = place.upstream.breaker.rate_limit_failure() {
            return Err(failed.into());
        }
        let (this, at, asked) = (self.clone(), place.clone(), reference.clone());
        let question = || async move { this.fetch_manifest(&at, &asked).await };
        match self.inner.manifest_requests.run(key, question).await {
            Ok(ManifestOutcome::Stored) => Ok((Freshness::Fresh, CacheStatus::Miss)),
            Ok(ManifestOutcome::Absent) => Err(unknown(reference)),
            Ok(ManifestOutcome::Failed(failed)) => Err(failed.into()),
            Err(lost) => Err(place.singleflight_failure(lost).into()),
        }
    }

    /// Asks where a tag points now, and fetches what is new.
    async fn refresh(
        &self,
        place: &UpstreamRepository,
        tag: &Tag,
        known: Digest,
    ) -> ManifestOutcome {
        let key = (place.repository.clone(), tag.to_string());
        let (this, at, tag) = (self.clone(), place.clone(), tag.clone());
        let question = || async move { this.check_tag(&at, &tag, known).await };
        let outcome = self.inner.manifest_requests.run(key, question).await;
        outcome.unwrap_or_else(|lost| ManifestOutcome::Failed(place.singleflight_failure(lost)))
    }

    async fn check_tag(
        &self,
        place: &UpstreamRepository,
        tag: &Tag,
        known: Digest,
    ) -> ManifestOutcome {
        let reference = Reference::Tag(tag.clone());
        let (client, name) = (place.upstream.client(), &place.upstream_name);
        let facts = place
            .upstream
            .request(TAG_HEAD_TIMEOUT, || client.head_manifest(name, &reference));
        match facts.await {
            Ok(Some(ManifestHead {
                digest: Some(digest),
                ..
            })) if digest == known => {
                let (registry, repository, tag) = self.disk_context(place, tag.clone());
                let confirm = move || registry.confirm_tag(&repository, &tag, &known, unix_now());
                match run_blocking(confirm).await {
                    // Or it was pushed meanwhile, and is ours.
                    Ok(true | false) => ManifestOutcome::Stored,
                    Err(error) => ManifestOutcome::Failed(place.store_failure(&error)),
                }
            }
            Ok(Some(_)) => self.fetch_manifest(place, &reference).await,
            Ok(None) => self.record_absent(place, &reference).await,
            Err(failed) => ManifestOutcome::Failed(failed),
        }
    }

    /// Fetches a manifest, and keeps it.
    async fn fetch_manifest(
        &self,
        place: &UpstreamRepository,
        reference: &Reference,
    ) -> ManifestOutcome {
        let Ok(_turn) = timeout(MANIFEST_TIMEOUT, place.upstream.manifest_permits.acquire()).await
        else {
            let what = "is asked for too many manifests at once";
            return ManifestOutcome::Failed(place.failure(UpstreamFailureKind::Busy, what));
        };
        let (client, name) = (place.upstream.client(), &place.upstream_name);
        let fetched = place
            .upstream
            .request(MANIFEST_TIMEOUT, || client.fetch_manifest(name, reference));
        let FetchedManifest {
            digest,
            media_type,
            bytes,
        } = match fetched.await {
            Ok(Some(fetched)) => fetched,
            Ok(None) => return self.record_absent(place, reference).await,
            Err(failed) => return ManifestOutcome::Failed(failed),
        };
        place.count_received_bytes(bytes.len() as u64);
        let tag = match reference {
            Reference::Tag(tag) => Some(tag.clone()),
            Reference::Digest(_) => None,
        };
        let (registry, repository, upstream) =
            self.disk_context(place, place.upstream.address().to_owned());
        let keep = move || {
            let incoming = UpstreamManifest {
                digest: Some(&digest),
                media_type: media_type.as_deref(),
                bytes: &bytes,
                upstream: &upstream,
            };
            registry.cache_manifest(&repository, tag.as_ref(), incoming, unix_now())
        };
        match run_blocking(keep).await {
            // Where it is not tagged, the tag was pushed meanwhile and is ours.
            Ok(_) => ManifestOutcome::Stored,
            Err(error) => ManifestOutcome::Failed(place.store_failure(&error)),
        }
    }

    /// The upstream says that it has no such manifest.
    async fn record_absent(
        &self,
        place: &UpstreamRepository,
        reference: &Reference,
    ) -> ManifestOutcome {
        self.inner
            .negative_cache
            .insert((place.repository.clone(), reference.to_string()));
        if let Reference::Tag(tag) = reference {
            let (registry, repository, tag) = self.disk_context(place, tag.clone());
            if let Err(error) =
                run_blocking(move || registry.remove_cached_tag(&repository, &tag)).await
            {
                return ManifestOutcome::Failed(place.store_failure(&error));
            }
        }
        ManifestOutcome::Absent
    }

    /// What work on the disk about a place takes along.
    pub(super) fn disk_context<T>(
        &self,
        place: &UpstreamRepository,
        what: T,
    ) -> (registry::Registry, Repository, T) {
        (self.inner.registry.clone(), place.repository.clone(), what)
    }
}

fn unknown(reference: &Reference) -> Error {
    registry::Error::ManifestUnknown(reference.clone()).into()
}
