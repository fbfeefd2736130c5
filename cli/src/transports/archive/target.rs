//! An OCI archive as the target of a copy.

use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use imgsync_oci::client::DeleteOutcome;
use imgsync_oci::{Descriptor, Digest, MAX_MANIFEST_BYTES, Reference, Tag};

use super::docker_manifest::{self, DOCKER_MANIFEST_FILE, docker_manifest_entries};
use super::writer::{ArchiveWriter, WrittenBlobs};
use crate::disk;
use crate::exit::{Failure, FailureKind};
use crate::image::{self, Slice};
use crate::report::Report;
use crate::transports::blocking::{run_blocking, write_failure};
use crate::transports::fetch::BlobFetch;
use crate::transports::files::{FileContent, SourceFiles};
use crate::transports::layout::walk::{self, BlobStore};
use crate::transports::layout::{
    LayoutIndex, OCI_INDEX_FILE, OCI_LAYOUT_CONTENT, OCI_LAYOUT_FILE, read_index,
};
use crate::transports::locate::open_archive;
use crate::transports::{self, ManifestRole, TransportFuture, VerifiedManifest};
use crate::upload::{BlobSource, PendingBlob, UploadOutcome};

/// An archive that images are copied into. The file stays unchanged until `finish`.
#[derive(Debug, Clone)]
pub struct ArchiveTarget {
    name: String,
    path: PathBuf,
    /// The name of the images, without the tag.
    image_name: Option<String>,
    existing: Option<Arc<ExistingArchive>>,
    state: Arc<Mutex<ArchiveState>>,
    /// The writer; a tar accepts one entry at a time.
    writer: Arc<tokio::sync::Mutex<Option<ArchiveWriter>>>,
}

/// The archive that exists already.
#[derive(Debug)]
struct ExistingArchive {
    files: SourceFiles,
    metadata: Metadata,
}

#[derive(Debug, Default)]
struct ArchiveState {
    index: LayoutIndex,
    has_changes: bool,
    written: WrittenBlobs,
}

/// The blobs of the new archive: those that were written, and those of the old archive.
impl BlobStore for ArchiveTarget {
    fn blob_size(&self, digest: &Digest) -> Option<u64> {
        let written = self.state().written.size(digest);
        written.or_else(|| self.existing.as_ref()?.files.blob_size(digest))
    }

    fn manifest_bytes(&self, digest: &Digest) -> Option<Bytes> {
        // Written blobs were verified, and no other process writes the file.
        match self.state().written.get(digest).cloned() {
            Some(slice) if slice.len() <= MAX_MANIFEST_BYTES as u64 => slice.read_all().ok(),
            Some(_) => None,
            None => self.existing.as_ref()?.files.manifest_bytes(digest),
        }
    }
}

impl ArchiveTarget {
    /// Opens the archive at `path`, which need not exist. `called` is the name that the user typed;
    /// `image` is the name of the images, for Docker and podman.
    ///
    /// # Errors
    /// Returns an error if the file is damaged or no OCI archive.
    pub async fn open(path: &Path, called: &str, image: Option<&str>) -> Result<Self, Failure> {
        let path = path.to_owned();
        let (path, old, index) = run_blocking(move || {
            // A symbolic link of the user is followed, so that it is not replaced by a file.
            let path = path.canonicalize().unwrap_or(path);
            let size = disk::file_size(&path).map_err(write_failure)?;
            if size.is_none() {
                return Ok((path, None, LayoutIndex::default()));
            }
            let (contents, metadata) = open_archive(&path).map_err(invalid_target)?;
            let index = read_index(&contents).map_err(invalid_target)?;
            let old = Some(Arc::new(ExistingArchive {
                files: contents,
                metadata,
            }));
            Ok::<_, Failure>((path, old, index))
        })
        .await?;
        let state = ArchiveState {
            index,
            ..ArchiveState::default()
        };
        Ok(Self {
            name: called.to_owned(),
            path,
            image_name: image.map(str::to_owned),
            existing: old,
            state: Arc::new(Mutex::new(state)),
            writer: Arc::default(),
        })
    }

