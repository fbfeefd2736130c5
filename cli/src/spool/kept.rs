//! What an earlier run put aside, read again before it counts.

use std::io::Write;

use bytes::Bytes;
use imgsync_oci::media::Compression;
use imgsync_oci::{Algorithm, Digest, Hasher};

use super::{Room, Spool};
use crate::cache::Known;
use crate::compress;
use crate::source::Slice;

/// A packed layer that an earlier run has kept, found to be whole.
#[derive(Debug, Clone)]
pub struct Kept {
    /// The blob that it is.
    pub blob: Known,
    /// Its bytes.
    pub bytes: Slice,
}

impl Spool {
    /// The layer with this diffID, packed. It is read to its end: damaged ones are taken away.
    /// Blocks.
    pub fn packed(&self, diff_id: &Digest) -> Option<Kept> {
        let (file, len) = self.open(Room::Packed, diff_id)?;
        let bytes = Slice::part(&file, 0, len);
        let packed = compress::verify(bytes.reader().ok()?, Compression::Gzip);
        match packed {
            Ok(packed) if packed.diff_id == *diff_id => Some(Kept {
                blob: Known {
                    digest: packed.digest,
                    size: packed.size,
                },
                bytes,
            }),
            Ok(_) | Err(_) => {
                self.remove(Room::Packed, [diff_id]);
                None
            }
        }
    }

    /// The bytes with this digest. They are read to their end: damaged ones are taken away.
    /// Blocks.
    pub fn bytes(&self, digest: &Digest) -> Option<Slice> {
        let (file, len) = self.open(Room::Bytes, digest)?;
        let bytes = Slice::part(&file, 0, len);
        let mut hashing = Hashing(Hasher::new(digest.algorithm()));
        let read = std::io::copy(&mut bytes.reader().ok()?, &mut hashing);
        if read.is_ok() && hashing.0.finish() == *digest {
            return Some(bytes);
        }
        self.remove(Room::Bytes, [digest]);
        None
    }

    /// Keeps what is small for the next run. A disk that cannot keep it costs that run time, and
    /// nothing else.
    pub fn keep_small(&self, bytes: &Bytes, algorithm: Algorithm) {
        self.keep_as(Room::Bytes, &Digest::of_with(algorithm, bytes), bytes);
    }

    /// The text of an entry that is not named by its own digest.
    pub fn listing(&self, about: &Digest, most_bytes: u64) -> Option<Bytes> {
        let (file, len) = self.open(Room::Exports, about)?;
        let slice = Slice::part(&file, 0, len);
        (len <= most_bytes).then(|| slice.bytes().ok())?
    }

    /// Keeps such a text, under the same terms.
    pub fn keep_listing(&self, about: &Digest, text: &[u8]) {
        self.keep_as(Room::Exports, about, text);
    }

    fn keep_as(&self, room: Room, digest: &Digest, bytes: &[u8]) {
        if self.keeps
            && let Ok(mut draft) = self.draft()
            && draft.write_all(bytes).is_ok()
        {
            draft.keep(room, digest);
        }
    }
}

struct Hashing(Hasher);

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
