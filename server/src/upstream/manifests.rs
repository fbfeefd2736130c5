//! Provides manifests from upstreams: cached ones while they are fresh, others after asking the
//! upstream.
//!
//! This module does not read blobs, and it never replaces a pushed tag. Start reading at
//! [`Upstreams::ensure_manifest`].

use std::sync::Arc;
use std::time::Duration;

use imgsync_oci::client::FetchedManifest;
use imgsync_oci::{Digest, Reference, Tag};
use tokio::time::timeout;

use super::error::{Error, UpstreamFailure, UpstreamFailureKind};
use super::metrics::{CacheStatus, ContentKind};
use super::{UpstreamRepository, Upstreams, unix_now};
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
    /// The manifest is verified, but the disk has no space for it.
    Unstored(Arc<StoredManifest>),
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

/// A manifest that can be served.
pub(crate) struct EnsuredManifest {
    pub(crate) freshness: Freshness,
    /// The manifest, if the registry has no space to store it.
    pub(crate) unstored: Option<Arc<StoredManifest>>,
}

impl EnsuredManifest {
    fn stored(freshness: Freshness) -> Self {
        Self {
            freshness,
            unstored: None,
        }
    }

    fn unstored(manifest: Arc<StoredManifest>) -> Self {
        Self {
            freshness: Freshness::Fresh,
            unstored: Some(manifest),
        }
    }
}

impl Upstreams {
    /// Ensures that the registry stores a manifest that is fresh enough to serve, or returns the
    /// manifest if the disk is full.
    ///
    /// # Errors
    /// Returns an error if the upstream does not have the manifest, cannot be reached, or must not
    /// be asked.
    pub(crate) async fn ensure_manifest(
        &self,
        source: &UpstreamRepository,
        reference: &Reference,
    ) -> Result<EnsuredManifest, Error> {
        let result = match reference {
            Reference::Digest(digest) => self.by_digest(source, digest, reference).await,
            Reference::Tag(tag) => self.by_tag(source, tag, reference).await,
        };
        self.count_request(ContentKind::Manifest, &result, |(_, status)| *status);
        result.map(|(ensured, _)| ensured)
    }

    /// Reads a stored manifest, and records its use for eviction.
    ///
    /// # Errors
    /// Returns an error if the manifest is not stored.
    pub(crate) async fn read_manifest(
        &self,
        source: &UpstreamRepository,
        reference: &Reference,
    ) -> Result<StoredManifest, Error> {
        let (reference, is_read_only) = (reference.clone(), source.is_read_only);
        let read = self.run_on_disk(source, move |registry, repository| {
            let manifest = registry.get_manifest(repository, &reference)?;
            if !is_read_only {
                registry.record_use(repository, &manifest.digest, unix_now());
            }
            Ok::<_, registry::Error>(manifest)
        });
        Ok(read.await?)
    }

    /// Ensures a manifest by digest. Its content cannot change, so a stored one is always fresh.
    async fn by_digest(
        &self,
        source: &UpstreamRepository,
        digest: &Digest,
        reference: &Reference,
    ) -> Result<(EnsuredManifest, CacheStatus), Error> {
        if self.has_manifest(source, digest).await? {
            return Ok((EnsuredManifest::stored(Freshness::Fresh), CacheStatus::Hit));
        }
        self.fetch_missing_manifest(source, reference).await
    }

