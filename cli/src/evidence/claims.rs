//! What other images in the target's repository say of their layers: a config lists diffIDs, its
//! manifest the blobs.
//!
//! Such a pair is a claim, and a wrong one would build an image that Docker refuses later. It
//! counts only under the checks of [`pairs`], is confirmed by HEAD with equal size, and is never
//! cached as something that was computed here.

use std::collections::{HashMap, HashSet};

use imgsync_oci::media::{self, Compression};
use imgsync_oci::{Descriptor, Digest, Manifest, Reference, Tag};
use serde::Deserialize;

use super::LookupRequest;
use super::probe::{self, ParsedManifest};
use crate::exit::Failure;
use crate::plan::{BlobCandidate, EvidenceSource};
use crate::text::nearest_tags;

/// Tags besides the target's own and `latest`.
const MAX_OTHER_TAGS: usize = 3;
/// A config is a few kilobytes.
const MAX_CONFIG_BYTES: usize = 4 * 1024 * 1024;

/// Looks for the open layers in the images of the target's tag, of `latest` and of the tags
/// nearest in name, until none is open.
///
/// # Errors
/// The target could not be asked.
pub(super) async fn find(
    question: &LookupRequest<'_>,
    tagged: Option<&ParsedManifest>,
    mut open: HashSet<Digest>,
) -> Result<HashMap<Digest, BlobCandidate>, Failure> {
    let mut found = HashMap::new();
    let mut looked_at = HashSet::new();
    if let Some(held) = tagged {
        take_claims(question, question.tag, held, &mut open, &mut found).await?;
        looked_at.insert(held.fetched.digest.clone());
    }
    if open.is_empty() {
        return Ok(found);
    }
    // One page is enough to find neighbours in; a registry that lists no tags has no claims.
    let tags = question.client.list_tags(question.repository, None).await;
    let Ok(Some(tags)) = tags else {
        return Ok(found);
    };
    let latest = Tag::latest();
    let has_latest = tags.names.contains(&latest) && *question.tag != latest;
    let mut others = nearest_tags(tags.names, question.tag, MAX_OTHER_TAGS + 1);
    others.retain(|tag| *tag != latest);
    others.truncate(MAX_OTHER_TAGS);
    if has_latest {
        others.insert(0, latest);
    }
    for tag in others {
        if open.is_empty() {
            break;
        }
        let reference = Reference::Tag(tag.clone());
        let held = probe::fetch_manifest(question.client, question.repository, &reference).await?;
        let Some(held) = held else { continue };
        if looked_at.insert(held.fetched.digest.clone()) {
            take_claims(question, &tag, &held, &mut open, &mut found).await?;
        }
    }
    Ok(found)
}

/// Takes what one image claims of the open layers.
async fn take_claims(
    question: &LookupRequest<'_>,
    tag: &Tag,
    held: &ParsedManifest,
    open: &mut HashSet<Digest>,
    found: &mut HashMap<Digest, BlobCandidate>,
) -> Result<(), Failure> {
    let Manifest::Image { config, layers, .. } = &held.manifest else {
        return Ok(());
    };
    let readable = config.size <= MAX_CONFIG_BYTES as u64;
    if !readable || !media::is_image_config(&config.media_type) {
        return Ok(());
    }
    let client = question.client;
    let bytes = client
        .fetch_small_blob(question.repository, &config.digest, MAX_CONFIG_BYTES)
        .await?;
    let Some(bytes) = bytes else { return Ok(()) };
    for (diff_id, blob) in layer_pairs(&bytes, layers) {
        if open.remove(&diff_id) {
            let evidence = EvidenceSource::Claim(tag.clone());
            found.insert(diff_id, BlobCandidate { blob, evidence });
        }
    }
    Ok(())
}

#[derive(Deserialize)]
struct ClaimedConfig {
    rootfs: ClaimedRootFs,
}

#[derive(Deserialize)]
struct ClaimedRootFs {
    diff_ids: Vec<Digest>,
}

/// The pairs of an image: none at all unless its config lists as many diffIDs as its manifest has
/// layers, and every layer is a plain tar, packed or not. The config's bytes were checked against
/// their digest when they were fetched.
pub fn layer_pairs(config: &[u8], layers: &[Descriptor]) -> Vec<(Digest, Descriptor)> {
    let Ok(config) = serde_json::from_slice::<ClaimedConfig>(config) else {
        return Vec::new();
    };
    let diff_ids = config.rootfs.diff_ids;
    let plain = |layer: &Descriptor| Compression::of_media_type(&layer.media_type).is_some();
    if diff_ids.len() != layers.len() || !layers.iter().all(plain) {
        return Vec::new();
    }
    diff_ids.into_iter().zip(layers.iter().cloned()).collect()
}

#[cfg(test)]
mod tests {
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
