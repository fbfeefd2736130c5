//! Reads, writes and removes the stored layer records.

use imgsync_oci::layer::LayerDigests;
use imgsync_oci::media::Compression;
use imgsync_oci::{Digest, Repository};

use super::DiffIdJob;
use super::record::{self, ComputedLayer, LayerRecord};
use crate::registry::Registry;
use crate::registry::error::Result;
use crate::store::{DerivedKey, ObjectKey};

impl Registry {
    /// Returns the size in bytes that is recorded for a blob, if it is recorded as a layer.
    pub(in crate::registry) fn recorded_size(&self, digest: &Digest) -> Result<Option<u64>> {
        let record = self.read_layer_record(digest)?;
        Ok(record
            .and_then(|record| record.layer)
            .map(|layer| layer.size))
    }

    /// Returns the uncompressed size in bytes that is recorded for a blob.
    pub(in crate::registry) fn recorded_raw_size(&self, digest: &Digest) -> Result<Option<u64>> {
        let record = self.read_layer_record(digest)?;
        Ok(record
            .and_then(|record| record.layer)
            .and_then(|layer| layer.raw_size))
    }

    /// Records a layer of a repository that was compressed here, so that it is found at once. Its index
    /// is computed in the background.
    pub(in crate::registry) fn record_gzip_layer(
        &self,
        repository: &Repository,
        digests: LayerDigests,
    ) -> Result<()> {
        let digest = digests.digest;
        let _lock = self.lock_digests([digest.clone()]);
        if self.find_linked_blob(repository, &digest)?.is_none() {
            return Ok(());
        }
        let record = match self.read_layer_record(&digest)? {
            Some(record) if record.layer.is_some() => record,
            _ => LayerRecord {
                layer: Some(ComputedLayer {
                    diff_id: digests.diff_id,
                    compression: Compression::Gzip,
                    size: digests.size,
                    raw_size: Some(digests.raw_size),
                }),
                repositories: Vec::new(),
            },
        };
        self.add_to_record(repository, &digest, record)?;
        let job = DiffIdJob(repository.clone(), digest);
        self.diff_id_queue.push(job);
        Ok(())
    }

    /// Reads the layer record of a blob. A damaged record counts as absent.
    pub(super) fn read_layer_record(&self, digest: &Digest) -> Result<Option<LayerRecord>> {
        let json = self
            .store
            .get_derived(DerivedKey::LayerRecord(digest), record::MAX_RECORD_BYTES)?;
        Ok(json.and_then(|json| LayerRecord::from_json(&json)))
    }

    /// Writes the layer record of a blob, after its diffID entry.
    pub(super) fn put_layer_record(&self, digest: &Digest, record: &LayerRecord) -> Result<()> {
        self.put_diff_id_entry(digest, record)?;
        let key = DerivedKey::LayerRecord(digest);
        Ok(self.store.put_derived(key, &record.to_json())?)
    }

    fn put_diff_id_entry(&self, digest: &Digest, record: &LayerRecord) -> Result<()> {
        let Some(layer) = &record.layer else {
            return Ok(());
        };
        let key = DerivedKey::DiffIdBlob(&layer.diff_id, digest);
        if !self.store.has_derived(key)? {
            self.store.put_derived(key, b"")?;
        }
        Ok(())
    }

    /// Adds a repository to the record of a blob.
    pub(super) fn add_to_record(
        &self,
        repository: &Repository,
        digest: &Digest,
        mut record: LayerRecord,
    ) -> Result<()> {
        let is_live = |other: &Repository| {
            let link = self.store.len(ObjectKey::LayerLink(other, digest));
            link.is_ok_and(|len| len.is_some())
        };
        // A power cut may have lost the file that leads to the record.
        self.put_diff_id_entry(digest, &record)?;
        if record.layer.is_some() && record.add_repository(repository, is_live) {
            self.put_layer_record(digest, &record)?;
        }
        Ok(())
    }

    /// Deletes the layer record of a blob, after its index and its diffID entry.
    pub(in crate::registry) fn delete_layer_record(&self, digest: &Digest) -> Result<()> {
        self.delete_layer_index(digest)?;
        let record = self.read_layer_record(digest)?;
        if let Some(layer) = record.and_then(|record| record.layer) {
            self.store
                .delete_derived(DerivedKey::DiffIdBlob(&layer.diff_id, digest))?;
        }
        Ok(self.store.delete_derived(DerivedKey::LayerRecord(digest))?)
    }
}
