//! Bytes that are becoming a blob: those of an upload session, or those fetched from an upstream.
//!
//! An ingest appends to one file. A state file beside it stores the last checkpoint: how many bytes
//! are durable, and their hash, so that the ingest can resume after a restart. Bytes after the
//! checkpoint are cut off then, because a power cut can leave zeros there. Start reading at
//! [`Ingest`]; how ingests are opened and removed is up to `uploads` and `cache_fills`.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use imgsync_oci::endpoint::UploadId;
use imgsync_oci::{Algorithm, Digest, Hasher, Repository};

use super::checkpoint::Checkpoint;
use super::disk::DiskFile;
use super::error::{IoContext, Result};
use super::paths::StorePaths;
use super::{ObjectKey, Store};

/// How much of a file is read at a time to hash it.
const HASH_BUFFER_BYTES: usize = 256 * 1024;

/// Names an ingest.
#[derive(Debug, Clone)]
pub(super) enum IngestKey {
    /// An upload session.
    Upload {
        repository: Repository,
        id: UploadId,
        /// The user who opened the session, if known.
        owner: Option<Arc<str>>,
    },
    /// A blob that is fetched from an upstream.
    CacheFill {
        digest: Digest,
        /// The address of the upstream.
        upstream: Arc<str>,
    },
}

/// The writer of an ingest, positioned at its end. At most one may be open per key.
pub(crate) struct Ingest {
    store: Arc<Store>,
    key: IngestKey,
    data: Arc<DataFile>,
    written: Checkpoint,
    /// The state that survives a crash: the content of the state file.
    durable: Checkpoint,
    /// Whether the data file was changed since its last sync.
    needs_sync: bool,
}

/// Reads the bytes of an ingest while more are appended. Stays readable after the ingest became a
/// blob or was removed.
#[derive(Clone)]
pub(crate) struct PartialBlob(Arc<DataFile>);

struct DataFile {
    file: DiskFile,
    available: AtomicU64,
}

/// The bytes of an ingest, all durable, with their digest.
pub(crate) struct SealedIngest {
    data_path: PathBuf,
    digest: Digest,
    size: u64,
}

impl IngestKey {
    fn state_path(&self, paths: &StorePaths) -> PathBuf {
        match self {
            Self::Upload { id, .. } => paths.upload_state(*id),
            Self::CacheFill { digest, .. } => paths.cache_fill_state(digest),
        }
    }

    fn state_json(&self, checkpoint: &Checkpoint) -> Vec<u8> {
        match self {
            Self::Upload {
                repository, owner, ..
            } => checkpoint.to_upload_json(repository, owner.as_deref()),
            Self::CacheFill { upstream, .. } => checkpoint.to_cache_fill_json(upstream),
        }
    }

    fn upload_id(&self) -> Option<UploadId> {
        match self {
            Self::Upload { id, .. } => Some(*id),
            Self::CacheFill { .. } => None,
        }
    }

    fn digest(&self) -> Option<&Digest> {
        match self {
            Self::Upload { .. } => None,
            Self::CacheFill { digest, .. } => Some(digest),
        }
    }
}

impl PartialBlob {
    /// Returns how many bytes can be read now. The number shrinks when bytes could not be made
    /// durable.
    pub(crate) fn available(&self) -> u64 {
        self.0.available.load(Ordering::Acquire)
    }

    /// Reads from `offset` until `bytes` is full or the available bytes end; returns the number of
    /// bytes read.
    pub(crate) fn read_into(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        let available = self.available().saturating_sub(offset);
        let len = usize::try_from(available).map_or(bytes.len(), |len| len.min(bytes.len()));
        self.0.file.read_into(offset, &mut bytes[..len])
    }

    /// Reads up to `len` bytes from `offset`; fewer where the available bytes end.
    #[cfg(test)]
    pub(crate) fn read(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        let read = self.read_into(offset, &mut bytes)?;
        bytes.truncate(read);
        Ok(bytes)
    }
}

impl SealedIngest {
    pub(super) fn of_file(data_path: PathBuf, digest: Digest, size: u64) -> Self {
        Self {
            data_path,
            digest,
            size,
        }
    }

    /// Returns the digest of the bytes.
    pub(crate) fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Returns the number of bytes.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }
}

impl Ingest {
    /// Opens an ingest at `checkpoint` and truncates its file there. `is_durable` says whether the
    /// checkpoint was read from the state file, so that its bytes need no sync.
    pub(super) fn resume(
        store: &Arc<Store>,
        key: IngestKey,
        file: DiskFile,
        checkpoint: Checkpoint,
        is_durable: bool,
    ) -> Result<Self> {
        let is_longer = file.len()? > checkpoint.offset;
        if is_longer {
            file.truncate(checkpoint.offset)?;
        }
        Ok(Self {
            store: Arc::clone(store),
            key,
            data: Arc::new(DataFile {
                file,
                available: AtomicU64::new(checkpoint.offset),
            }),
            written: checkpoint.clone(),
            durable: checkpoint,
            needs_sync: is_longer || !is_durable,
        })
    }

    /// Returns the number of bytes, durable or not.
    pub(crate) fn offset(&self) -> u64 {
        self.written.offset
    }

    /// Returns the number of bytes that survive a crash.
    pub(crate) fn durable_offset(&self) -> u64 {
        self.durable.offset
    }

    /// Returns the number of bytes that a crash would lose.
    pub(crate) fn unsynced_bytes(&self) -> u64 {
        self.written.offset - self.durable.offset
    }

