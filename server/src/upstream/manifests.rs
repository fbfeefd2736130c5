//! Provides manifests from upstreams: cached ones while they are fresh, others after asking the
//! upstream.
//!
//! This module does not read blobs, and it never replaces a pushed tag. Start reading at
//! [`Upstreams::ensure_manifest`].

use std::time::Duration;

use imgsync_oci::client::{FetchedManifest, ManifestHead};
use imgsync_oci::{Digest, Reference, Repository, Tag};
use tokio::time::timeout;

use super::error::{Error, UpstreamFailure, UpstreamFailureKind};
use super::metrics::{CacheStatus, ContentKind};
use super::{UpstreamRepository, Upstreams, run_blocking, unix_now};
use crate::registry::{self, ManifestState, StoredManifest, TagState, UpstreamManifest};

/// Time limit for asking where a tag points, when a cached answer can be used instead.
const TAG_HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Time limit for fetching a manifest.
const MANIFEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Outcome of asking an upstream for a manifest.
#[derive(Debug, Clone)]
pub(super) enum ManifestOutcome {
    /// The manifest is stored and verified.
    Stored,
    /// The upstream does not have the manifest.
    Absent,
    /// The upstream could not be asked, or the manifest could not be stored.
    Failed(UpstreamFailure),
}

/// Whether an answer is known to be current.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Freshness {
    /// The answer is current, as far as the freshness settings require.
    Fresh,
    /// The answer may be outdated, because the upstream could not be asked.
    Stale,
}

impl Upstreams {
    /// Ensures that the registry stores a manifest that is fresh enough to serve.
    ///
    /// # Errors
    /// Returns an error if the upstream does not have the manifest, cannot be reached, or must not
    /// be asked.
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

    /// Reads a stored manifest, and records its use for eviction.
    ///
    /// # Errors
    /// Returns an error if the manifest is not stored.
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

    /// Ensures a manifest by digest. Its content cannot change, so a stored one is always fresh.
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

    /// Ensures a manifest by tag, asking the upstream if the cached tag is too old.
    async fn by_tag(
        &self,
        place: &UpstreamRepository,
        tag: &Tag,
        reference: &Reference,
    ) -> Result<(Freshness, CacheStatus), Error> {
        let (registry, repository, asked) = self.disk_context(place, tag.clone());
        let state = run_blocking(move || registry.tag_state(&repository, &asked)).await?;
        let (digest, confirmed) = match state {
            // A pushed tag takes precedence over the upstream.
            TagState::Pushed => return Ok((Freshness::Fresh, CacheStatus::Hit)),
            // The tag was cached from another upstream under the same name, so it must be fetched
            // from this one.
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
        // The manifest may be evicted or damaged while its tag remains.
        if !self.has_manifest(place, &digest).await? {
            return self.fetch_missing_manifest(place, reference).await;
        }
        let age = unix_now().saturating_sub(confirmed);
        // If the clock was set back, a confirmation in the future must not keep the tag fresh
        // forever.
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

    /// Reports whether a manifest is stored, pushed or cached.
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

    /// Reports whether a manifest was pushed to this registry.
    pub(super) async fn is_pushed(
        &self,
        place: &UpstreamRepository,
        digest: &Digest,
    ) -> Result<bool, Error> {
        let (registry, repository, digest) = self.disk_context(place, digest.clone());
        let state = run_blocking(move || registry.manifest_state(&repository, &digest)).await?;
        Ok(state == ManifestState::Pushed)
    }

    /// Fetches a manifest that is not stored. Concurrent requests for the same one share a fetch.
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

    /// Revalidates a cached tag, and fetches the manifest if the tag moved. Concurrent requests for
    /// the same tag share one revalidation.
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

    /// Asks the upstream where a tag points. `known` is the digest of the cached tag.
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
                    // False means that the tag was pushed in the meantime, and is served as pushed.
                    Ok(true | false) => ManifestOutcome::Stored,
                    Err(error) => ManifestOutcome::Failed(place.store_failure(&error)),
                }
            }
            Ok(Some(_)) => self.fetch_manifest(place, &reference).await,
            Ok(None) => self.record_absent(place, &reference).await,
            Err(failed) => ManifestOutcome::Failed(failed),
        }
    }

    /// Fetches a manifest from the upstream and stores it.
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
            // If the manifest did not get the tag, the tag was pushed in the meantime.
            Ok(_) => ManifestOutcome::Stored,
            Err(error) => ManifestOutcome::Failed(place.store_failure(&error)),
        }
    }

    /// Records that the upstream has no such manifest, and removes a cached tag of that name.
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

    /// Clones what a blocking disk operation on a repository needs, together with `what`.
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
