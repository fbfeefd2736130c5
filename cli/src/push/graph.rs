//! Pushes an index and everything below it, byte for byte.

use futures::stream;
use imgsync_oci::{Descriptor, Reference};

use super::blob_names::BlobNames;
use super::context::{PushContext, PushedManifest, missing_content, total_size};
use super::packed_layers::PackedLayers;
use super::queue::{EarlyLayers, queue_layers};
use crate::evidence;
use crate::exit::Failure;
use crate::image::{ImageBlobs, ImageGraph, Layer, VerifiedManifest};
use crate::upload::upload_all;

/// Uploads the missing blobs, then puts the manifests, children first.
pub(super) async fn push_graph(
    context: &PushContext,
    graph: &ImageGraph,
    mut blobs: ImageBlobs,
) -> Result<PushedManifest, Failure> {
    let root_and_blobs = |root: &VerifiedManifest| PushedManifest {
        manifest: root.clone(),
        blob_bytes: total_size(&graph.blobs),
        keeps_layers: false,
    };
    if let Some(root) = graph.manifests.last()
        && evidence::is_index_held(&context.lookup, &root.digest).await?
    {
        context.note("the tag already points at this index");
        return Ok(root_and_blobs(root));
    }
    let plan = evidence::plan_blobs(&context.lookup, &graph.blobs).await?;
    context.upload.report.show_plan(&plan);
    let as_layer = |blob: &Descriptor| Layer::Blob {
        descriptor: blob.clone(),
        diff_id: None,
    };
    let layers: Vec<Layer> = graph.blobs.iter().map(as_layer).collect();
    let (packed, early) = (PackedLayers::new(), EarlyLayers::default());
    let names = BlobNames::of_index(graph, &blobs);
    let queue = queue_layers(context, &names, &layers, &plan, &mut blobs, packed, &early)?;
    upload_all(&context.upload, stream::iter(queue)).await?;
    let (root, children) = graph
        .manifests
        .split_last()
        .ok_or_else(|| missing_content("the index"))?;
    let writer = &context.upload.writer;
    for child in children {
        let reference = Reference::Digest(child.digest.clone());
        writer.put_manifest(child, &reference).await?;
    }
    let tag = Reference::Tag(context.lookup.tag.clone());
    writer.put_manifest(root, &tag).await?;
    Ok(root_and_blobs(root))
}
