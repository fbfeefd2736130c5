//! Blobs that are fetched from an upstream: how their ingests are opened, listed and removed.
//!
//! The writing itself is done by [`Ingest`].

use std::sync::Arc;
use std::time::SystemTime;

use imgsync_oci::Digest;

use super::Store;
use super::checkpoint::{Checkpoint, MAX_STATE_BYTES};
use super::disk::DiskFile;
use super::error::{IoContext, Result};
use super::ingest::{Ingest, IngestKey, hash_prefix};
use super::paths::{STATE_SUFFIX, digest_from_file_name};

/// The file of a fetch that is running or was interrupted.
pub(crate) struct PartialBlobFile {
    pub(crate) digest: Digest,
    /// When bytes were last written to it.
    pub(crate) modified_at: SystemTime,
    /// In bytes.
    pub(crate) size: u64,
}

impl Store {
    /// Opens the ingest of a blob, with the bytes that an earlier fetch from the same upstream left.
    /// Such bytes are read and hashed again: damage in the only copy would otherwise end up in the blob.
    /// Bytes from another upstream are dropped: clients of this one may not be allowed to read them.
    pub(crate) fn open_cache_fill(
        self: &Arc<Self>,
        digest: &Digest,
        upstream: &str,
    ) -> Result<Ingest> {
        let path = self.paths.cache_fill_data(digest);
        let key = IngestKey::CacheFill {
            digest: digest.clone(),
            upstream: upstream.into(),
        };
        let opened = self.disk.open(&path)?;
        let resumable = match (&opened, self.read_cache_fill_checkpoint(digest, upstream)?) {
            (Some(file), Some(checkpoint)) if is_intact(file, &checkpoint)? => Some(checkpoint),
            _ => None,
        };
        if resumable.is_none() {
            self.delete_ingest_state(&key)?;
        }
        let file = match opened {
            Some(file) => file,
            None => {
                self.folders.ensure(&self.paths.cache_fills())?;
                self.disk.create(&path).context("write", &path)?
            }
        };
        let is_durable = resumable.is_some();
        let checkpoint = resumable.unwrap_or_else(|| Checkpoint::initial(digest.algorithm()));
        Ingest::resume(self, key, file, checkpoint, is_durable)
    }

    fn read_cache_fill_checkpoint(
        &self,
        digest: &Digest,
        upstream: &str,
    ) -> Result<Option<Checkpoint>> {
        let json = self.read_file(&self.paths.cache_fill_state(digest), MAX_STATE_BYTES)?;
        Ok(json.and_then(|json| Checkpoint::from_cache_fill_json(&json, digest, upstream)))
    }

    /// Removes the state file of an ingest that became a blob. Not durably: without its data file
    /// the state file is ignored.
    pub(crate) fn delete_finished_cache_fill(&self, digest: &Digest) {
        self.discard_file(&self.paths.cache_fill_state(digest));
    }

    /// Returns whether there are bytes of an ingest of a blob.
    pub(crate) fn has_cache_fill(&self, digest: &Digest) -> Result<bool> {
        self.disk.is_file(&self.paths.cache_fill_data(digest))
    }

    /// Removes the ingest of a blob, if there is one. Not durably.
    pub(crate) fn discard_cache_fill(&self, digest: &Digest) -> Result<()> {
        for path in [
            self.paths.cache_fill_state(digest),
            self.paths.cache_fill_data(digest),
        ] {
            self.disk.unlink(&path)?;
        }
        Ok(())
    }

    /// Makes the removal of ingests durable.
    pub(crate) fn sync_cache_fills(&self) -> Result<()> {
        self.disk.sync_folder(&self.paths.cache_fills())
    }

    /// Lists the data files of all fetches, including those that are open.
    pub(crate) fn partial_blob_files(&self) -> Result<Vec<PartialBlobFile>> {
        let mut files = Vec::new();
        for digest in self.cache_fill_digests(digest_from_file_name)? {
            let path = self.paths.cache_fill_data(&digest);
            let modified_at = self.disk.modified(&path)?;
            let size = self.disk.len(&path)?;
            if let (Some(modified_at), Some(size)) = (modified_at, size) {
                files.push(PartialBlobFile {
                    digest,
                    modified_at,
                    size,
                });
            }
        }
        Ok(files)
    }

    /// Removes the state files of fetches whose data file is gone.
    pub(crate) fn delete_orphaned_ingest_states(&self) -> Result<()> {
        let parse = |name: &str| digest_from_file_name(name.strip_suffix(STATE_SUFFIX)?);
        for digest in self.cache_fill_digests(parse)? {
            let data = self.paths.cache_fill_data(&digest);
            if !self.disk.is_file(&data)? {
                let state = self.paths.cache_fill_state(&digest);
                self.disk.unlink(&state)?;
            }
        }
        Ok(())
    }

    fn cache_fill_digests(&self, parse: impl Fn(&str) -> Option<Digest>) -> Result<Vec<Digest>> {
        self.parsed_entries(&self.paths.cache_fills(), |name, _| parse(name))
            .collect()
    }
}

/// Returns whether a file still begins with the bytes that its checkpoint covers.
fn is_intact(file: &DiskFile, checkpoint: &Checkpoint) -> Result<bool> {
    if checkpoint.offset > file.len()? {
        return Ok(false);
    }
    let algorithm = checkpoint.hasher.algorithm();
    let hasher = hash_prefix(file, algorithm, checkpoint.offset)?;
    Ok(hasher.state() == checkpoint.hasher.state())
}
