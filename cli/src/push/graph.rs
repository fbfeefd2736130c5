//! Pushes an index and everything below it, byte for byte.

use imgsync_oci::{Descriptor, Reference};

use super::context::{PushContext, PushedManifest, missing_content, total_size};
use super::manifests;
use crate::evidence;
use crate::exit::Failure;
use crate::image::{ImageBlobs, ImageGraph};
use crate::plan::BlobStep;
use crate::upload::{QueuedBlob, QueuedContent, upload_all};

/// Uploads the missing blobs, then puts the manifests, children first.
pub(super) async fn push_graph(
    context: &PushContext,
    graph: &ImageGraph,
    mut blobs: ImageBlobs,
) -> Result<PushedManifest, Failure> {
    let plan = evidence::plan_blobs(&context.lookup_request(), &graph.blobs).await?;
    context.upload.report.show_plan(&plan);
    let count = graph.blobs.len();
    let mut queue = Vec::new();
    for (position, (blob, (_, step))) in graph.blobs.iter().zip(&plan.steps).enumerate() {
        let label = format!("blob {}/{count}", position + 1);
        match step {
            BlobStep::AlreadyPresent(_) => context.note(&format!("{label}: already there")),
            BlobStep::Send { .. } | BlobStep::Mount { .. } => {
                queue.push(queue_blob(blob, &mut blobs, label)?);
            }
            BlobStep::SentByAnother { .. } | BlobStep::Duplicate => {}
        }
    }
    upload_all(&context.upload, queue).await?;
    for manifest in &graph.manifests {
        let reference = if manifest.digest == graph.root {
            Reference::Tag(context.target.tag.clone())
        } else {
            Reference::Digest(manifest.digest.clone())
        };
        manifests::put(context, manifest, &reference).await?;
    }
    Ok(PushedManifest {
        digest: graph.root.clone(),
        blob_bytes: total_size(&graph.blobs),
    })
}

fn queue_blob(
    blob: &Descriptor,
    blobs: &mut ImageBlobs,
    label: String,
) -> Result<QueuedBlob, Failure> {
    let bytes = blobs.take(&blob.digest).ok_or_else(|| {
        // The layer filter may have skipped a layer that the target holds compressed.
        missing_content(&blob.digest)
            .with_hint("push again; give an archive as a file instead of on standard input")
    })?;
    Ok(QueuedBlob {
        content: QueuedContent::Ready {
            descriptor: blob.clone(),
            diff_id: None,
        },
        bytes,
        label,
    })
}
