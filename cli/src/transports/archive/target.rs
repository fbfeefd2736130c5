//! An OCI archive as the target of a copy.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use imgsync_oci::{Digest, MAX_MANIFEST_BYTES};

use super::docker_manifest::{DOCKER_MANIFEST_FILE, docker_manifest_entries, manifest_json};
use super::writer::ArchiveWriter;
use crate::disk::{self, FileIdentity};
use crate::exit::{Failure, FailureKind};
use crate::image::{self, Slice};
use crate::report::Report;
use crate::transports::Result;
use crate::transports::blocking::{run_blocking, write_failure};
use crate::transports::fetch::local_blob;
use crate::transports::files::{FileContent, SourceFiles};
use crate::transports::layout::{
    BlobStore, LayoutIndex, LayoutStorage, OCI_INDEX_FILE, OCI_LAYOUT_CONTENT, OCI_LAYOUT_FILE,
    StorageTarget, read_index, walk,
};
use crate::transports::locate::open_archive;
use crate::upload::{PendingBlob, UploadOutcome};

/// An archive that images are copied into. The file stays unchanged until it is finished.
pub(crate) type ArchiveTarget = StorageTarget<ArchiveStorage>;

/// A layout in an archive.
#[derive(Debug, Clone)]
pub(crate) struct ArchiveStorage {
    path: PathBuf,
    /// `None` also after it was replaced.
    existing: Arc<Mutex<Option<Arc<ExistingArchive>>>>,
    state: Arc<Mutex<ArchiveState>>,
    /// The writer; a tar accepts one entry at a time.
    writer: Arc<tokio::sync::Mutex<Option<ArchiveWriter>>>,
}

/// The archive that exists already.
#[derive(Debug)]
struct ExistingArchive {
    files: SourceFiles,
    identity: FileIdentity,
}

#[derive(Debug, Default)]
struct ArchiveState {
    index: LayoutIndex,
    has_changes: bool,
    /// Where blobs were written.
    written: HashMap<Digest, Slice>,
}

impl ArchiveTarget {
    /// Opens the archive at `path`, which need not exist. `name` is the name that the user typed;
    /// `image` is the name of the images, for Docker and podman.
    ///
    /// # Errors
    /// Returns an error if the file is damaged or no OCI archive.
    pub(crate) async fn open(path: &Path, name: &str, image: Option<&str>) -> Result<Self> {
        // A symbolic link of the user is followed, so that it is not replaced by a file.
        let path = disk::follow_link(path);
        let storage = run_blocking(move || {
            let (mut existing, mut state) = (None, ArchiveState::default());
            if disk::file_size(&path).map_err(write_failure)?.is_some() {
                let (files, identity) = open_archive(&path).map_err(invalid_target)?;
                state.index = read_index(&files).map_err(invalid_target)?;
                existing = Some(Arc::new(ExistingArchive { files, identity }));
            }
            Ok::<_, Failure>(ArchiveStorage {
                path,
                existing: Arc::new(Mutex::new(existing)),
                state: Arc::new(Mutex::new(state)),
                writer: Arc::default(),
            })
        });
        Ok(Self::new(name, image, storage.await?))
    }
}

fn invalid_target(error: image::Error) -> Failure {
    Failure::new(FailureKind::Target, format!("target: {error}")).with_hint(
        "images are added to an existing archive; to start over, remove it or give another path",
    )
}

/// The blobs of the new archive: those that were written, and those of the old archive.
impl BlobStore for ArchiveStorage {
    fn blob_size(&self, digest: &Digest) -> Option<u64> {
        let written = self.state().written.get(digest).map(Slice::len);
        written.or_else(|| self.existing()?.files.blob_size(digest))
    }

    fn manifest_bytes(&self, digest: &Digest) -> Option<Bytes> {
        // Written blobs were verified, and no other process writes the file.
        match self.state().written.get(digest).cloned() {
            Some(slice) if slice.len() <= MAX_MANIFEST_BYTES as u64 => slice.read_all().ok(),
            Some(_) => None,
            None => self.existing()?.files.manifest_bytes(digest),
        }
    }
}