    fn state(&self) -> MutexGuard<'_, ArchiveState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has(&self, digest: &Digest, size: u64) -> bool {
        self.blob_size(digest) == Some(size)
    }

    fn read_manifest(&self, reference: &Reference) -> Option<VerifiedManifest> {
        let (digest, media_type) = match reference {
            Reference::Digest(digest) => (digest.clone(), None),
            Reference::Tag(tag) => {
                let state = self.state();
                let entry = state.index.find_tagged(tag)?;
                (entry.digest.clone(), Some(entry.media_type.clone()))
            }
        };
        let media_type = media_type.as_deref();
        let is_whole = walk::is_complete(self, &digest, media_type);
        is_whole.then(|| walk::read_manifest(self, &digest, media_type))?
    }

    /// Begins the file that becomes the new archive.
    fn begin(&self) -> Result<ArchiveWriter, Failure> {
        let shown = self.path.display();
        let mut name = std::ffi::OsString::from(".");
        name.push(self.path.file_name().unwrap_or_default());
        name.push(".imgsync-part");
        let begun = ArchiveWriter::begin(&self.path.with_file_name(name)).map_err(write_failure)?;
        let busy = |what: &str| {
            let what = format!("target: {shown} {what}");
            Failure::new(FailureKind::Target, what)
                .with_hint("try again when the other process has ended")
        };
        let writer = begun.ok_or_else(|| busy("is being written by another imgsync"))?;
        // Another process may have replaced the archive before this one took the lock.
        let now = self.path.symlink_metadata().ok();
        let is_same = match (&self.existing, &now) {
            (None, None) => true,
            (Some(old), Some(now)) => disk::is_same_file(&old.metadata, now),
            (None, Some(_)) | (Some(_), None) => false,
        };
        if is_same {
            Ok(writer)
        } else {
            writer.discard().map_err(write_failure)?;
            Err(busy("has changed meanwhile"))
        }
    }

    /// Writes a blob, verified on the way. A blob that fails does not become part of the tar.
    async fn write(
        &self,
        writer_slot: &mut Option<ArchiveWriter>,
        blob: &PendingBlob,
        report: Option<&Arc<dyn Report>>,
    ) -> Result<(), Failure> {
        let writer = match writer_slot {
            Some(writer) => writer,
            None => writer_slot.insert(self.begin()?),
        };
        let mut entry = writer.open(&blob.digest, blob.size);
        let mut fetch = BlobFetch::new(blob);
        while let Some(chunk) = fetch.next_verified().await? {
            entry = run_blocking(move || {
                entry.write(&chunk).map_err(write_failure)?;
                Ok::<_, Failure>(entry)
            })
            .await?;
            if let Some(report) = report {
                report.update_blob(&blob.digest, fetch.position());
            }
        }
        let slice = writer.close(&entry).map_err(write_failure)?;
        self.state().written.insert(blob.digest.clone(), slice);
        Ok(())
    }

    async fn copy_blob(
        &self,
        blob: &PendingBlob,
        report: &Arc<dyn Report>,
    ) -> Result<UploadOutcome, Failure> {
        if self.has(&blob.digest, blob.size) {
            return Ok(UploadOutcome::AlreadyPresent);
        }
        let mut writer_slot = self.writer.lock().await;
        if self.has(&blob.digest, blob.size) {
            return Ok(UploadOutcome::AlreadyPresent);
        }
        report.start_blob(&blob.digest, &blob.label, blob.size);
        self.write(&mut writer_slot, blob, Some(report)).await?;
        report.finish_blob(&blob.digest);
        Ok(UploadOutcome::Sent { bytes: blob.size })
    }

    async fn write_archive(&self) -> Result<(), Failure> {
        let mut writer_slot = self.writer.lock().await;
        let (mut index, changed) = {
            let state = self.state();
            (state.index.clone(), state.has_changes)
        };
        if !changed {
            // The writer has at most blobs of images that were not completed.
            return match writer_slot.take() {
                Some(writer) => writer.discard().map_err(write_failure),
                None => Ok(()),
            };
        }
        index.sort();
        for kept in self.blobs_to_keep(&index) {
            let (digest, size) = (kept.digest.clone(), kept.size);
            self.write(&mut writer_slot, &kept, None)
                .await
                .map_err(|failure| {
                    let what =
                        format!("target: the archive has a damaged blob {digest} of {size} bytes");
                    Failure::new(FailureKind::Target, format!("{what}; {}", failure.what))
                        .with_hint("the archive was not changed; remove it and mirror again")
                })?;
        }
        let mut writer = match writer_slot.take() {
            Some(writer) => writer,
            None => self.begin()?,
        };
        let images = docker_manifest_entries(self, &index, self.image_name.as_deref());
        let path = self.path.clone();
        run_blocking(move || {
            let mut whole = || {
                if !images.is_empty() {
                    writer.append_file(
                        DOCKER_MANIFEST_FILE,
                        &docker_manifest::manifest_json(&images),
                    )?;
                }
                writer.append_file(OCI_INDEX_FILE, &index.to_bytes())?;
                writer.append_file(OCI_LAYOUT_FILE, OCI_LAYOUT_CONTENT)
            };
            let kept = whole().and_then(|()| writer.commit(&path));
            kept.map_err(write_failure)
        })
        .await?;
        self.state().has_changes = false;
        Ok(())
    }

    /// Returns the blobs of the old archive that the new one needs.
    fn blobs_to_keep(&self, index: &LayoutIndex) -> Vec<PendingBlob> {
        let Some(old) = &self.existing else {
            return Vec::new();
        };
        let needed = walk::reachable_digests(self, index).into_iter();
        let missing = needed.filter(|digest| self.state().written.size(digest).is_none());
        let kept = missing.filter_map(|digest| match old.files.blob(&digest) {
            Ok(FileContent::Available(slice)) => Some(pending_blob(digest, slice)),
            Ok(FileContent::Skipped { .. }) | Err(_) => None,
        });
        kept.collect()
    }
}

