//! Plans a push for `imgsync push --dry-run`. Only asks the target; of the layers,
//! it reads at most the start of those in local files.

use std::collections::HashSet;
use std::sync::Arc;

use imgsync_oci::{Digest, Tag};

use super::blob_names::BlobNames;
use super::context::PushContext;
use super::queue::describe_reading;
use super::{PushSettings, containerd_store, deltas, manifests, prepare};
use crate::evidence;
use crate::exit::Failure;
use crate::image::{ImageBlobs, ImageContent, Layer, SingleImage};
use crate::plan::{BlobCandidate, BlobStep, EvidenceSource, LayerEvidence, PushPlan};
use crate::report::Report;
use crate::spool::{Spool, SpoolKind};
use crate::text::format_bytes;
use crate::transports::LocatedImage;
use crate::transports::daemon::DaemonImage;

/// The plan of a push, for a dry run.
pub(crate) struct PushPreview {
    /// The steps for the layers, or for all blobs of an index.
    pub(crate) plan: PushPlan,
    /// The names of the layers, or of all blobs of an index.
    pub(crate) names: BlobNames,
    /// Further notes, one line each.
    pub(crate) notes: Vec<String>,
}

/// Plans a push. Changes nothing anywhere.
///
/// # Errors
/// There is no such image, or the target could not be asked.
pub(crate) async fn preview(
    settings: &PushSettings,
    report: &Arc<dyn Report>,
) -> Result<PushPreview, Failure> {
    let (context, found) = prepare::prepare(settings, report).await?;
    let mut notes = vec![format!("would be pushed as {}", context.name)];
    let (names, plan) = match &found {
        LocatedImage::Local { image, blobs } => {
            plan_image(&context, &image.content, (blobs, blobs), &mut notes).await?
        }
        LocatedImage::Daemon(found) => match found.image().map(|image| image.content) {
            Some(ImageContent::Single(single)) => {
                let plan = plan_in_classic_store(&context, found, &single, &mut notes);
                (BlobNames::of_image(&single), plan.await?)
            }
            _ => plan_in_store(&context, found, &mut notes).await?,
        },
    };
    let sent = plan.steps.iter();
    let sent = sent.filter(|(_, step)| matches!(step, BlobStep::Send { .. }));
    let sent = sent.map(|(layer, _)| layer);
    match context.upload.writer.resumable_bytes(sent).await {
        0 => {}
        // Behind the line of the totals.
        bytes => notes.insert(
            0,
            format!(
                "{} of it were sent by an interrupted push, and are not sent again",
                format_bytes(bytes)
            ),
        ),
    }
    if plan.steps.is_empty() {
        notes.push("the image has no layers".to_owned());
    }
    let tags: Vec<_> = settings.tags.iter().map(Tag::to_string).collect();
    if !tags.is_empty() {
        notes.push(format!("would also be tagged: {}", tags.join(", ")));
    }
    Ok(PushPreview { plan, names, notes })
}

/// Returns the spool, without clean-up and locks.
fn spool(context: &PushContext) -> Spool {
    Spool::temporary(&context.lookup.probe.cache.join("spool"))
}

/// Marks the layers that an earlier run left compressed in the spool.
fn mark_packed_layers(context: &PushContext, plan: &mut PushPlan, single: &SingleImage) {
    let spool = spool(context);
    for layer in &single.layers {
        if let Layer::Raw { diff_id, .. } = layer
            && let Some(size) = spool.entry_size(SpoolKind::Compressed, diff_id)
        {
            plan.mark_packed(diff_id, size);
        }
    }
}

/// Returns the layers that would be read.
fn read_layers(plan: &PushPlan) -> impl Iterator<Item = &Digest> {
    let is_read = |step: &BlobStep| {
        matches!(
            step,
            BlobStep::Send {
                is_packed: false,
                ..
            }
        )
    };
    let steps = plan.steps.iter();
    steps.filter_map(move |(layer, step)| is_read(step).then_some(layer))
}