impl ArchiveStorage {
    fn state(&self) -> MutexGuard<'_, ArchiveState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn existing(&self) -> Option<Arc<ExistingArchive>> {
        self.lock_existing().clone()
    }

    fn lock_existing(&self) -> MutexGuard<'_, Option<Arc<ExistingArchive>>> {
        self.existing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins the file that becomes the new archive.
    fn begin(&self) -> Result<ArchiveWriter> {
        let mut name = std::ffi::OsString::from(".");
        name.push(self.path.file_name().unwrap_or_default());
        name.push(".imgsync-part");
        let writer =
            ArchiveWriter::begin(&self.path.with_file_name(name)).map_err(write_failure)?;
        let busy = |what: &str| {
            let what = format!("target: {} {what}", self.path.display());
            Failure::new(FailureKind::Target, what).with_hint(
                "wait until the other process has ended, then run the same command again",
            )
        };
        let writer = writer.ok_or_else(|| busy("is being written by another imgsync"))?;
        // Another process may have replaced the archive before this one took the lock.
        let is_unchanged = match (self.existing(), FileIdentity::of_path(&self.path)) {
            (None, Err(_)) => true,
            (Some(existing), Ok(now)) => existing.identity == now,
            _ => false,
        };
        if is_unchanged {
            return Ok(writer);
        }
        writer.discard().map_err(write_failure)?;
        Err(busy("was changed by another process"))
    }

    /// Writes a blob.
    async fn write(
        &self,
        writer: &mut Option<ArchiveWriter>,
        blob: &PendingBlob,
        report: Option<&dyn Report>,
    ) -> Result<()> {
        let writer = match writer {
            Some(writer) => writer,
            None => writer.insert(self.begin()?),
        };
        let slice = writer.append_blob(blob, report).await?;
        self.state().written.insert(blob.digest.clone(), slice);
        Ok(())
    }

    /// Returns the blobs of the old archive that the new one needs.
    fn blobs_to_keep(&self, index: &LayoutIndex) -> Vec<PendingBlob> {
        let Some(existing) = self.existing() else {
            return Vec::new();
        };
        let needed = walk::reachable_digests(self, index).into_iter();
        let missing = needed.filter(|digest| !self.state().written.contains_key(digest));
        let kept = missing.filter_map(|digest| match existing.files.blob(&digest) {
            Ok(FileContent::Available(slice)) => Some(local_blob(digest, slice)),
            _ => None,
        });
        kept.collect()
    }
}

#[async_trait]
impl LayoutStorage for ArchiveStorage {
    fn read_index(&self) -> Result<LayoutIndex> {
        Ok(self.state().index.clone())
    }

    fn has(&self, digest: &Digest, size: u64) -> Result<bool> {
        Ok(self.blob_size(digest) == Some(size))
    }

    async fn store_blob(
        &self,
        blob: &PendingBlob,
        report: Option<&dyn Report>,
    ) -> Result<UploadOutcome> {
        let PendingBlob { digest, size, .. } = blob;
        if self.has(digest, *size)? {
            return Ok(UploadOutcome::AlreadyPresent);
        }
        let mut writer = self.writer.lock().await;
        if self.has(digest, *size)? {
            return Ok(UploadOutcome::AlreadyPresent);
        }
        if let Some(report) = report {
            report.start_blob(digest, &blob.label, *size, 0);
        }
        self.write(&mut writer, blob, report).await?;
        if let Some(report) = report {
            report.finish_blob(digest);
        }
        Ok(UploadOutcome::Sent {
            bytes: *size,
            resent: 0,
        })
    }

    async fn edit_index<C>(&self, change: C) -> Result<bool>
    where
        C: FnOnce(&mut LayoutIndex) -> bool + Send + 'static,
    {
        let mut state = self.state();
        let has_changed = change(&mut state.index);
        state.has_changes |= has_changed;
        Ok(has_changed)
    }

    async fn finish(&self, image_name: Option<&str>) -> Result<()> {
        let mut slot = self.writer.lock().await;
        if !self.state().has_changes {
            // The writer has at most blobs of images that were not completed.
            return match slot.take() {
                Some(writer) => writer.discard().map_err(write_failure),
                None => Ok(()),
            };
        }
        let mut index = self.read_index()?;
        index.sort();
        for blob in self.blobs_to_keep(&index) {
            let written = self.write(&mut slot, &blob, None).await;
            written.map_err(|failure| {
                let (digest, size) = (&blob.digest, blob.size);
                let what = format!("the archive has a damaged blob {digest} of {size} bytes");
                let what = format!("target: {what}; {}", failure.what);
                Failure::new(FailureKind::Target, what)
                    .with_hint("the archive was not changed; remove it and mirror again")
            })?;
        }
        let mut writer = match slot.take() {
            Some(writer) => writer,
            None => self.begin()?,
        };
        let images = docker_manifest_entries(self, &index, image_name);
        // Windows does not replace an open file. Everything that is needed of the old one was copied.
        self.lock_existing().take();
        let path = self.path.clone();
        let replaced = run_blocking(move || {
            if !images.is_empty() {
                writer.append_file(DOCKER_MANIFEST_FILE, &manifest_json(&images))?;
            }
            writer.append_file(OCI_INDEX_FILE, &index.to_bytes())?;
            writer.append_file(OCI_LAYOUT_FILE, OCI_LAYOUT_CONTENT)?;
            writer.commit(&path)
        });
        replaced.await.map_err(write_failure)?;
        self.state().has_changes = false;
        Ok(())
    }
}
