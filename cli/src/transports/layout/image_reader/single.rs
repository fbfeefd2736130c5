//! Reads an image of one config and its layers.

use imgsync_oci::{Descriptor, media};

use super::{add_blob, check_layers, is_raw};
use crate::image::limits::MAX_METADATA_BYTES;
use crate::image::{
    Error, ImageBlobs, ImageConfig, Layer, ManifestOrigin, SingleImage, Slice, VerifiedManifest,
    config,
};
use crate::transports::files::SourceFiles;

/// Reads an image. Uncompressed layers will be compressed; the others are pushed unchanged.
pub(super) fn read_single(
    contents: &SourceFiles,
    manifest: VerifiedManifest,
    config: &Descriptor,
    layers: &[Descriptor],
) -> Result<(SingleImage, ImageBlobs), Error> {
    check_layers(contents, layers)?;
    let mut blobs = ImageBlobs::default();
    let bytes = contents.read_blob(&config.digest, MAX_METADATA_BYTES)?;
    contents.check_size(config, bytes.len() as u64)?;
    blobs.insert(config.digest.clone(), Slice::memory(bytes.clone()));
    let diff_ids = if media::is_image_config(&config.media_type) {
        let diff_ids = config::diff_ids(&bytes).map_err(|reason| contents.malformed(reason))?;
        if diff_ids.len() != layers.len() {
            let (layers, diff_ids) = (layers.len(), diff_ids.len());
            let reason = format!("the manifest has {layers} layers, the config {diff_ids}");
            return Err(contents.malformed(reason));
        }
        diff_ids.into_iter().map(Some).collect()
    } else {
        vec![None; layers.len()]
    };
    let mut image_layers = Vec::with_capacity(layers.len());
    for (descriptor, diff_id) in layers.iter().zip(diff_ids) {
        if !descriptor.is_foreign() {
            add_blob(contents, descriptor, &mut blobs)?;
        }
        image_layers.push(match diff_id {
            Some(diff_id) if is_raw(descriptor) => {
                if diff_id != descriptor.digest {
                    return Err(Error::DigestMismatch {
                        from: contents.source_name().to_owned(),
                        what: "an uncompressed layer".to_owned(),
                        expected: diff_id,
                        found: descriptor.digest.clone(),
                    });
                }
                let size = Some(descriptor.size);
                Layer::Raw { diff_id, size }
            }
            diff_id => {
                let descriptor = descriptor.clone();
                Layer::Blob {
                    descriptor,
                    diff_id,
                }
            }
        });
    }
    let has_raw = image_layers
        .iter()
        .any(|layer| matches!(layer, Layer::Raw { .. }));
    let single = SingleImage {
        config: ImageConfig {
            media_type: config.media_type.clone(),
            digest: config.digest.clone(),
            bytes: Some(bytes),
        },
        layers: image_layers,
        origin: if has_raw {
            ManifestOrigin::Edited(manifest)
        } else {
            ManifestOrigin::Original(manifest)
        },
    };
    Ok((single, blobs))
}
