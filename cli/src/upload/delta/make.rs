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
use crate::spool::Spool;
use crate::upload::upload_all::QueueRun;

/// A delta in the spool.
pub(super) struct MadeDelta {
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
            return Err(NoDelta::SmallLayer);
        }
        let rates = self.context.writer.transfer_rates();
        if rates.favour_whole_layer(layer.blob.size, layer.raw_size) {
            return Err(NoDelta::SlowToMake);
        }
        let planned = plan.bases.iter().map(|base| base.blob.clone()).collect();
        if let Some(delta) = self.find_delta(packed, planned).await {
            return Ok(delta);
        }
        // The bases and the delta are held in memory to some extent. The semaphore is never closed.
        let _turn = self.delta_turn.acquire().await.ok();
        let (bases, opened) = self.open_bases(packed, plan).await?;
        if bases.len() < plan.bases.len()
            && let Some(delta) = self.find_delta(packed, bases.clone()).await
        {
            return Ok(delta);
        }
        let spool = self.context.spool.clone();
        let (diff_id, own_bases) = (packed.diff_id.clone(), bases.clone());
        let text = format!("making a delta of {}", packed.label);
        let passes = ProgressTask::start(&self.context.report, &text, Some(2 * layer.blob.size));
        let input = PassReader::new(&layer.bytes, passes);
        let encoding = tokio::task::spawn_blocking(move || {
            let names = (&diff_id, &*own_bases);
            encode(&spool, names, &input, opened)
        });
        let encoded = encoding.await.unwrap_or_else(|_| {
            let reason = "the thread that makes a delta panicked".to_owned();
            Err(NoDelta::Failed(reason))
        });
        encoded.map(|(digest, bytes)| MadeDelta {
            digest,
            bytes,
            bases,
        })
    }

    /// Opens those of the planned bases that can be used, at least one.
    async fn open_bases(
        &self,
        packed: &PackedLayer<'_>,
        plan: &DeltaPlan,
    ) -> Result<(Vec<Digest>, Vec<EncodeBase<File>>), NoDelta> {
        let text = format!("reading the earlier version of {}", packed.label);
        let _task = ProgressTask::start(&self.context.report, &text, None);
        let (mut bases, mut opened, mut reason) = (Vec::new(), Vec::new(), None);
        for base in &plan.bases {
            let open = open_base(self.context, base, &self.index_deadline)
                .await
                .and_then(|open| {
                    let indexes = opened.iter().chain([&open]).map(EncodeBase::index);
                    let checked = delta::check_bases(indexes);
                    checked.map(|()| open).map_err(|error| error.to_string())
                });
            match open {
                Ok(open) => {
                    bases.push(base.blob.clone());
                    opened.push(open);
                }
                Err(text) => reason = Some(text),
            }
        }
        match reason {
            Some(reason) if opened.is_empty() => Err(NoDelta::Failed(reason)),
            _ => Ok((bases, opened)),
        }
    }

    /// Returns the delta that an earlier push has made against these bases. One with other bytes could
    /// not continue its upload.
    async fn find_delta(&self, packed: &PackedLayer<'_>, bases: Vec<Digest>) -> Option<MadeDelta> {
        let (spool, diff_id) = (self.context.spool.clone(), packed.diff_id.clone());
        let max_bytes = packed.layer.blob.size / 2;
        let found = tokio::task::spawn_blocking(move || {
            let bytes = spool.open_delta(&diff_id, &bases)?;
            // Whatever this is, it is not worth sending.
            if bytes.len() > max_bytes {
                return None;
            }
            let mut hashed = HashedWriter::new(io::sink());
            io::copy(&mut bytes.reader().ok()?, &mut hashed).ok()?;
            Some(MadeDelta {
                digest: hashed.hasher.finish(),
                bytes,
                bases,
            })
        });
        // A thread that panicked found nothing.
        found.await.ok().flatten()
    }
}

/// Writes a delta to the spool, with the diffID of the layer and the bases as its name. Returns its
/// digest and its bytes. Blocks the thread.
fn encode(
    spool: &Spool,
    (diff_id, names): (&Digest, &[Digest]),
    layer: &PassReader,
    mut bases: Vec<EncodeBase<File>>,
) -> Result<(Digest, Slice), NoDelta> {
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
    let size = writer.len();
    let file = writer.persist_delta(diff_id, names);
    let bytes = Slice::part(&file, 0, size);
    Ok((hasher.finish(), bytes))
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
