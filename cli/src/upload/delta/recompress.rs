//! Finds out whether a layer that is compressed at its source has the bytes that this tool would make
//! of it, because the registry compresses the layers that it assembles in the same way.
//!
//! Start reading at [`QueueRun::recompress`].

use std::io::Read;

use imgsync_oci::Digest;
use imgsync_oci::media::Compression;

use crate::compress::{CompressError, LayerDigests, decoder};
use crate::image::Slice;
use crate::plan::MAX_DELTA_RAW_BYTES;
use crate::report::{ProgressTask, TaskReader};
use crate::spool::{LayerDraft, Spool, SpooledLayer};
use crate::upload::QueuedBlob;
use crate::upload::upload_all::QueueRun;

impl QueueRun<'_> {
    /// Compresses a layer in gzip again into the spool, where later pushes can make deltas from it.
    /// Returns `None` if that gives another blob than `digest`, if the layer is damaged, or if the spool
    /// is full: then the layer is sent as it is, and verified meanwhile.
    pub(super) async fn recompress(
        &self,
        queued: &QueuedBlob,
        digest: &Digest,
        diff_id: &Digest,
    ) -> Option<SpooledLayer> {
        let (context, label) = (self.context, &queued.label);
        let (turn, draft) = self.start_packing(label).await.ok()?;
        let text = format!("compressing {label} again");
        let task = ProgressTask::start(&context.report, &text, Some(queued.bytes.len()));
        let (spool, threads) = (context.spool.clone(), context.threads);
        let (bytes, expected) = (queued.bytes.clone(), (digest.clone(), diff_id.clone()));
        let compressing = tokio::task::spawn_blocking(move || {
            let (digest, diff_id) = &expected;
            if let Some(layer) = find_spooled(&spool, digest, diff_id) {
                return Some(layer);
            }
            compress_again(&bytes, draft, task, threads, &expected)
        });
        // A thread that panicked found nothing.
        let layer = compressing.await.ok().flatten();
        drop(turn);
        match &layer {
            Some(layer) => self.remember_packed(diff_id, &layer.blob),
            None => context.report.detail(&format!(
                "{label}: sent whole, because its compressed bytes cannot be made again"
            )),
        }
        layer
    }
}

/// Returns the layer if an earlier push has compressed it to the blob `digest`.
fn find_spooled(spool: &Spool, digest: &Digest, diff_id: &Digest) -> Option<SpooledLayer> {
    let layer = spool.find_compressed(diff_id)?;
    (layer.blob.digest == *digest).then_some(layer)
}

/// Keeps the layer in the spool if it has both digests. Blocks the thread.
fn compress_again(
    bytes: &Slice,
    mut draft: LayerDraft,
    task: ProgressTask,
    threads: usize,
    (digest, diff_id): &(Digest, Digest),
) -> Option<SpooledLayer> {
    let compressed = || -> Result<LayerDigests, CompressError> {
        let reader = TaskReader::new(bytes.reader().map_err(CompressError::Read)?, task);
        let tar = decoder(reader, Compression::Gzip).map_err(CompressError::Read)?;
        // A larger layer gets another digest.
        draft.compress(tar.take(MAX_DELTA_RAW_BYTES), threads)
    };
    let digests = compressed().ok()?;
    let is_same = digests.digest == *digest && digests.diff_id == *diff_id;
    is_same.then(|| draft.complete(&digests))
}
