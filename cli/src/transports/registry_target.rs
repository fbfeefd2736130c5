//! A repository at a registry as the target of a copy. Its blobs are uploaded, or mounted from another
//! repository of the same registry.

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
use crate::upload::{
    Journal, PendingBlob, RepositoryWriter, TransferOptions, UploadOutcome, upload_blob,
};

/// A repository that images are copied into.
pub(crate) struct RegistryTarget {
    handle: RepositoryHandle,
    blobs: BlobTransfer,
}

/// How blobs come into the repository.
enum BlobTransfer {
    /// Their bytes are uploaded.
    Upload(Box<RepositoryWriter>),
    /// They are mounted from this repository of the same registry, which moves no bytes.
    Mount(Repository),
}

impl RegistryTarget {
    /// Returns a target whose blobs are uploaded.
    pub(crate) fn uploading(
        client: Client,
        repository: Repository,
        (journal, options): (Journal, TransferOptions),
        throttle: Arc<RegistryThrottle>,
    ) -> Self {
        let handle = RepositoryHandle::new(client, repository.clone(), throttle);
        let writer = RepositoryWriter::new(handle.client().clone(), repository, journal, options);
        let blobs = BlobTransfer::Upload(Box::new(writer));
        Self { handle, blobs }
    }

    /// Returns a target whose blobs are mounted `from` another repository of the registry.
    pub(crate) fn mounting(
        client: Client,
        repository: Repository,
        from: Repository,
        throttle: Arc<RegistryThrottle>,
    ) -> Self {
        let handle = RepositoryHandle::new(client, repository, throttle);
        let blobs = BlobTransfer::Mount(from);
        Self { handle, blobs }
    }
}

/// Mounts a blob, or fails if the registry does not.
async fn mount_blob(
    handle: &RepositoryHandle,
    from: &Repository,
    blob: &PendingBlob,
) -> Result<UploadOutcome> {
    if is_mounted(handle, from, blob).await? {
        return Ok(UploadOutcome::Mounted);
    }
    let (registry, repository) = handle.repository();
    let digest = &blob.digest;
    Err(Failure::target(format!(
        "{registry} did not mount the blob {digest} from {from} into {repository}, and tag moves \
         no bytes"
    ))
    .with_hint("to copy the image, use imgsync mirror instead of imgsync tag"))
}

/// Asks the registry to mount a blob, and returns whether it has. A registry that does not mount
/// the blob opens an upload session.
async fn is_mounted(
    handle: &RepositoryHandle,
    from: &Repository,
    blob: &PendingBlob,
) -> Result<bool> {
    let (_permit, client, repository) = handle.request().await;
    let mount = Mount {
        digest: blob.digest.clone(),
        from: Some(from.clone()),
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

#[async_trait]
impl CopyTarget for RegistryTarget {
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
        report: &Arc<dyn Report>,
    ) -> Result<UploadOutcome> {
        match &self.blobs {
            BlobTransfer::Upload(writer) => upload_blob(writer, blob, report).await,
            BlobTransfer::Mount(from) => mount_blob(&self.handle, from, blob).await,
        }
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