    /// Ensures a manifest by tag, asking the upstream if the cached tag is too old.
    async fn by_tag(
        &self,
        source: &UpstreamRepository,
        tag: &Tag,
        reference: &Reference,
    ) -> Result<(EnsuredManifest, CacheStatus), Error> {
        let stored_tag = tag.clone();
        let state = self.run_on_disk(source, move |registry, repository| {
            registry.tag_state(repository, &stored_tag)
        });
        let (digest, confirmed_at) = match state.await? {
            // A pushed tag takes precedence over the upstream.
            TagState::Pushed => {
                return Ok((EnsuredManifest::stored(Freshness::Fresh), CacheStatus::Hit));
            }
            // The tag was cached from another upstream under the same name, so it must be fetched
            // from this one.
            TagState::Cached { upstream, .. } if upstream != source.upstream.address() => {
                return self.fetch_missing_manifest(source, reference).await;
            }
            TagState::Cached {
                digest,
                confirmed_at,
                ..
            } => (digest, confirmed_at),
            TagState::Absent => return self.fetch_missing_manifest(source, reference).await,
        };
        if !source.is_allowed() {
            return Err(source.not_allowed_error());
        }
        // The manifest may be evicted or damaged while its tag remains.
        if !self.has_manifest(source, &digest).await? {
            return self.fetch_missing_manifest(source, reference).await;
        }
        let age = unix_now().saturating_sub(confirmed_at);
        // If the clock was set back, a confirmation in the future must not keep the tag fresh
        // forever.
        let is_plausible = confirmed_at <= unix_now() + 60;
        if is_plausible && Duration::from_secs(age) < source.upstream.settings.freshness {
            return Ok((EnsuredManifest::stored(Freshness::Fresh), CacheStatus::Hit));
        }
        let failure = match source.current_failure() {
            Some(failure) => failure,
            None => match self.refresh(source, tag, digest).await {
                ManifestOutcome::Stored => {
                    return Ok((EnsuredManifest::stored(Freshness::Fresh), CacheStatus::Hit));
                }
                ManifestOutcome::Unstored(manifest) => {
                    return Ok((EnsuredManifest::unstored(manifest), CacheStatus::Miss));
                }
                ManifestOutcome::Absent => return Err(unknown(reference)),
                ManifestOutcome::Failed(failure) => failure,
            },
        };
        source.upstream.log_stale(&failure);
        Ok((
            EnsuredManifest::stored(Freshness::Stale),
            CacheStatus::Stale,
        ))
    }

    /// Reports whether a manifest is stored, pushed or cached.
    async fn has_manifest(
        &self,
        source: &UpstreamRepository,
        digest: &Digest,
    ) -> Result<bool, Error> {
        Ok(self.manifest_state(source, digest).await? != ManifestState::Absent)
    }

    /// Reports whether this registry stores a manifest, and where it came from.
    pub(super) async fn manifest_state(
        &self,
        source: &UpstreamRepository,
        digest: &Digest,
    ) -> Result<ManifestState, Error> {
        let digest = digest.clone();
        let state = self.run_on_disk(source, move |registry, repository| {
            registry.manifest_state(repository, &digest)
        });
        Ok(state.await?)
    }

    /// Fetches a manifest that is not stored. Concurrent requests for the same one share a fetch.
    async fn fetch_missing_manifest(
        &self,
        source: &UpstreamRepository,
        reference: &Reference,
    ) -> Result<(EnsuredManifest, CacheStatus), Error> {
        source.check_fetch_allowed()?;
        let key = (source.repository.clone(), reference.to_string());
        if self.inner.negative_cache.contains(&key) {
            return Err(unknown(reference));
        }
        if let Some(failure) = source.upstream.breaker.rate_limit_failure() {
            return Err(failure.into());
        }
        let (this, at, requested) = (self.clone(), source.clone(), reference.clone());
        let fetch = || async move { this.fetch_manifest(&at, &requested).await };
        match self.inner.manifest_requests.run(key, fetch).await {
            Ok(ManifestOutcome::Stored) => {
                let stored = EnsuredManifest::stored(Freshness::Fresh);
                Ok((stored, CacheStatus::Miss))
            }
            Ok(ManifestOutcome::Unstored(manifest)) => {
                Ok((EnsuredManifest::unstored(manifest), CacheStatus::Miss))
            }
            Ok(ManifestOutcome::Absent) => Err(unknown(reference)),
            Ok(ManifestOutcome::Failed(failure)) => Err(failure.into()),
            Err(error) => Err(source.singleflight_failure(error).into()),
        }
    }

    /// Revalidates a cached tag, and fetches the manifest if the tag moved. Concurrent requests for
    /// the same tag share one revalidation.
    async fn refresh(
        &self,
        source: &UpstreamRepository,
        tag: &Tag,
        cached: Digest,
    ) -> ManifestOutcome {
        let key = (source.repository.clone(), tag.to_string());
        let (this, at, tag) = (self.clone(), source.clone(), tag.clone());
        let check = || async move { this.check_tag(&at, &tag, cached).await };
        let outcome = self.inner.manifest_requests.run(key, check).await;
        outcome.unwrap_or_else(|error| ManifestOutcome::Failed(source.singleflight_failure(error)))
    }

