//! Writes the format `imgsync-gzip-1` with several threads.
//!
//! One thread reads and hashes the tar, the workers compress blocks, and the calling thread writes
//! and hashes the members in order. Each block is a gzip member of its own, so the output does not
//! depend on which thread compresses which block. Start reading at [`gzip`].

use std::io::{self, Read, Write};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use libdeflater::{CompressionLvl, Compressor};

use super::{CompressError, CountingHasher, LayerDigests, fill};

/// The number of tar bytes in a member, except for the last one.
const RAW_BYTES_PER_MEMBER: usize = 1024 * 1024;
/// Part of the format, like the size of a block.
const GZIP_LEVEL: i32 = 6;
/// The number of blocks in progress in addition to one for each worker, so that no worker waits for
/// the writer.
const MAX_EXTRA_BLOCKS: usize = 2;

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
    result_sender: SyncSender<Result<GzipBlock, CompressError>>,
}

type PendingBlock = Receiver<Result<GzipBlock, CompressError>>;

/// Compresses `reader` to its end into `writer` with `threads` workers, at least one. The output
/// depends neither on the number of threads nor on the sizes of the reads. Takes about 3 MiB of
/// memory for each worker.
///
/// # Errors
/// Returns [`CompressError::Read`] if reading fails, [`CompressError::Write`] if writing fails, and
/// [`CompressError::Compressor`] if no thread can be started. The output written so far is then
/// useless.
pub fn gzip(
    reader: impl Read + Send,
    writer: &mut impl Write,
    threads: usize,
) -> Result<LayerDigests, CompressError> {
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
                .map_err(CompressError::Compressor)?;
        }
        // Now only the workers hold the queue, so the reader stops when all workers have stopped.
        drop(queue);
        let reading = thread::Builder::new()
            .spawn_scoped(scope, move || read_blocks(reader, &spares, &results, &jobs))
            .map_err(CompressError::Compressor)?;
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
) -> Result<CountingHasher, CompressError> {
    let mut raw = CountingHasher::new();
    loop {
        let mut block = spares.try_recv().unwrap_or_default();
        block.raw.resize(RAW_BYTES_PER_MEMBER, 0);
        let filled = fill(&mut reader, &mut block.raw);
        block.raw_len = filled.map_err(CompressError::Read)?;
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
fn compress(compressor: &mut Compressor, block: &mut GzipBlock) -> Result<(), CompressError> {
    let bound = compressor.gzip_compress_bound(RAW_BYTES_PER_MEMBER);
    block.member.resize(bound, 0);
    let raw = &block.raw[..block.raw_len];
    block.member_len = compressor
        .gzip_compress(raw, &mut block.member)
        .map_err(|error| CompressError::Compressor(io::Error::other(error.to_string())))?;
    Ok(())
}

/// Writes the members in order.
fn write_members(
    in_order: Receiver<PendingBlock>,
    writer: &mut impl Write,
    spare: &Sender<GzipBlock>,
) -> Result<CountingHasher, CompressError> {
    let mut written = CountingHasher::new();
    for result in in_order {
        let stopped = |_| CompressError::Compressor(io::Error::other("a worker ended early"));
        let block = result.recv().map_err(stopped)??;
        let member = writer.write_all(block.member());
        member.map_err(CompressError::Write)?;
        written.update(block.member());
        // The reader may have reached the end and need no more buffers.
        let _ = spare.send(block);
    }
    writer.flush().map_err(CompressError::Write)?;
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{ChunkedReader, sample};
    use super::*;
    use flate2::read::MultiGzDecoder;
    use imgsync_oci::Digest;

    const MIB: usize = RAW_BYTES_PER_MEMBER;

    fn compressed(input: &[u8], threads: usize) -> (Vec<u8>, LayerDigests) {
        let mut blob = Vec::new();
        let digests = gzip(input, &mut blob, threads).unwrap();
        (blob, digests)
    }

    /// The bytes of the format must never change: a change is a new format with a new name.
    #[test]
    fn golden_vectors() {
        for (len, digest) in [
            (
                0,
                "30e6fa98fb48c2b132824d1ac5e2243c0be9e9082ff32598d34d7687ca7f6c7f",
            ),
            (
                1,
                "c5444d2b132a1c74e6e13919b3725f2841afc4b1a87ef26f4a292914d912ba8f",
            ),
            (
                MIB,
                "dba0985ca748179f098f776a4a1f59d9427418ae7d8c3b6333787dce991b5389",
            ),
            (
                MIB + 1,
                "5b134cf7975cc811dc13930610724a9cc3675791e5b1d141bd6d03a5cb84406e",
            ),
            (
                5 * MIB,
                "447da4b4ac973b292e5f0db6f5aae456ed02d911aee3cf2ab68d428da42b2b48",
            ),
        ] {
            let input = sample(len);
            let (blob, digests) = compressed(&input, 2);
            assert_eq!(digests.digest.hex(), digest, "{len} bytes");
            assert_eq!(digests.digest, Digest::of(&blob));
            assert_eq!(digests.diff_id, Digest::of(&input));
            assert_eq!(digests.raw_size, len as u64);
            assert_eq!(digests.size, blob.len() as u64);
        }
    }

    #[test]
    fn neither_threads_nor_reads_change_the_bytes() {
        let input = sample(5 * MIB + 12_345);
        let (expected, _) = compressed(&input, 1);
        for threads in [0, 2, 3, 8] {
            assert!(
                compressed(&input, threads).0 == expected,
                "{threads} threads"
            );
        }
        for reader in [
            ChunkedReader::each(&input, 1),
            ChunkedReader::each(&input, 1000),
            ChunkedReader::random(&input),
        ] {
            let mut blob = Vec::new();
            gzip(reader, &mut blob, 4).unwrap();
            assert!(blob == expected);
        }
    }

    #[test]
    fn every_member_has_one_mebibyte_and_a_minimal_header() {
        let input = sample(2 * MIB + 10);
        let (blob, _) = compressed(&input, 2);
        let mut rest = &blob[..];
        let mut sizes = Vec::new();
        while !rest.is_empty() {
            // Magic number, deflate, no flags, time 0, no extra flags, OS 255 (RFC 1952, section
            // 2.3).
            assert_eq!(rest[..10], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255]);
            let mut decoder = flate2::bufread::GzDecoder::new(rest);
            sizes.push(io::copy(&mut decoder, &mut io::sink()).unwrap());
            rest = decoder.into_inner();
        }
        assert_eq!(sizes, [MIB as u64, MIB as u64, 10]);
    }

    #[test]
    fn other_tools_decompress_the_blob() {
        for len in [0, 1, MIB, 3 * MIB + 7] {
            let input = sample(len);
            let (blob, _) = compressed(&input, 3);
            let mut decoded = Vec::new();
            MultiGzDecoder::new(&blob[..])
                .read_to_end(&mut decoded)
                .unwrap();
            assert!(decoded == input);
            let mut gunzip = std::process::Command::new("gzip")
                .arg("-t")
                .stdin(std::process::Stdio::piped())
                .spawn()
                .unwrap();
            gunzip.stdin.take().unwrap().write_all(&blob).unwrap();
            assert!(gunzip.wait().unwrap().success(), "gzip -t, {len} bytes");
        }
    }

    /// Yields the given number of bytes, and then fails.
    struct FailingReader(usize);

    impl Read for FailingReader {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let len = buffer.len().min(self.0);
            self.0 -= len;
            match len {
                0 => Err(io::Error::other("failed")),
                len => {
                    buffer[..len].fill(7);
                    Ok(len)
                }
            }
        }
    }

    #[test]
    fn a_failed_read_differs_from_a_failed_write() {
        let error = gzip(FailingReader(3 * MIB + 5), &mut io::sink(), 2).unwrap_err();
        assert!(matches!(error, CompressError::Read(_)), "{error}");
        struct FullWriter(usize);
        impl Write for FullWriter {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0 = self
                    .0
                    .checked_sub(bytes.len())
                    .ok_or(io::ErrorKind::StorageFull)?;
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let input = sample(40 * MIB);
        let error = gzip(&input[..], &mut FullWriter(MIB), 2).unwrap_err();
        assert!(matches!(error, CompressError::Write(_)), "{error}");
    }
}
