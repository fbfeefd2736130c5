//! Reads archives of `docker save`, whose `manifest.json` names a config and layers.

use imgsync_oci::media::Compression;
use imgsync_oci::{Descriptor, Digest};

use super::docker_manifest::{DOCKER_MANIFEST_FILE, DockerManifestEntry};
use crate::compress::{self, CompressError};
use crate::image::limits::{MAX_METADATA_BYTES, check_layer_count};
use crate::image::{
    Error, Image, ImageBlobs, ImageContent, ImageSelector, Layer, Platforms, SingleImage, Slice,
    config, name,
};
use crate::transports::files::{FileContent, SourceFiles, blob_digest};

/// Reads the image that `selector` names.
///
/// # Errors
/// Returns an error if there is none, or several, or none for these platforms; if a part of it is
/// missing or damaged, or contradicts the config.
pub(crate) fn read_image(
    contents: &SourceFiles,
    selector: &ImageSelector,
    platforms: &Platforms,
) -> Result<(Image, ImageBlobs), Error> {
    let entries: Vec<DockerManifestEntry> =
        contents.json(DOCKER_MANIFEST_FILE, MAX_METADATA_BYTES)?;
    let (entry, tag) = select(contents, &entries, selector)?;
    let from = contents.source_name();
    let bytes = contents.read(&entry.config, MAX_METADATA_BYTES)?;
    let digest = Digest::of(&bytes);
    if let Some(named) = config_digest(&entry.config).filter(|named| *named != digest) {
        return Err(Error::mismatch(from, &entry.config, &named, digest));
    }
    platforms.check(from, config::platform(&bytes))?;
    let diff_ids = config::diff_ids(&bytes).map_err(|reason| contents.malformed(reason))?;
    let names = entry.layers();
    if names.len() != diff_ids.len() {
        let (names, diff_ids) = (names.len(), diff_ids.len());
        let reason =
            format!("{DOCKER_MANIFEST_FILE} has {names} layers, but the config has {diff_ids}");
        return Err(contents.malformed(reason));
    }
    check_layer_count(from, names.len())?;
    let mut blobs = ImageBlobs::default();
    blobs.insert(digest.clone(), Slice::memory(bytes.clone()));
    let layers = names.iter().zip(diff_ids);
    let layers = layers.map(|(name, diff_id)| read_layer(contents, name, diff_id, &mut blobs));
    let layers = layers.collect::<Result<_, _>>()?;
    let image = Image {
        name: tag.and_then(name::familiar),
        content: ImageContent::Single(SingleImage::without_manifest(digest, Some(bytes), layers)),
        notes: Vec::new(),
    };
    Ok((image, blobs))
}

/// Selects an entry of `manifest.json`, and the tag that names it.
fn select<'a>(
    contents: &SourceFiles,
    entries: &'a [DockerManifestEntry],
    selector: &ImageSelector,
) -> Result<(&'a DockerManifestEntry, Option<&'a str>), Error> {
    let tags = entries
        .iter()
        .flat_map(|entry| entry.tags().iter().map(move |tag| (entry, tag)));
    let names = tags.clone().map(|(_, tag)| tag.as_str());
    let entry = match (selector, entries) {
        (ImageSelector::Named(requested), _) => {
            let mut tags = tags.clone();
            let chosen = name::choose(requested, names.clone()).and_then(|at| tags.nth(at));
            let (entry, tag) = chosen.ok_or_else(|| contents.no_image(requested, names))?;
            return Ok((entry, Some(tag.as_str())));
        }
        (ImageSelector::Position(position), _) => entries
            .get(*position)
            .ok_or_else(|| contents.no_image(&format!("@{position}"), names))?,
        (ImageSelector::Only, []) => return Err(contents.missing("any image")),
        (ImageSelector::Only, [entry]) => entry,
        (ImageSelector::Only, _) => return Err(contents.ambiguous(names)),
    };
    Ok((entry, entry.tags().first().map(String::as_str)))
}

/// Returns the digest in the name of a config: `<hex>.json` or `blobs/sha256/<hex>` with Docker and
/// podman, `sha256:<hex>` with kaniko and others.
fn config_digest(name: &str) -> Option<Digest> {
    match name.strip_suffix(".json") {
        Some(hex) => format!("sha256:{hex}").parse().ok(),
        None => name.parse().ok().or_else(|| blob_digest(name)),
    }
}

/// Reads a layer by the name of its entry and the diffID of the config. A compressed layer is
/// decompressed here, because nothing else states its digest.
fn read_layer(
    contents: &SourceFiles,
    name: &str,
    diff_id: Digest,
    blobs: &mut ImageBlobs,
) -> Result<Layer, Error> {
    let mismatch = |found| Error::mismatch(contents.source_name(), name, &diff_id, found);
    let read_error = |error| contents.read_error(error);
    let stored = contents.find(name)?;
    let size = Some(stored.len());
    let slice = match stored {
        FileContent::Available(slice) => slice,
        FileContent::Skipped { digest, .. } if digest == diff_id => {
            return Ok(Layer::Raw { diff_id, size });
        }
        FileContent::Skipped { digest, .. } => return Err(mismatch(digest)),
    };
    let compression = Compression::of_bytes(&slice.first_bytes().map_err(read_error)?);
    let media_type = match compression {
        Compression::None => {
            if let Some(named) = blob_digest(name).filter(|named| *named != diff_id) {
                return Err(mismatch(named));
            }
            blobs.insert(diff_id.clone(), slice);
            return Ok(Layer::Raw { diff_id, size });
        }
        Compression::Gzip => compression.docker_layer_type(),
        // Docker has no media type for zstd.
        Compression::Zstd => compression.oci_layer_type(),
    };
    let reader = slice.reader().map_err(read_error)?;
    let digests = compress::compute_layer_digests(reader, compression);
    let digests = digests.map_err(|error| match error {
        CompressError::Read(error) | CompressError::Write(error) => contents.read_error(error),
        damaged => contents.malformed(format!("{name}: {damaged}")),
    })?;
    if digests.diff_id != diff_id {
        return Err(mismatch(digests.diff_id));
    }
    let descriptor = Descriptor::new(media_type, digests.digest.clone(), digests.size);
    blobs.insert(digests.digest, slice);
    Ok(Layer::Blob {
        descriptor,
        diff_id: Some(diff_id),
    })
}