    /// Asks the upstream where a tag points. `cached` is the digest of the cached tag.
    async fn check_tag(
        &self,
        source: &UpstreamRepository,
        tag: &Tag,
        cached: Digest,
    ) -> ManifestOutcome {
        let reference = Reference::Tag(tag.clone());
        let head = source.request(TAG_HEAD_TIMEOUT, |client, name| {
            client.head_manifest(name, &reference)
        });
        match head.await {
            Ok(Some(head)) if head.digest.as_ref() == Some(&cached) => {
                let tag = tag.clone();
                let confirmed = self.run_on_disk(source, move |registry, repository| {
                    registry.confirm_tag(repository, &tag, &cached, unix_now())
                });
                match confirmed.await {
                    // If the result is false, the tag was pushed in the meantime. Then it is served
                    // as pushed. On a full disk, the tag is only checked again the next time.
                    Ok(_) => ManifestOutcome::Stored,
                    Err(error) if error.is_disk_full() => ManifestOutcome::Stored,
                    Err(error) => ManifestOutcome::Failed(source.store_failure(&error)),
                }
            }
            Ok(Some(_)) => self.fetch_manifest(source, &reference).await,
            Ok(None) => self.record_absent(source, &reference).await,
            Err(failure) => ManifestOutcome::Failed(failure),
        }
    }

    /// Fetches a manifest from the upstream and stores it.
    async fn fetch_manifest(
        &self,
        source: &UpstreamRepository,
        reference: &Reference,
    ) -> ManifestOutcome {
        let permit = source.upstream.manifest_permits.acquire();
        let Ok(_permit) = timeout(MANIFEST_TIMEOUT, permit).await else {
            let message = "too many manifests are being fetched; try again later";
            return ManifestOutcome::Failed(source.failure(UpstreamFailureKind::Busy, message));
        };
        let fetched = source.request(MANIFEST_TIMEOUT, |client, name| {
            client.fetch_manifest(name, reference)
        });
        let FetchedManifest {
            digest,
            media_type,
            bytes,
            ..
        } = match fetched.await {
            Ok(Some(fetched)) => fetched,
            Ok(None) => return self.record_absent(source, reference).await,
            Err(failure) => return ManifestOutcome::Failed(failure),
        };
        source.count_received_bytes(bytes.len() as u64);
        let tag = match reference {
            Reference::Tag(tag) => Some(tag.clone()),
            Reference::Digest(_) => None,
        };
        let Some(limits) = self.cache_limits() else {
            let message = "not contacted, because this registry no longer caches";
            return ManifestOutcome::Failed(source.failure(UpstreamFailureKind::Busy, message));
        };
        let upstream = source.upstream.address().to_owned();
        let stored = self.run_on_disk(source, move |registry, repository| {
            let manifest = UpstreamManifest {
                digest: Some(&digest),
                media_type: media_type.as_deref(),
                bytes: &bytes,
                upstream: &upstream,
            };
            let size = bytes.len() as u64;
            let store = || -> Result<bool, registry::Error> {
                if !registry.has_room_for_manifest(size, &limits, unix_now())? {
                    return Ok(false);
                }
                // If the manifest does not get the tag, the tag was pushed in the meantime.
                match registry.cache_manifest(repository, tag.as_ref(), manifest, unix_now()) {
                    Ok(_) => Ok(true),
                    Err(error) if error.is_disk_full() => Ok(false),
                    Err(error) => Err(error),
                }
            };
            if store()? {
                return Ok(ManifestOutcome::Stored);
            }
            registry.make_disk_room(None, &limits, unix_now());
            if store()? {
                return Ok(ManifestOutcome::Stored);
            }
            tracing::warn!(%repository, %digest, "no space: sending a manifest without storing it");
            let manifest = manifest.to_served()?;
            Ok(ManifestOutcome::Unstored(Arc::new(manifest)))
        });
        match stored.await {
            Ok(outcome) => outcome,
            Err(error) => ManifestOutcome::Failed(source.store_failure(&error)),
        }
    }

    /// Records that the upstream has no such manifest, and removes a cached tag of that name.
    async fn record_absent(
        &self,
        source: &UpstreamRepository,
        reference: &Reference,
    ) -> ManifestOutcome {
        self.inner
            .negative_cache
            .insert((source.repository.clone(), reference.to_string()));
        if let Reference::Tag(tag) = reference {
            let tag = tag.clone();
            let removed = self.run_on_disk(source, move |registry, repository| {
                registry.remove_cached_tag(repository, &tag)
            });
            if let Err(error) = removed.await
                && !error.is_disk_full()
            {
                return ManifestOutcome::Failed(source.store_failure(&error));
            }
        }
        ManifestOutcome::Absent
    }
}

fn unknown(reference: &Reference) -> Error {
    registry::Error::ManifestUnknown(reference.clone()).into()
}
