//! Sets tags, and finds images that are at the target already.

use imgsync_oci::graph::{self, GraphLimits, GraphWalk, PendingManifest, Visit, WalkError};
use imgsync_oci::{Descriptor, Digest, Reference, Tag, media};

use super::context::{PushContext, PushedManifest, total_size};
use crate::evidence::probe::ParsedManifest;
use crate::exit::Failure;
use crate::image::VerifiedManifest;

/// Points a tag at a manifest, unless the tag does already.
pub(super) async fn set_tag(
    context: &PushContext,
    tag: &Tag,
    manifest: &VerifiedManifest,
) -> Result<(), Failure> {
    let current = context.lookup.probe.tagged_digest(tag).await?;
    if current.as_ref() != Some(&manifest.digest) {
        let reference = Reference::Tag(tag.clone());
        let put = context.upload.writer.put_manifest(manifest, &reference);
        put.await?;
    }
    Ok(())
}

/// Points the tag at a manifest, if the target holds the manifest and everything that it needs.
pub(super) async fn tag_complete_image(
    context: &PushContext,
    root: &Digest,
) -> Result<Option<PushedManifest>, Failure> {
    let Some((manifest, blobs)) = find_complete(context, root).await? else {
        return Ok(None);
    };
    let manifest = manifest.verified;
    set_tag(context, &context.lookup.tag, &manifest).await?;
    let blob_bytes = total_size(&blobs);
    Ok(Some(PushedManifest {
        manifest,
        blob_bytes,
        // Nothing was compressed for this push, so the layers of earlier ones stay.
        keeps_layers: true,
    }))
}

/// Returns a manifest of the target and the blobs that it needs, each once; `None` where the target
/// lacks any of them, or a manifest below.
pub(super) async fn find_complete(
    context: &PushContext,
    root: &Digest,
) -> Result<Option<(ParsedManifest, Vec<Descriptor>)>, Failure> {
    let probe = &context.lookup.probe;
    let fetch = async |pending: PendingManifest| {
        let reference = Reference::Digest(pending.descriptor().digest.clone());
        let manifest = probe.manifest(&reference).await.map_err(Some)?;
        let manifest = manifest.ok_or(None)?;
        Ok(Some(Visit {
            children: manifest.manifest.children(),
            bytes: manifest.verified.bytes.len() as u64,
            value: manifest,
        }))
    };
    let mut walk = GraphWalk::new(GraphLimits::default());
    walk.add_root(Descriptor::new(media::OCI_INDEX, root.clone(), 0));
    match graph::walk_concurrently(&mut walk, 1, fetch).await {
        Ok(()) => {}
        Err(WalkError::Fetch(Some(failure))) => return Err(failure),
        // A manifest is missing, or there are more than any image has.
        Err(WalkError::Fetch(None) | WalkError::Limit(_)) => return Ok(None),
    }
    let (mut blobs, mut root) = (Vec::new(), None);
    for node in walk.finish() {
        blobs.extend(node.blobs);
        root = Some(node.value);
    }
    let present = probe.holds_all(&blobs).await?;
    let root = root.filter(|_| blobs.iter().all(|blob| present.contains(&blob.digest)));
    Ok(root.map(|root| (root, blobs)))
}
