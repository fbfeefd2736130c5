//! Finds layers by what other images in the target's repository claim: a config lists diffIDs, and
//! its manifest lists the blobs.
//!
//! Such a pair is a claim, and a wrong one would make an image that Docker refuses later. It counts
//! only under the checks of [`layer_pairs`], a `HEAD` request with equal size confirms the blob, and
//! the pair is never cached as something that was computed here.

use std::collections::{HashMap, HashSet};

use imgsync_oci::media::Compression;
use imgsync_oci::{Descriptor, Digest, Reference, Tag};
use serde::Deserialize;

use super::LookupRequest;
use super::probe::ParsedManifest;
use crate::exit::Failure;
use crate::plan::BlobCandidate;
use crate::text::nearest_tags;

/// The most tags that are looked at besides the target's own and `latest`.
const MAX_OTHER_TAGS: usize = 3;

/// Looks for layers in the images of the target's tag, of `latest` and of the tags nearest in name,
/// until every layer is found.
///
/// # Errors
/// The target could not be asked.
pub(super) async fn find(
    request: &LookupRequest<'_>,
    tagged: Option<&ParsedManifest>,
    mut missing: HashSet<Digest>,
) -> Result<HashMap<Digest, BlobCandidate>, Failure> {
    let probe = &request.probe;
    let mut found = HashMap::new();
    let mut take = |claims: Vec<(Digest, BlobCandidate)>| {
        let new = claims.into_iter();
        found.extend(new.filter(|(diff_id, _)| missing.remove(diff_id)));
        missing.is_empty()
    };
    let mut seen = HashSet::new();
    if let Some(image) = tagged {
        if take(probe.claims(request.tag, image).await?) {
            return Ok(found);
        }
        seen.insert(image.fetched.digest.clone());
    }
    for tag in other_tags(request).await {
        let image = probe.manifest(&Reference::Tag(tag.clone())).await?;
        if let Some(image) = image
            && seen.insert(image.fetched.digest.clone())
            && take(probe.claims(&tag, &image).await?)
        {
            break;
        }
    }
    Ok(found)
}

/// Returns `latest` and the tags nearest in name. One page of tags is enough to find neighbours in;
/// a registry that lists no tags has no claims.
async fn other_tags(request: &LookupRequest<'_>) -> Vec<Tag> {
    let probe = &request.probe;
    let Ok(Some(tags)) = probe.client.list_tags(probe.repository, None).await else {
        return Vec::new();
    };
    let latest = Tag::latest();
    let has_latest = tags.names.contains(&latest) && *request.tag != latest;
    let mut nearest = nearest_tags(tags.names, request.tag, MAX_OTHER_TAGS + 1);
    nearest.retain(|tag| *tag != latest);
    nearest.truncate(MAX_OTHER_TAGS);
    has_latest
        .then_some(latest)
        .into_iter()
        .chain(nearest)
        .collect()
}

#[derive(Deserialize)]
struct ClaimedConfig {
    rootfs: ClaimedRootFs,
}

#[derive(Deserialize)]
struct ClaimedRootFs {
    diff_ids: Vec<Digest>,
}

/// Returns the diffID and the blob of each layer of an image; nothing unless the config lists as many
/// diffIDs as the manifest has layers, and every layer is a tar, compressed or not. The bytes of the
/// config must have been verified.
pub(super) fn layer_pairs(config: &[u8], layers: &[Descriptor]) -> Vec<(Digest, Descriptor)> {
    let Ok(config) = serde_json::from_slice::<ClaimedConfig>(config) else {
        return Vec::new();
    };
    let diff_ids = config.rootfs.diff_ids;
    let is_tar = |layer: &Descriptor| Compression::of_media_type(&layer.media_type).is_some();
    if diff_ids.len() != layers.len() || !layers.iter().all(is_tar) {
        return Vec::new();
    }
    diff_ids.into_iter().zip(layers.iter().cloned()).collect()
}

#[cfg(test)]
mod tests {
    use imgsync_oci::media;

    use super::*;

    #[test]
    fn an_image_that_does_not_add_up_claims_nothing() {
        let diff_id = Digest::of(b"tar");
        let layer = |media_type| Descriptor::new(media_type, Digest::of(b"blob"), 4);
        let gzip = layer(media::DOCKER_LAYER_GZIP);
        let config = serde_json::json!({ "rootfs": { "diff_ids": [diff_id] } }).to_string();
        let pairs = |layers: &[Descriptor]| layer_pairs(config.as_bytes(), layers);
        assert_eq!(
            pairs(std::slice::from_ref(&gzip)),
            [(diff_id, gzip.clone())]
        );
        assert!(pairs(&[gzip.clone(), gzip.clone()]).is_empty());
        assert!(pairs(&[layer("application/vnd.example.other")]).is_empty());
        assert!(layer_pairs(b"{}", &[gzip]).is_empty());
    }
}
