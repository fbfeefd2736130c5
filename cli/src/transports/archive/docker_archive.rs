//! Reads archives of `docker save`, whose `manifest.json` names a config and layers.

use imgsync_oci::media::{self, Compression};
use imgsync_oci::{Descriptor, Digest};
use serde::Deserialize;

use super::DOCKER_MANIFEST_FILE;
use crate::compress;
use crate::image::limits::{MAX_LAYERS, MAX_METADATA_BYTES};
use crate::image::{
    Error, Image, ImageBlobs, ImageConfig, ImageContent, ImageSelector, Layer, ManifestOrigin,
    Platforms, SingleImage, Slice, config, name,
};
use crate::transports::files::{FileContent, SourceFiles, digest_from_name};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerManifestItem {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

impl DockerManifestItem {
    fn tags(&self) -> &[String] {
        self.repo_tags.as_deref().unwrap_or_default()
    }
}

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
    let items: Vec<DockerManifestItem> = contents.json(DOCKER_MANIFEST_FILE, MAX_METADATA_BYTES)?;
    let (item, tag) = select(contents, &items, selector)?;
    let bytes = contents.read(&item.config, MAX_METADATA_BYTES)?;
    let digest = Digest::of(&bytes);
    if let Some(named_digest) =
        config_digest(&item.config).filter(|named_digest| *named_digest != digest)
    {
        return Err(mismatch(contents, &item.config, named_digest, digest));
    }
    platforms.check(contents.source_name(), config::platform(&bytes))?;
    let diff_ids = config::diff_ids(&bytes).map_err(|reason| contents.malformed(reason))?;
    let names = item.layers.as_deref().unwrap_or_default();
    if names.len() != diff_ids.len() {
        let (names, diff_ids) = (names.len(), diff_ids.len());
        let reason = format!("{DOCKER_MANIFEST_FILE} names {names} layers, the config {diff_ids}");
        return Err(contents.malformed(reason));
    }
    if names.len() > MAX_LAYERS {
        return Err(Error::TooLarge {
            from: contents.source_name().to_owned(),
            what: format!("an image of {} layers", names.len()),
            limit: format!("{MAX_LAYERS} layers"),
        });
    }
    let mut blobs = ImageBlobs::default();
    blobs.insert(digest.clone(), Slice::memory(bytes.clone()));
    let mut layers = Vec::with_capacity(names.len());
    for (name, diff_id) in names.iter().zip(diff_ids) {
        layers.push(read_layer(contents, name, diff_id, &mut blobs)?);
    }
    let config = ImageConfig {
        media_type: media::DOCKER_CONFIG.to_owned(),
        digest,
        bytes: Some(bytes),
    };
    let single = SingleImage {
        config,
        layers,
        origin: ManifestOrigin::Generated,
    };
    let image = Image {
        name: tag.and_then(name::familiar),
        content: ImageContent::Single(single),
        notes: Vec::new(),
    };
    Ok((image, blobs))
}

/// Selects an item of `manifest.json`, and the tag that names it.
fn select<'a>(
    contents: &SourceFiles,
    items: &'a [DockerManifestItem],
    selector: &ImageSelector,
) -> Result<(&'a DockerManifestItem, Option<&'a str>), Error> {
    let names = || {
        items
            .iter()
            .flat_map(DockerManifestItem::tags)
            .cloned()
            .collect()
    };
    let first_tag = |item: &'a DockerManifestItem| (item, item.tags().first().map(String::as_str));
    let not_found = |wanted: String| Error::ImageNotFound {
        from: contents.source_name().to_owned(),
        wanted,
        names: names(),
    };
    match selector {
        ImageSelector::Only => match items {
            [] => Err(contents.missing("any image")),
            [item] => Ok(first_tag(item)),
            _ => Err(Error::Ambiguous {
                from: contents.source_name().to_owned(),
                names: names(),
            }),
        },
        ImageSelector::Position(position) => match items.get(*position) {
            Some(item) => Ok(first_tag(item)),
            None => Err(not_found(format!("@{position}"))),
        },
        ImageSelector::Named(wanted) => {
            let tagged = |item: &'a DockerManifestItem| {
                item.tags().iter().map(move |tag| (item, tag.as_str()))
            };
            let all: Vec<_> = items.iter().flat_map(tagged).collect();
            match name::choose(wanted, all.iter().map(|(_, tag)| *tag)) {
                Some(position) => Ok((all[position].0, Some(all[position].1))),
                None => Err(not_found(wanted.clone())),
            }
        }
    }
}

/// Returns the digest in the name of a config: `<hex>.json` or `blobs/sha256/<hex>` with Docker and
/// podman, `sha256:<hex>` with kaniko and others.
fn config_digest(name: &str) -> Option<Digest> {
    match name.strip_suffix(".json") {
        Some(hex) => format!("sha256:{hex}").parse().ok(),
        None => name
            .parse()
            .ok()
            .or_else(|| digest_from_name(name).map(|(digest, _)| digest)),
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
    let stored = contents.find(name)?;
    let size = Some(stored.len());
    let slice = match stored {
        FileContent::Available(slice) => slice,
        FileContent::Skipped { digest, .. } if digest == diff_id => {
            return Ok(Layer::Raw { diff_id, size });
        }
        FileContent::Skipped { digest, .. } => {
            return Err(mismatch(contents, name, diff_id, digest));
        }
    };
    let start = slice
        .first_bytes()
        .map_err(|error| contents.read_error(error))?;
    let compression = Compression::of_bytes(&start);
    let media_type = match compression {
        Compression::None => {
            if let Some((named_digest, true)) = digest_from_name(name)
                && named_digest != diff_id
            {
                return Err(mismatch(contents, name, diff_id, named_digest));
            }
            blobs.insert(diff_id.clone(), slice);
            return Ok(Layer::Raw { diff_id, size });
        }
        Compression::Gzip => media::DOCKER_LAYER_GZIP,
        Compression::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
    };
    let reader = slice.reader().map_err(|error| contents.read_error(error))?;
    let packed =
        compress::compute_layer_digests(reader, compression).map_err(|error| match error {
            compress::CompressError::Read(error) | compress::CompressError::Write(error) => {
                contents.read_error(error)
            }
            damaged @ (compress::CompressError::Damaged { .. }
            | compress::CompressError::Compressor(_)) => {
                contents.malformed(format!("{name}: {damaged}"))
            }
        })?;
    if packed.diff_id != diff_id {
        return Err(mismatch(contents, name, diff_id, packed.diff_id));
    }
    let descriptor = Descriptor::new(media_type, packed.digest.clone(), packed.size);
    blobs.insert(packed.digest, slice);
    Ok(Layer::Blob {
        descriptor,
        diff_id: Some(diff_id),
    })
}

fn mismatch(contents: &SourceFiles, what: &str, expected: Digest, found: Digest) -> Error {
    Error::DigestMismatch {
        from: contents.source_name().to_owned(),
        what: what.to_owned(),
        expected,
        found,
    }
}
