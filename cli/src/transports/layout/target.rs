//! An OCI layout in a folder as the target of a copy. Everything that was put is on the disk and is
//! there for the next run.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use imgsync_oci::{Algorithm, Digest, Hasher};

use super::LayoutIndex;
use super::folder::LayoutFolder;
use super::storage::{LayoutStorage, StorageTarget};
use super::walk::BlobStore;
use crate::disk::{self, LockedFile};
use crate::exit::{Failure, FailureKind};
use crate::report::Report;
use crate::transports::Result;
use crate::transports::blocking::{run_blocking, write_failure};
use crate::transports::fetch::{BlobFetch, BlobFile};
use crate::upload::{PendingBlob, UploadOutcome};

/// The bytes of a partial blob that are read at a time.
const READ_BUFFER_BYTES: usize = 256 * 1024;

/// A folder with an OCI layout that images are copied into. Several processes may write to it at a
/// time.
pub(crate) type LayoutTarget = StorageTarget<Arc<LayoutFolder>>;

impl LayoutTarget {
    /// Opens the layout in the folder `path`, which need not exist. `name` is the name that the
    /// user typed; `image` is the name of the images, for Docker and podman.
    ///
    /// # Errors
    /// Returns an error if something else is there.
    pub(crate) async fn open(path: &Path, name: &str, image: Option<&str>) -> Result<Self> {
        let path = path.to_owned();
        let folder = run_blocking(move || {
            let folder = LayoutFolder::new(&path)?;
            LayoutFolder::read_index(&folder).map(|_| folder)
        });
        let folder = folder.await.map_err(invalid_target)?;
        Ok(Self::new(name, image, Arc::new(folder)))
    }
}

/// Hashes a partial blob whose complete size is `size`, and returns the hasher and the number of
/// bytes. A longer file is truncated to nothing.
fn rehash(file: &File, algorithm: Algorithm, size: u64) -> io::Result<(Hasher, u64)> {
    if file.metadata()?.len() > size {
        file.set_len(0)?;
    }
    let mut hasher = Hasher::new(algorithm);
    let mut buffer = vec![0; READ_BUFFER_BYTES];
    let mut hashed = 0;
    loop {
        match disk::read_at(file, &mut buffer, hashed)? {
            0 => return Ok((hasher, hashed)),
            len => {
                hasher.update(&buffer[..len]);
                hashed += len as u64;
            }
        }
    }
}

fn invalid_target(reason: String) -> Failure {
    Failure::new(FailureKind::Target, format!("target: {reason}"))
        .with_hint("give an OCI layout, an empty folder, or a path that does not exist")
}

impl BlobStore for Arc<LayoutFolder> {
    fn blob_size(&self, digest: &Digest) -> Option<u64> {
        self.files.blob_size(digest)
    }

    fn manifest_bytes(&self, digest: &Digest) -> Option<Bytes> {
        self.files.manifest_bytes(digest)
    }
}

/// Writes the rest of a blob to its partial file, which an earlier run may have begun. Returns
/// the number of bytes that were read from the source.
async fn write_partial(
    blob: &PendingBlob,
    partial: LockedFile,
    report: Option<&dyn Report>,
) -> Result<(LockedFile, u64)> {
    let path = partial.path.clone();
    let target = BlobFile {
        file: Arc::new(partial.file.try_clone().map_err(write_failure)?),
        path: &path,
        offset: 0,
        report,
    };
    let (mut bytes, mut is_reported) = (0, false);
    loop {
        let (file, algorithm, size) =
            (Arc::clone(&target.file), blob.digest.algorithm(), blob.size);
        let rehashed = run_blocking(move || rehash(&file, algorithm, size)).await;
        let (hasher, start) = rehashed.map_err(write_failure)?;
        match report {
            Some(report) if !is_reported => {
                report.start_blob(&blob.digest, &blob.label, blob.size, start);
            }
            Some(report) => report.update_blob(&blob.digest, start),
            None => {}
        }
        is_reported = true;
        let mut fetch = BlobFetch::resume(blob, start, hasher);
        let written = fetch.write_to(&target).await;
        bytes += fetch.position() - start;
        let failure = match written {
            Ok(()) => return Ok((partial, bytes)),
            Err(error) if error.is_corrupt => error.failure,
            Err(error) => return Err(error.failure),
        };
        if start == 0 {
            partial.remove().map_err(write_failure)?;
            return Err(failure);
        }
        // The partial blob of the earlier run may be damaged, rather than the source.
        target.file.set_len(0).map_err(write_failure)?;
        if let Some(report) = report {
            let (digest, reason) = (&blob.digest, &failure.what);
            report.detail(&format!("{digest}: restarting the blob: {reason}"));
        }
    }
}

#[async_trait]
impl LayoutStorage for Arc<LayoutFolder> {
    fn read_index(&self) -> Result<LayoutIndex> {
        LayoutFolder::read_index(self).map_err(invalid_target)
    }

    fn has(&self, digest: &Digest, size: u64) -> Result<bool> {
        let stored = self.checked_blob_size(digest).map_err(write_failure)?;
        Ok(stored == Some(size))
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
        self.make().map_err(write_failure)?;
        let path = self.partial_path(digest);
        // Waits while another process writes the same blob.
        let partial = LockedFile::open_waiting(&path)
            .await
            .map_err(write_failure)?;
        if self.has(digest, *size)? {
            partial.remove().map_err(write_failure)?;
            return Ok(UploadOutcome::AlreadyPresent);
        }
        let (partial, bytes) = write_partial(blob, partial, report).await?;
        let (folder, stored) = (Arc::clone(self), digest.clone());
        let renamed = run_blocking(move || partial.rename(&folder.prepare_blob_path(&stored)?));
        renamed.await.map_err(write_failure)?;
        if let Some(report) = report {
            report.finish_blob(digest);
        }
        Ok(UploadOutcome::Sent { bytes, resent: 0 })
    }

    async fn edit_index<C>(&self, change: C) -> Result<bool>
    where
        C: FnOnce(&mut LayoutIndex) -> bool + Send + 'static,
    {
        let _guard = self.index_lock.lock().await;
        self.make().map_err(write_failure)?;
        let lock = self.lock().await.map_err(write_failure)?;
        let folder = Arc::clone(self);
        run_blocking(move || {
            let mut index = LayoutStorage::read_index(&folder)?;
            let has_changed = change(&mut index);
            if has_changed {
                folder.write_index(&index, &lock).map_err(write_failure)?;
            }
            Ok(has_changed)
        })
        .await
    }

    async fn finish(&self, _image_name: Option<&str>) -> Result<()> {
        let folder = Arc::clone(self);
        run_blocking(move || folder.remove_work_folder()).await;
        Ok(())
    }
}
