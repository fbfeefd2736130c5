//! Everything that an image lacks at the target: packed one after the other, sent several at a
//! time, and acknowledged only when all of it has proved sound.
//!
//! Uploads run while later layers are still being packed, but none is finished before all bytes
//! are at the registry: a source that turns out to be damaged, or a registry whose disk is too
//! small, leaves no blob behind.

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

/// One thing to send.
#[derive(Debug, Clone)]
pub struct QueuedBlob {
    /// What it is.
    pub content: QueuedContent,
    /// Where its bytes are.
    pub bytes: Slice,
    /// What people call it.
    pub label: String,
}

impl QueuedBlob {
    /// The digest of the bytes as the source has them.
    fn source_digest(&self) -> &Digest {
        match &self.content {
            QueuedContent::Raw { diff_id } | QueuedContent::Packed { diff_id, .. } => diff_id,
            QueuedContent::Ready { descriptor, .. } => &descriptor.digest,
        }
    }
}

/// What shipping needs besides the parcels.
#[derive(Clone)]
pub struct UploadContext {
    /// The line to the target.
    pub writer: Arc<RepositoryWriter>,
    /// Where compressed layers wait, also for the next run.
    pub spool: Spool,
    /// How many threads compress.
    pub threads: usize,
    /// Where it is remembered what a layer became.
    pub folders: UserFolders,
    /// Who is told.
    pub report: Arc<dyn Report>,
}

/// Sends all parcels; what the target turns out to hold is not sent. Yields the blob that each
/// became, by the digest of the bytes at the source.
///
/// # Errors
/// The first failure of either side.
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
            // Nobody listens any more only when uploading has failed, which is told by itself.
            let _ = packed.send((stored, blob));
        }
        drop(packed);
        Ok::<(), Failure>(())
    };
    let uploading = async move {
        let mut became = HashMap::new();
        let mut uploads = FuturesUnordered::new();
        // Arrives when the last blob is packed: by then every upload has a pass of its own.
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
