//! An OCI layout as the target of a copy: a folder. Everything that was put is on the disk and is
//! there for the next run.

use std::path::Path;
use std::sync::Arc;

use imgsync_oci::client::DeleteOutcome;
use imgsync_oci::{Descriptor, Digest, Reference, Tag};

use super::folder::LayoutFolder;
use super::partial_file::PartialFile;
use super::{LayoutIndex, walk};
use crate::exit::{Failure, FailureKind};
use crate::report::Report;
use crate::transports::blocking::{run_blocking, write_failure};
use crate::transports::fetch::{BlobFetch, FetchEvent};
use crate::transports::files::SourceFiles;
use crate::transports::{self, ManifestRole, TransportFuture, VerifiedManifest};
use crate::upload::{PendingBlob, UploadOutcome};

/// A layout that images are copied into. Its content stays, and tags are replaced.
#[derive(Debug, Clone)]
pub struct LayoutTarget {
    name: String,
    folder: Arc<LayoutFolder>,
    files: Arc<SourceFiles>,
    /// The name of the images, without the tag.
    image_name: Option<String>,
    /// Serializes changes of the index within this process.
    index_lock: Arc<tokio::sync::Mutex<()>>,
}

impl LayoutTarget {
    /// Opens the layout in the folder `path`, which need not exist. `called` is the name that the
    /// user typed; `image` is the name of the images, for Docker and podman.
    ///
    /// # Errors
    /// Returns an error if something else is there.
    pub async fn open(path: &Path, called: &str, image: Option<&str>) -> Result<Self, Failure> {
        let path = path.to_owned();
        let folder = run_blocking(move || {
            let folder = LayoutFolder::new(&path).map_err(invalid_target)?;
            folder.read_index().map_err(invalid_target)?;
            Ok::<_, Failure>(folder)
        })
        .await?;
        Ok(Self {
            name: called.to_owned(),
            files: Arc::new(folder.files()),
            folder: Arc::new(folder),
            image_name: image.map(str::to_owned),
            index_lock: Arc::default(),
        })
    }

    fn read_index(&self) -> Result<LayoutIndex, Failure> {
        self.folder.read_index().map_err(invalid_target)
    }

    /// Returns the manifest that a reference names, if it is complete.
    fn read_manifest(&self, reference: &Reference) -> Result<Option<VerifiedManifest>, Failure> {
        let (digest, media_type) = match reference {
            Reference::Digest(digest) => (digest.clone(), None),
            Reference::Tag(tag) => match self.read_index()?.find_tagged(tag) {
                Some(entry) => (entry.digest.clone(), Some(entry.media_type.clone())),
                None => return Ok(None),
            },
        };
        let media_type = media_type.as_deref();
        if walk::is_complete(&*self.files, &digest, media_type) {
            Ok(walk::read_manifest(&*self.files, &digest, media_type))
        } else {
            Ok(None)
        }
    }

    fn has(&self, digest: &Digest, size: u64) -> Result<bool, Failure> {
        Ok(self.folder.blob_size(digest).map_err(write_failure)? == Some(size))
    }

    /// Opens the partial file of a blob; `None` if another process has completed the blob
    /// meanwhile.
    async fn open_partial(
        &self,
        digest: &Digest,
        size: u64,
    ) -> Result<Option<PartialFile>, Failure> {
        self.folder.make().map_err(write_failure)?;
        let path = self.folder.partial_path(digest);
        let part = PartialFile::open(&path).await.map_err(write_failure)?;
        if !self.has(digest, size)? {
            return Ok(Some(part));
        }
        part.discard().map_err(write_failure)?;
        Ok(None)
    }

    /// Writes a manifest.
    async fn put_bytes(&self, manifest: &VerifiedManifest) -> Result<(), Failure> {
        let size = manifest.bytes.len() as u64;
        if self.has(&manifest.digest, size)? {
            return Ok(());
        }
        let Some(mut part) = self.open_partial(&manifest.digest, size).await? else {
            return Ok(());
        };
        let (folder, manifest) = (Arc::clone(&self.folder), manifest.clone());
        run_blocking(move || {
            let mut whole = || {
                part.truncate()?;
                part.write(&manifest.bytes)?;
                folder.prepare_blob_path(&manifest.digest)
            };
            let kept = whole().and_then(|place| part.commit(&place));
            kept.map_err(write_failure)
        })
        .await
    }

