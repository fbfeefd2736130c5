//! Reads entries that an earlier run has kept, and verifies them before they are used.
//!
//! This module does not delete old entries; [`disk_space`](super::disk_space) does. Start reading
//! at [`Spool::find_bytes`].

use std::io::Write;

use bytes::Bytes;
use imgsync_oci::media::Compression;
use imgsync_oci::{Algorithm, Digest, Hasher};

use super::{Spool, SpoolKind};
use crate::cache::BlobRef;
use crate::compress;
use crate::image::Slice;

/// A compressed layer in the spool, verified.
#[derive(Debug, Clone)]
pub struct SpooledLayer {
    /// The digest and size of the blob.
    pub blob: BlobRef,
    /// The bytes of the blob.
    pub bytes: Slice,
    /// The size of the layer in bytes before it was compressed.
    pub raw_size: u64,
}

impl Spool {
    /// Returns the compressed layer with this diffID. Reads the layer to the end, and removes a
    /// damaged one. Blocks the thread.
    pub fn find_compressed(&self, diff_id: &Digest) -> Option<SpooledLayer> {
        let (file, len) = self.open(SpoolKind::Compressed, diff_id)?;
        let bytes = Slice::part(&file, 0, len);
        let digests = compress::compute_layer_digests(bytes.reader().ok()?, Compression::Gzip);
        if let Ok(digests) = digests
            && digests.diff_id == *diff_id
        {
            let raw_size = digests.raw_size;
            let (digest, size) = (digests.digest, digests.size);
            let blob = BlobRef { digest, size };
            return Some(SpooledLayer {
                blob,
                bytes,
                raw_size,
            });
        }
        self.remove(SpoolKind::Compressed, [diff_id]);
        None
    }

    /// Returns the bytes of the compressed layer with this diffID, without a look at them.
    pub fn open_compressed(&self, diff_id: &Digest) -> Option<Slice> {
        let (file, len) = self.open(SpoolKind::Compressed, diff_id)?;
        Some(Slice::part(&file, 0, len))
    }

    /// Returns the bytes with this digest. Reads them to the end, and removes a damaged entry.
    /// Blocks the thread.
    pub fn find_bytes(&self, digest: &Digest) -> Option<Slice> {
        let (file, len) = self.open(SpoolKind::Bytes, digest)?;
        let bytes = Slice::part(&file, 0, len);
        let mut hasher = HashWriter(Hasher::new(digest.algorithm()));
        let copied = std::io::copy(&mut bytes.reader().ok()?, &mut hasher);
        if copied.is_ok() && hasher.0.finish() == *digest {
            return Some(bytes);
        }
        self.remove(SpoolKind::Bytes, [digest]);
        None
    }

    /// Keeps a small number of bytes for the next run. Errors are ignored, because a missing entry
    /// only costs the next run time.
    pub fn persist_small(&self, bytes: &Bytes, algorithm: Algorithm) {
        self.persist_as(SpoolKind::Bytes, &Digest::of_with(algorithm, bytes), bytes);
    }

    /// Returns the listing kept for a request, if it has at most `max_bytes` bytes. A
    /// listing is not named by its own digest, so it is not verified.
    pub fn read_listing(&self, request: &Digest, max_bytes: u64) -> Option<Bytes> {
        let (file, len) = self.open(SpoolKind::Exports, request)?;
        let slice = Slice::part(&file, 0, len);
        (len <= max_bytes).then(|| slice.read_all().ok())?
    }

    /// Keeps a listing for a request. Errors are ignored.
    pub fn persist_listing(&self, request: &Digest, text: &[u8]) {
        self.persist_as(SpoolKind::Exports, request, text);
    }

    fn persist_as(&self, kind: SpoolKind, digest: &Digest, bytes: &[u8]) {
        if self.is_persistent
            && let Ok(mut draft) = self.create_draft()
            && draft.write_all(bytes).is_ok()
        {
            draft.persist(kind, digest);
        }
    }
}

struct HashWriter(Hasher);

impl Write for HashWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
