//! An OCI layout as the target of a copy, whether it is a folder or an archive.

use std::sync::Arc;

use async_trait::async_trait;
use imgsync_oci::client::DeleteOutcome;
use imgsync_oci::{Descriptor, Digest, Reference, Tag};

use super::LayoutIndex;
use super::walk::{self, BlobStore};
use crate::image::Slice;
use crate::report::Report;
use crate::transports::blocking::run_blocking;
use crate::transports::fetch::local_blob;
use crate::transports::{CopyTarget, ManifestRole, Result, VerifiedManifest};
use crate::upload::{PendingBlob, UploadOutcome};

/// Where a layout is written to. Clones write to the same layout.
#[async_trait]
pub(crate) trait LayoutStorage: BlobStore + Clone + Send + Sync + 'static {
    /// Returns the current index. Blocks.
    fn read_index(&self) -> Result<LayoutIndex>;

    /// Returns whether there is a blob of this digest and size. Its bytes are not checked.
    fn has(&self, digest: &Digest, size: u64) -> Result<bool>;

    /// Stores a blob that is verified on the way, and shows the progress.
    async fn store_blob(
        &self,
        blob: &PendingBlob,
        report: Option<&dyn Report>,
    ) -> Result<UploadOutcome>;

    /// Changes the index. Returns the result of `change`: whether the index changed.
    async fn edit_index<C>(&self, change: C) -> Result<bool>
    where
        C: FnOnce(&mut LayoutIndex) -> bool + Send + 'static;

    /// Makes everything that was stored permanent. `image_name` is the name of the images, without
    /// the tag.
    async fn finish(&self, image_name: Option<&str>) -> Result<()>;
}

/// A layout that images are copied into. Its content stays, and tags are replaced.
#[derive(Debug, Clone)]
pub(crate) struct StorageTarget<S> {
    name: String,
    /// The name of the images, without the tag.
    image_name: Option<String>,
    storage: S,
}

impl<S> StorageTarget<S> {
    pub(in crate::transports) fn new(name: &str, image_name: Option<&str>, storage: S) -> Self {
        Self {
            name: name.to_owned(),
            image_name: image_name.map(str::to_owned),
            storage,
        }
    }
}

#[async_trait]
impl<S: LayoutStorage> CopyTarget for StorageTarget<S> {
    fn name(&self) -> &str {
        &self.name
    }

    async fn fetch_manifest(&self, reference: &Reference) -> Result<Option<VerifiedManifest>> {
        let (storage, reference) = (self.storage.clone(), reference.clone());
        run_blocking(move || {
            let (digest, media_type) = match reference {
                Reference::Digest(digest) => (digest, None),
                Reference::Tag(tag) => match storage.read_index()?.find_tagged(&tag) {
                    Some(entry) => (entry.digest.clone(), Some(entry.media_type.clone())),
                    None => return Ok(None),
                },
            };
            Ok(walk::read_complete(
                &storage,
                &digest,
                media_type.as_deref(),
            ))
        })
        .await
    }

    async fn has_blob(&self, blob: &Descriptor) -> Result<bool> {
        self.storage.has(&blob.digest, blob.size)
    }

    async fn put_blob(
        &self,
        blob: &PendingBlob,
        report: &Arc<dyn Report>,
    ) -> Result<UploadOutcome> {
        self.storage.store_blob(blob, Some(&**report)).await
    }

    async fn put_manifest(&self, manifest: &VerifiedManifest, role: &ManifestRole) -> Result<()> {
        let bytes = Slice::memory(manifest.bytes.clone());
        let blob = local_blob(manifest.digest.clone(), bytes);
        self.storage.store_blob(&blob, None).await?;
        if *role != ManifestRole::Child {
            let (manifest, role) = (manifest.clone(), role.clone());
            let image = self.image_name.clone();
            let add = move |index: &mut LayoutIndex| {
                index.add_manifest(&manifest, &role, image.as_deref())
            };
            self.storage.edit_index(add).await?;
        }
        Ok(())
    }

    async fn list_referrers(&self, subject: &Digest) -> Result<Option<Vec<Descriptor>>> {
        let (storage, subject) = (self.storage.clone(), subject.clone());
        run_blocking(move || {
            let mut by_subject = walk::referrers_by_subject(&storage, &storage.read_index()?);
            Ok(Some(by_subject.remove(&subject).unwrap_or_default()))
        })
        .await
    }

    async fn delete_tag(&self, tag: &Tag) -> Result<DeleteOutcome> {
        let tag = tag.clone();
        let was_present = self.storage.edit_index(move |index| index.remove(&tag));
        Ok(if was_present.await? {
            DeleteOutcome::Deleted {
                is_restorable: false,
            }
        } else {
            DeleteOutcome::NotFound
        })
    }

    async fn finish(&self) -> Result<()> {
        self.storage.finish(self.image_name.as_deref()).await
    }
}
