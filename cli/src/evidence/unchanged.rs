//! Recognizes an image that the target has already: the tag points at its very manifest.
//!
//! A registry takes a manifest only if it holds everything that the manifest names, so no blob has
//! to be asked for. `imgsync-server` notices when a blob is damaged later: there the layers are
//! looked up in one request, and what it does not confirm is asked for as usual. Start reading at
//! [`held_blobs`].

use std::collections::{HashMap, HashSet};

use imgsync_oci::Digest;
use imgsync_oci::ext::resolve::MAX_RESOLVE_DIFF_IDS;

use super::LookupRequest;
use super::probe::{LayerAnswer, ParsedManifest, TargetProbe};
use crate::exit::Failure;
use crate::image::{Layer, ManifestOrigin, SingleImage};

/// Returns the blobs that need not be asked for, because the tag points at the image's own
/// manifest.
///
/// # Errors
/// The target could not be asked.
pub(super) async fn held_blobs(
    request: &LookupRequest,
    single: &SingleImage,
    tagged: Option<&ParsedManifest>,
) -> Result<HashSet<Digest>, Failure> {
    let ManifestOrigin::Original(own) = &single.origin else {
        return Ok(HashSet::new());
    };
    if tagged.is_none_or(|tagged| tagged.verified.digest != own.digest) {
        return Ok(HashSet::new());
    }
    let layers: HashMap<&Digest, &Digest> = single.layers.iter().filter_map(with_diff_id).collect();
    if layers.len() > MAX_RESOLVE_DIFF_IDS {
        return Ok(HashSet::new());
    }
    let diff_ids: Vec<Digest> = layers.keys().copied().cloned().collect();
    let blobs: Vec<Digest> = layers.values().copied().cloned().collect();
    let answers = request.probe.resolve(diff_ids, blobs, false);
    let Some(answers) = answers.await? else {
        let layers = single.layers.iter().map(Layer::source_digest);
        return Ok(layers.chain([&single.config.digest]).cloned().collect());
    };
    let held = answers.into_iter().filter_map(|(diff_id, answer)| {
        let blob = *layers.get(&diff_id)?;
        let is_held = matches!(&answer, LayerAnswer::Found(found) if found.blob.digest == *blob);
        is_held.then(|| blob.clone())
    });
    Ok(held.collect())
}

/// Returns whether the target has an index and everything below it, because the tag points at the
/// index. `imgsync-server` is asked for each blob.
///
/// # Errors
/// The target could not be asked.
pub async fn is_index_held(request: &LookupRequest, root: &Digest) -> Result<bool, Failure> {
    let probe = &request.probe;
    Ok(
        probe.tagged_digest(&request.tag).await?.as_ref() == Some(root)
            && !has_extension(probe).await?,
    )
}

/// Returns whether the registry answers the extension, with a request for no layer.
async fn has_extension(probe: &TargetProbe) -> Result<bool, Failure> {
    let answers = probe.resolve(Vec::new(), Vec::new(), false).await?;
    Ok(answers.is_some())
}

/// Returns the diffID and the blob of a compressed layer.
fn with_diff_id(layer: &Layer) -> Option<(&Digest, &Digest)> {
    match layer {
        Layer::Blob {
            descriptor,
            diff_id: Some(diff_id),
        } => Some((diff_id, &descriptor.digest)),
        Layer::Blob { diff_id: None, .. } | Layer::Raw { .. } => None,
    }
}
