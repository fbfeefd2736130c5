//! Makes the delta of a layer, one at a time, or finds the one that an earlier push has made.
//!
//! Start reading at [`QueueRun::make_delta`].

use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use imgsync_oci::delta::{self, EncodeBase, EncodeError};
use imgsync_oci::media::Compression;
use imgsync_oci::{Algorithm, Digest, Hasher};

use super::bases::open_base;
use super::{NoDelta, PackedLayer};
use crate::compress::decompress;
use crate::image::{Slice, SliceReader};
use crate::plan::{DeltaPlan, MIN_DELTA_LAYER_BYTES};
use crate::report::ProgressTask;
use crate::spool::{Draft, Spool, SpoolKind, delta_name};
use crate::upload::upload_all::QueueRun;

/// A delta in the spool.
pub(super) struct MadeDelta {
    /// The name in the spool.
    pub(super) name: Digest,
    pub(super) digest: Digest,
    pub(super) bytes: Slice,
    /// The blobs that it is based on.
    pub(super) bases: Vec<Digest>,
}

impl QueueRun<'_> {
    /// Makes the delta of a layer. It has at most half of the bytes of the compressed layer.
    pub(super) async fn make_delta(
        &self,
        packed: &PackedLayer<'_>,
        plan: &DeltaPlan,
    ) -> Result<MadeDelta, NoDelta> {
        let layer = &packed.layer;
        if layer.blob.size < MIN_DELTA_LAYER_BYTES {
            return Err(NoDelta::NotWorthwhile);
        }
        let planned = plan.bases.iter().map(|base| base.blob.clone()).collect();
        if let Some(delta) = self.find_delta(packed, planned).await {
            return Ok(delta);
        }
        // The bases and the delta are held in memory to some extent. The semaphore is never closed.
        let _turn = self.delta_turn.acquire().await.ok();
        let (mut opened, mut bases, mut reason) = (Vec::new(), Vec::new(), None);
        for base in &plan.bases {
            match open_base(self.context, base).await {
                Ok(open) => {
                    opened.push(open);
                    bases.push(base.blob.clone());
                }
                Err(text) => reason = Some(text),
            }
        }
        if let (true, Some(reason)) = (opened.is_empty(), reason) {
            return Err(NoDelta::Failed(reason));
        }
        if bases.len() < plan.bases.len()
            && let Some(delta) = self.find_delta(packed, bases.clone()).await
        {
            return Ok(delta);
        }
        let name = delta_name(&packed.diff_id, bases.iter());
        let spool = self.context.spool.clone();
        let text = format!("making a delta of {}", packed.label);
        let passes = ProgressTask::start(&self.context.report, &text, Some(2 * layer.blob.size));
        let input = PassReader::new(&layer.bytes, passes);
        let encoding = tokio::task::spawn_blocking(move || encode(&spool, &name, &input, opened));
        let encoded = encoding.await.unwrap_or_else(|_| {
            let reason = "the thread that makes a delta panicked".to_owned();
            Err(NoDelta::Failed(reason))
        });
        encoded.map(|(name, digest, bytes)| MadeDelta {
            name,
            digest,
            bytes,
            bases,
        })
    }

    /// Returns the delta that an earlier push has made against these bases. One with other bytes could
    /// not continue its upload.
    async fn find_delta(&self, packed: &PackedLayer<'_>, bases: Vec<Digest>) -> Option<MadeDelta> {
        let name = delta_name(&packed.diff_id, bases.iter());
        let spool = self.context.spool.clone();
        let found = tokio::task::spawn_blocking(move || {
            let bytes = spool.open_delta(&name)?;
            let mut hashed = HashedWriter::new(io::sink());
            io::copy(&mut bytes.reader().ok()?, &mut hashed).ok()?;
            Some((name, hashed.hasher.finish(), bytes))
        });
        let (name, digest, bytes) = found.await.ok().flatten()?;
        Some(MadeDelta {
            name,
            digest,
            bytes,
            bases,
        })
    }
}

/// Writes a delta to the spool. Returns its name there, its digest and its bytes. Blocks the thread.
fn encode(
    spool: &Spool,
    name: &Digest,
    layer: &PassReader,
    mut bases: Vec<EncodeBase<File>>,
) -> Result<(Digest, Digest, Slice), NoDelta> {
    let failed = |error: io::Error| NoDelta::Failed(error.to_string());
    let mut delta = HashedWriter::new(spool.create_draft().map_err(failed)?);
    let open = || decompress(layer.next_pass()?, Compression::Gzip);
    let create_scratch = || tempfile::tempfile_in(spool.folder());
    let max_bytes = layer.bytes.len() / 2;
    let encoded = delta::encode(&open, &mut bases, &create_scratch, max_bytes, &mut delta);
    encoded.map_err(|error| match error {
        EncodeError::NotWorthwhile(_) => NoDelta::NotWorthwhile,
        EncodeError::Delta(error) => NoDelta::Failed(error.to_string()),
    })?;
    let HashedWriter { writer, hasher } = delta;
    let size = Draft::len(&writer);
    let file = writer.persist(SpoolKind::Deltas, name);
    let bytes = Slice::part(&file, 0, size);
    Ok((name.clone(), hasher.finish(), bytes))
}

/// Reads a compressed layer several times, and shows how far it is.
struct PassReader {
    bytes: Slice,
    task: Arc<ProgressTask>,
    position: Arc<AtomicU64>,
}

impl PassReader {
    fn new(bytes: &Slice, task: ProgressTask) -> Self {
        Self {
            bytes: bytes.clone(),
            task: Arc::new(task),
            position: Arc::default(),
        }
    }

    fn next_pass(&self) -> io::Result<Pass> {
        Ok(Pass {
            reader: self.bytes.reader()?,
            task: Arc::clone(&self.task),
            position: Arc::clone(&self.position),
        })
    }
}

struct Pass {
    reader: SliceReader,
    task: Arc<ProgressTask>,
    position: Arc<AtomicU64>,
}

impl Read for Pass {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.reader.read(buffer)?;
        let before = self.position.fetch_add(len as u64, Ordering::Relaxed);
        self.task.set_position(before + len as u64);
        Ok(len)
    }
}

/// Writes bytes, and hashes them.
struct HashedWriter<W> {
    writer: W,
    hasher: Hasher,
}

impl<W> HashedWriter<W> {
    fn new(writer: W) -> Self {
        Self {
            writer,
            hasher: Hasher::new(Algorithm::Sha256),
        }
    }
}

impl<W: Write> Write for HashedWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let len = self.writer.write(bytes)?;
        self.hasher.update(&bytes[..len]);
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}
