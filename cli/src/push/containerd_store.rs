//! Pushes an image from a Docker daemon with containerd's store: the daemon knows the digest of the
//! manifest, but the content below it only by exporting the image.

use imgsync_oci::Digest;

use super::context::{PushContext, PushedManifest};
use super::{manifests, push_image};
use crate::exit::Failure;
use crate::image::{Image, ImageBlobs};
use crate::transports::SkipLayer;
use crate::transports::daemon::DaemonImage;

/// Only moves the tag if the target holds the manifest and everything that it needs. Otherwise
/// exports the image, and keeps those blobs out of the spool that the target has.
pub(super) async fn push(
    context: &PushContext,
    found: &DaemonImage,
) -> Result<PushedManifest, Failure> {
    if let Some(digest) = found.selected_root()
        && let Some(pushed) = manifests::tag_complete_image(context, digest).await?
    {
        return Ok(pushed);
    }
    let (image, blobs) = export(context, found, skip_present_blobs(context)).await?;
    push_image(context, &image, blobs).await
}

/// Returns a filter for the blobs that the target holds. It runs on the thread that reads the
/// export.
fn skip_present_blobs(context: &PushContext) -> SkipLayer {
    let probe = context.lookup.probe.clone();
    let runtime = tokio::runtime::Handle::current();
    let mut is_reachable = true;
    Box::new(move |digest: &Digest, size: Option<u64>| {
        let Some(size) = size.filter(|_| is_reachable) else {
            return false;
        };
        let request = probe.client.has_blob(&probe.repository, digest, size);
        let is_present = runtime.block_on(request);
        // After a failed request the blobs are kept, and no request is sent for each of the others.
        is_reachable = is_present.is_ok();
        is_present.unwrap_or(false)
    })
}

/// Exports an image from its daemon, or takes the layers that an earlier push left in the spool.
pub(super) async fn export(
    context: &PushContext,
    found: &DaemonImage,
    skip_layer: SkipLayer,
) -> Result<(Image, ImageBlobs), Failure> {
    let mut is_exporting = false;
    let on_export = || {
        is_exporting = true;
        context.note("exporting the image from the daemon");
    };
    let spool = &context.upload.spool;
    let exported = found.export(spool, skip_layer, on_export).await?;
    if !is_exporting {
        context.note("no export needed: an earlier push left the layers in the spool");
    }
    Ok(exported)
}
