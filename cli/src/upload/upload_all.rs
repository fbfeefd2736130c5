//! Uploads all blobs that the target lacks: packs raw layers one after the other, sends several
//! blobs at a time, and finishes the uploads only when all blobs have been verified.
//!
//! Uploads run while later layers are still being packed, and while the digests of blobs that need
//! no packing are computed. But no upload is finished before all bytes are verified and at the
//! registry. A source that turns out to be damaged, or a registry whose disk is
//! full, therefore leaves no blob behind. Start reading at [`upload_all`].

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use futures::stream::{FuturesUnordered, StreamExt};
use imgsync_oci::Digest;
use imgsync_oci::media::Compression;
use tokio::sync::{Semaphore, mpsc};

use super::barrier::{BarrierPass, barrier};
use super::blob_upload::upload_behind_barrier;
use super::pack::{QueuedContent, pack};
use super::verify::Verification;
use super::{PendingBlob, RepositoryWriter};
use crate::cache::{self, BlobRef, VerifiedBlobs};
use crate::compress;
use crate::exit::{Failure, FailureKind};
use crate::image::Slice;
use crate::report::{PlannedSize, Report};
use crate::spool::Spool;

/// A blob to pack and to upload.
#[derive(Debug, Clone)]
pub struct QueuedBlob {
    /// The state of the content: raw, packed by an earlier run, or ready to send.
    pub content: QueuedContent,
    /// The bytes at the source.
    pub bytes: Slice,
    /// The name to show in messages, for example the number of a layer.
    pub label: String,
}

impl QueuedBlob {
    /// Returns the digest of the bytes as they are stored at the source.
    fn source_digest(&self) -> &Digest {
        match &self.content {
            QueuedContent::Raw { diff_id } | QueuedContent::Packed { diff_id, .. } => diff_id,
            QueuedContent::Ready { descriptor, .. } => &descriptor.digest,
        }
    }

    /// Returns the size of the blob, as far as it is known before the layer is compressed.
    fn planned_size(&self) -> PlannedSize {
        match &self.content {
            QueuedContent::Raw { .. } => PlannedSize::Uncompressed(self.bytes.len()),
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

/// Uploads all blobs, except those that the target turns out to have. Returns the uploaded blob for
/// each digest of the bytes at the source.
///
/// # Errors
/// Returns the first failure at the source or at the target.
pub async fn upload_all(
    context: &UploadContext,
    queue: Vec<QueuedBlob>,
) -> Result<HashMap<Digest, BlobRef>, Failure> {
    let (sender, mut packed) = mpsc::unbounded_channel::<(Digest, PendingBlob, Verification)>();
    let (barrier, pass) = barrier();
    let planned: Vec<_> = queue.iter().map(QueuedBlob::planned_size).collect();
    context.report.start_upload(&planned);
    let packing = async move {
        for queued in queue {
            let source_digest = queued.source_digest().clone();
            let verification = Verification::of(&queued, context);
            let planned = queued.planned_size();
            let mut blob = pack_in_background(context, queued).await?;
            if let PlannedSize::Uncompressed(bytes) = planned {
                context.report.record_compressed(bytes, blob.size);
            }
            verification.apply_to(&mut blob);
            // The receiver is dropped only when an upload has failed, and that failure is returned.
            let _ = sender.send((source_digest, blob, verification));
        }
        Ok::<(), Failure>(())
    };
    let uploading = async move {
        let verify_permits = Arc::new(Semaphore::new(context.threads.max(1)));
        let mut uploaded = HashMap::new();
        let mut uploads = FuturesUnordered::new();
        // This pass arrives when the last blob is packed. By then every upload has its own pass.
        let mut packing_pass = Some(pass);
        while packing_pass.is_some() || !uploads.is_empty() {
            tokio::select! {
                next = packed.recv(), if packing_pass.is_some() => match (next, &packing_pass) {
                    (Some((source_digest, blob, verification)), Some(pass)) => {
                        uploaded.insert(source_digest, blob.blob_ref());
                        let verifying = verification.run(context, Arc::clone(&verify_permits));
                        uploads.push(upload_verified(context, blob, pass.clone(), verifying));
                    }
                    _ => packing_pass = None,
                },
                Some(result) = uploads.next() => {
                    result?;
                }
            }
        }
        Ok(uploaded)
    };
    let opening = async {
        barrier.open_when_all_arrived().await;
        Ok(())
    };
    let (start, before) = (Instant::now(), context.writer.bytes_sent());
    let ((), uploaded, ()) = tokio::try_join!(packing, uploading, opening)?;
    let sent = context.writer.bytes_sent() - before;
    context.writer.record_sent(sent, start.elapsed());
    Ok(uploaded)
}

/// Uploads a blob and verifies it at the same time. The upload is finished only after the blob and
/// all others are verified. If the verification fails, the bytes that were sent are discarded.
async fn upload_verified(
    context: &UploadContext,
    blob: PendingBlob,
    pass: BarrierPass,
    verifying: impl Future<Output = Result<(), Failure>>,
) -> Result<(), Failure> {
    let (writer, report) = (&context.writer, &context.report);
    let verification_pass = pass.clone();
    let verifying = async {
        let verified = verifying.await.map_err(|failure| (failure, true));
        drop(verification_pass);
        verified
    };
    let uploading = async {
        let uploaded = upload_behind_barrier(writer, &blob, report, pass).await;
        uploaded.map(drop).map_err(|failure| (failure, false))
    };
    let Err((failure, is_damaged)) = tokio::try_join!(verifying, uploading) else {
        return Ok(());
    };
    if is_damaged {
        writer.discard_session(&blob).await;
    }
    Err(failure)
}

async fn pack_in_background(
    context: &UploadContext,
    queued: QueuedBlob,
) -> Result<PendingBlob, Failure> {
    let (spool, threads) = (context.spool.clone(), context.threads);
    let report = Arc::clone(&context.report);
    let (folder, verified) = (
        context.writer.journal.cache.clone(),
        context.verified.clone(),
    );
    let task = tokio::task::spawn_blocking(move || {
        let blob = pack(&queued, &spool, threads, &report)?;
        // Both kinds were made by this tool, and their diffIDs were computed.
        if let QueuedContent::Raw { diff_id } | QueuedContent::Packed { diff_id, .. } =
            &queued.content
        {
            let format = compress::FORMAT_NAME;
            cache::remember(&folder, format, diff_id, &blob.blob_ref());
            verified.remember(&blob.digest, Compression::Gzip, diff_id);
        }
        Ok(blob)
    });
    task.await.unwrap_or_else(|_| {
        let what = "source: the thread that reads a layer panicked";
        Err(Failure::new(FailureKind::Source, what))
    })
}
