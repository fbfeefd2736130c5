//! A repository at a registry, and as the source of a copy. See
//! [`registry_target`](super::registry_target) for the target.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use futures::stream::{self, BoxStream, StreamExt};
use imgsync_oci::client::{Client, DeleteOutcome, Error, FetchedManifest};
use imgsync_oci::{Descriptor, Digest, Manifest, ParseError, Reference, Registry, Repository, Tag};
use tokio::sync::SemaphorePermit;

use super::throttle::RegistryThrottle;
use super::{CopySource, ManifestDescriptor, ManifestRole, Result, VerifiedManifest};
use crate::exit::{Failure, FailureKind};
use crate::image::referrer_tags;
use crate::upload::{BlobSource, RemoteBlob};

/// The result of a request, before the error is assigned to the source or the target.
type Response<T> = std::result::Result<T, Error>;

/// A repository, with a client of its registry.
pub(super) struct RepositoryHandle {
    client: Client,
    repository: Repository,
    throttle: Arc<RegistryThrottle>,
    name: String,
    /// Whether the registry turned out to have no referrers API.
    lacks_referrers_api: AtomicBool,
}

/// A repository that images are copied from.
pub(crate) struct RegistrySource(RepositoryHandle);

impl RepositoryHandle {
    pub(super) fn new(
        client: Client,
        repository: Repository,
        throttle: Arc<RegistryThrottle>,
    ) -> Self {
        let client = client.with_retry_policy(Arc::clone(&throttle.quota));
        let name = format!("{}/{repository}", client.registry());
        Self {
            client,
            repository,
            throttle,
            name,
            lacks_referrers_api: AtomicBool::new(false),
        }
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    pub(super) fn repository(&self) -> (&Registry, &Repository) {
        (self.client.registry(), &self.repository)
    }

    /// Waits until another request is allowed. The permit belongs to the request.
    pub(super) async fn request(&self) -> (Option<SemaphorePermit<'_>>, &Client, &Repository) {
        // The semaphore is never closed.
        let permit = self.throttle.request_permits.acquire().await.ok();
        (permit, &self.client, &self.repository)
    }

    pub(super) async fn head_manifest(
        &self,
        reference: &Reference,
    ) -> Response<Option<ManifestDescriptor>> {
        let (permit, client, repository) = self.request().await;
        let head = client.head_manifest(repository, reference).await?;
        let Some(head) = head else { return Ok(None) };
        let digest = match reference {
            Reference::Digest(digest) => Some(digest.clone()),
            Reference::Tag(_) => head.digest,
        };
        if let Some(digest) = digest {
            let media_type = head.media_type;
            return Ok(Some(ManifestDescriptor { digest, media_type }));
        }
        // Some registries report no digest; it is computed from the bytes.
        drop(permit);
        let manifest = self.fetch_manifest(reference).await?;
        Ok(manifest.map(|manifest| ManifestDescriptor {
            digest: manifest.digest,
            media_type: manifest.media_type,
        }))
    }

    async fn fetch_manifest(&self, reference: &Reference) -> Response<Option<FetchedManifest>> {
        let (_permit, client, repository) = self.request().await;
        client.fetch_manifest(repository, reference).await
    }

    /// Returns the list of the referrers API; `None` if the registry has none.
    pub(super) async fn list_referrers(
        &self,
        subject: &Digest,
    ) -> Response<Option<Vec<Descriptor>>> {
        if self.lacks_referrers_api.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let (_permit, client, repository) = self.request().await;
        let list = client.list_referrers(repository, subject, None).await?;
        if list.is_none() {
            self.lacks_referrers_api.store(true, Ordering::Relaxed);
        }
        Ok(list)
    }

    /// Returns the list of referrers under the fallback tag.
    async fn list_referrers_by_tag(&self, subject: &Digest) -> Response<Vec<Descriptor>> {
        let Some(tag) = referrer_tags::fallback_tag(subject) else {
            return Ok(Vec::new());
        };
        let manifest = self.fetch_manifest(&Reference::Tag(tag)).await?;
        let parsed = manifest.and_then(|manifest| into_verified(manifest).ok());
        // Anything else than an index under that tag has no referrers.
        Ok(match parsed {
            Some((_, Manifest::Index { manifests, .. })) => manifests,
            _ => Vec::new(),
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Fetches a manifest; an invalid one counts as absent.
    pub(super) async fn fetch_verified_manifest(
        &self,
        reference: &Reference,
    ) -> Response<Option<VerifiedManifest>> {
        let fetched = self.fetch_manifest(reference).await?;
        let verified = fetched.and_then(|fetched| into_verified(fetched).ok());
        Ok(verified.map(|(manifest, _)| manifest))
    }

    pub(super) async fn has_blob(&self, blob: &Descriptor) -> Response<bool> {
        let (_permit, client, repository) = self.request().await;
        client.has_blob(repository, &blob.digest, blob.size).await
    }

    /// Puts a manifest under the tag of its role, or under its digest.
    pub(super) async fn put_manifest(
        &self,
        manifest: &VerifiedManifest,
        role: &ManifestRole,
    ) -> Response<()> {
        let reference = match role {
            ManifestRole::Tagged(tag) => Reference::Tag(tag.clone()),
            _ => Reference::Digest(manifest.digest.clone()),
        };
        let (_permit, client, repository) = self.request().await;
        let (media_type, bytes) = (&manifest.media_type, manifest.bytes.clone());
        let put = client.put_manifest(repository, &reference, media_type, bytes);
        put.await
    }

    pub(super) async fn delete_tag(&self, tag: &Tag) -> Response<DeleteOutcome> {
        let (_permit, client, repository) = self.request().await;
        let reference = Reference::Tag(tag.clone());
        client.delete_manifest(repository, &reference).await
    }
}

/// Describes media types of manifests that registries still store and no tool writes any more.
fn describe_obsolete_type(media_type: &str) -> Option<&'static str> {
    match media_type {
        "application/vnd.docker.distribution.manifest.v1+json"
        | "application/vnd.docker.distribution.manifest.v1+prettyjws" => {
            Some("an image in Docker's first format (schema 1)")
        }
        "application/vnd.oci.artifact.manifest.v1+json" => {
            Some("an OCI artifact manifest, a type that was withdrawn")
        }
        _ => None,
    }
}

fn into_verified(
    fetched: FetchedManifest,
) -> std::result::Result<(VerifiedManifest, Manifest), ParseError> {
    VerifiedManifest::parse(fetched.digest, fetched.bytes, fetched.media_type.as_deref())
}

fn source_failure(what: String) -> Failure {
    Failure::new(FailureKind::Source, format!("source: {what}"))
}

impl RegistrySource {
    pub(crate) fn new(
        client: Client,
        repository: Repository,
        throttle: Arc<RegistryThrottle>,
    ) -> Self {
        Self(RepositoryHandle::new(client, repository, throttle))
    }

    /// Returns the failure for an invalid manifest.
    fn invalid_manifest(
        &self,
        reference: &Reference,
        declared: Option<&str>,
        error: &ParseError,
    ) -> Failure {
        let name = &self.0.name;
        match declared.and_then(describe_obsolete_type) {
            Some(kind) => source_failure(format!(
                "{reference} of {name} is {kind}, which cannot be copied"
            ))
            .with_mirror_hint(
                "push the image again with a current tool, or exclude its tag (--exclude)",
            ),
            None => source_failure(format!("{reference} of {name}: {error}")),
        }
    }
}

#[async_trait]
impl CopySource for RegistrySource {
    fn name(&self) -> &str {
        &self.0.name
    }

    fn repository(&self) -> Option<(&Registry, &Repository)> {
        Some(self.0.repository())
    }

    fn list_tags(&self) -> BoxStream<'_, Result<Vec<Tag>>> {
        let handle = &self.0;
        let name = &handle.name;
        let pages = stream::unfold(Some(None), move |next| async move {
            let next = next?;
            let (_permit, client, repository) = handle.request().await;
            Some(match client.list_tags(repository, next).await {
                Ok(Some(page)) => {
                    let next = page.next.map(Some);
                    (Ok(page.names), next)
                }
                Ok(None) => {
                    let what = format!("there is no repository {name}");
                    (Err(source_failure(what)), None)
                }
                Err(error) => (Err(Failure::at_source(error)), None),
            })
        });
        pages.boxed()
    }

    async fn head_manifest(&self, reference: &Reference) -> Result<Option<ManifestDescriptor>> {
        let head = self.0.head_manifest(reference).await;
        head.map_err(Failure::at_source)
    }

    async fn fetch_manifest(&self, reference: &Reference) -> Result<Option<VerifiedManifest>> {
        let fetched = self.0.fetch_manifest(reference).await;
        let Some(fetched) = fetched.map_err(Failure::at_source)? else {
            return Ok(None);
        };
        let declared = fetched.media_type.clone();
        match into_verified(fetched) {
            Ok((manifest, _)) => Ok(Some(manifest)),
            Err(error) => Err(self.invalid_manifest(reference, declared.as_deref(), &error)),
        }
    }

    async fn locate_blob(&self, blob: &Descriptor) -> Result<BlobSource> {
        Ok(BlobSource::Remote(RemoteBlob {
            client: self.0.client.clone(),
            repository: self.0.repository.clone(),
            digest: blob.digest.clone(),
            size: blob.size,
            read_permits: Some(Arc::clone(&self.0.throttle.read_permits)),
        }))
    }

    async fn list_referrers(&self, subject: &Digest) -> Result<Vec<Descriptor>> {
        let list = match self.0.list_referrers(subject).await {
            Ok(None) => self.0.list_referrers_by_tag(subject).await,
            list => list.map(Option::unwrap_or_default),
        };
        list.map_err(Failure::at_source)
    }
}