fn pending_blob(digest: Digest, slice: Slice) -> PendingBlob {
    PendingBlob {
        label: digest.short().to_owned(),
        size: slice.len(),
        source: BlobSource::Local(slice),
        digest,
        mount: None,
    }
}

fn invalid_target(error: image::Error) -> Failure {
    Failure::new(FailureKind::Target, format!("target: {error}")).with_hint(
        "images are added to an existing archive; to start over, remove it or give another path",
    )
}

impl transports::CopyTarget for ArchiveTarget {
    fn name(&self) -> &str {
        &self.name
    }

    fn fetch_manifest<'a>(
        &'a self,
        reference: &'a Reference,
    ) -> TransportFuture<'a, Option<VerifiedManifest>> {
        let (own, reference) = (self.clone(), reference.clone());
        Box::pin(run_blocking(move || Ok(own.read_manifest(&reference))))
    }

    fn has_blob<'a>(&'a self, blob: &'a Descriptor) -> TransportFuture<'a, bool> {
        Box::pin(async { Ok(self.has(&blob.digest, blob.size)) })
    }

    fn list_referrers<'a>(
        &'a self,
        subject: &'a Digest,
    ) -> TransportFuture<'a, Option<Vec<Descriptor>>> {
        let (own, subject) = (self.clone(), subject.clone());
        Box::pin(run_blocking(move || {
            let index = own.state().index.clone();
            let about = walk::referrers_by_subject(&own, &index);
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
            let size = manifest.bytes.len() as u64;
            let mut writer_slot = self.writer.lock().await;
            if !self.has(&manifest.digest, size) {
                let slice = Slice::memory(manifest.bytes.clone());
                let blob = pending_blob(manifest.digest.clone(), slice);
                self.write(&mut writer_slot, &blob, None).await?;
            }
            let mut state = self.state();
            let changed = state
                .index
                .add_manifest(manifest, role, self.image_name.as_deref());
            state.has_changes |= changed;
            Ok(())
        })
    }

    fn delete_tag<'a>(&'a self, tag: &'a Tag) -> TransportFuture<'a, DeleteOutcome> {
        Box::pin(async {
            let mut state = self.state();
            if state.index.remove(tag) {
                state.has_changes = true;
                Ok(DeleteOutcome::Deleted)
            } else {
                Ok(DeleteOutcome::NotFound)
            }
        })
    }

    fn finish<'a>(&'a self, _: &'a Arc<dyn Report>) -> TransportFuture<'a, ()> {
        Box::pin(self.write_archive())
    }
}
