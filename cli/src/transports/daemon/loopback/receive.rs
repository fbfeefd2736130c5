//! Receives the bytes of an upload: compresses a layer again into the spool, in the format of this
//! tool, and computes its digests.

use std::collections::HashSet;
use std::io::{self, BufReader, Read, Write};
use std::sync::Arc;

use bytes::Bytes;
use imgsync_oci::media::Compression;
use imgsync_oci::{Algorithm, Digest, Hasher};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::cache::BlobRef;
use crate::compress::{self, CompressError};
use crate::image::Slice;
use crate::spool::{GrowingLayer, Spool, SpoolKind};
use crate::transports::daemon::chunk_reader::{ChunkReader, chunk_channel};

/// The most chunks that wait for the thread that decompresses.
const MAX_QUEUED_CHUNKS: usize = 4;
/// The largest blob that is kept in memory, in bytes: a config.
const MAX_MEMORY_BYTES: u64 = 256 * 1024;
const BUFFER_BYTES: usize = 256 * 1024;
/// The most threads that compress one layer: an engine compresses a layer more slowly than two
/// threads do, and sends several layers at a time.
const MAX_THREADS: usize = 2;

/// A blob that has arrived.
#[derive(Debug, Clone)]
pub(super) struct ReceivedBlob {
    /// The digest of the uncompressed bytes: the diffID of a layer, the digest of a config.
    pub(super) source_digest: Digest,
    /// The blob as the engine sent it.
    pub(super) sent: BlobRef,
    /// The content; `None` if it is not wanted.
    pub(super) content: Option<ReceivedContent>,
}

/// The content of a wanted blob.
#[derive(Debug, Clone)]
pub(super) enum ReceivedContent {
    /// The bytes of a blob that was sent uncompressed: a config.
    Bytes(Slice),
    /// A layer that was compressed, and compressed again.
    Layer(GrowingLayer),
}

/// The upload of one blob.
#[derive(Debug)]
pub(super) struct BlobReceiver {
    chunks: mpsc::Sender<io::Result<Bytes>>,
    thread: JoinHandle<io::Result<ReceivedBlob>>,
}

impl BlobReceiver {
    /// Starts a thread that puts the blob into the spool, and keeps it if it has one of the `wanted`
    /// digests. Layers are compressed with `threads`.
    pub(super) fn start(spool: &Spool, wanted: &Arc<HashSet<Digest>>, threads: usize) -> Self {
        let (chunks, reader) = chunk_channel(MAX_QUEUED_CHUNKS);
        let (spool, wanted) = (spool.clone(), Arc::clone(wanted));
        let receive = move || receive(reader, &spool, &wanted, threads.min(MAX_THREADS));
        let thread = tokio::task::spawn_blocking(receive);
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

/// Puts a blob into the spool, and keeps it if it is wanted.
fn receive(
    reader: ChunkReader,
    spool: &Spool,
    wanted: &HashSet<Digest>,
    threads: usize,
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
    let (source_digest, content) = if compression == Compression::None {
        store_bytes(whole, spool, wanted)?
    } else {
        pack_layer(
            compress::decoder(whole, compression)?,
            spool,
            wanted,
            threads,
        )?
    };
    Ok(ReceivedBlob {
        source_digest,
        sent: BlobRef {
            digest: sent.hasher.finish(),
            size: sent.size,
        },
        content,
    })
}

/// Compresses a tar. Returns its diffID and, if it is wanted, the layer.
fn pack_layer(
    tar: impl Read + Send,
    spool: &Spool,
    wanted: &HashSet<Digest>,
    threads: usize,
) -> io::Result<(Digest, Option<ReceivedContent>)> {
    let mut draft = spool.create_layer()?;
    let layer = draft.growing()?;
    let digests = draft.compress(tar, threads).map_err(|error| match error {
        CompressError::Read(error) | CompressError::Write(error) => error,
        error => io::Error::other(error),
    })?;
    let diff_id = digests.diff_id.clone();
    let is_wanted = wanted.contains(&diff_id);
    if is_wanted {
        draft.complete(&digests);
    }
    let content = is_wanted.then_some(ReceivedContent::Layer(layer));
    Ok((diff_id, content))
}

/// Stores bytes as they are. Returns their digest and, if they are wanted, the bytes.
fn store_bytes(
    mut reader: impl Read,
    spool: &Spool,
    wanted: &HashSet<Digest>,
) -> io::Result<(Digest, Option<ReceivedContent>)> {
    let mut hasher = Hasher::new(Algorithm::Sha256);
    let mut draft = spool.create_draft()?;
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let len = reader.read(&mut buffer)?;
        if len == 0 {
            break;
        }
        hasher.update(&buffer[..len]);
        draft.write_all(&buffer[..len])?;
    }
    let digest = hasher.finish();
    let len = draft.len();
    let slice = if !wanted.contains(&digest) {
        None
    } else if len <= MAX_MEMORY_BYTES {
        let file = draft.into_file();
        Some(Slice::memory(Slice::part(&file, 0, len).read_all()?))
    } else {
        let file = draft.persist(SpoolKind::Bytes, &digest);
        Some(Slice::part(&file, 0, len))
    };
    Ok((digest, slice.map(ReceivedContent::Bytes)))
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
