//! Pushes one image: a copy whose source may have layers that are not compressed yet.
//!
//! Finds the image, looks up which blobs the target lacks, uploads them, and puts the manifest. The
//! lookups are in `evidence`, the uploads in `upload`. Start reading at `push`.

mod all_tags;
mod blob_names;
mod containerd_store;
mod context;
mod deltas;
mod graph;
mod layer_filter;
mod manifests;
mod packed_layers;
mod prepare;
mod preview;
mod queue;
mod settings;
mod single;

use std::sync::Arc;
use std::time::Instant;

use crate::evidence;
use crate::exit::{Failure, FailureKind};
use crate::image::{Image, ImageBlobs, ImageContent};
use crate::report::{PushSummary, Report};
use crate::spool::SpoolKind;
use crate::transports::LocatedImage;
pub(crate) use all_tags::for_each_tag;
use context::{PushContext, PushedManifest};
pub(crate) use preview::preview;
pub use settings::PushSettings;

/// Pushes an image. On success the manifest is at the target, with everything that it names.
///
/// # Errors
/// Returns the first failure of the source or the target; see
/// [`FailureKind`](crate::exit::FailureKind).
pub(crate) async fn push(
    settings: &PushSettings,
    report: &Arc<dyn Report>,
) -> Result<PushSummary, Failure> {
    let began = Instant::now();
    let (context, found) = prepare::prepare(settings, report).await?;
    let pushed = push_prepared(settings, &context, found, began).await;
    let writer = &context.upload.writer;
    pushed.map_err(|failure| {
        // The address is right if the registry has answered.
        if writer.client.has_answered() {
            offer_to_continue(failure, writer.has_lost_upload())
        } else {
            failure
        }
    })
}

/// Adds to a failure of the network that the next run continues, as far as the registry keeps what it
/// got.
fn offer_to_continue(failure: Failure, has_lost_upload: bool) -> Failure {
    if failure.kind != FailureKind::Network {
        return failure;
    }
    let hint = if has_lost_upload {
        "run the same command again: complete blobs are not sent again, but this registry forgets an \
         upload whose connection breaks, so that blob starts again"
    } else {
        "run the same command again: it continues where this run stopped"
    };
    // Other hints name a remedy, such as an option.
    let is_generic = |hint: &str| {
        hint.starts_with("run the same command") || hint.starts_with("check the address, and")
    };
    let hint = match failure.hint.as_deref().filter(|hint| !is_generic(hint)) {
        Some(remedy) => format!("{remedy}; then {hint}"),
        None => hint.to_owned(),
    };
    failure.with_hint(hint)
}

/// Pushes an image that was found.
async fn push_prepared(
    settings: &PushSettings,
    context: &PushContext,
    mut found: LocatedImage,
    began: Instant,
) -> Result<PushSummary, Failure> {
    if let LocatedImage::Daemon(found) = &found {
        // Also where no layer is read: the push that was killed may have been the last change.
        found.remove_leftovers(&context.upload.spool).await;
    }
    let pushed = match &mut found {
        LocatedImage::Local { image, blobs } => {
            push_image(context, image, std::mem::take(blobs)).await?
        }
        LocatedImage::Daemon(found) => match found.image().map(|image| image.content) {
            Some(ImageContent::Single(single)) => {
                single::push_from_daemon(context, found, &single).await?
            }
            _ => containerd_store::push(context, found).await?,
        },
    };
    for tag in &settings.tags {
        manifests::set_tag(context, tag, &pushed.manifest).await?;
        context.note(&format!("also tagged {tag}"));
    }
    context.upload.writer.cancel_spare_sessions().await;
    clean_spool(context, &found, pushed.keeps_layers);
    let resent = context.upload.writer.bytes_resent();
    let sent = context.upload.writer.bytes_sent() - resent;
    let resumed = context.upload.writer.bytes_resumed();
    Ok(PushSummary {
        image: context.name.clone(),
        digest: pushed.manifest.digest,
        sent,
        resent,
        resumed,
        saved: pushed.blob_bytes.saturating_sub(sent + resumed),
        elapsed: began.elapsed(),
    })
}

/// Pushes an image whose bytes are all on this machine.
async fn push_image(
    context: &PushContext,
    image: &Image,
    blobs: ImageBlobs,
) -> Result<PushedManifest, Failure> {
    for text in &image.notes {
        context.note(text);
    }
    match &image.content {
        ImageContent::Single(single) => {
            let state = evidence::gather(&context.lookup, single).await?;
            let (upload, skipped) = (&context.upload, &context.skipped.packed);
            let packed = packed_layers::find(upload, skipped, single, &state.plan).await;
            single::push_single(context, single, state, blobs, packed).await
        }
        ImageContent::Graph(graph) => graph::push_graph(context, graph, blobs).await,
    }
}

/// Deletes the spool entries of an image that is now at its target, except the compressed layers of
/// which later pushes make deltas.
fn clean_spool(context: &PushContext, found: &LocatedImage, keeps_layers: bool) {
    let spool = &context.upload.spool;
    let digests = match found {
        LocatedImage::Local { image, .. } => {
            let digests = image.content.digests();
            spool.remove(SpoolKind::Bytes, &digests);
            digests
        }
        LocatedImage::Daemon(found) => found.forget(spool),
    };
    spool.remove_deltas(&digests);
    if keeps_layers && context.max_kept_bytes > 0 {
        spool.keep_layers(&digests, context.max_kept_bytes);
    } else {
        spool.remove(SpoolKind::Compressed, &digests);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_push_whose_registry_went_away_can_be_continued() {
        let hint = |kind, hint: &str, has_lost_upload| {
            let failure = Failure::new(kind, "it failed").with_hint(hint);
            offer_to_continue(failure, has_lost_upload).hint.unwrap()
        };
        let gone = "check the address, and that the registry is running";
        let advice = "run the same command again: it continues where this run stopped";
        assert_eq!(hint(FailureKind::Network, gone, false), advice);
        assert!(hint(FailureKind::Network, gone, true).contains("forgets an upload"));
        let remedy = hint(FailureKind::Network, "pass --ca-file", false);
        assert_eq!(remedy, format!("pass --ca-file; then {advice}"));
        assert_eq!(hint(FailureKind::Target, gone, false), gone);
    }
}
