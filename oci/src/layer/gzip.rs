//! Writes the format `imgsync-gzip-1` with several threads.
//!
//! One thread reads and hashes the tar, the workers compress blocks, and the calling thread writes
//! and hashes the members in order. Each block is a gzip member of its own, so the output does not
//! depend on which thread compresses which block. Start reading at [`gzip`].

mod first_member;

use std::io::{self, Read, Write};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use libdeflater::{CompressionLvl, Compressor};

use super::{LayerDigests, fill};
use crate::{Algorithm, Hasher};

pub use first_member::has_own_first_member;

/// The number of tar bytes in a member, except for the last one.
const RAW_BYTES_PER_MEMBER: usize = 1024 * 1024;
/// Part of the format, like the size of a block.
const GZIP_LEVEL: i32 = 6;
/// The number of blocks in progress in addition to one for each worker, so that no worker waits for
/// the writer.
const MAX_EXTRA_BLOCKS: usize = 2;

/// Why a layer could not be compressed.
#[derive(Debug, thiserror::Error)]
pub enum GzipError {
    /// The bytes of the layer could not be read. Whether a retry helps depends on the source.
    #[error("cannot read the layer: {0}")]
    Read(#[source] io::Error),
    /// The compressed bytes could not be written, usually because the disk is full.
    #[error("cannot write the compressed layer: {0}")]
    Write(#[source] io::Error),
    /// No thread could be started, or the compressor failed.
    #[error("cannot compress: {0}")]
    Compressor(#[source] io::Error),
}

/// Counts and hashes the bytes on one side of the compression.
struct CountingHasher {
    hasher: Hasher,
    size: u64,
}

impl CountingHasher {
    fn new() -> Self {
        Self {
            hasher: Hasher::new(Algorithm::Sha256),
            size: 0,
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
    }
}

/// A block of the tar and the gzip member made from it. The buffers are reused, and keep their full
/// length: to clear and to extend them again would write every byte once more.
#[derive(Default)]
struct GzipBlock {
    raw: Vec<u8>,
    raw_len: usize,
    member: Vec<u8>,
    member_len: usize,
}

impl GzipBlock {
    fn raw(&self) -> &[u8] {
        &self.raw[..self.raw_len]
    }

    fn member(&self) -> &[u8] {
        &self.member[..self.member_len]
    }
}

/// A block for a worker, with the channel for the result.
struct CompressJob {
    block: GzipBlock,
    result_sender: SyncSender<Result<GzipBlock, GzipError>>,
}

type PendingBlock = Receiver<Result<GzipBlock, GzipError>>;

/// Compresses `reader` to its end into `writer` with `threads` workers, at least one. The output
/// depends neither on the number of threads nor on the sizes of the reads. Takes about 3 MiB of
/// memory for each worker.
///
/// # Errors
/// Returns [`GzipError::Read`] if reading fails, [`GzipError::Write`] if writing fails, and
/// [`GzipError::Compressor`] if no thread can be started. The output written so far is then
/// useless.
pub fn gzip(
    reader: impl Read + Send,
    writer: &mut impl Write,
    threads: usize,
) -> Result<LayerDigests, GzipError> {
    let threads = threads.max(1);
    let (jobs, queue) = sync_channel(threads);
    let queue = Arc::new(Mutex::new(queue));
    // The results in the order of the tar. The capacity limits how far the reader is ahead of the
    // writer.
    let (results, in_order) = sync_channel(threads + MAX_EXTRA_BLOCKS);
    let (spare, spares) = channel();
    thread::scope(move |scope| {
        for _ in 0..threads {
            let queue = Arc::clone(&queue);
            thread::Builder::new()
                .spawn_scoped(scope, move || compress_blocks(&queue))
                .map_err(GzipError::Compressor)?;
        }
        // Now only the workers hold the queue, so the reader stops when all workers have stopped.
        drop(queue);
        let reading = thread::Builder::new()
            .spawn_scoped(scope, move || read_blocks(reader, &spares, &results, &jobs))
            .map_err(GzipError::Compressor)?;
        let written = write_members(in_order, writer, &spare);
        let read = reading
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        // A failed write also makes the reader stop early, so the write error is returned first.
        let (written, raw) = (written?, read?);
        Ok(LayerDigests {
            diff_id: raw.hasher.finish(),
            digest: written.hasher.finish(),
            raw_size: raw.size,
            size: written.size,
        })
    })
}

/// Splits the tar into blocks and queues them, until the tar ends or the workers have stopped.
fn read_blocks(
    mut reader: impl Read,
    spares: &Receiver<GzipBlock>,
    results: &SyncSender<PendingBlock>,
    jobs: &SyncSender<CompressJob>,
) -> Result<CountingHasher, GzipError> {
    let mut raw = CountingHasher::new();
    loop {
        let mut block = spares.try_recv().unwrap_or_default();
        block.raw.resize(RAW_BYTES_PER_MEMBER, 0);
        let filled = fill(&mut reader, &mut block.raw);
        block.raw_len = filled.map_err(GzipError::Read)?;
        let is_last = block.raw_len < RAW_BYTES_PER_MEMBER;
        // Only an empty tar has an empty member.
        if block.raw_len == 0 && raw.size > 0 {
            return Ok(raw);
        }
        raw.update(block.raw());
        let (result_sender, result) = sync_channel(1);
        let job = CompressJob {
            block,
            result_sender,
        };
        if results.send(result).is_err() || jobs.send(job).is_err() || is_last {
            return Ok(raw);
        }
    }
}

/// Compresses blocks until the queue is closed. Runs in each worker thread.
fn compress_blocks(queue: &Mutex<Receiver<CompressJob>>) {
    let Ok(level) = CompressionLvl::new(GZIP_LEVEL) else {
        return;
    };
    let mut compressor = Compressor::new(level);
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(mut job) = job else { return };
        let result = compress(&mut compressor, &mut job.block).map(|()| job.block);
        // There is no receiver any more if writing has failed.
        let _ = job.result_sender.send(result);
    }
}

/// Compresses one gzip member. libdeflate writes the header of the format: time 0, OS 255.
fn compress(compressor: &mut Compressor, block: &mut GzipBlock) -> Result<(), GzipError> {
    let bound = compressor.gzip_compress_bound(RAW_BYTES_PER_MEMBER);
    block.member.resize(bound, 0);
    let raw = &block.raw[..block.raw_len];
    block.member_len = compressor
        .gzip_compress(raw, &mut block.member)
        .map_err(|error| GzipError::Compressor(io::Error::other(error.to_string())))?;
    Ok(())
}

/// Writes the members in order.
fn write_members(
    in_order: Receiver<PendingBlock>,
    writer: &mut impl Write,
    spare: &Sender<GzipBlock>,
) -> Result<CountingHasher, GzipError> {
    let mut written = CountingHasher::new();
    for result in in_order {
        let stopped = |_| GzipError::Compressor(io::Error::other("a worker ended early"));
        let block = result.recv().map_err(stopped)??;
        let member = writer.write_all(block.member());
        member.map_err(GzipError::Write)?;
        written.update(block.member());
        // The reader may have reached the end and need no more buffers.
        let _ = spare.send(block);
    }
    writer.flush().map_err(GzipError::Write)?;
    Ok(written)
}

#[cfg(test)]
mod tests;
