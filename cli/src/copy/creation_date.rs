//! When an image at a source was made: for rules that choose by age. Costs its manifest and its
//! config; of an index, those of its images.

use std::time::SystemTime;

use imgsync_oci::{Descriptor, Digest, Manifest, Reference, Tag, media};
use serde::Deserialize;

use crate::exit::Failure;
use crate::text::parse_timestamp;
use crate::transports::{CopySource, VerifiedManifest};
use crate::upload::{BlobReader, BlobSource};

/// The most images of an index that are looked at.
const MAX_IMAGES: usize = 20;
/// The largest config that is read, in bytes.
const MAX_CONFIG_BYTES: u64 = 4 * 1024 * 1024;

/// When an image was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CreationDate {
    /// Its config says so; of an index, the newest image's.
    At(SystemTime),
    /// Nobody says: an artifact, or a config without `created`.
    Unknown,
    /// There is no such tag.
    Gone,
}

#[derive(Deserialize)]
struct ConfigTimestamp {
    created: Option<String>,
}

/// When the image of a tag was made.
///
/// # Errors
/// The source could not be asked, or what it keeps makes no sense.
pub async fn fetch_creation_date(
    source: &dyn CopySource,
    tag: &Tag,
) -> Result<CreationDate, Failure> {
    let Some(held) = source.fetch_manifest(&Reference::Tag(tag.clone())).await? else {
        return Ok(CreationDate::Gone);
    };
    let mut newest = None;
    match parsed(&held) {
        Some(Manifest::Image { config, .. }) => newest = of_config(source, &config).await?,
        Some(Manifest::Index { manifests, .. }) => {
            let images = manifests.iter().filter(|child| is_image(child));
            for child in images.take(MAX_IMAGES) {
                newest = newest.max(of_child(source, &child.digest).await?);
            }
        }
        None => {}
    }
    Ok(newest.map_or(CreationDate::Unknown, CreationDate::At))
}

fn parsed(held: &VerifiedManifest) -> Option<Manifest> {
    let parsed = Manifest::parse(&held.bytes, Some(&held.media_type));
    parsed.ok().map(|(_, manifest)| manifest)
}

/// Whether a child of an index is for a platform; an attestation is for none.
fn is_image(child: &Descriptor) -> bool {
    let platform = child.platform.as_ref();
    platform.is_none_or(|platform| platform.os != "unknown")
}

async fn of_child(source: &dyn CopySource, digest: &Digest) -> Result<Option<SystemTime>, Failure> {
    let held = source
        .fetch_manifest(&Reference::Digest(digest.clone()))
        .await?;
    match held.as_ref().and_then(parsed) {
        Some(Manifest::Image { config, .. }) => of_config(source, &config).await,
        Some(Manifest::Index { .. }) | None => Ok(None),
    }
}

async fn of_config(
    source: &dyn CopySource,
    config: &Descriptor,
) -> Result<Option<SystemTime>, Failure> {
    if !media::is_image_config(&config.media_type) || config.size > MAX_CONFIG_BYTES {
        return Ok(None);
    }
    let bytes = whole(source.locate_blob(config).await?, config.size).await?;
    let config: Option<ConfigTimestamp> = serde_json::from_slice(&bytes).ok();
    let text = config.and_then(|config| config.created);
    Ok(text.and_then(|text| parse_timestamp(&text)))
}

/// A small blob in memory, checked on the way.
async fn whole(body: BlobSource, size: u64) -> Result<Vec<u8>, Failure> {
    let mut flow = BlobReader::new(body);
    let mut bytes = Vec::new();
    while (bytes.len() as u64) < size {
        let at = bytes.len() as u64;
        let piece = flow.read(at, size - at).await;
        let piece = piece.map_err(|error| error.failure("the config"))?;
        if piece.is_empty() {
            break;
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}
