//! Sends layers as deltas: compresses a layer without sending it, makes a delta, sends that, and lets
//! the registry assemble the layer.
//!
//! The compressed layer stays in the spool until the push is complete, so it can be sent whole at any
//! time. Start reading at [`QueueRun::upload_as_delta`].

mod bases;
mod make;
mod recompress;

use imgsync_oci::Digest;

use super::barrier::BarrierPass;
use super::blob_upload::{UploadEnd, UploadOutcome, upload_behind_barrier};
use super::outgoing_blob::{LayerAssembly, OutgoingBlob};
use super::pack::pending_blob;
use super::upload_all::QueueRun;
use super::{PendingBlob, QueuedBlob, QueuedContent};
use crate::cache::BlobRef;
use crate::exit::Failure;
use crate::plan::DeltaPlan;
use crate::report::{PlannedSize, SentDelta};
use crate::spool::SpooledLayer;
use make::MadeDelta;

/// A layer that is compressed.
pub(super) struct PackedLayer<'a> {
    label: &'a str,
    diff_id: Digest,
    layer: SpooledLayer,
}

/// Why no delta was made of a layer.
enum NoDelta {
    /// The layer is small.
    SmallLayer,
    /// Making and assembling it would take longer than to send the layer.
    SlowToMake,
    /// A delta would save less than half of the bytes.
    NotWorthwhile,
    /// The reason, for the user.
    Failed(String),
}

impl QueueRun<'_> {
    /// Uploads a layer as a delta, or whole if that is not possible. Returns the blob.
    pub(super) async fn upload_as_delta(
        &self,
        packed: &PackedLayer<'_>,
        plan: &DeltaPlan,
        pass: BarrierPass,
    ) -> Result<BlobRef, Failure> {
        let (label, blob) = (packed.label, packed.layer.blob.clone());
        let report = &self.context.report;
        match self.make_delta(packed, plan).await {
            Ok(delta) => self.upload_delta(packed, plan, delta, pass).await?,
            Err(no_delta) => {
                match no_delta {
                    NoDelta::SmallLayer => {}
                    NoDelta::SlowToMake => report.detail(&format!(
                        "{label}: sent whole, because a delta would take longer"
                    )),
                    NoDelta::NotWorthwhile => report.detail(&format!(
                        "{label}: sent whole, because a delta would have more than half of its size"
                    )),
                    NoDelta::Failed(reason) => note_fallback(self, label, &reason),
                }
                self.upload_whole(packed, pass).await?;
            }
        }
        Ok(blob)
    }

    /// Compresses a layer, or takes the one that an earlier push or the reader of the image has
    /// compressed. Returns `None` for a layer that is compressed at its source in another way than this
    /// tool does it.
    pub(super) async fn pack_without_sending<'a>(
        &self,
        queued: &'a QueuedBlob,
        plan: &DeltaPlan,
    ) -> Result<Option<PackedLayer<'a>>, Failure> {
        let label = &*queued.label;
        let (diff_id, layer) = match &queued.content {
            QueuedContent::Growing { diff_id, layer } => {
                let layer = layer.clone().complete().await;
                self.record_packed(diff_id, 0, &layer.blob);
                (diff_id.clone(), layer)
            }
            QueuedContent::Packed {
                diff_id,
                blob,
                raw_size,
            } => {
                self.remember_packed(diff_id, blob);
                let layer = SpooledLayer {
                    blob: blob.clone(),
                    bytes: queued.bytes.clone(),
                    raw_size: *raw_size,
                };
                (diff_id.clone(), layer)
            }
            QueuedContent::Raw { diff_id } => {
                let (turn, draft) = self.start_packing(label).await?;
                let layer = (diff_id, label, &queued.bytes);
                let packed = self.pack_in_background(layer, draft).await?;
                drop(turn);
                (diff_id.clone(), packed)
            }
            QueuedContent::Ready { descriptor, .. } => {
                let diff_id = &plan.diff_id;
                match self.recompress(queued, &descriptor.digest, diff_id).await {
                    Some(layer) => (diff_id.clone(), layer),
                    None => return Ok(None),
                }
            }
        };
        Ok(Some(PackedLayer {
            label,
            diff_id,
            layer,
        }))
    }

    /// Sends a delta and lets the registry assemble the layer. If that fails, sends the layer whole.
    async fn upload_delta(
        &self,
        packed: &PackedLayer<'_>,
        plan: &DeltaPlan,
        delta: MadeDelta,
        pass: BarrierPass,
    ) -> Result<(), Failure> {
        let (label, context) = (packed.label, self.context);
        let (report, whole) = (&context.report, packed.layer.blob.size);
        report.skip_blob(whole.saturating_sub(delta.bytes.len()));
        self.record_delta();
        let pending = PendingBlob {
            digest: delta.digest,
            size: delta.bytes.len(),
            label: format!("delta of {label}"),
            source: super::BlobSource::Local(delta.bytes),
            mount: None,
            is_known_missing: false,
        };
        let assembly = LayerAssembly {
            label: label.to_owned(),
            bases: delta.bases,
            diff_id: packed.diff_id.clone(),
            raw_size: packed.layer.raw_size,
            blob: packed.layer.blob.clone(),
        };
        // The barrier must not wait for a layer that is sent whole only if the assembly fails.
        let mut fallback_pass = pass.clone();
        fallback_pass.arrive();
        let outgoing = OutgoingBlob::delta(&pending, assembly);
        let end = upload_behind_barrier(&context.writer, outgoing, report, pass).await?;
        context
            .spool
            .remove_deltas(std::slice::from_ref(&packed.diff_id));
        match end {
            UploadEnd::Stored(UploadOutcome::Sent { .. }) => report.show_delta(&SentDelta {
                label: label.to_owned(),
                blob: packed.layer.blob.digest.clone(),
                sent: pending.size,
                instead: whole,
                tag: plan.tag.to_string(),
            }),
            UploadEnd::Stored(_) => {}
            UploadEnd::NotAssembled(reason) => {
                note_fallback(self, label, &reason);
                report.plan_blob(PlannedSize::Exact(whole));
                self.upload_whole(packed, fallback_pass).await?;
            }
        }
        Ok(())
    }

    async fn upload_whole(
        &self,
        packed: &PackedLayer<'_>,
        pass: BarrierPass,
    ) -> Result<(), Failure> {
        let SpooledLayer { blob, bytes, .. } = &packed.layer;
        let pending = pending_blob(packed.label, blob.clone(), bytes, false)?;
        let outgoing = OutgoingBlob::complete(&pending, Some(&packed.diff_id));
        let (writer, report) = (&self.context.writer, &self.context.report);
        upload_behind_barrier(writer, outgoing, report, pass).await?;
        Ok(())
    }
}

fn note_fallback(run: &QueueRun<'_>, label: &str, reason: &str) {
    let report = &run.context.report;
    report.note(&format!(
        "{label}: no delta, the layer is sent whole: {reason}"
    ));
}
