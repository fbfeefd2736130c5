//! A repository at a registry, as the source and as the target of a copy.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::FutureExt;
use futures::stream::{self, BoxStream, StreamExt};
use imgsync_oci::client::{Client, DeleteOutcome, Error, FetchedManifest};
use imgsync_oci::{Descriptor, Digest, Manifest, Reference, Registry, Repository, Tag};
use tokio::sync::SemaphorePermit;

use super::throttle::RegistryThrottle;
use super::{
    CopySource, CopyTarget, ManifestDescriptor, ManifestRole, TransportFuture, VerifiedManifest,
};
use crate::exit::{Failure, FailureKind};
use crate::image::referrer_tags;
use crate::report::Report;
use crate::upload::{
    BlobSource, Journal, PendingBlob, RemoteBlob, RepositoryWriter, TransferOptions, UploadOutcome,
    upload_blob,
};

/// The most pages of a list of tags. Some registries return fifty tags a page.
const MAX_TAG_PAGES: usize = 20_000;

/// A repository, with a client of its registry.
struct RepositoryHandle {
    client: Client,
    repository: Repository,
    host: Arc<RegistryThrottle>,
    name: String,
    /// Whether the registry turned out to have no referrers API.
    lacks_referrers_api: AtomicBool,
}

/// A repository that images are copied from.
pub(crate) struct RegistrySource(RepositoryHandle);

/// A repository that images are copied into.
pub(crate) struct RegistryTarget {
    handle: RepositoryHandle,
    writer: RepositoryWriter,
}

impl RepositoryHandle {
    fn new(client: Client, repository: Repository, host: Arc<RegistryThrottle>) -> Self {
        let client = client.with_retry_policy(Arc::clone(&host.quota));
        let name = format!("{}/{repository}", client.registry());
        Self {
            client,
            repository,
            host,
            name,
            lacks_referrers_api: AtomicBool::new(false),
        }
    }

    fn repository(&self) -> (&Registry, &Repository) {
        (self.client.registry(), &self.repository)
    }

