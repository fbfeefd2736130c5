//! Receives the bytes of an upload: decompresses a layer into the spool, and computes its digests.

use std::collections::HashSet;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::sync::Arc;

use bytes::Bytes;
use imgsync_oci::media::Compression;
use imgsync_oci::{Algorithm, Digest, Hasher};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::cache::BlobRef;
use crate::compress;
use crate::image::Slice;
use crate::spool::{Spool, SpoolKind};
use crate::transports::daemon::chunk_reader::{ChunkReader, chunk_channel};

/// The most chunks that wait for the thread that decompresses.
const MAX_QUEUED_CHUNKS: usize = 4;
/// The largest blob that is kept in memory, in bytes: a config.
const MAX_MEMORY_BYTES: u64 = 256 * 1024;
const BUFFER_BYTES: usize = 256 * 1024;

/// A blob that has arrived.
#[derive(Debug, Clone)]
pub(super) struct ReceivedBlob {
    /// The digest of the uncompressed bytes: the diffID of a layer, the digest of a config.
    pub(super) source_digest: Digest,
    /// The blob as the engine sent it.
    pub(super) sent: BlobRef,
    /// The uncompressed bytes; `None` if they are not wanted.
    pub(super) bytes: Option<Slice>,
}

/// The upload of one blob.
#[derive(Debug)]
pub(super) struct BlobReceiver {
    chunks: mpsc::Sender<io::Result<Bytes>>,
    thread: JoinHandle<io::Result<ReceivedBlob>>,
}

impl BlobReceiver {
    /// Starts a thread that decompresses into the spool, and keeps a blob with one of the `wanted`
    /// digests.
    pub(super) fn start(spool: &Spool, wanted: &Arc<HashSet<Digest>>) -> Self {
        let (chunks, reader) = chunk_channel(MAX_QUEUED_CHUNKS);
        let (spool, wanted) = (spool.clone(), Arc::clone(wanted));
        let thread = tokio::task::spawn_blocking(move || spool_blob(reader, &spool, &wanted));
        Self { chunks, thread }
    }

    /// Adds the next bytes.
    ///
    /// # Errors
    /// Returns an error if the thread has ended, which [`BlobReceiver::finish`] explains.
    pub(super) async fn add(&self, bytes: Bytes) -> io::Result<()> {
        let sent = self.chunks.send(Ok(bytes)).await;
        sent.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
    }

    /// Ends the blob, and returns it.
    ///
    /// # Errors
    /// Returns an error if the blob cannot be decompressed or stored.
    pub(super) async fn finish(self) -> io::Result<ReceivedBlob> {
        drop(self.chunks);
        let panicked = |_| Err(io::Error::other("the thread that reads a layer panicked"));
        self.thread.await.unwrap_or_else(panicked)
    }
}

/// Stores the decompressed bytes of a blob under their digest.
fn spool_blob(
    reader: ChunkReader,
    spool: &Spool,
    wanted: &HashSet<Digest>,
) -> io::Result<ReceivedBlob> {
    let mut sent = HashingReader {
        reader,
        hasher: Hasher::new(Algorithm::Sha256),
        size: 0,
    };
    let mut start = Vec::new();
    sent.by_ref().take(4).read_to_end(&mut start)?;
    let compression = Compression::of_bytes(&start);
    let whole = BufReader::with_capacity(BUFFER_BYTES, start.chain(&mut sent));
    let mut decoded = compress::decompress(whole, compression)?;
    let mut hasher = Hasher::new(Algorithm::Sha256);
    let mut writer = BufWriter::with_capacity(BUFFER_BYTES, spool.create_draft()?);
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let len = decoded.read(&mut buffer)?;
        if len == 0 {
            break;
        }
        hasher.update(&buffer[..len]);
        writer.write_all(&buffer[..len])?;
    }
    drop(decoded);
    let source_digest = hasher.finish();
    let draft = writer
        .into_inner()
        .map_err(io::IntoInnerError::into_error)?;
    let len = draft.len();
    let bytes = if !wanted.contains(&source_digest) {
        None
    } else if len <= MAX_MEMORY_BYTES {
        let file = draft.into_file();
        Some(Slice::memory(Slice::part(&file, 0, len).read_all()?))
    } else {
        let file = draft.persist(SpoolKind::Bytes, &source_digest);
        Some(Slice::part(&file, 0, len))
    };
    Ok(ReceivedBlob {
        source_digest,
        sent: BlobRef {
            digest: sent.hasher.finish(),
            size: sent.size,
        },
        bytes,
    })
}

/// Hashes and counts what is read.
struct HashingReader<R> {
    reader: R,
    hasher: Hasher,
    size: u64,
}

impl<R: Read> Read for HashingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.reader.read(buffer)?;
        self.hasher.update(&buffer[..len]);
        self.size += len as u64;
        Ok(len)
    }
}
