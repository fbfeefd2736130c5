//! Verifies claims: downloads the blob that is said to be a layer, and computes its diffID.
//!
//! A blob that was verified is recorded in the cache, so each is downloaded once. Nothing is kept
//! of its bytes. Start reading at [`verify_claims`].

use std::collections::HashSet;
use std::io::{self, Read};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::stream::{self, StreamExt};
use imgsync_oci::client::ResumingDownload;
use imgsync_oci::media::Compression;
use imgsync_oci::{Descriptor, Digest};
use tokio::sync::mpsc;

use super::LookupRequest;
use super::probe::TargetProbe;
use crate::compress;
use crate::plan::{BlobCandidate, PushPlan, TransferRates};
use crate::report::{ProgressTask, Report};
use crate::text::format_bytes;

/// Blobs that are verified at the same time. Each decoder may hold a zstd window of 64 MiB.
const MAX_CONCURRENT_VERIFICATIONS: usize = 2;
/// Pieces of a download that wait for the decoder. A piece is as large as one read of the
/// connection.
const MAX_QUEUED_PIECES: usize = 8;
/// The time that each verification may take, in addition to the time for its bytes.
const BASE_TIME: Duration = Duration::from_secs(30);
/// The rate in bytes per second at which the bytes of a blob must arrive at least, if it is not
/// known how fast the layer would be sent.
const MIN_RATE: u64 = 256 * 1024;

/// Verifies the claims that the plan relies on, and settles the plan by the results. A download
/// that fails counts as a wrong claim: the layer is sent.
pub(super) async fn verify_claims(request: &LookupRequest, plan: &mut PushPlan) {
    let claims = plan.unverified();
    if claims.is_empty() {
        return;
    }
    let start = Instant::now();
    let rates = request.writer.transfer_rates();
    let verifications = stream::iter(claims).map(|(layer, candidate, size)| async move {
        let (probe, report) = (&request.probe, &request.report);
        let is_layer = verify_claim(probe, report, rates, (&layer, size), &candidate).await;
        (layer, candidate.blob.size, is_layer)
    });
    let results = verifications.buffer_unordered(MAX_CONCURRENT_VERIFICATIONS);
    let results: Vec<_> = results.collect().await;
    let verified = results.into_iter().filter(|(_, _, is_layer)| *is_layer);
    let (verified, sizes): (HashSet<_>, Vec<_>) =
        verified.map(|(layer, size, _)| (layer, size)).unzip();
    let received = sizes.into_iter().fold(0, u64::saturating_add);
    request.writer.record_received(received, start.elapsed());
    plan.settle(&verified);
}

/// Returns whether a blob is a layer, whose size is given if it is known. Tells the user, and
/// remembers a blob that is.
pub async fn verify_claim(
    probe: &TargetProbe,
    report: &Arc<dyn Report>,
    rates: TransferRates,
    (layer, layer_size): (&Digest, Option<u64>),
    BlobCandidate { blob, evidence }: &BlobCandidate,
) -> bool {
    let (name, size) = (layer.short(), format_bytes(blob.size));
    report.note(&format!(
        "layer {name}: downloading {size} to verify it ({evidence})"
    ));
    let seconds = match rates.sent {
        Some(rate) => (blob.size / rate.max(1)).saturating_mul(2),
        None => blob.size / MIN_RATE,
    };
    let limit = BASE_TIME + Duration::from_secs(seconds);
    let text = format!("verifying layer {name}");
    let task = ProgressTask::start(report, &text, Some(blob.size));
    let computed = compute_diff_id(probe, blob, layer_size, &task);
    let reason = match tokio::time::timeout(limit, computed).await {
        Ok(Ok(diff_id)) if diff_id == *layer => {
            probe.remember_verified(blob, &diff_id);
            return true;
        }
        Ok(Ok(_)) => "the blob is another layer".to_owned(),
        Ok(Err(reason)) => reason,
        Err(_) => format!("the download takes more than {} seconds", limit.as_secs()),
    };
    report.note(&format!("layer {name}: not used ({evidence}): {reason}"));
    false
}

/// Downloads a blob and computes its diffID. The memory is limited to buffers and one zstd window.
/// No more is decoded than the layer has, or than a blob of this size can reasonably hold.
///
/// # Errors
/// Returns the reason as text if the blob cannot be downloaded, does not match its digest, or is no
/// layer.
async fn compute_diff_id(
    probe: &TargetProbe,
    blob: &Descriptor,
    layer_size: Option<u64>,
    task: &ProgressTask,
) -> Result<Digest, String> {
    let compression = Compression::of_media_type(&blob.media_type);
    let compression = compression.ok_or("its media type is not that of a layer")?;
    let (sender, pieces) = mpsc::channel(MAX_QUEUED_PIECES);
    let decoder = tokio::task::spawn_blocking(move || {
        let reader = PieceReader {
            pieces,
            rest: Bytes::new(),
        };
        compress::verify_layer(reader, compression, layer_size)
    });
    // The sender is dropped with this future, and the decoder then reaches the end.
    let download = async move {
        let (client, repository) = (probe.client.for_reading(), probe.repository.clone());
        let mut download = ResumingDownload::new(client, repository, blob.digest.clone(), 0);
        loop {
            let next = download.next().await;
            task.set_position(download.offset());
            let next = match next {
                Ok(Some(piece)) if download.offset() <= blob.size => Ok(piece),
                Ok(None) => return,
                Ok(Some(_)) => Err(io::Error::other("it is larger than the manifest says")),
                Err(error) => Err(io::Error::other(error)),
            };
            let is_last = next.is_err();
            // The decoder stops reading when it has found an error.
            if sender.send(next).await.is_err() || is_last {
                return;
            }
        }
    };
    let ((), decoded) = tokio::join!(download, decoder);
    let digests = decoded
        .map_err(|_| "the decoder panicked".to_owned())?
        .map_err(|error| error.to_string())?;
    if digests.digest != blob.digest || digests.size != blob.size {
        return Err("the downloaded bytes do not match its digest".to_owned());
    }
    Ok(digests.diff_id)
}

/// Reads the pieces of a download on a thread that may block.
struct PieceReader {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    rest: Bytes,
}

impl Read for PieceReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match self.pieces.blocking_recv() {
                Some(piece) => self.rest = piece?,
                None => return Ok(0),
            }
        }
        let piece = self.rest.split_to(buffer.len().min(self.rest.len()));
        buffer[..piece.len()].copy_from_slice(&piece);
        Ok(piece.len())
    }
}
