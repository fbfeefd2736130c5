//! Finds out when an image was created, for rules that select by age. Costs requests for the
//! manifest and the config, and for an index, those of its images.

use std::time::SystemTime;

use imgsync_oci::{Descriptor, Manifest, Reference, Tag, media};
use serde::Deserialize;

use super::plan::parse_manifest;
use crate::evidence::probe::MAX_CONFIG_BYTES;
use crate::exit::Failure;
use crate::text::parse_timestamp;
use crate::transports::{CopySource, VerifiedManifest};
use crate::upload::{BlobReader, BlobSource};

/// The most images of an index that are looked at.
const MAX_IMAGES: usize = 20;

/// The creation date of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CreationDate {
    /// The date in the config; for an index, that of the newest image.
    At(SystemTime),
    /// There is no date: an artifact, or a config without `created`.
    Unknown,
    /// The tag does not exist.
    Gone,
}

#[derive(Deserialize)]
struct ConfigTimestamp {
    created: Option<String>,
}

/// Returns when the image of a tag was created.
///
/// # Errors
/// The source could not be asked, or its content is invalid.
pub async fn fetch_creation_date(
    source: &dyn CopySource,
    tag: &Tag,
) -> Result<CreationDate, Failure> {
    let Some(manifest) = source.fetch_manifest(&Reference::Tag(tag.clone())).await? else {
        return Ok(CreationDate::Gone);
    };
    let mut configs = Vec::new();
    match parse(&manifest) {
        Some(Manifest::Image { config, .. }) => configs.push(config),
        Some(Manifest::Index { manifests, .. }) => {
            let images = manifests.into_iter().filter(is_image);
            for child in images.take(MAX_IMAGES) {
                let manifest = source
                    .fetch_manifest(&Reference::Digest(child.digest))
                    .await?;
                if let Some(Manifest::Image { config, .. }) = manifest.as_ref().and_then(parse) {
                    configs.push(config);
                }
            }
        }
        None => {}
    }
    let mut newest = None;
    for config in &configs {
        newest = newest.max(config_date(source, config).await?);
    }
    Ok(newest.map_or(CreationDate::Unknown, CreationDate::At))
}

fn parse(manifest: &VerifiedManifest) -> Option<Manifest> {
    parse_manifest(manifest).ok()
}

/// Returns whether a child of an index is an image; an attestation has no platform.
fn is_image(child: &Descriptor) -> bool {
    let platform = child.platform.as_ref();
    platform.is_none_or(|platform| platform.os != "unknown")
}

async fn config_date(
    source: &dyn CopySource,
    config: &Descriptor,
) -> Result<Option<SystemTime>, Failure> {
    if !media::is_image_config(&config.media_type) || config.size > MAX_CONFIG_BYTES as u64 {
        return Ok(None);
    }
    let bytes = read_blob(source.locate_blob(config).await?, config.size).await?;
    let config: Option<ConfigTimestamp> = serde_json::from_slice(&bytes).ok();
    let created = config.and_then(|config| config.created);
    Ok(created.and_then(|text| parse_timestamp(&text)))
}

/// Reads and verifies a small blob.
async fn read_blob(blob: BlobSource, size: u64) -> Result<Vec<u8>, Failure> {
    let mut reader = BlobReader::new(blob);
    let mut bytes = Vec::new();
    while (bytes.len() as u64) < size {
        let offset = bytes.len() as u64;
        let chunk = reader.read(offset, size - offset).await;
        let chunk = chunk.map_err(|error| error.failure("the config"))?;
        if chunk.is_empty() {
            break;
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}
