//! What an earlier run put aside, read again before it counts.

use std::io::Write;

use bytes::Bytes;
use imgsync_oci::media::Compression;
use imgsync_oci::{Algorithm, Digest, Hasher};

use super::{Spool, SpoolKind};
use crate::cache::BlobRef;
use crate::compress;
use crate::image::Slice;

/// A packed layer that an earlier run has kept, found to be whole.
#[derive(Debug, Clone)]
pub struct SpooledLayer {
    /// The blob that it is.
    pub blob: BlobRef,
    /// Its bytes.
    pub bytes: Slice,
}

impl Spool {
    /// The layer with this diffID, packed. It is read to its end: damaged ones are taken away.
    /// Blocks.
    pub fn find_compressed(&self, diff_id: &Digest) -> Option<SpooledLayer> {
        let (file, len) = self.open(SpoolKind::Compressed, diff_id)?;
        let bytes = Slice::part(&file, 0, len);
        let packed = compress::compute_layer_digests(bytes.reader().ok()?, Compression::Gzip);
        match packed {
            Ok(packed) if packed.diff_id == *diff_id => Some(SpooledLayer {
                blob: BlobRef {
                    digest: packed.digest,
                    size: packed.size,
                },
                bytes,
            }),
            Ok(_) | Err(_) => {
                self.remove(SpoolKind::Compressed, [diff_id]);
                None
            }
        }
    }

    /// The bytes with this digest. They are read to their end: damaged ones are taken away.
    /// Blocks.
    pub fn find_bytes(&self, digest: &Digest) -> Option<Slice> {
        let (file, len) = self.open(SpoolKind::Bytes, digest)?;
        let bytes = Slice::part(&file, 0, len);
        let mut hashing = HashWriter(Hasher::new(digest.algorithm()));
        let read = std::io::copy(&mut bytes.reader().ok()?, &mut hashing);
        if read.is_ok() && hashing.0.finish() == *digest {
            return Some(bytes);
        }
        self.remove(SpoolKind::Bytes, [digest]);
        None
    }

    /// Keeps what is small for the next run. A disk that cannot keep it costs that run time, and
    /// nothing else.
    pub fn persist_small(&self, bytes: &Bytes, algorithm: Algorithm) {
        self.persist_as(SpoolKind::Bytes, &Digest::of_with(algorithm, bytes), bytes);
    }

    /// The text of an entry that is not named by its own digest.
    pub fn read_listing(&self, about: &Digest, most_bytes: u64) -> Option<Bytes> {
        let (file, len) = self.open(SpoolKind::Exports, about)?;
        let slice = Slice::part(&file, 0, len);
        (len <= most_bytes).then(|| slice.read_all().ok())?
    }

    /// Keeps such a text, under the same terms.
    pub fn persist_listing(&self, about: &Digest, text: &[u8]) {
        self.persist_as(SpoolKind::Exports, about, text);
    }

    fn persist_as(&self, room: SpoolKind, digest: &Digest, bytes: &[u8]) {
        if self.is_persistent
            && let Ok(mut draft) = self.create_draft()
            && draft.write_all(bytes).is_ok()
        {
            draft.persist(room, digest);
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
