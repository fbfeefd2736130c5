//! Pushes an image from a Docker daemon with containerd's store: reads single blobs from the content
//! store of the daemon, and where that fails, exports the whole image.

use std::sync::Arc;

use imgsync_oci::Digest;

use super::context::{PushContext, PushedManifest};
use super::{manifests, push_image};
use crate::exit::{Failure, FailureKind};
use crate::image::{Error, Image, ImageBlobs};
use crate::report::ProgressTask;
use crate::transports::daemon::{DaemonImage, ReadImage, ReadMethod};
use crate::transports::{LayerPacking, SkipLayer, TakeLayer, wait_for_request};

/// Only moves the tag if the target holds the manifest and everything that it needs. Otherwise
/// sends the blobs that the target lacks.
pub(super) async fn push(
    context: &PushContext,
    found: &DaemonImage,
) -> Result<PushedManifest, Failure> {
    if let Some(digest) = found.selected_root()
        && let Some(pushed) = manifests::tag_complete_image(context, digest).await?
    {
        return Ok(pushed);
    }
    let reason = match read_content_store(found).await? {
        Ok((image, blobs)) => match push_image(context, &image, blobs).await {
            Err(failure) if failure.kind == FailureKind::Source => failure.what,
            pushed => return pushed,
        },
        Err(reason) => reason,
    };
    let skip_layer = skip_present_blobs(context);
    let take_layer = Arc::new(|_: &Digest, _| ());
    let read = export(context, found, (skip_layer, take_layer), Some(&reason)).await?;
    push_image(context, &read.image, read.blobs).await
}

/// Reads the manifests of an image from the content store of its daemon. The inner error is the
/// reason why an export is needed.
///
/// # Errors
/// Returns an error if an export would end with the same one.
pub(super) async fn read_content_store(
    found: &DaemonImage,
) -> Result<Result<(Image, ImageBlobs), String>, Failure> {
    match found.read_content_store().await {
        Ok(read) => Ok(Ok(read)),
        Err(error @ (Error::PlatformNotFound { .. } | Error::Unsupported { .. })) => {
            Err(error.into())
        }
        Err(error) => Ok(Err(error.to_string())),
    }
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
        let (probe, digest) = (probe.clone(), digest.clone());
        let is_present = wait_for_request(&runtime, async move {
            let request = probe.client.has_blob(&probe.repository, &digest, size);
            request.await.ok()
        });
        // After a failed request the blobs are kept, and no request is sent for each of the others.
        is_reachable = is_present.flatten().is_some();
        is_present.flatten().unwrap_or(false)
    })
}

/// Reads an image from its daemon, or takes the layers that an earlier push left in the spool. Layers
/// that are compressed while they are read are given to `take_layer`. `reason` tells why the blobs
/// cannot be read one by one.
pub(super) async fn export(
    context: &PushContext,
    found: &DaemonImage,
    (skip_layer, take_layer): (SkipLayer, TakeLayer),
    reason: Option<&str>,
) -> Result<ReadImage, Failure> {
    let mut is_reading = false;
    let on_read = |method: ReadMethod| {
        is_reading = true;
        let report = &context.upload.report;
        match method {
            ReadMethod::SingleLayers { .. } => {
                let text = method.to_string();
                report.detail(&text);
                ProgressTask::start(report, &text, None)
            }
            ReadMethod::Export {
                engine,
                reason: own,
            } => {
                let reason = own.or_else(|| reason.map(str::to_owned));
                context.note(&ReadMethod::Export { engine, reason }.to_string());
                let text = ReadMethod::Export {
                    engine,
                    reason: None,
                };
                ProgressTask::start(report, &text.to_string(), found.export_size())
            }
        }
    };
    let spool = &context.upload.spool;
    let packing = LayerPacking {
        threads: context.upload.threads,
        take_layer,
    };
    let read = found.read(spool, packing, skip_layer, on_read).await?;
    if !is_reading {
        context.note("no export needed: an earlier push left the layers in the spool");
    }
    Ok(read)
}