    /// Waits until another request is allowed.
    async fn acquire_request_permit(&self) -> Option<SemaphorePermit<'_>> {
        // The semaphore is never closed.
        self.host.request_permits.acquire().await.ok()
    }

    async fn head_manifest(
        &self,
        reference: &Reference,
    ) -> Result<Option<ManifestDescriptor>, Error> {
        let turn = self.acquire_request_permit().await;
        let found = self
            .client
            .head_manifest(&self.repository, reference)
            .await?;
        let Some(found) = found else { return Ok(None) };
        let digest = match (found.digest, reference) {
            (_, Reference::Digest(asked)) => Some(asked.clone()),
            (reported, Reference::Tag(_)) => reported,
        };
        if let Some(digest) = digest {
            return Ok(Some(ManifestDescriptor {
                digest,
                media_type: found.media_type,
                size: found.size,
            }));
        }
        // Some registries report no digest; it is computed from the bytes.
        drop(turn);
        let found = self.fetch_manifest(reference).await?;
        Ok(found.map(|found| ManifestDescriptor {
            digest: found.digest,
            media_type: found.media_type,
            size: Some(found.bytes.len() as u64),
        }))
    }

    async fn fetch_manifest(
        &self,
        reference: &Reference,
    ) -> Result<Option<FetchedManifest>, Error> {
        let _permit = self.acquire_request_permit().await;
        self.client
            .fetch_manifest(&self.repository, reference)
            .await
    }

    /// Returns the list of the referrers API; `None` if the registry has none.
    async fn list_referrers(&self, subject: &Digest) -> Result<Option<Vec<Descriptor>>, Error> {
        if self.lacks_referrers_api.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let _permit = self.acquire_request_permit().await;
        let client = &self.client;
        let list = client
            .list_referrers(&self.repository, subject, None)
            .await?;
        if list.is_none() {
            self.lacks_referrers_api.store(true, Ordering::Relaxed);
        }
        Ok(list)
    }

    /// Returns the list of referrers under the fallback tag.
    async fn list_referrers_by_tag(&self, subject: &Digest) -> Result<Vec<Descriptor>, Error> {
        let Some(tag) = referrer_tags::fallback_tag(subject) else {
            return Ok(Vec::new());
        };
        let found = self.fetch_manifest(&Reference::Tag(tag)).await?;
        // Anything else than an index under that tag has no referrers.
        let list = found.and_then(|found| {
            let declared = found.media_type.as_deref();
            Manifest::parse(&found.bytes, declared).ok()
        });
        Ok(match list {
            Some((_, Manifest::Index { manifests, .. })) => manifests,
            Some((_, Manifest::Image { .. })) | None => Vec::new(),
        })
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

fn into_verified(found: FetchedManifest) -> Result<VerifiedManifest, imgsync_oci::ParseError> {
    let (media_type, _) = Manifest::parse(&found.bytes, found.media_type.as_deref())?;
    Ok(VerifiedManifest {
        digest: found.digest,
        media_type,
        bytes: found.bytes,
    })
}

impl RegistrySource {
    pub(crate) fn new(client: Client, repository: Repository, host: Arc<RegistryThrottle>) -> Self {
        Self(RepositoryHandle::new(client, repository, host))
    }
}

impl CopySource for RegistrySource {
    fn name(&self) -> &str {
        &self.0.name
    }

    fn repository(&self) -> Option<(&Registry, &Repository)> {
        Some(self.0.repository())
    }

    fn list_tags(&self) -> BoxStream<'_, Result<Vec<Tag>, Failure>> {
        let handle = &self.0;
        let start = Some((None, 0));
        let pages = stream::unfold(start, move |state| async move {
            let (next, pages) = state?;
            if pages == MAX_TAG_PAGES {
                let what = format!(
                    "source: the list of tags of {} has too many pages",
                    handle.name
                );
                return Some((Err(Failure::new(FailureKind::Source, what)), None));
            }
            let _permit = handle.acquire_request_permit().await;
            let page = handle.client.list_tags(&handle.repository, next).await;
            Some(match page {
                Ok(Some(page)) => {
                    let next = page.next.map(|next| (Some(next), pages + 1));
                    (Ok(page.names), next)
                }
                Ok(None) => {
                    let what = format!("source: there is no repository {}", handle.name);
                    (Err(Failure::new(FailureKind::Source, what)), None)
                }
                Err(error) => (Err(Failure::at_source(error)), None),
            })
        });
        pages.boxed()
    }

    fn head_manifest<'a>(
        &'a self,
        reference: &'a Reference,
    ) -> TransportFuture<'a, Option<ManifestDescriptor>> {
        async {
            self.0
                .head_manifest(reference)
                .await
                .map_err(Failure::at_source)
        }
        .boxed()
    }

    fn fetch_manifest<'a>(
        &'a self,
        reference: &'a Reference,
    ) -> TransportFuture<'a, Option<VerifiedManifest>> {
        async move {
            let found = self
                .0
                .fetch_manifest(reference)
                .await
                .map_err(Failure::at_source)?;
            let Some(found) = found else { return Ok(None) };
            let declared = found.media_type.clone();
            let verified = into_verified(found).map_err(|error| {
                let place = format!("source: {reference} of {}", self.0.name);
                match declared.as_deref().and_then(describe_obsolete_type) {
                    Some(kind) => Failure::new(
                        FailureKind::Source,
                        format!("{place} is {kind}, which cannot be copied"),
                    )
                    .with_hint(
                        "push the image again with a current tool, or exclude its tag (--exclude)",
                    ),
                    None => Failure::new(FailureKind::Source, format!("{place}: {error}")),
                }
            });
            verified.map(Some)
        }
        .boxed()
    }

    fn locate_blob<'a>(&'a self, blob: &'a Descriptor) -> TransportFuture<'a, BlobSource> {
        let body = BlobSource::Remote(RemoteBlob {
            client: self.0.client.clone(),
            repository: self.0.repository.clone(),
            digest: blob.digest.clone(),
            size: blob.size,
            read_permits: Some(Arc::clone(&self.0.host.read_permits)),
        });
        std::future::ready(Ok(body)).boxed()
    }

    fn list_referrers<'a>(&'a self, subject: &'a Digest) -> TransportFuture<'a, Vec<Descriptor>> {
        async {
            let listed = self
                .0
                .list_referrers(subject)
                .await
                .map_err(Failure::at_source)?;
            match listed {
                Some(list) => Ok(list),
                None => {
                    let list = self.0.list_referrers_by_tag(subject).await;
                    list.map_err(Failure::at_source)
                }
            }
        }
        .boxed()
    }
}

