//! Blobs on their way in from an upstream: files that grow while others read them.
//!
//! How much of a file is durable, and the hash of that, lies beside it, so that a fetch goes on
//! after a restart. What is not known to be durable is cut off, since a power cut can leave a tail
//! of zeros.

use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use imgsync_oci::{Digest, Hasher};
use serde::Deserialize;

use super::disk::DiskFile;
use super::error::{IoContext, Result};
use super::paths::{STATE_SUFFIX, digest_from_file_name};
use super::uploads::HASH_BUFFER_BYTES;
use super::{ObjectKey, Store};

/// Our layout, and that of the hash library's state.
const INGEST_STATE_FORMAT: &str = "imgsync-filling-1, sha2-0.11";
/// More than a state ever has.
const MAX_INGEST_STATE_BYTES: usize = 64 * 1024;
/// So much is appended between two durable points.
const CHECKPOINT_INTERVAL_BYTES: u64 = 32 * 1024 * 1024;

/// A file that is being filled. Only one may be open per digest.
pub(crate) struct BlobIngest {
    digest: Digest,
    shared: Arc<IngestFile>,
    written: IngestCheckpoint,
    /// What will be there after a crash.
    durable: IngestCheckpoint,
}

/// What was appended so far, open to be read; also after the file has become a blob, or has gone.
#[derive(Clone)]
pub(crate) struct PartialBlob(Arc<IngestFile>);

struct IngestFile {
    file: DiskFile,
    available: AtomicU64,
}

#[derive(Clone)]
struct IngestCheckpoint {
    offset: u64,
    hasher: Hasher,
}

impl IngestCheckpoint {
    fn initial(digest: &Digest) -> Self {
        Self {
            offset: 0,
            hasher: Hasher::new(digest.algorithm()),
        }
    }
}

#[derive(Deserialize)]
struct StoredIngestState {
    format: String,
    offset: u64,
    hash: String,
}

/// All of a blob's bytes, durable, and found to be those of its digest.
pub(crate) struct SealedIngest(Digest);

/// A file that was left when a fetch broke off.
pub(crate) struct PartialBlobFile {
    pub(crate) digest: Digest,
    /// When bytes last came to it.
    pub(crate) modified_at: SystemTime,
    /// How many bytes it takes.
    pub(crate) size: u64,
}

impl PartialBlob {
    /// How many bytes there are now. Less than before where some could not be kept.
    pub(crate) fn available(&self) -> u64 {
        self.0.available.load(Ordering::Acquire)
    }

    /// Reads from `offset` on until `bytes` is full; yields how many were read, fewer where the
    /// file ends for now.
    ///
    /// # Errors
    /// The disk's.
    pub(crate) fn read_into(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        let there = self.available().saturating_sub(offset);
        let len = usize::try_from(there).map_or(bytes.len(), |there| there.min(bytes.len()));
        self.0.file.read_into(offset, &mut bytes[..len])
    }

    /// Reads up to `len` bytes from `offset` on; fewer where the file ends for now.
    ///
    /// # Errors
    /// The disk's.
    #[cfg(test)]
    pub(crate) fn read(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        let read = self.read_into(offset, &mut bytes)?;
        bytes.truncate(read);
        Ok(bytes)
    }
}

impl BlobIngest {
    /// How many bytes there are.
    pub(crate) fn len(&self) -> u64 {
        self.written.offset
    }

    /// What there is, to be read while more comes.
    pub(crate) fn reader(&self) -> PartialBlob {
        PartialBlob(Arc::clone(&self.shared))
    }

    fn reset_to(&mut self, point: IngestCheckpoint) {
        self.shared.available.store(point.offset, Ordering::Release);
        self.written = point;
    }
}

