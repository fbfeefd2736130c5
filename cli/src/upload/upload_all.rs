//! Uploads all blobs that the target lacks: packs raw layers one after the other, sends several
//! blobs at a time, and finishes the uploads only when all blobs have been verified.
//!
//! A layer is sent while it is being packed, and other blobs while their digests are computed. But no
//! upload is finished before all bytes are verified and at the
//! registry. A source that turns out to be damaged, or a registry whose disk is
//! full, therefore leaves no blob behind. Start reading at [`upload_all`].

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use futures::stream::{FuturesUnordered, Stream, StreamExt};
use imgsync_oci::Digest;
use imgsync_oci::media::Compression;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::RepositoryWriter;
use super::barrier::{BarrierPass, barrier};
use super::blob_upload::upload_behind_barrier;
use super::outgoing_blob::OutgoingBlob;
use super::pack::{self, QueuedContent, pending_blob};
use super::verify::Verification;
use crate::cache::{self, BlobRef, VerifiedBlobs};
use crate::compress::{self, CompressError};
use crate::exit::{Failure, FailureKind};
use crate::image::Slice;
use crate::plan::DeltaPlan;
use crate::report::{PlannedSize, ProgressTask, Report};
use crate::spool::{LayerDraft, Spool, SpooledLayer};

/// A blob to pack and to upload.
#[derive(Debug, Clone)]
pub struct QueuedBlob {
    /// The state of the content: raw, packed by an earlier run, or ready to send.
    pub content: QueuedContent,
    /// The bytes at the source.
    pub bytes: Slice,
    /// The name to show in messages, for example the number of a layer.
    pub label: String,
    /// The layers at the target that a delta of the layer is based on.
    pub delta: Option<DeltaPlan>,
}

impl QueuedBlob {
    /// Returns the size of the blob, as far as it is known before the layer is compressed.
    fn planned_size(&self) -> PlannedSize {
        match &self.content {
            QueuedContent::Raw { .. } => PlannedSize::Uncompressed(self.bytes.len()),
            // The source does not state the size of a layer that is still being read.
            QueuedContent::Growing { .. } => PlannedSize::Uncompressed(0),
            QueuedContent::Packed { blob, .. } => PlannedSize::Exact(blob.size),
            QueuedContent::Ready { descriptor, .. } => PlannedSize::Exact(descriptor.size),
        }
    }
}

/// The services that [`upload_all`] uses, besides the blobs themselves.
#[derive(Clone)]
pub struct UploadContext {
    /// The writer for the target repository.
    pub writer: Arc<RepositoryWriter>,
    /// The cache entries of blobs whose bytes this user's pushes made or verified.
    pub verified: VerifiedBlobs,
    /// The spool that keeps compressed layers, also for the next run.
    pub spool: Spool,
    /// The number of threads for compression, and for the verification of layers.
    pub threads: usize,
    /// Whether blobs that are sent as they are are verified before they are finished.
    pub verifies: bool,
    /// The receiver of progress and notes.
    pub report: Arc<dyn Report>,
}

/// The state that the uploads of one queue share.
pub(super) struct QueueRun<'a> {
    pub(super) context: &'a UploadContext,
    /// Layers are compressed one after the other, each with all threads.
    packing_turn: Semaphore,
    verify_permits: Arc<Semaphore>,
    /// Deltas are made one after the other, because each needs some memory.
    pub(super) delta_turn: Semaphore,
    /// Until when the registry may compute indexes, once it was asked for one that is not ready.
    pub(super) index_deadline: OnceLock<Instant>,
    /// Whether a layer is sent as a delta. The rate of the push says little then.
    has_deltas: AtomicBool,
}

