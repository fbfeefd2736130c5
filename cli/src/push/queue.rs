//! Builds the queue of uploads from a plan: which blobs are sent, and where their bytes are.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::channel::mpsc::UnboundedSender;
use imgsync_oci::{Descriptor, Digest};

use super::blob_names::BlobNames;
use super::context::{PushContext, missing_content};
use super::packed_layers::PackedLayers;
use crate::exit::Failure;
use crate::image::{ImageBlobs, ImageConfig, Layer, SingleImage, Slice};
use crate::plan::{BlobStep, PushPlan};
use crate::spool::SpooledLayer;
use crate::text;
use crate::transports::TakeLayer;
use crate::upload::{QueuedBlob, QueuedContent};

/// The layers that are uploaded while the image is still being read.
#[derive(Debug, Default, Clone)]
pub(super) struct EarlyLayers(Arc<Mutex<HashSet<Digest>>>);

impl EarlyLayers {
    /// Returns a function that queues the layers of an export of `single` while they are read, with
    /// the deltas of `plan`.
    pub(super) fn take_layer(
        &self,
        single: &SingleImage,
        plan: &PushPlan,
        queue: UnboundedSender<QueuedBlob>,
    ) -> TakeLayer {
        let (early, names) = (self.clone(), BlobNames::of_image(single));
        let deltas = plan.deltas();
        Arc::new(move |diff_id, layer| {
            early.lock().insert(diff_id.clone());
            // There is no receiver any more if an upload has failed, and that failure is returned.
            let _ = queue.unbounded_send(QueuedBlob {
                bytes: layer.bytes(),
                label: names.name(diff_id),
                content: QueuedContent::Growing {
                    diff_id: diff_id.clone(),
                    layer,
                },
                delta: deltas.get(diff_id).cloned(),
            });
        })
    }

    fn contains(&self, diff_id: &Digest) -> bool {
        self.lock().contains(diff_id)
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<Digest>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the layers to upload, and notes those that the target or the spool has.
pub(super) fn queue_layers(
    context: &PushContext,
    names: &BlobNames,
    layers: &[Layer],
    plan: &PushPlan,
    blobs: &mut ImageBlobs,
    mut packed: PackedLayers,
    early: &EarlyLayers,
) -> Result<Vec<QueuedBlob>, Failure> {
    let mut queue = Vec::new();
    let count = layers.len();
    for (layer, (_, step)) in layers.iter().zip(&plan.steps) {
        let label = names.name(layer.source_digest());
        match step {
            _ if early.contains(layer.source_digest()) => {}
            BlobStep::AlreadyPresent(candidate) => {
                let size = text::format_bytes(candidate.blob.size);
                let evidence = &candidate.evidence;
                context.note(&format!("{label}: already exists ({size}; {evidence})"));
            }
            // Claims that were not verified are not used.
            BlobStep::Send { .. } | BlobStep::Mount { .. } | BlobStep::Verify { .. } => {
                let spooled = packed.remove(layer.source_digest());
                if spooled.is_some() {
                    context.note(&format!("{label}: compressed by an earlier push"));
                }
                let mut queued = queue_layer(layer, spooled, blobs, label)?;
                if let BlobStep::Send { delta, .. } = step {
                    queued.delta.clone_from(delta);
                }
                queue.push(queued);
            }
            BlobStep::SentByAnother { .. } | BlobStep::Duplicate => {}
        }
    }
    let is_spooled = |queued: &&QueuedBlob| matches!(queued.content, QueuedContent::Packed { .. });
    let read = queue.len() - queue.iter().filter(is_spooled).count();
    if let Some(text) = describe_reading(blobs, read, count, names.noun) {
        context.upload.report.detail(&text);
    }
    Ok(queue)
}

/// Describes how many layers are read from another program's store; `None` for an image whose bytes
/// are on this machine.
pub(super) fn describe_reading(
    blobs: &ImageBlobs,
    read: usize,
    count: usize,
    noun: &str,
) -> Option<String> {
    let store = blobs.read_through?;
    let plural = if count == 1 { "" } else { "s" };
    Some(format!(
        "reading {read} of {count} {noun}{plural} through {store}"
    ))
}

/// Queues a layer as an earlier run compressed it, or as the source has it. Its bytes are taken
/// from `blobs`, so that the spool can free the space once the layer is compressed.
fn queue_layer(
    layer: &Layer,
    spooled: Option<SpooledLayer>,
    blobs: &mut ImageBlobs,
    label: String,
) -> Result<QueuedBlob, Failure> {
    let source_digest = layer.source_digest();
    let (content, bytes) = match (spooled, layer.clone()) {
        (Some(layer), _) => {
            let packed = QueuedContent::Packed {
                diff_id: source_digest.clone(),
                blob: layer.blob,
                raw_size: layer.raw_size,
            };
            (packed, Some(layer.bytes))
        }
        (None, Layer::Raw { diff_id, .. }) => {
            (QueuedContent::Raw { diff_id }, blobs.take(source_digest))
        }
        (
            None,
            Layer::Blob {
                descriptor,
                diff_id,
            },
        ) => {
            let content = QueuedContent::Ready {
                descriptor,
                diff_id,
            };
            (content, blobs.take(source_digest))
        }
    };
    let bytes = bytes.ok_or_else(|| missing_content(&label))?;
    Ok(QueuedBlob {
        content,
        bytes,
        label,
        delta: None,
    })
}

/// Queues a config whose bytes are known.
pub(super) fn queue_config(config: &ImageConfig) -> Result<QueuedBlob, Failure> {
    let bytes = config.bytes.clone();
    let bytes = bytes.ok_or_else(|| missing_content("the config"))?;
    let (digest, size) = (config.digest.clone(), bytes.len() as u64);
    Ok(QueuedBlob {
        content: QueuedContent::Ready {
            descriptor: Descriptor::new(&config.media_type, digest, size),
            diff_id: None,
        },
        bytes: Slice::memory(bytes),
        label: "config".to_owned(),
        delta: None,
    })
}
