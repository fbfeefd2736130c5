//! Finds an image in the target's repository whose layers the new ones are likely to be based on.

use imgsync_oci::{Manifest, Reference, Tag, media};

use super::LookupRequest;
use super::claims::other_tags;
use super::probe::{MAX_CONFIG_BYTES, ParsedManifest, TargetProbe};
use crate::exit::Failure;
use crate::image::config::diff_ids;
use crate::image::instructions::whole_instructions;
use crate::plan::{OlderImage, OlderLayer};

/// Returns the image of the target's tag, which `tagged` is the manifest of; without one, that of
/// `latest` or of the tag nearest in name. An index is no such image.
///
/// # Errors
/// The target could not be asked.
pub async fn find_older_image(
    request: &LookupRequest,
    tagged: Option<&ParsedManifest>,
) -> Result<Option<OlderImage>, Failure> {
    let probe = &request.probe;
    if let Some(manifest) = tagged
        && let Some(image) = describe(probe, &request.tag, manifest).await?
    {
        return Ok(Some(image));
    }
    for tag in other_tags(request).await {
        if let Some(manifest) = probe.manifest(&Reference::Tag(tag.clone())).await?
            && let Some(image) = describe(probe, &tag, &manifest).await?
        {
            return Ok(Some(image));
        }
    }
    Ok(None)
}

/// Returns the layers of an image, as its manifest and its config state them.
async fn describe(
    probe: &TargetProbe,
    tag: &Tag,
    image: &ParsedManifest,
) -> Result<Option<OlderImage>, Failure> {
    let Manifest::Image { config, layers, .. } = &image.manifest else {
        return Ok(None);
    };
    if config.size > MAX_CONFIG_BYTES as u64 || !media::is_image_config(&config.media_type) {
        return Ok(None);
    }
    let Some(bytes) = probe.config(&config.digest).await? else {
        return Ok(None);
    };
    let diff_ids = diff_ids(&bytes).unwrap_or_default();
    if diff_ids.len() != layers.len() {
        return Ok(None);
    }
    let mut instructions = whole_instructions(&bytes, layers.len()).into_iter();
    let pairs = diff_ids.into_iter().zip(layers);
    let layers = pairs.map(|(diff_id, blob)| OlderLayer {
        blob: blob.clone(),
        diff_id,
        created_by: instructions.next().filter(|text| !text.is_empty()),
    });
    Ok(Some(OlderImage {
        tag: tag.clone(),
        layers: layers.collect(),
    }))
}
