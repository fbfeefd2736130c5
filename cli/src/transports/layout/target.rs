//! An OCI layout as a target: a folder. What was put is on the disk, and is there for the next run.

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

/// A layout that images go into. What is in it stays; tags that come again are replaced.
#[derive(Debug, Clone)]
pub struct LayoutTarget {
    name: String,
    folder: Arc<LayoutFolder>,
    files: Arc<SourceFiles>,
    /// What images are called as a whole, without the tag.
    image_name: Option<String>,
    /// One at a time changes the index; what is in there is not read twice.
    index_lock: Arc<tokio::sync::Mutex<()>>,
}

impl LayoutTarget {
    /// The layout in the folder `path`, which need not be there yet. `called` is what the user
    /// typed for it; `image` what the images are called as a whole, for Docker and podman.
    ///
    /// # Errors
    /// Something else is there.
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

    /// What a reference means, if it is there with all its parts.
    fn read_manifest(&self, reference: &Reference) -> Result<Option<VerifiedManifest>, Failure> {
        let (digest, media_type) = match reference {
            Reference::Digest(digest) => (digest.clone(), None),
            Reference::Tag(tag) => match self.read_index()?.find_tagged(tag) {
                Some(entry) => (entry.digest.clone(), Some(entry.media_type.clone())),
                None => return Ok(None),
            },
        };
        let media_type = media_type.as_deref();
        match walk::is_complete(&*self.files, &digest, media_type) {
            true => Ok(walk::read_manifest(&*self.files, &digest, media_type)),
            false => Ok(None),
        }
    }

    fn has(&self, digest: &Digest, size: u64) -> Result<bool, Failure> {
        let found = self.folder.blob_size(digest);
        let found = found.map_err(|error| write_failure(&error))?;
        Ok(found == Some(size))
    }

    /// The place of a blob, and its part, ready to be written; `None` where it came meanwhile.
    async fn open_partial(
        &self,
        digest: &Digest,
        size: u64,
    ) -> Result<Option<PartialFile>, Failure> {
        self.folder.make().map_err(|error| write_failure(&error))?;
        let part = PartialFile::open(&self.folder.partial_path(digest)).await;
        let part = part.map_err(|error| write_failure(&error))?;
        if !self.has(digest, size)? {
            return Ok(Some(part));
        }
        part.discard().map_err(|error| write_failure(&error))?;
        Ok(None)
    }

    /// Puts a small blob that is at hand, and verified.
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
            kept.map_err(|error| write_failure(&error))
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
            let hashed;
            let first;
            (part, hashed, first) = run_blocking(move || {
                let begun = part.rehash(&digest, size);
                let (hashed, first) = begun.map_err(|error| write_failure(&error))?;
                Ok::<_, Failure>((part, hashed, first))
            })
            .await?;
            report.update_blob(&blob.digest, first);
            let mut fetch = BlobFetch::resume(blob, first, hashed);
            let wrong = loop {
                match fetch.next_chunk().await? {
                    FetchEvent::Chunk(piece) => {
                        bytes += piece.len() as u64;
                        part = run_blocking(move || {
                            let written = part.write(&piece);
                            written.map_err(|error| write_failure(&error))?;
                            Ok::<_, Failure>(part)
                        })
                        .await?;
                        report.update_blob(&blob.digest, fetch.position());
                    }
                    FetchEvent::Complete => break None,
                    FetchEvent::Corrupt(failure) => break Some(failure),
                }
            };
            let Some(failure) = wrong else { break };
            // What was there before may be to blame, and not the source.
            part.truncate().map_err(|error| write_failure(&error))?;
            if first == 0 {
                part.discard().map_err(|error| write_failure(&error))?;
                return Err(failure);
            }
            report.detail(&format!("{}: begins anew: {}", blob.digest, failure.what));
        }
        let (folder, digest) = (Arc::clone(&self.folder), blob.digest.clone());
        run_blocking(move || {
            let kept = folder
                .prepare_blob_path(&digest)
                .and_then(|place| part.commit(&place));
            kept.map_err(|error| write_failure(&error))
        })
        .await?;
        report.finish_blob(&blob.digest);
        Ok(UploadOutcome::Sent { bytes })
    }

    /// Changes the index, under the lock. Yields what `change` does: whether it changed anything.
    async fn edit(
        &self,
        change: impl FnOnce(&mut LayoutIndex) -> bool + Send + 'static,
    ) -> Result<bool, Failure> {
        let _turn = self.index_lock.lock().await;
        self.folder.make().map_err(|error| write_failure(&error))?;
        let lock = self.folder.lock().await;
        let lock = lock.map_err(|error| write_failure(&error))?;
        let folder = Arc::clone(&self.folder);
        run_blocking(move || {
            let mut index = folder.read_index().map_err(invalid_target)?;
            let changed = change(&mut index);
            if changed {
                let written = folder.write_index(&index, &lock);
                written.map_err(|error| write_failure(&error))?;
            }
            Ok(changed)
        })
        .await
    }
}

fn invalid_target(reason: String) -> Failure {
    Failure::new(FailureKind::Target, format!("target: {reason}"))
        .with_hint("give a folder that is empty, not there yet, or an OCI layout that is whole")
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
            let about = walk::referrers_by_subject(&*own.files, &own.read_index()?);
            Ok(Some(about.get(&subject).cloned().unwrap_or_default()))
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
            Ok(match self.edit(move |index| index.remove(&tag)).await? {
                true => DeleteOutcome::Deleted,
                false => DeleteOutcome::NotFound,
            })
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