impl Store {
    /// Opens the file for a blob, with what arrived of it already. That is read: nobody but this
    /// file has it, so what rotted would stay wrong for ever once it is a blob.
    pub(crate) fn open_ingest(&self, digest: &Digest) -> Result<BlobIngest> {
        let path = self.paths.ingest_data(digest);
        let opened = self.disk.open(&path).context("open", &path)?;
        let held = opened.as_ref().map_or(Ok(0), DiskFile::len);
        let held = held.context("look at", &path)?;
        let point = self.read_ingest_checkpoint(digest)?;
        let is_sound = match (&point, &opened) {
            (Some(point), Some(file)) if point.offset <= held => {
                hash_prefix(file, &path, point)? == point.hasher.state()
            }
            (Some(_) | None, Some(_) | None) => false,
        };
        let kept = match point.filter(|_| is_sound) {
            Some(point) => point,
            None => {
                self.delete_ingest_state(digest)?;
                IngestCheckpoint::initial(digest)
            }
        };
        let file = match opened {
            Some(file) => file,
            None => {
                self.folders.ensure(&self.paths.ingests())?;
                self.disk.create(&path).context("write", &path)?
            }
        };
        if kept.offset < held {
            file.truncate(kept.offset).context("cut", &path)?;
        }
        let filled = AtomicU64::new(kept.offset);
        Ok(BlobIngest {
            digest: digest.clone(),
            shared: Arc::new(IngestFile {
                file,
                available: filled,
            }),
            written: kept.clone(),
            durable: kept,
        })
    }

    /// Removes what is noted about a file, durably: other bytes may come into it now, and nobody
    /// must take those for the ones that were hashed.
    fn delete_ingest_state(&self, digest: &Digest) -> Result<()> {
        let (path, folder) = (self.paths.ingest_state(digest), self.paths.ingests());
        if self.disk.len(&path).context("look at", &path)?.is_none() {
            return Ok(());
        }
        self.disk.unlink(&path).context("remove", &path)?;
        self.disk
            .sync_folder(&folder)
            .context("sync the folder", &folder)
    }

    fn read_ingest_checkpoint(&self, digest: &Digest) -> Result<Option<IngestCheckpoint>> {
        let json = self.read_file(&self.paths.ingest_state(digest), MAX_INGEST_STATE_BYTES)?;
        Ok(json.and_then(|json| {
            let record: StoredIngestState = serde_json::from_slice(&json).ok()?;
            let state = hex::decode(record.hash).ok()?;
            let hasher = Hasher::resume(digest.algorithm(), &state)?;
            let offset = record.offset;
            (record.format == INGEST_STATE_FORMAT).then_some(IngestCheckpoint { offset, hasher })
        }))
    }

    /// Appends bytes, and makes all durable from time to time. When this fails, the file is back at
    /// its last durable point.
    pub(crate) fn append_to_ingest(&self, filling: &mut BlobIngest, bytes: &[u8]) -> Result<()> {
        let path = self.paths.ingest_data(&filling.digest);
        let file = &filling.shared.file;
        if let Err(error) = file
            .write(filling.written.offset, bytes)
            .context("write", &path)
        {
            self.roll_back_ingest(filling);
            return Err(error);
        }
        filling.written.hasher.update(bytes);
        filling.written.offset += bytes.len() as u64;
        let shared = &filling.shared;
        shared
            .available
            .store(filling.written.offset, Ordering::Release);
        match filling.written.offset - filling.durable.offset < CHECKPOINT_INTERVAL_BYTES {
            true => Ok(()),
            false => self.sync_ingest(filling),
        }
    }

    /// Makes durable what was appended; when this fails, the file is back at its last durable
    /// point.
    pub(crate) fn sync_ingest(&self, filling: &mut BlobIngest) -> Result<()> {
        if filling.written.offset == filling.durable.offset {
            return Ok(());
        }
        let path = self.paths.ingest_data(&filling.digest);
        let record = serde_json::json!({
            "format": INGEST_STATE_FORMAT,
            "offset": filling.written.offset,
            "hash": hex::encode(filling.written.hasher.state()),
        });
        let state = self.paths.ingest_state(&filling.digest);
        let synced = filling.shared.file.sync().context("sync", &path);
        let kept = synced.and_then(|()| self.put_file(state, format!("{record}\n").as_bytes()));
        match kept {
            Ok(()) => filling.durable = filling.written.clone(),
            Err(_) => self.roll_back_ingest(filling),
        }
        kept
    }

    fn roll_back_ingest(&self, filling: &mut BlobIngest) {
        filling.reset_to(filling.durable.clone());
        if let Err(error) = filling.shared.file.truncate(filling.durable.offset) {
            // Harmless: it is cut when it is opened again, and overwritten until then.
            tracing::warn!(digest = %filling.digest, %error, "cannot cut a file back");
        }
    }

    /// Forgets all bytes.
    pub(crate) fn restart_ingest(&self, filling: &mut BlobIngest) -> Result<()> {
        let path = self.paths.ingest_data(&filling.digest);
        self.delete_ingest_state(&filling.digest)?;
        filling.durable = IngestCheckpoint::initial(&filling.digest);
        filling.reset_to(filling.durable.clone());
        filling.shared.file.truncate(0).context("cut", &path)
    }

