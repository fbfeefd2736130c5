//! A repository as the target of a copy that moves no bytes: blobs are mounted from another
//! repository of the same registry, or the copy fails.

use std::sync::Arc;

use async_trait::async_trait;
use imgsync_oci::client::upload::UploadStart;
use imgsync_oci::client::{Client, DeleteOutcome};
use imgsync_oci::endpoint::Mount;
use imgsync_oci::{Descriptor, Digest, Reference, Registry, Repository, Tag};

use super::registry::RepositoryHandle;
use super::throttle::RegistryThrottle;
use super::{CopyTarget, ManifestDescriptor, ManifestRole, Result, VerifiedManifest};
use crate::exit::Failure;
use crate::report::Report;
use crate::upload::{PendingBlob, UploadOutcome};

/// A repository that blobs are mounted into.
pub(crate) struct MountTarget {
    handle: RepositoryHandle,
    /// The repository that has the blobs.
    from: Repository,
}

impl MountTarget {
    pub(crate) fn new(
        client: Client,
        repository: Repository,
        from: Repository,
        throttle: Arc<RegistryThrottle>,
    ) -> Self {
        let handle = RepositoryHandle::new(client, repository, throttle);
        Self { handle, from }
    }

    /// Asks the registry to mount a blob, and returns whether it has. A registry that does not mount
    /// the blob opens an upload session.
    async fn mount(&self, blob: &PendingBlob) -> Result<bool> {
        let (_permit, client, repository) = self.handle.request().await;
        let mount = Mount {
            digest: blob.digest.clone(),
            from: Some(self.from.clone()),
        };
        match client.start_upload(repository, Some(mount)).await {
            // Some registries answer 201 to a mount and do not hold the blob afterwards.
            Ok(UploadStart::Mounted) => {
                let has_blob = client.has_blob(repository, &blob.digest, blob.size);
                Ok(has_blob.await?)
            }
            Ok(UploadStart::Open(session)) => {
                // The registry removes unused sessions itself, so an error changes nothing.
                let _ = client.cancel_upload(session).await;
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }
}

#[async_trait]
impl CopyTarget for MountTarget {
    fn name(&self) -> &str {
        self.handle.name()
    }

    fn repository(&self) -> Option<(&Registry, &Repository)> {
        Some(self.handle.repository())
    }

    async fn head_manifest(&self, reference: &Reference) -> Result<Option<ManifestDescriptor>> {
        Ok(self.handle.head_manifest(reference).await?)
    }

    async fn fetch_manifest(&self, reference: &Reference) -> Result<Option<VerifiedManifest>> {
        Ok(self.handle.fetch_verified_manifest(reference).await?)
    }

    async fn has_blob(&self, blob: &Descriptor) -> Result<bool> {
        Ok(self.handle.has_blob(blob).await?)
    }

    async fn put_blob(
        &self,
        blob: &PendingBlob,
        _report: &Arc<dyn Report>,
    ) -> Result<UploadOutcome> {
        if self.mount(blob).await? {
            return Ok(UploadOutcome::Mounted);
        }
        let (registry, repository) = self.handle.repository();
        let (from, digest) = (&self.from, &blob.digest);
        Err(Failure::target(format!(
            "{registry} did not mount the blob {digest} from {from} into {repository}, and tag moves \
             no bytes"
        ))
        .with_hint("to copy the image, use imgsync mirror instead of imgsync tag"))
    }

    async fn put_manifest(&self, manifest: &VerifiedManifest, role: &ManifestRole) -> Result<()> {
        Ok(self.handle.put_manifest(manifest, role).await?)
    }

    async fn list_referrers(&self, subject: &Digest) -> Result<Option<Vec<Descriptor>>> {
        Ok(self.handle.list_referrers(subject).await?)
    }

    async fn delete_tag(&self, tag: &Tag) -> Result<DeleteOutcome> {
        Ok(self.handle.delete_tag(tag).await?)
    }
}