/// Uploads all blobs, except those that the target turns out to have. Returns the uploaded blob for
/// each digest of the bytes at the source.
///
/// # Errors
/// Returns the first failure at the source or at the target.
pub async fn upload_all(
    context: &UploadContext,
    queue: impl Stream<Item = QueuedBlob>,
) -> Result<HashMap<Digest, BlobRef>, Failure> {
    let run = QueueRun {
        context,
        packing_turn: Semaphore::new(1),
        verify_permits: Arc::new(Semaphore::new(context.threads.max(1))),
        delta_turn: Semaphore::new(1),
        index_deadline: OnceLock::new(),
        has_deltas: AtomicBool::new(false),
    };
    let (barrier, pass) = barrier();
    context.report.start_upload();
    let uploading = async {
        let mut queue = std::pin::pin!(queue);
        let (mut uploads, mut uploaded) = (FuturesUnordered::new(), HashMap::new());
        // This pass arrives at the end of the queue. By then every upload has its own pass.
        let mut queue_pass = Some(pass);
        while queue_pass.is_some() || !uploads.is_empty() {
            tokio::select! {
                next = queue.next(), if queue_pass.is_some() => match (next, &queue_pass) {
                    (Some(queued), Some(pass)) => {
                        context.report.plan_blob(queued.planned_size());
                        uploads.push(run.upload(queued, pass.clone()));
                    }
                    _ => queue_pass = None,
                },
                Some(result) = uploads.next() => {
                    let (source_digest, blob) = result?;
                    uploaded.insert(source_digest, blob);
                }
            }
        }
        Ok(uploaded)
    };
    let opening = async {
        barrier.open_when_all_arrived().await;
        Ok::<(), Failure>(())
    };
    let (start, before) = (Instant::now(), context.writer.bytes_sent());
    let (uploaded, ()) = tokio::try_join!(uploading, opening)?;
    let sent = context.writer.bytes_sent() - before;
    if !run.has_deltas.load(Ordering::Relaxed) {
        context.writer.record_sent(sent, start.elapsed());
    }
    Ok(uploaded)
}