impl RegistryTarget {
    pub(crate) fn new(
        client: Client,
        repository: Repository,
        (journal, manner): (Journal, TransferOptions),
        host: Arc<RegistryThrottle>,
    ) -> Self {
        let handle = RepositoryHandle::new(client, repository.clone(), host);
        let writer = RepositoryWriter::new(handle.client.clone(), repository, journal, manner);
        Self { handle, writer }
    }
}

impl CopyTarget for RegistryTarget {
    fn name(&self) -> &str {
        &self.handle.name
    }

    fn repository(&self) -> Option<(&Registry, &Repository)> {
        Some(self.handle.repository())
    }

    fn head_manifest<'a>(
        &'a self,
        reference: &'a Reference,
    ) -> TransportFuture<'a, Option<ManifestDescriptor>> {
        async { Ok(self.handle.head_manifest(reference).await?) }.boxed()
    }

    fn fetch_manifest<'a>(
        &'a self,
        reference: &'a Reference,
    ) -> TransportFuture<'a, Option<VerifiedManifest>> {
        async {
            let found = self.handle.fetch_manifest(reference).await?;
            Ok(found.and_then(|found| into_verified(found).ok()))
        }
        .boxed()
    }

    fn has_blob<'a>(&'a self, blob: &'a Descriptor) -> TransportFuture<'a, bool> {
        async {
            let _permit = self.handle.acquire_request_permit().await;
            let RepositoryHandle {
                client, repository, ..
            } = &self.handle;
            Ok(client.has_blob(repository, &blob.digest, blob.size).await?)
        }
        .boxed()
    }

    fn put_blob<'a>(
        &'a self,
        blob: &'a PendingBlob,
        report: &'a Arc<dyn Report>,
    ) -> TransportFuture<'a, UploadOutcome> {
        upload_blob(&self.writer, blob, report).boxed()
    }

    fn put_manifest<'a>(
        &'a self,
        manifest: &'a VerifiedManifest,
        role: &'a ManifestRole,
    ) -> TransportFuture<'a, ()> {
        async {
            let reference = match role {
                ManifestRole::Tagged(tag) => Reference::Tag(tag.clone()),
                ManifestRole::Child | ManifestRole::Referrer { .. } | ManifestRole::Untagged => {
                    Reference::Digest(manifest.digest.clone())
                }
            };
            let _permit = self.handle.acquire_request_permit().await;
            let RepositoryHandle {
                client, repository, ..
            } = &self.handle;
            let VerifiedManifest {
                media_type, bytes, ..
            } = manifest;
            client
                .put_manifest(repository, &reference, media_type, bytes.clone())
                .await?;
            Ok(())
        }
        .boxed()
    }

    fn list_referrers<'a>(
        &'a self,
        subject: &'a Digest,
    ) -> TransportFuture<'a, Option<Vec<Descriptor>>> {
        async { Ok(self.handle.list_referrers(subject).await?) }.boxed()
    }

    fn delete_tag<'a>(&'a self, tag: &'a Tag) -> TransportFuture<'a, DeleteOutcome> {
        async {
            let _permit = self.handle.acquire_request_permit().await;
            let RepositoryHandle {
                client, repository, ..
            } = &self.handle;
            let reference = Reference::Tag(tag.clone());
            Ok(client.delete_manifest(repository, &reference).await?)
        }
        .boxed()
    }

    fn finish<'a>(&'a self, _report: &'a Arc<dyn Report>) -> TransportFuture<'a, ()> {
        std::future::ready(Ok(())).boxed()
    }
}
