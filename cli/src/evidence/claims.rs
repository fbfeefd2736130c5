//! Finds layers by what other images in the target's repository claim: a config lists diffIDs, and
//! its manifest lists the blobs.
//!
//! Such a pair is a claim of whoever pushed the image. The blob may be anything, and podman and
//! skopeo would not notice. So the push verifies the blob, unless the user trusts the registry.
//! Start reading at [`claimed_layers`].

use std::collections::{HashMap, HashSet};

use imgsync_oci::media::{self, Compression};
use imgsync_oci::{Descriptor, Digest, Manifest, Reference, Tag};

use super::LookupRequest;
use super::probe::{MAX_CONFIG_BYTES, ParsedManifest, TargetProbe};
use crate::exit::Failure;
use crate::image::config::diff_ids;
use crate::plan::{BlobCandidate, EvidenceSource};
use crate::text::nearest_tags;

/// The most tags that are looked at besides the target's own and `latest`.
const MAX_OTHER_TAGS: usize = 3;

/// Looks for layers in the images of the target's tag, of `latest` and of the tags nearest in name,
/// until every layer is found.
///
/// # Errors
/// The target could not be asked.
pub(super) async fn find(
    request: &LookupRequest,
    tagged: Option<&ParsedManifest>,
    mut missing: HashSet<Digest>,
) -> Result<HashMap<Digest, BlobCandidate>, Failure> {
    let probe = &request.probe;
    let mut found = HashMap::new();
    let mut add_claims = |claims: Vec<(Digest, BlobCandidate)>| {
        let claims = claims.into_iter();
        found.extend(claims.filter(|(diff_id, _)| missing.remove(diff_id)));
        missing.is_empty()
    };
    let mut seen = HashSet::new();
    if let Some(image) = tagged {
        if add_claims(claimed_layers(probe, &request.tag, image).await?) {
            return Ok(found);
        }
        seen.insert(image.verified.digest.clone());
    }
    for tag in other_tags(request).await {
        let image = probe.manifest(&Reference::Tag(tag.clone())).await?;
        if let Some(image) = image
            && seen.insert(image.verified.digest.clone())
            && add_claims(claimed_layers(probe, &tag, &image).await?)
        {
            break;
        }
    }
    Ok(found)
}

/// Returns `latest` and the tags nearest in name. One page of tags is enough to find neighbours in;
/// a registry that lists no tags has no claims.
pub(super) async fn other_tags(request: &LookupRequest) -> Vec<Tag> {
    let probe = &request.probe;
    let Ok(Some(tags)) = probe.client.list_tags(&probe.repository, None).await else {
        return Vec::new();
    };
    let latest = Tag::latest();
    let has_latest = tags.names.contains(&latest) && request.tag != latest;
    let mut nearest = nearest_tags(tags.names, &request.tag, MAX_OTHER_TAGS + 1);
    nearest.retain(|tag| *tag != latest);
    nearest.truncate(MAX_OTHER_TAGS);
    let latest = has_latest.then_some(latest);
    latest.into_iter().chain(nearest).collect()
}

/// Returns the blob that the image under a tag claims for each of its layers.
///
/// # Errors
/// The target could not be asked.
pub async fn claimed_layers(
    probe: &TargetProbe,
    tag: &Tag,
    image: &ParsedManifest,
) -> Result<Vec<(Digest, BlobCandidate)>, Failure> {
    let Manifest::Image { config, layers, .. } = &image.manifest else {
        return Ok(Vec::new());
    };
    if config.size > MAX_CONFIG_BYTES as u64 || !media::is_image_config(&config.media_type) {
        return Ok(Vec::new());
    }
    let Some(bytes) = probe.config(&config.digest).await? else {
        return Ok(Vec::new());
    };
    let pairs = layer_pairs(&bytes, layers);
    let claim = |blob| BlobCandidate {
        blob,
        evidence: EvidenceSource::Claim(tag.clone()),
    };
    let claims = pairs
        .into_iter()
        .map(|(diff_id, blob)| (diff_id, claim(blob)));
    Ok(claims.collect())
}

/// Returns the diffID and the blob of each layer of an image; nothing unless the config lists as
/// many diffIDs as the manifest has layers, and every layer is a tar, compressed or not. The bytes
/// of the config must have been verified.
fn layer_pairs(config: &[u8], layers: &[Descriptor]) -> Vec<(Digest, Descriptor)> {
    let is_tar = |layer: &Descriptor| Compression::of_media_type(&layer.media_type).is_some();
    match diff_ids(config) {
        Ok(diff_ids) if diff_ids.len() == layers.len() && layers.iter().all(is_tar) => {
            diff_ids.into_iter().zip(layers.iter().cloned()).collect()
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use imgsync_oci::media;

    use super::*;

    #[test]
    fn an_image_with_other_numbers_of_diff_ids_and_layers_claims_nothing() {
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