/// Plans the push of an image in a classic store, and notes how its layers would be read.
async fn plan_in_classic_store(
    context: &PushContext,
    found: &DaemonImage,
    single: &SingleImage,
    notes: &mut Vec<String>,
) -> Result<PushPlan, Failure> {
    let mut state = evidence::gather(&context.lookup, single).await?;
    mark_packed_layers(context, &mut state.plan, single);
    notes.extend(deltas::plan(context, single, &ImageBlobs::default(), &mut state).await);
    let plan = state.plan;
    let mut read: HashSet<Digest> = read_layers(&plan).cloned().collect();
    if !read.is_empty() || state.config_size.is_none() {
        read.insert(single.config.digest.clone());
        let spool = spool(context);
        read.retain(|digest| spool.entry_size(SpoolKind::Bytes, digest).is_none());
    }
    if !read.is_empty() {
        notes.push(format!("when pushed: {}", found.read_method(&read).await));
    }
    Ok(plan)
}

/// Plans the push of an image whose manifests are known, and notes which layers are not sent as deltas.
/// Of compressed layers, only those in `readable` are planned as deltas, because it shows in their start
/// whether they can be. Also returns what the plan lists.
async fn plan_image(
    context: &PushContext,
    content: &ImageContent,
    (blobs, readable): (&ImageBlobs, &ImageBlobs),
    notes: &mut Vec<String>,
) -> Result<(BlobNames, PushPlan), Failure> {
    match content {
        ImageContent::Single(single) => {
            let mut state = evidence::gather(&context.lookup, single).await?;
            mark_packed_layers(context, &mut state.plan, single);
            notes.extend(deltas::plan(context, single, readable, &mut state).await);
            Ok((BlobNames::of_image(single), state.plan))
        }
        ImageContent::Graph(graph) => {
            let plan = evidence::plan_blobs(&context.lookup, &graph.blobs);
            Ok((BlobNames::of_index(graph, blobs), plan.await?))
        }
    }
}

/// Plans the push of an image in containerd's store. Unless the target holds the whole image, the
/// manifests are read from the content store of the daemon; where that fails, nothing but the
/// diffID of each layer is known.
async fn plan_in_store(
    context: &PushContext,
    found: &DaemonImage,
    notes: &mut Vec<String>,
) -> Result<(BlobNames, PushPlan), Failure> {
    if let Some(root) = found.selected_root()
        && let Some((_, blobs)) = manifests::find_complete(context, root).await?
    {
        notes.push(describe_tag(context, root).await?);
        let steps = blobs.into_iter().map(|blob| {
            let (digest, evidence) = (blob.digest.clone(), EvidenceSource::Image);
            let candidate = BlobCandidate { blob, evidence };
            (digest, BlobStep::AlreadyPresent(candidate))
        });
        let steps = steps.collect();
        return Ok((BlobNames::new("blob"), PushPlan { steps }));
    }
    match containerd_store::read_content_store(found).await? {
        Ok((image, blobs)) => {
            // An engine is asked for no bytes of a layer.
            let blobs_and_readable = (&blobs, &ImageBlobs::default());
            let (names, plan) =
                plan_image(context, &image.content, blobs_and_readable, notes).await?;
            notes.extend(image.notes);
            let read = read_layers(&plan).count();
            let reading = describe_reading(&blobs, read, plan.steps.len(), names.noun);
            notes.extend(reading.map(|text| format!("when pushed: {text}")));
            Ok((names, plan))
        }
        Err(reason) => {
            notes.extend(
                found.selected_root().map(|root| {
                    format!("the manifest {root} is missing or incomplete at the target")
                }),
            );
            notes.push(format!(
                "{reason}; the blobs of the image are known only after an export, and the push \
                 then sends only those that the target does not have"
            ));
            Ok((BlobNames::new("layer"), plan_unknown_blobs(found)))
        }
    }
}

/// Returns the plan for layers of which only the diffIDs are known.
fn plan_unknown_blobs(found: &DaemonImage) -> PushPlan {
    let layers = found.diff_ids.iter().map(|diff_id| LayerEvidence {
        layer: diff_id.clone(),
        size: None,
        candidate: None,
        mount: None,
    });
    PushPlan::new(layers.collect(), &HashSet::new())
}

/// Describes what happens to the tag.
async fn describe_tag(context: &PushContext, root: &Digest) -> Result<String, Failure> {
    let tag = &context.lookup.tag;
    let tagged = context.lookup.probe.tagged_digest(tag).await?;
    Ok(if tagged.as_ref() == Some(root) {
        format!("{tag} already points at the manifest {root}")
    } else {
        format!("the target has the manifest {root}; {tag} will point at it")
    })
}