    /// Makes all bytes durable; says how they are to be had under their digest, or under which
    /// other one they would belong.
    pub(crate) fn seal_ingest(
        &self,
        filling: &BlobIngest,
    ) -> Result<std::result::Result<SealedIngest, Digest>> {
        let actual = filling.written.hasher.clone().finish();
        if actual != filling.digest {
            return Ok(Err(actual));
        }
        let path = self.paths.ingest_data(&filling.digest);
        let (file, len) = (&filling.shared.file, filling.written.offset);
        // Longer only where it could not be cut after a fault.
        if file.len().context("look at", &path)? != len {
            file.truncate(len).context("cut", &path)?;
        }
        file.sync().context("sync", &path)?;
        Ok(Ok(SealedIngest(actual)))
    }

    /// Puts `links`, and then turns a filled file into a blob, over whatever stood there. When this
    /// returns all of it is durable.
    pub(crate) fn commit_ingest(
        &self,
        filled: &SealedIngest,
        links: &[(ObjectKey<'_>, &[u8])],
    ) -> Result<()> {
        let digest = &filled.0;
        let (from, to) = (
            self.paths.ingest_data(digest),
            self.paths.object(ObjectKey::Blob(digest)),
        );
        self.put_all(links)?;
        self.rename_durably(&from, &to)?;
        // Without its file it says nothing.
        self.discard_file(&self.paths.ingest_state(digest));
        Ok(())
    }

    /// Removes a file that was being filled, if there is one. Not durably.
    pub(crate) fn discard_ingest(&self, digest: &Digest) -> Result<()> {
        for path in [
            self.paths.ingest_state(digest),
            self.paths.ingest_data(digest),
        ] {
            self.disk.unlink(&path).context("remove", &path)?;
        }
        Ok(())
    }

    /// All files that are there, those that are open among them.
    pub(crate) fn partial_blob_files(&self) -> Result<Vec<PartialBlobFile>> {
        let mut found = Vec::new();
        for digest in self.ingest_digests(digest_from_file_name)? {
            let path = self.paths.ingest_data(&digest);
            let changed = self.disk.modified(&path).context("look at", &path)?;
            let size = self.disk.len(&path).context("look at", &path)?;
            if let (Some(changed), Some(size)) = (changed, size) {
                found.push(PartialBlobFile {
                    digest,
                    modified_at: changed,
                    size,
                });
            }
        }
        Ok(found)
    }

    /// Removes what is noted about files that have become blobs, or have gone.
    pub(crate) fn delete_orphaned_ingest_states(&self) -> Result<()> {
        let state_of = |name: &str| {
            name.strip_suffix(STATE_SUFFIX)
                .and_then(digest_from_file_name)
        };
        for digest in self.ingest_digests(state_of)? {
            let (path, state) = (
                self.paths.ingest_data(&digest),
                self.paths.ingest_state(&digest),
            );
            if self.disk.len(&path).context("look at", &path)?.is_none() {
                self.disk.unlink(&state).context("remove", &state)?;
            }
        }
        Ok(())
    }

    fn ingest_digests(&self, read: impl Fn(&str) -> Option<Digest>) -> Result<Vec<Digest>> {
        let (folder, mut found) = (self.paths.ingests(), Vec::new());
        let mut look = |name: &str, _: bool| {
            found.extend(read(name));
            ControlFlow::Continue(())
        };
        self.disk
            .for_each_entry(&folder, &mut look)
            .context("list", &folder)?;
        Ok(found)
    }
}

/// The state of the hash of a file's bytes before a point.
fn hash_prefix(file: &DiskFile, path: &Path, point: &IngestCheckpoint) -> Result<Vec<u8>> {
    let (mut hasher, mut offset) = (Hasher::new(point.hasher.algorithm()), 0);
    while offset < point.offset {
        let left = point.offset - offset;
        let len =
            usize::try_from(left).map_or(HASH_BUFFER_BYTES, |left| left.min(HASH_BUFFER_BYTES));
        let bytes = file.read(offset, len).context("read", path)?;
        if bytes.is_empty() {
            break;
        }
        hasher.update(&bytes);
        offset += bytes.len() as u64;
    }
    Ok(hasher.state())
}
