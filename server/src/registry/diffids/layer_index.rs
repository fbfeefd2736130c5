//! Finds the stored index of a layer, and removes it with its blob.
//!
//! An index is computed together with the diffID. That of a blob which an earlier version recorded is
//! computed when it is asked for. Start reading at [`Registry::open_layer_index`].

use imgsync_oci::{Digest, Repository};

use super::DiffIdJob;
use super::index_file::{MAX_NO_INDEX_BYTES, parse_no_index};
use crate::registry::Registry;
use crate::registry::blobs::OpenBlob;
use crate::registry::error::{Error, Result};
use crate::registry::locks::lock_shared;
use crate::store::{DerivedKey, MarkKey};

/// The index of a layer that is in the repository.
pub(crate) enum StoredLayerIndex {
    /// The file with the index.
    Stored(OpenBlob),
    /// The index is still to be computed.
    Pending,
}

/// The stored state of the index of a blob.
enum IndexFile {
    /// Nothing that counts.
    Absent,
    /// The blob has no index.
    NoIndex,
    Index(OpenBlob),
}

impl Registry {
    /// Opens the index of a layer in a repository.
    ///
    /// # Errors
    /// [`Error::BlobUnknown`] if the repository does not hold the blob, and if the blob has no index:
    /// it is no layer, or too large. [`Error::Store`].
    pub(crate) fn open_layer_index(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<StoredLayerIndex> {
        let unknown = || Error::BlobUnknown(digest.clone());
        let _lock = lock_shared(&self.locks, digest.clone().into());
        if self.find_linked_blob(repository, digest)?.is_none() {
            return Err(unknown());
        }
        self.promise(repository, digest);
        match self.open_index_file(digest)? {
            IndexFile::Index(index) => return Ok(StoredLayerIndex::Stored(index)),
            IndexFile::NoIndex => return Err(unknown()),
            IndexFile::Absent => {}
        }
        let record = self.read_layer_record(digest)?;
        if record.is_some_and(|record| record.layer.is_none())
            || !self.is_index_wanted(repository, digest)?
            || !self.diff_id_queue.is_open()
        {
            return Err(unknown());
        }
        self.diff_id_queue
            .push_once(DiffIdJob(repository.clone(), digest.clone()));
        Ok(StoredLayerIndex::Pending)
    }

    /// Returns whether a blob of a repository should have an index. Nobody pushes what was cached from
    /// an upstream.
    pub(super) fn is_index_wanted(&self, repository: &Repository, digest: &Digest) -> Result<bool> {
        let mark = MarkKey::Layer(repository, digest);
        Ok(self.delta_config().is_enabled && self.store.mark_time(mark)?.is_none())
    }

    /// Returns whether the index of a blob is stored, or it is stored that the blob has none.
    pub(super) fn has_layer_index(&self, digest: &Digest) -> Result<bool> {
        Ok(!matches!(self.open_index_file(digest)?, IndexFile::Absent))
    }

    /// Opens the file with the index of a blob. That of a layer which was too large counts as absent if
    /// layers may be larger now.
    fn open_index_file(&self, digest: &Digest) -> Result<IndexFile> {
        let Some((reader, size)) = self.store.open_derived(DerivedKey::LayerIndex(digest))? else {
            return Ok(IndexFile::Absent);
        };
        let index = OpenBlob::new(reader, size);
        let len =
            usize::try_from(size).map_or(MAX_NO_INDEX_BYTES, |size| size.min(MAX_NO_INDEX_BYTES));
        let start = index.read(0, len).unwrap_or_default();
        Ok(match parse_no_index(&start) {
            Some(limit) if limit < self.delta_config().max_layer_bytes => IndexFile::Absent,
            Some(_) => IndexFile::NoIndex,
            None => IndexFile::Index(index),
        })
    }

    /// Removes the index of a blob.
    pub(in crate::registry) fn delete_layer_index(&self, digest: &Digest) -> Result<()> {
        Ok(self.store.delete_derived(DerivedKey::LayerIndex(digest))?)
    }
}
