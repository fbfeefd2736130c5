//! Puts manifests and tags, and finds those that are at the target already.

use imgsync_oci::graph::{self, GraphLimits, GraphWalk, PendingManifest, Visit, WalkError};
use imgsync_oci::{Descriptor, Digest, Reference, Tag, media};

use super::context::{PushContext, PushedManifest, total_size};
use crate::evidence::probe::ParsedManifest;
use crate::exit::{Failure, FailureKind};
use crate::image::VerifiedManifest;

/// Puts a manifest under a tag or its digest.
pub(super) async fn put(
    context: &PushContext,
    manifest: &VerifiedManifest,
    reference: &Reference,
) -> Result<(), Failure> {
    let (writer, bytes) = (&context.upload.writer, manifest.bytes.clone());
    let put =
        writer
            .client
            .put_manifest(&writer.repository, reference, &manifest.media_type, bytes);
    put.await?;
    Ok(())
}

/// Points a tag at a manifest of the target.
async fn put_parsed(
    context: &PushContext,
    tag: &Tag,
    manifest: &ParsedManifest,
) -> Result<(), Failure> {
    let manifest = VerifiedManifest {
        media_type: manifest.media_type.clone(),
        digest: manifest.fetched.digest.clone(),
        bytes: manifest.fetched.bytes.clone(),
    };
    put(context, &manifest, &Reference::Tag(tag.clone())).await
}

/// Puts the manifest under more tags, where they do not point at it already.
pub(super) async fn put_further_tags(
    context: &PushContext,
    digest: &Digest,
    tags: &[Tag],
) -> Result<(), Failure> {
    let probe = context.probe();
    let mut fetched = None;
    for tag in tags {
        if probe.tagged_digest(tag).await?.as_ref() != Some(digest) {
            if fetched.is_none() {
                fetched = probe.manifest(&Reference::Digest(digest.clone())).await?;
            }
            let Some(manifest) = &fetched else {
                let what = format!("target: {digest} was put, but is not there");
                return Err(Failure::new(FailureKind::Target, what).with_hint("push again"));
            };
            put_parsed(context, tag, manifest).await?;
        }
        context.note(&format!("tagged {tag} too"));
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
    let tag = &context.target.tag;
    if context.probe().tagged_digest(tag).await?.as_ref() != Some(root) {
        put_parsed(context, tag, &manifest).await?;
    }
    Ok(Some(PushedManifest {
        digest: root.clone(),
        blob_bytes: total_size(&blobs),
    }))
}

/// Returns a manifest of the target and the blobs that it needs, each once; `None` where the target
/// lacks any of them, or a manifest below.
pub(super) async fn find_complete(
    context: &PushContext,
    root: &Digest,
) -> Result<Option<(ParsedManifest, Vec<Descriptor>)>, Failure> {
    let probe = context.probe();
    let fetch = async |pending: PendingManifest| {
        let reference = Reference::Digest(pending.descriptor().digest.clone());
        let manifest = probe.manifest(&reference).await.map_err(Some)?;
        let manifest = manifest.ok_or(None)?;
        Ok(Some(Visit {
            children: manifest.manifest.children(),
            bytes: manifest.fetched.bytes.len() as u64,
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
    let held = probe.holds_all(&blobs).await?;
    let is_complete = blobs.iter().all(|blob| held.contains(&blob.digest));
    Ok(root.filter(|_| is_complete).map(|root| (root, blobs)))
}