    /// Returns a reader of the bytes, including those appended later.
    pub(crate) fn reader(&self) -> PartialBlob {
        PartialBlob(Arc::clone(&self.data))
    }

    /// Appends bytes. They are durable after [`Ingest::sync`].
    ///
    /// # Errors
    /// Returns the error of the write. The ingest is back at its last checkpoint then.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let file = &self.data.file;
        let written = file.write(self.written.offset, bytes);
        if let Err(error) = written.context("write", file.path()) {
            self.roll_back();
            return Err(error);
        }
        self.needs_sync = true;
        self.written.hasher.update(bytes);
        self.written.offset += bytes.len() as u64;
        self.publish_offset();
        Ok(())
    }

    /// Drops the bytes after the last checkpoint.
    pub(crate) fn roll_back(&mut self) {
        self.written = self.durable.clone();
        self.publish_offset();
        self.needs_sync = true;
        if let Err(error) = self.data.file.truncate(self.durable.offset) {
            // Later writes overwrite these bytes, and sealing or reopening cuts them off.
            tracing::warn!(
                id = self.key.upload_id().map(tracing::field::display),
                digest = self.key.digest().map(tracing::field::display),
                %error,
                "cannot truncate a file after a failed write; trying again when it is next opened"
            );
        }
    }

    /// Makes the appended bytes durable and stores a checkpoint.
    ///
    /// # Errors
    /// Returns the error of the disk. The ingest is back at its last checkpoint then.
    pub(crate) fn sync(&mut self) -> Result<()> {
        if self.unsynced_bytes() == 0 {
            return Ok(());
        }
        let synced = self
            .sync_data()
            .and_then(|()| self.store.put_ingest_state(&self.key, &self.written));
        match synced {
            Ok(()) => self.durable = self.written.clone(),
            Err(_) => self.roll_back(),
        }
        synced
    }

    /// Drops all bytes.
    pub(crate) fn restart(&mut self) -> Result<()> {
        self.store.delete_ingest_state(&self.key)?;
        self.durable = Checkpoint::initial(self.written.hasher.algorithm());
        self.written = self.durable.clone();
        self.publish_offset();
        self.needs_sync = true;
        self.data.file.truncate(0)
    }

    fn publish_offset(&self) {
        let available = &self.data.available;
        available.store(self.written.offset, Ordering::Release);
    }

    fn sync_data(&mut self) -> Result<()> {
        let file = &self.data.file;
        file.sync().context("sync", file.path())?;
        self.needs_sync = false;
        Ok(())
    }

    /// Makes all bytes durable and computes their digest. Reads the whole file if `algorithm` is
    /// not the one that was computed during the writes.
    pub(crate) fn seal(mut self, algorithm: Algorithm) -> Result<SealedIngest> {
        let data = Arc::clone(&self.data);
        let (file, path, size) = (&data.file, data.file.path(), self.written.offset);
        // The file is longer only if truncating it failed after a failed write.
        if file.len()? > size {
            file.truncate(size)?;
            self.needs_sync = true;
        }
        if self.needs_sync {
            self.sync_data()?;
        }
        let hasher = if self.written.hasher.algorithm() == algorithm {
            self.written.hasher
        } else {
            hash_prefix(file, algorithm, size)?
        };
        Ok(SealedIngest::of_file(
            path.to_owned(),
            hasher.finish(),
            size,
        ))
    }
}

impl Store {
    /// Writes the state file of an ingest, durably.
    pub(super) fn put_ingest_state(&self, key: &IngestKey, checkpoint: &Checkpoint) -> Result<()> {
        self.put_file(key.state_path(&self.paths), &key.state_json(checkpoint))
    }

    /// Removes the state file of an ingest, durably. The data file may get other bytes from now
    /// on, which the old checkpoint does not describe.
    pub(super) fn delete_ingest_state(&self, key: &IngestKey) -> Result<()> {
        let path = key.state_path(&self.paths);
        if !self.disk.is_file(&path)? {
            return Ok(());
        }
        self.disk.unlink(&path)?;
        self.disk.sync_folder(path.parent().unwrap_or(&path))
    }

    /// Puts `links`, then moves the bytes to the blob's path, replacing what was there. All of it
    /// is durable when this returns. The state file stays.
    ///
    /// The links come first: a link without bytes counts as absent, but bytes that have left the
    /// ingest without a link would have to be sent again.
    pub(crate) fn commit_ingest(
        &self,
        sealed: &SealedIngest,
        links: &[(ObjectKey<'_>, &[u8])],
    ) -> Result<()> {
        self.put_all(links)?;
        let blob = self.paths.object(ObjectKey::Blob(&sealed.digest));
        self.rename_durably(&sealed.data_path, &blob)
    }
}

/// Hashes the first `len` bytes of a file, or all of them if there are fewer.
pub(super) fn hash_prefix(file: &DiskFile, algorithm: Algorithm, len: u64) -> Result<Hasher> {
    let (mut hasher, mut offset) = (Hasher::new(algorithm), 0);
    while offset < len {
        let part = usize::try_from(len - offset).unwrap_or(usize::MAX);
        let bytes = file.read(offset, part.min(HASH_BUFFER_BYTES));
        let bytes = bytes.context("read", file.path())?;
        if bytes.is_empty() {
            break;
        }
        hasher.update(&bytes);
        offset += bytes.len() as u64;
    }
    Ok(hasher)
}
