//! Uploads all blobs that the target lacks: packs one after the other, sends several at a time, and
//! finishes the uploads only when all blobs have been verified.
//!
//! Uploads run while later layers are still being packed, but no upload is finished before all
//! bytes are at the registry. A source that turns out to be damaged, or a registry whose disk is
//! full, therefore leaves no blob behind. Start reading at [`upload_all`].

use std::collections::HashMap;
use std::sync::Arc;

use futures::stream::{FuturesUnordered, StreamExt};
use imgsync_oci::Digest;
use tokio::sync::mpsc;

use super::barrier::barrier;
use super::blob_upload::upload_behind_barrier;
use super::pack::{QueuedContent, pack};
use super::{PendingBlob, RepositoryWriter};
use crate::cache::{self, BlobRef, UserFolders};
use crate::compress;
use crate::exit::{Failure, FailureKind};
use crate::image::Slice;
use crate::report::Report;
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
}

/// The services that [`upload_all`] uses, besides the blobs themselves.
#[derive(Clone)]
pub struct UploadContext {
    /// The writer for the target repository.
    pub writer: Arc<RepositoryWriter>,
    /// The spool that keeps compressed layers, also for the next run.
    pub spool: Spool,
    /// The number of threads for compression.
    pub threads: usize,
    /// The folders with the cache that maps a diffID to its compressed blob.
    pub folders: UserFolders,
    /// The receiver of progress and notes.
    pub report: Arc<dyn Report>,
}

/// Uploads all blobs, except those that the target turns out to have. Returns the uploaded blob for
/// each digest of the bytes at the source.
///
/// # Errors
/// Returns the first failure at the source or at the target.
pub async fn upload_all(
    means: &UploadContext,
    parcels: Vec<QueuedBlob>,
) -> Result<HashMap<Digest, BlobRef>, Failure> {
    let (packed, mut arriving) = mpsc::unbounded_channel::<(Digest, PendingBlob)>();
    let (keeper, pass) = barrier();
    let packing = async {
        for parcel in parcels {
            let stored = parcel.source_digest().clone();
            let blob = pack_in_background(means, parcel).await?;
            // The receiver is dropped only when an upload has failed, and that failure is returned.
            let _ = packed.send((stored, blob));
        }
        drop(packed);
        Ok::<(), Failure>(())
    };
    let uploading = async move {
        let mut became = HashMap::new();
        let mut uploads = FuturesUnordered::new();
        // This pass arrives when the last blob is packed. By then every upload has its own pass.
        let mut packing = Some(pass);
        while packing.is_some() || !uploads.is_empty() {
            tokio::select! {
                next = arriving.recv(), if packing.is_some() => match (next, &packing) {
                    (Some((stored, blob)), Some(pass)) => {
                        let known = BlobRef { digest: blob.digest.clone(), size: blob.size };
                        became.insert(stored, known);
                        let pass = pass.clone();
                        uploads.push(async move {
                            upload_behind_barrier(&means.writer, &blob, &means.report, pass).await.map(drop)
                        });
                    }
                    (_, _) => packing = None,
                },
                Some(done) = uploads.next() => done?,
            }
        }
        Ok(became)
    };
    let gating = async {
        keeper.open_when_all_arrived().await;
        Ok(())
    };
    let ((), became, ()) = tokio::try_join!(packing, uploading, gating)?;
    Ok(became)
}

async fn pack_in_background(
    means: &UploadContext,
    parcel: QueuedBlob,
) -> Result<PendingBlob, Failure> {
    let (spool, threads) = (means.spool.clone(), means.threads);
    let folder = means.folders.cache.clone();
    let task = tokio::task::spawn_blocking(move || {
        let blob = pack(
            &parcel.content,
            &parcel.bytes,
            &parcel.label,
            &spool,
            threads,
        )?;
        if let QueuedContent::Raw { diff_id } = &parcel.content {
            let known = BlobRef {
                digest: blob.digest.clone(),
                size: blob.size,
            };
            cache::remember(&folder, compress::FORMAT, diff_id, &known);
        }
        Ok(blob)
    });
    task.await.unwrap_or_else(|_| {
        Err(Failure::new(
            FailureKind::Source,
            "source: a reading thread died",
        ))
    })
}
