//! Pushes an image from a Docker daemon with containerd's store: the daemon knows the digest of the
//! manifest, but the content below it only by exporting the image.

use std::sync::Arc;

use imgsync_oci::Digest;

use super::context::{PushContext, PushedManifest};
use super::{manifests, push_image};
use crate::exit::{Failure, FailureKind};
use crate::image::{Image, ImageBlobs};
use crate::transports::SkipLayer;
use crate::transports::daemon::{DaemonImage, ImageStore};

/// Only moves the tag if the target holds the manifest and everything that it needs. Otherwise
/// exports the image, and keeps those blobs out of the spool that the target has.
pub(super) async fn push(
    context: &PushContext,
    found: &DaemonImage,
) -> Result<PushedManifest, Failure> {
    let ImageStore::Containerd { .. } = &found.store else {
        let what = "source: the daemon sent an image in a format that its store does not use";
        return Err(Failure::new(FailureKind::Source, what));
    };
    if let Some(digest) = found.selected_root()
        && let Some(pushed) = manifests::tag_complete_image(context, digest).await?
    {
        return Ok(pushed);
    }
    let (image, blobs) = export(context, found, skip_present_blobs(context)).await?;
    push_image(context, &image, blobs).await
}

/// Returns a filter for the blobs that the target holds. It runs on the thread that reads the export.
fn skip_present_blobs(context: &PushContext) -> SkipLayer {
    let writer = Arc::clone(&context.upload.writer);
    let runtime = tokio::runtime::Handle::current();
    let mut is_reachable = true;
    Box::new(move |digest: &Digest, size: Option<u64>| {
        let (true, Some(size)) = (is_reachable, size) else {
            return false;
        };
        let has_blob = writer.client.has_blob(&writer.repository, digest, size);
        let has_blob = runtime.block_on(has_blob);
        // After a failed request the blobs are kept, and no request is sent for each of the others.
        is_reachable = has_blob.is_ok();
        has_blob.unwrap_or(false)
    })
}

/// Exports an image from its daemon, or takes what an earlier push left in the spool.
pub(super) async fn export(
    context: &PushContext,
    found: &DaemonImage,
    skip_layer: SkipLayer,
) -> Result<(Image, ImageBlobs), Failure> {
    let mut is_exporting = false;
    let on_export = || {
        is_exporting = true;
        context.note("exporting from the daemon");
    };
    let spool = &context.upload.spool;
    let exported = found.export(spool, skip_layer, on_export).await?;
    if !is_exporting {
        context.note("no export needed: an earlier push left the layers in the spool");
    }
    Ok(exported)
}