    async fn copy_blob(
        &self,
        blob: &PendingBlob,
        report: &Arc<dyn Report>,
    ) -> Result<UploadOutcome, Failure> {
        if self.has(&blob.digest, blob.size)? {
            return Ok(UploadOutcome::AlreadyPresent);
        }
        let Some(mut part) = self.open_partial(&blob.digest, blob.size).await? else {
            return Ok(UploadOutcome::AlreadyPresent);
        };
        report.start_blob(&blob.digest, &blob.label, blob.size);
        let mut bytes = 0;
        loop {
            let (digest, size) = (blob.digest.clone(), blob.size);
            let hasher;
            let first;
            (part, hasher, first) = run_blocking(move || {
                let (hasher, first) = part.rehash(&digest, size).map_err(write_failure)?;
                Ok::<_, Failure>((part, hasher, first))
            })
            .await?;
            report.update_blob(&blob.digest, first);
            let mut fetch = BlobFetch::resume(blob, first, hasher);
            let corrupt = loop {
                match fetch.next_chunk().await? {
                    FetchEvent::Chunk(chunk) => {
                        bytes += chunk.len() as u64;
                        part = run_blocking(move || {
                            part.write(&chunk).map_err(write_failure)?;
                            Ok::<_, Failure>(part)
                        })
                        .await?;
                        report.update_blob(&blob.digest, fetch.position());
                    }
                    FetchEvent::Complete => break None,
                    FetchEvent::Corrupt(failure) => break Some(failure),
                }
            };
            let Some(failure) = corrupt else { break };
            // The partial blob of the earlier run may be damaged, rather than the source.
            part.truncate().map_err(write_failure)?;
            if first == 0 {
                part.discard().map_err(write_failure)?;
                return Err(failure);
            }
            report.detail(&format!(
                "{}: restarting the blob: {}",
                blob.digest, failure.what
            ));
        }
        let (folder, digest) = (Arc::clone(&self.folder), blob.digest.clone());
        run_blocking(move || {
            let kept = folder
                .prepare_blob_path(&digest)
                .and_then(|place| part.commit(&place));
            kept.map_err(write_failure)
        })
        .await?;
        report.finish_blob(&blob.digest);
        Ok(UploadOutcome::Sent { bytes })
    }

    /// Changes the index under its lock. Returns the result of `change`: whether the index changed.
    async fn edit(
        &self,
        change: impl FnOnce(&mut LayoutIndex) -> bool + Send + 'static,
    ) -> Result<bool, Failure> {
        let _turn = self.index_lock.lock().await;
        self.folder.make().map_err(write_failure)?;
        let lock = self.folder.lock().await.map_err(write_failure)?;
        let folder = Arc::clone(&self.folder);
        run_blocking(move || {
            let mut index = folder.read_index().map_err(invalid_target)?;
            let changed = change(&mut index);
            if changed {
                folder.write_index(&index, &lock).map_err(write_failure)?;
            }
            Ok(changed)
        })
        .await
    }
}

fn invalid_target(reason: String) -> Failure {
    Failure::new(FailureKind::Target, format!("target: {reason}"))
        .with_hint("give an OCI layout, an empty folder, or a path that does not exist")
}

impl transports::CopyTarget for LayoutTarget {
    fn name(&self) -> &str {
        &self.name
    }

    fn fetch_manifest<'a>(
        &'a self,
        reference: &'a Reference,
    ) -> TransportFuture<'a, Option<VerifiedManifest>> {
        let (own, reference) = (self.clone(), reference.clone());
        Box::pin(run_blocking(move || own.read_manifest(&reference)))
    }

    fn has_blob<'a>(&'a self, blob: &'a Descriptor) -> TransportFuture<'a, bool> {
        Box::pin(async { self.has(&blob.digest, blob.size) })
    }

    fn list_referrers<'a>(
        &'a self,
        subject: &'a Digest,
    ) -> TransportFuture<'a, Option<Vec<Descriptor>>> {
        let (own, subject) = (self.clone(), subject.clone());
        Box::pin(run_blocking(move || {
            let by_subject = walk::referrers_by_subject(&*own.files, &own.read_index()?);
            Ok(Some(by_subject.get(&subject).cloned().unwrap_or_default()))
        }))
    }

    fn put_blob<'a>(
        &'a self,
        blob: &'a PendingBlob,
        report: &'a Arc<dyn Report>,
    ) -> TransportFuture<'a, UploadOutcome> {
        Box::pin(self.copy_blob(blob, report))
    }

    fn put_manifest<'a>(
        &'a self,
        manifest: &'a VerifiedManifest,
        role: &'a ManifestRole,
    ) -> TransportFuture<'a, ()> {
        Box::pin(async move {
            self.put_bytes(manifest).await?;
            if *role == ManifestRole::Child {
                return Ok(());
            }
            let (manifest, role, image) = (manifest.clone(), role.clone(), self.image_name.clone());
            let put = move |index: &mut LayoutIndex| {
                index.add_manifest(&manifest, &role, image.as_deref())
            };
            self.edit(put).await.map(drop)
        })
    }

    fn delete_tag<'a>(&'a self, tag: &'a Tag) -> TransportFuture<'a, DeleteOutcome> {
        Box::pin(async move {
            let tag = tag.clone();
            if self.edit(move |index| index.remove(&tag)).await? {
                Ok(DeleteOutcome::Deleted)
            } else {
                Ok(DeleteOutcome::NotFound)
            }
        })
    }

    fn finish<'a>(&'a self, _: &'a Arc<dyn Report>) -> TransportFuture<'a, ()> {
        let own = self.clone();
        Box::pin(run_blocking(move || {
            own.folder.remove_work_folder();
            Ok(())
        }))
    }
}