impl QueueRun<'_> {
    /// Uploads a blob. Returns it with the digest of its bytes at the source.
    async fn upload(
        &self,
        queued: QueuedBlob,
        pass: BarrierPass,
    ) -> Result<(Digest, BlobRef), Failure> {
        let QueuedBlob {
            content,
            bytes,
            label,
            delta,
        } = &queued;
        if let Some(plan) = delta
            && let Some(packed) = self.pack_without_sending(&queued, plan).await?
        {
            let blob = self.upload_as_delta(&packed, plan, pass).await?;
            return Ok((content.source_digest().clone(), blob));
        }
        match content {
            QueuedContent::Raw { diff_id } => {
                let layer = (diff_id, &**label, bytes);
                let blob = self.pack_and_upload(layer, pass).await?;
                Ok((diff_id.clone(), blob))
            }
            QueuedContent::Growing { diff_id, layer } => {
                let mut growing = layer.clone();
                let packing = async {
                    let blob = growing.complete().await.blob;
                    self.record_packed(diff_id, 0, &blob);
                    Ok(blob)
                };
                let outgoing = OutgoingBlob::growing(label, diff_id, layer.clone());
                let blob = self.upload_growing(outgoing, packing, pass).await?;
                Ok((diff_id.clone(), blob))
            }
            QueuedContent::Packed { diff_id, blob, .. } => {
                self.remember_packed(diff_id, blob);
                let pending = pending_blob(label, blob.clone(), bytes, false)?;
                let outgoing = OutgoingBlob::complete(&pending, Some(diff_id));
                self.upload_verified(outgoing, pass, Verification::None)
                    .await?;
                Ok((diff_id.clone(), blob.clone()))
            }
            QueuedContent::Ready { descriptor, .. } => {
                let (digest, size) = (descriptor.digest.clone(), descriptor.size);
                let blob = BlobRef { digest, size };
                // The plan asked for the blobs that it knew.
                let mut pending = pending_blob(label, blob.clone(), bytes, true)?;
                let verification = Verification::of(&queued, self.context);
                verification.apply_to(&mut pending);
                let outgoing = OutgoingBlob::complete(&pending, None);
                self.upload_verified(outgoing, pass, verification).await?;
                Ok((descriptor.digest.clone(), blob))
            }
        }
    }

    /// Compresses a layer, and uploads it at the same time. The upload is finished only after this
    /// layer and all others are verified. If the layer is damaged, the bytes that were sent are
    /// discarded.
    async fn pack_and_upload(
        &self,
        (diff_id, label, bytes): (&Digest, &str, &Slice),
        pass: BarrierPass,
    ) -> Result<BlobRef, Failure> {
        let (turn, draft) = self.start_packing(label).await?;
        let growing = draft.growing();
        let growing = growing.map_err(|error| self.spool_failure(label, error))?;
        let outgoing = OutgoingBlob::growing(label, diff_id, growing);
        let packing = async {
            let packed = self
                .pack_in_background((diff_id, label, bytes), draft)
                .await;
            drop(turn);
            packed.map(|layer| layer.blob)
        };
        self.upload_growing(outgoing, packing, pass).await
    }

    /// Waits for the turn of a layer to be compressed, and creates its file.
    pub(super) async fn start_packing(
        &self,
        label: &str,
    ) -> Result<(Option<SemaphorePermit<'_>>, LayerDraft), Failure> {
        // The semaphore is never closed.
        let turn = self.packing_turn.acquire().await.ok();
        let draft = self.context.spool.create_layer();
        let draft = draft.map_err(|error| self.spool_failure(label, error))?;
        Ok((turn, draft))
    }

    fn spool_failure(&self, label: &str, error: std::io::Error) -> Failure {
        pack::failure(label, &self.context.spool, &CompressError::Write(error))
    }

    /// Records that a layer is sent as a delta.
    pub(super) fn record_delta(&self) {
        self.has_deltas.store(true, Ordering::Relaxed);
    }

    /// Uploads a layer while `packing` runs. Returns the blob.
    async fn upload_growing(
        &self,
        outgoing: OutgoingBlob,
        packing: impl Future<Output = Result<BlobRef, Failure>>,
        pass: BarrierPass,
    ) -> Result<BlobRef, Failure> {
        let UploadContext { writer, report, .. } = self.context;
        let journal_name = outgoing.journal_name();
        let packing_pass = pass.clone();
        let packing = async {
            let packed = packing.await.map_err(|failure| (failure, true));
            drop(packing_pass);
            packed
        };
        let uploading = async {
            let uploaded = upload_behind_barrier(writer, outgoing, report, pass).await;
            uploaded.map_err(|failure| (failure, false))
        };
        match tokio::try_join!(packing, uploading) {
            Ok((blob, _)) => Ok(blob),
            Err((failure, is_damaged)) => {
                if is_damaged {
                    writer.discard_session(&journal_name).await;
                }
                Err(failure)
            }
        }
    }

    /// Compresses a layer in another thread.
    pub(super) async fn pack_in_background(
        &self,
        (diff_id, label, bytes): (&Digest, &str, &Slice),
        draft: LayerDraft,
    ) -> Result<SpooledLayer, Failure> {
        let (spool, threads) = (self.context.spool.clone(), self.context.threads);
        let uncompressed = bytes.len();
        let text = format!("compressing {label}");
        let task = ProgressTask::start(&self.context.report, &text, Some(uncompressed));
        let (source_digest, label, bytes) = (diff_id.clone(), label.to_owned(), bytes.clone());
        let packed = tokio::task::spawn_blocking(move || {
            let bytes = (&bytes, task);
            pack::pack(&label, &source_digest, bytes, draft, (&spool, threads))
        });
        let layer = packed.await.unwrap_or_else(|_| {
            let what = "source: the thread that reads a layer panicked";
            Err(Failure::new(FailureKind::Source, what))
        })?;
        self.record_packed(diff_id, uncompressed, &layer.blob);
        Ok(layer)
    }

    /// Reports and remembers which blob became of a layer of `uncompressed` planned bytes.
    pub(super) fn record_packed(&self, diff_id: &Digest, uncompressed: u64, blob: &BlobRef) {
        let report = &self.context.report;
        report.record_compressed(uncompressed, blob.size);
        self.remember_packed(diff_id, blob);
    }

    /// Records in the cache which blob this tool made of a layer whose diffID it computed.
    pub(super) fn remember_packed(&self, diff_id: &Digest, blob: &BlobRef) {
        let UploadContext {
            writer, verified, ..
        } = self.context;
        let folder = &writer.journal.cache;
        cache::remember(folder, compress::FORMAT_NAME, diff_id, blob);
        verified.remember(&blob.digest, Compression::Gzip, diff_id);
    }

    /// Uploads a blob and verifies it at the same time. The upload is finished only after the blob
    /// and all others are verified. If the verification fails, the bytes that were sent are
    /// discarded.
    async fn upload_verified(
        &self,
        outgoing: OutgoingBlob,
        pass: BarrierPass,
        verification: Verification,
    ) -> Result<(), Failure> {
        let (writer, report) = (&self.context.writer, &self.context.report);
        let journal_name = outgoing.journal_name();
        let verification_pass = pass.clone();
        let permits = Arc::clone(&self.verify_permits);
        let verifying = async {
            let verified = verification.run(self.context, permits).await;
            drop(verification_pass);
            verified.map_err(|failure| (failure, true))
        };
        let uploading = async {
            let uploaded = upload_behind_barrier(writer, outgoing, report, pass).await;
            uploaded.map(drop).map_err(|failure| (failure, false))
        };
        let Err((failure, is_damaged)) = tokio::try_join!(verifying, uploading) else {
            return Ok(());
        };
        if is_damaged {
            writer.discard_session(&journal_name).await;
        }
        Err(failure)
    }
}
