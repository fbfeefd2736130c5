//! Unpacks a layer for a daemon that cannot read its compression.
//!
//! An archive states the size of a file before its bytes, so the layer is unpacked to the disk
//! first, into a file without a name. Start at [`UnpackedLayer::unpack`].

use std::fs::File;
use std::io::{self, Seek};
use std::sync::Arc;

use bytes::Bytes;
use imgsync_oci::media::Compression;

use super::chunk_reader::{ChunkReader, chunk_channel};
use crate::disk;
use crate::exit::{Failure, FailureKind};
use crate::transports::archive::DecompressedStream;
use crate::transports::blocking::{run_blocking, write_failure};
use crate::transports::fetch::BlobFetch;

/// The most chunks of the blob that wait for the decoder.
const MAX_QUEUED_CHUNKS: usize = 4;
/// The most bytes of the layer that are read at a time.
const CHUNK_BYTES: usize = 256 * 1024;

/// The tar of a layer on the disk.
pub(super) struct UnpackedLayer {
    file: Arc<File>,
    size: u64,
}

/// Returns whether a blob that starts with these bytes must be unpacked for a daemon that does not
/// know zstd.
pub(super) fn is_zstd(start: &[u8]) -> bool {
    Compression::of_bytes(start) == Compression::Zstd
}

impl UnpackedLayer {
    /// Fetches the rest of a blob that starts with `first`, and unpacks it. The bytes are used only
    /// if the blob has its digest. `update` is called with the number of bytes that were fetched.
    ///
    /// # Errors
    /// Returns the error of the source or of the disk.
    pub(super) async fn unpack(
        fetch: &mut BlobFetch<'_>,
        first: Bytes,
        update: impl Fn(u64),
    ) -> Result<Self, Failure> {
        let (sender, reader) = chunk_channel(MAX_QUEUED_CHUNKS);
        let unpacking = run_blocking(move || unpack(reader));
        let fetching = async move {
            let mut next = Some(first);
            while let Some(chunk) = next {
                // The decoder has failed, and tells why.
                if sender.send(Ok(chunk)).await.is_err() {
                    break;
                }
                update(fetch.position());
                next = fetch.next_chunk().await?;
            }
            Ok::<(), Failure>(())
        };
        let (fetched, unpacked) = futures::join!(fetching, unpacking);
        fetched?;
        unpacked.map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
                let what = format!("source: a layer cannot be unpacked: {error}");
                Failure::new(FailureKind::Source, what)
            }
            _ => write_failure(error),
        })
    }

    /// Returns the size of the tar in bytes.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Reads the next bytes from `offset` on, at least one.
    ///
    /// # Errors
    /// Returns the error of the disk.
    pub(super) async fn read_at(&self, offset: u64) -> Result<Bytes, Failure> {
        let file = Arc::clone(&self.file);
        let read = run_blocking(move || {
            let mut chunk = vec![0; CHUNK_BYTES];
            let len = disk::read_at(&file, &mut chunk, offset)?;
            chunk.truncate(len);
            if chunk.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            Ok(Bytes::from(chunk))
        });
        read.await.map_err(|error: io::Error| {
            let what = format!("target: cannot read an unpacked layer: {error}");
            Failure::new(FailureKind::Target, what)
        })
    }
}

/// Unpacks a stream into a file. Blocks.
fn unpack(reader: ChunkReader) -> io::Result<UnpackedLayer> {
    let mut layer = DecompressedStream::open(reader)?;
    let mut file = tempfile::tempfile()?;
    io::copy(&mut layer, &mut file)?;
    let size = file.stream_position()?;
    let file = Arc::new(file);
    Ok(UnpackedLayer { file, size })
}
