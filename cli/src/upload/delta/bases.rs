//! Gets the layers that a delta is based on: their bytes, if the spool still has them, or their
//! indexes from the registry.
//!
//! Start reading at [`open_base`].

use std::fs::File;
use std::io::{self, Read};
use std::sync::OnceLock;
use std::time::Instant;

use imgsync_oci::client::{LayerIndexAnswer, backoff};
use imgsync_oci::delta::{DecodedBase, EncodeBase, LayerIndex};
use imgsync_oci::media::Compression;
use imgsync_oci::{Algorithm, Digest, Hasher};

use crate::compress::decompress;
use crate::disk;
use crate::image::Slice;
use crate::plan::DeltaBase;
use crate::spool::{Spool, SpoolKind};
use crate::upload::UploadContext;

/// How many times larger than the compressed layer the uncompressed one is expected to be at most.
const MAX_EXPECTED_RATIO: u64 = 6;
/// A layer that is decoded to more bytes than this and this many times its size has little to copy
/// from, and takes long.
const MAX_RATIO: u64 = 20;
const MIN_DECODED_BYTES: u64 = 64 * 1024 * 1024;
const MAX_DECODED_BYTES: u64 = 4 << 30;

/// Returns a layer that a delta can be based on, or the reason why it cannot. `deadline` is set when
/// an index is not ready, and then holds for all later calls as well.
pub(super) async fn open_base(
    context: &UploadContext,
    base: &DeltaBase,
    deadline: &OnceLock<Instant>,
) -> Result<EncodeBase<File>, String> {
    let (spool, diff_id) = (context.spool.clone(), base.diff_id.clone());
    let decoded = tokio::task::spawn_blocking(move || decode_spooled(&spool, &diff_id)).await;
    // A thread that panicked found nothing.
    match decoded.unwrap_or_default() {
        Some(decoded) => Ok(EncodeBase::Decoded(decoded)),
        None => fetch_index(context, &base.blob, deadline)
            .await
            .map(EncodeBase::Index),
    }
}

/// Decodes a layer that an earlier push has left in the spool to a file without a name; `None` if the
/// spool does not have it, or the disk has no room. Blocks the thread.
fn decode_spooled(spool: &Spool, diff_id: &Digest) -> Option<DecodedBase<File>> {
    let layer = spool.open_compressed(diff_id)?;
    let expected = layer.len().saturating_mul(MAX_EXPECTED_RATIO);
    if disk::free_bytes(spool.folder()).is_some_and(|free| free < expected) {
        return None;
    }
    let decoded = decode(spool, &layer).ok();
    match decoded {
        Some((decoded, found)) if found == *diff_id => Some(decoded),
        Some(_) => {
            spool.remove(SpoolKind::Compressed, [diff_id]);
            None
        }
        None => None,
    }
}

/// Decodes a layer, and returns its diffID, too.
fn decode(spool: &Spool, layer: &Slice) -> io::Result<(DecodedBase<File>, Digest)> {
    let most = layer.len().saturating_mul(MAX_RATIO);
    let most = most.clamp(MIN_DECODED_BYTES, MAX_DECODED_BYTES);
    let decompressed = decompress(layer.reader()?, Compression::Gzip)?;
    let mut reader = HashedReader {
        reader: decompressed.take(most),
        hasher: Hasher::new(Algorithm::Sha256),
    };
    let file = tempfile::tempfile_in(spool.folder())?;
    let decoded = DecodedBase::decode(&mut reader, file).map_err(io::Error::other)?;
    // The layer may have more bytes, so its diffID is not known.
    if reader.reader.limit() == 0 {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok((decoded, reader.hasher.finish()))
}

/// Fetches the index of a layer, and waits while the registry computes it.
async fn fetch_index(
    context: &UploadContext,
    blob: &Digest,
    deadline: &OnceLock<Instant>,
) -> Result<LayerIndex, String> {
    let writer = &context.writer;
    let index = loop {
        let request = writer.client.fetch_layer_index(&writer.repository, blob);
        match request.await.map_err(|error| error.to_string())? {
            LayerIndexAnswer::Ready(bytes) => break bytes,
            LayerIndexAnswer::Computing(retry_after) => {
                let max_wait = writer.client.stall_timeout();
                let deadline = *deadline.get_or_init(|| Instant::now() + max_wait);
                if Instant::now() > deadline {
                    return Err("the registry is still indexing the earlier version".to_owned());
                }
                tokio::time::sleep(backoff(3, retry_after)).await;
            }
            LayerIndexAnswer::Unavailable => {
                return Err("the registry has no index of the earlier version".to_owned());
            }
        }
    };
    let parsed = tokio::task::spawn_blocking(move || LayerIndex::parse(&index)).await;
    let parsed = parsed.map_err(|_| "the thread that reads an index panicked".to_owned())?;
    parsed.map_err(|error| format!("the registry sent an invalid index: {error}"))
}

/// Reads bytes, and hashes them.
struct HashedReader<R> {
    reader: R,
    hasher: Hasher,
}

impl<R: Read> Read for HashedReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.reader.read(buffer)?;
        self.hasher.update(&buffer[..len]);
        Ok(len)
    }
}
